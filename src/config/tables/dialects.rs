//! `[dialects.<name>]`: how refusals are written; the built-in dialects, then those of the configuration.

use crate::base::denial::{DENIALS, Denial};
use crate::config::declare::{Member, Named, Pairs, absent, count, default, table};
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::{Located, Span};
use crate::dialect::Dialect;
use crate::dialect::pieces::VARIABLES;
use crate::dialect::spec::{Applies, BuiltInDialect, DialectSpec, Override};
use crate::dialect::template::{Template, TemplateError};

use super::Builder;

table! {
    /// Every refusal carries `Cache-Control: no-store` and `X-Request-Id`; 401 and `insufficient_scope` a
    /// `WWW-Authenticate`, 429 and 503 a `Retry-After`, 405 an `Allow`.
    pub struct DialectTable = "`[dialects.<name>]`" {
        /// The dialect this one begins as: `problem` is RFC 9457, `plain` is `{"error":{"code","message"}}`, or another
        /// of yours. What this one says beats what its base says.
        base: Option<Located<String>> = default("problem");
        /// `Content-Type` of refusals.
        content_type: Option<Located<String>> = absent("the base's; `application/json` with `body`");
        /// Template of the body, see Templates. Variables: `code`, `message`, `status`, `title`, `request_id`, and
        /// `details` (messages by field, or none).
        body: Option<Located<String>> = absent("the base's");
        /// `realm` of `WWW-Authenticate`.
        realm: Option<Located<String>> = absent("the base's; `api`");
        /// Further headers of every refusal.
        headers: Pairs = absent("none");
        /// Changes for single refusals, by the name of a denial or, for all that share it, by a default code
        /// (`invalid_credential`). A name beats a code. See the table of denials.
        denials: Named<DenialTable> = absent("the defaults");
    }
}

table! {
    /// What differs from the dialect's own answer.
    pub struct DenialTable = "`[dialects.<name>.denials.<denial>]`" {
        /// Status. A fault of the caller stays 4xx, a fault of ours stays 5xx: an unreachable store must never look like
        /// a bad credential.
        status: Option<Located<u16>> = absent("the denial's"), count(400, 599);
        /// What `code` is.
        code: Option<Located<String>> = absent("the denial's");
        /// What `message` is.
        message: Option<Located<String>> = absent("the denial's");
        /// Further headers; one of the same name is replaced.
        headers: Pairs = absent("none");
        /// Another template for this refusal.
        body: Option<Located<String>> = absent("the dialect's");
    }
}

impl Builder<'_> {
    /// Every dialect. One that has mistakes is built without them, so that routes still find it.
    pub(super) fn dialects(&self, written: &Named<DialectTable>) -> Vec<Dialect> {
        let mut specs: Vec<DialectSpec> = BuiltInDialect::ALL.iter().map(|base| base.spec()).collect();
        let mut pending: Vec<&Member<DialectTable>> = written.iter().filter(|dialect| self.is_new_dialect(dialect)).collect();
        // Each round takes those whose base is there; what no round takes has none, or has itself.
        loop {
            let before = pending.len();
            pending.retain(|dialect| {
                let base = dialect.base.as_ref().map_or(BuiltInDialect::Problem.name(), |b| b.value.as_str());
                let Some(base) = specs.iter().find(|spec| spec.name == base).cloned() else {
                    return true;
                };
                specs.push(self.dialect_spec(dialect, base));
                false
            });
            if pending.len() == before {
                break;
            }
        }
        for dialect in &pending {
            self.no_base(dialect, written);
            specs.push(self.dialect_spec(dialect, BuiltInDialect::Problem.spec()));
        }
        specs.iter().map(Dialect::build).collect()
    }

    fn is_new_dialect(&self, dialect: &Member<DialectTable>) -> bool {
        if BuiltInDialect::of_name(&dialect.name.value).is_some() {
            self.report.error(
                &dialect.name.at,
                format!("`{}` is built in and stays what it is", dialect.name.value),
                Some("give yours another name and `base` this one".to_owned()),
            );
            return false;
        }
        self.check_name(&dialect.name, "a dialect");
        true
    }

    fn no_base(&self, dialect: &Member<DialectTable>, written: &Named<DialectTable>) {
        let Some(base) = &dialect.base else { return };
        if written.iter().any(|other| other.name.value == base.value) {
            self.report.error(
                &base.at,
                format!("the dialect `{}` is built on itself", shorten(&dialect.name.value)),
                Some("the last of its bases must be `problem` or `plain`".to_owned()),
            );
            return;
        }
        let known = BuiltInDialect::ALL
            .iter()
            .map(|b| b.name())
            .chain(written.iter().map(|d| d.name.value.as_str()));
        self.report.error(
            &base.at,
            format!("there is no dialect `{}`", shorten(&base.value)),
            suggest(&base.value, known, "a dialect"),
        );
    }

    fn dialect_spec(&self, written: &Member<DialectTable>, base: DialectSpec) -> DialectSpec {
        let mut spec = base;
        spec.name.clone_from(&written.name.value);
        spec.headers.extend(self.answer_headers(&written.headers));
        if let Some(body) = written.body.as_ref().and_then(|b| self.refusal_template(b)) {
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
        if let Some(realm) = &written.realm
            && self.check_value(realm)
        {
            if realm.value.contains(['"', '\\']) {
                self.report.error(&realm.at, "a realm holds no `\"` and no `\\`", None);
            } else {
                spec.realm.clone_from(&realm.value);
            }
        }
        self.denial_changes(written, &mut spec);
        self.check_faults(written, &spec);
        spec
    }

    /// Changes by code first, so that those by name win.
    fn denial_changes(&self, written: &Member<DialectTable>, spec: &mut DialectSpec) {
        let mut by_denial = Vec::new();
        for denial in &written.denials {
            let change = self.denial_change(denial);
            if let Some(known) = Denial::of_label(&denial.name.value) {
                self.check_status(denial, &[known]);
                by_denial.push((Applies::Denial(known), change));
            } else {
                let sharing: Vec<Denial> = DENIALS.iter().filter(|r| r.code == denial.name.value).map(|r| r.denial).collect();
                if sharing.is_empty() {
                    self.unknown_denial(&denial.name);
                    continue;
                }
                self.check_status(denial, &sharing);
                spec.changes.push((Applies::Code(denial.name.value.clone()), change));
            }
        }
        spec.changes.append(&mut by_denial);
    }

    /// Branches of a template that only some refusals reach.
    fn check_faults(&self, written: &Member<DialectTable>, spec: &DialectSpec) {
        let Some((denial, error)) = spec.faults().into_iter().next() else {
            return;
        };
        let own = written
            .denials
            .iter()
            .find(|d| d.body.is_some() && Denial::of_label(&d.name.value) == Some(denial));
        let at = own
            .and_then(|d| d.body.as_ref())
            .or(written.body.as_ref())
            .map_or(&written.name.at, |body| &body.at);
        self.report
            .error(at, format!("`{}` cannot be written: {error}", denial.label()), None);
    }

    fn denial_change(&self, written: &Member<DenialTable>) -> Override {
        Override {
            status: written.status.as_ref().map(|s| s.value),
            code: written.code.as_ref().filter(|c| self.check_literal(c)).map(|c| c.value.clone()),
            message: written.message.as_ref().filter(|m| self.check_literal(m)).map(|m| m.value.clone()),
            headers: self.answer_headers(&written.headers),
            body: written.body.as_ref().and_then(|b| self.refusal_template(b)),
        }
    }

    /// Whose fault a refusal is must not change: a store that cannot be reached is never a 401
    /// (invariant 5), and a bad credential is never a 503.
    fn check_status(&self, written: &Member<DenialTable>, denials: &[Denial]) {
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

    fn answer_headers(&self, written: &Pairs) -> Vec<(String, String)> {
        written
            .iter()
            .filter(|(name, value)| self.check_answer_header(name, value))
            .map(|(name, value)| (name.value.clone(), value.value.clone()))
            .collect()
    }

    fn refusal_template(&self, text: &Located<String>) -> Option<Template> {
        Template::parse_refusal(&text.value)
            .map_err(|error| self.template_error(text, &error, &VARIABLES))
            .ok()
    }

    /// Reports what is wrong with a template, at the word that is wrong where that can be told.
    pub(super) fn template_error(&self, text: &Located<String>, error: &TemplateError, variables: &[&str]) {
        let help = match error {
            TemplateError::Unknown(_, name) => suggest(name, variables.iter().copied(), "a variable"),
            TemplateError::NotJson(_) => "`{{ x }}` writes a whole JSON value, quotes included: {\"code\":{{ code }}}".to_owned(),
            TemplateError::Syntax(..) => {
                "`{{ x }}` writes a value, `{% if x %}…{% endif %}` and `{% for i in items %}…{% endfor %}` choose".to_owned()
            }
            TemplateError::Rendering(..) => "it was tried with everything there, and with everything that may be absent absent".to_owned(),
            TemplateError::Details => "{\"code\":{{ code }}{% if details %},\"details\":{{ details }}{% endif %}}".to_owned(),
        };
        self.template_mistake(text, error, help);
    }

    /// The same with words of one's own about what to do.
    pub(super) fn template_mistake(&self, text: &Located<String>, error: &TemplateError, help: String) {
        let at = error.range().map_or_else(|| text.at.clone(), |range| self.inside(text, range));
        self.report.error(&at, error.to_string(), Some(help));
    }

    /// Where a part of a text's value stands in its file, if it can be told: escapes move positions.
    fn inside(&self, text: &Located<String>, part: std::ops::Range<usize>) -> Span {
        let offset = self.source_text(&text.at).and_then(|raw| raw.find(text.value.trim_end()));
        let word = || text.value.get(part.clone());
        let found = match offset {
            Some(offset) => Some(offset + part.start),
            None => self.source_text(&text.at).zip(word()).and_then(|(raw, word)| raw.find(word)),
        };
        found.map_or_else(
            || text.at.clone(),
            |start| Span {
                source: text.at.source,
                start: text.at.start + start,
                end: text.at.start + start + part.len(),
            },
        )
    }
}
