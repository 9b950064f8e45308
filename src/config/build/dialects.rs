//! Dialects: the built-in ones, then those of the configuration.

use crate::base::denial::{DENIALS, Denial};
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::{Located, Place};
use crate::config::written::{WrittenDenial, WrittenDialect};
use crate::dialect::Dialect;
use crate::dialect::spec::{Base, DialectSpec, Override};
use crate::dialect::template::{PLACEHOLDERS, Template, TemplateError};

use super::Builder;

impl Builder<'_> {
    /// Every dialect. One that has mistakes is built without them, so that routes still find it.
    pub(super) fn dialects(&self, written: &[WrittenDialect]) -> Vec<Dialect> {
        let mut dialects: Vec<Dialect> = Base::ALL.iter().map(|base| Dialect::build(&base.spec())).collect();
        for dialect in written {
            if Base::of_name(&dialect.name.value).is_some() {
                self.report.error(
                    &dialect.name.at,
                    format!("`{}` is built in and stays what it is", dialect.name.value),
                    Some("give yours another name and `base` this one".to_owned()),
                );
                continue;
            }
            self.check_name(&dialect.name, "a dialect");
            dialects.push(Dialect::build(&self.dialect_spec(dialect)));
        }
        dialects
    }

    fn dialect_spec(&self, written: &WrittenDialect) -> DialectSpec {
        let base = Base::of_name(written.base).unwrap_or(Base::Problem);
        let mut spec = DialectSpec {
            name: written.name.value.clone(),
            headers: self.answer_headers(&written.headers),
            ..base.spec()
        };
        if let Some(body) = written.body.as_ref().and_then(|b| self.template(b)) {
            spec.body = body;
            spec.content_type = "application/json".to_owned();
        }
        if let Some(content_type) = &written.content_type
            && self.check_value(content_type)
        {
            if content_type.value.contains('/') {
                spec.content_type.clone_from(&content_type.value);
            } else {
                self.report.error(
                    &content_type.at,
                    "this is not a media type",
                    Some("for example \"application/json\"".to_owned()),
                );
            }
        }
        if self.check_value(&written.realm) {
            if written.realm.value.contains(['"', '\\']) {
                self.report.error(&written.realm.at, "a realm holds no `\"` and no `\\`", None);
            } else {
                spec.realm.clone_from(&written.realm.value);
            }
        }
        for denial in &written.denials {
            let change = self.denial_change(denial);
            if let Some(known) = Denial::of_label(&denial.name.value) {
                self.check_status(denial, &[known]);
                spec.by_denial.push((known, change));
            } else {
                let sharing: Vec<Denial> = DENIALS.iter().filter(|r| r.code == denial.name.value).map(|r| r.denial).collect();
                if sharing.is_empty() {
                    self.unknown_denial(&denial.name);
                    continue;
                }
                self.check_status(denial, &sharing);
                spec.by_code.push((denial.name.value.clone(), change));
            }
        }
        spec
    }

    fn denial_change(&self, written: &WrittenDenial) -> Override {
        Override {
            status: written.status.as_ref().map(|s| s.value),
            code: written.code.as_ref().map(|c| c.value.clone()),
            message: written.message.as_ref().map(|m| m.value.clone()),
            headers: self.answer_headers(&written.headers),
            body: written.body.as_ref().and_then(|b| self.template(b)),
        }
    }

    /// Whose fault a refusal is must not change: a store that cannot be reached is never a 401
    /// (invariant 5), and a bad credential is never a 503.
    fn check_status(&self, written: &WrittenDenial, denials: &[Denial]) {
        let Some(status) = &written.status else { return };
        if let Some(denial) = denials.iter().find(|d| d.row().status / 100 != status.value / 100) {
            let (class, fault) = match denial.row().status / 100 {
                4 => ("4xx", "the caller's"),
                _ => ("5xx", "ours"),
            };
            self.report.error(
                &status.at,
                format!("`{}` must stay {class}", written.name.value),
                Some(format!("it is {fault} fault, and clients decide by that whether to try again")),
            );
        }
        if status.value == 405 && denials.iter().any(|d| *d != Denial::MethodNotAllowed) {
            self.report.error(
                &status.at,
                "405 belongs to `method_not_allowed`: its `Allow` could not be filled in",
                None,
            );
        }
    }

    fn unknown_denial(&self, name: &Located<String>) {
        let mut known: Vec<&str> = DENIALS.iter().flat_map(|r| [r.label, r.code]).collect();
        known.sort_unstable();
        known.dedup();
        self.report.error(
            &name.at,
            format!("there is no denial `{}`", shorten(&name.value)),
            suggest(&name.value, known, "a denial"),
        );
    }

    fn answer_headers(&self, written: &[(Located<String>, Located<String>)]) -> Vec<(String, String)> {
        written
            .iter()
            .filter(|(name, value)| self.check_answer_header(name, value))
            .map(|(name, value)| (name.value.clone(), value.value.clone()))
            .collect()
    }

    fn template(&self, text: &Located<String>) -> Option<Template> {
        match Template::parse(&text.value) {
            Ok(template) => Some(template),
            Err(error) => {
                let (at, help) = match &error {
                    TemplateError::NotJson(_) => (text.at.clone(), "write JSON with placeholders inside its texts".to_owned()),
                    TemplateError::Unknown(_, word) => {
                        let bare = word.trim_matches(['{', '}']);
                        (self.inside(text, word), suggest(bare, PLACEHOLDERS, "a placeholder"))
                    }
                    TemplateError::Brace(_) => (text.at.clone(), format!("placeholders are {{{}}}", PLACEHOLDERS.join("}, {"))),
                };
                self.report.error(&at, error.to_string(), Some(help));
                None
            }
        }
    }

    /// Where a word stands inside a text of the file, if it can be told: escapes move positions.
    fn inside(&self, text: &Located<String>, word: &str) -> Place {
        let Some(offset) = self.source_text(&text.at).and_then(|raw| raw.find(word)) else {
            return text.at.clone();
        };
        Place {
            source: text.at.source,
            start: text.at.start + offset,
            end: text.at.start + offset + word.len(),
        }
    }
}
