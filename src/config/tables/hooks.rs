//! `[routes.hook]`: whether there is such a service, and whether everything it is asked or told is there.

use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::Located;
use crate::config::written::{WrittenHook, WrittenServe, source};
use crate::decide::method::Method;
use crate::decide::route::UpstreamIndex;
use crate::dialect::answer::{AnswerNames, AnswerTemplate, HookNames, Secrets, Subject};
use crate::issue::spec::hook::{Hook, HookFields, HookValue, OnFailure, PathPart, When};
use crate::issue::spec::{Action, AnswerSpec, FieldKind, Source};

use super::Builder;
use super::issuers::answer_names;
use super::routes::Shared;
use super::source_scope::{Parents, SourceScope};

/// Most members of an answer that a template may use: as many as a body of ours has fields.
const MAX_FIELDS: usize = 64;

/// What the template of an answer may use of the service that is asked.
pub(super) fn hook_names(serve: &WrittenServe) -> HookNames {
    let Some(hook) = serve.hook.as_ref().filter(|hook| hook.when.value == "before") else {
        return HookNames::None;
    };
    match &hook.fields {
        None => HookNames::Whole,
        Some(fields) => HookNames::Named(fields.iter().map(|field| field.value.clone()).collect()),
    }
}

/// Whether a variable is one of a hook.
pub(super) fn is_of_hook(name: &str) -> bool {
    name == "hook" || name.starts_with("hook.")
}

impl Builder<'_> {
    /// What a route asks or tells, if it does.
    pub(super) fn hook(
        &self,
        shared: &Shared<'_>,
        upstream: Option<UpstreamIndex>,
        in_scope: &SourceScope<'_>,
        (serve, action): (&WrittenServe, &Action),
    ) -> Option<Hook> {
        let written = serve.hook.as_ref()?;
        let when = if written.when.value == "after" { When::After } else { When::Before };
        self.check_hook(written, when, action);
        let names = AnswerNames {
            subject: match when {
                // Nothing is made or found yet.
                When::Before => Subject::None,
                When::After => answer_names(in_scope, action).subject,
            },
            secrets: Secrets::Withheld,
            ..answer_names(in_scope, action)
        };
        Some(Hook {
            when,
            upstream: self.hook_upstream(shared, upstream, written)?,
            method: method_of(written, when),
            path: self.hook_path(in_scope, written.path.as_ref()?, &names),
            body: match &written.body {
                Some(body) => Some(self.hook_body(body, &names)?),
                None => None,
            },
            deadline: written.deadline,
            on_failure: if written.on_failure.value == "go_on" {
                OnFailure::GoOn
            } else {
                OnFailure::Refuse
            },
            fields: match hook_names(serve) {
                HookNames::None => HookFields::Unused,
                HookNames::Whole => HookFields::Whole,
                HookNames::Named(names) => HookFields::Named(names),
            },
        })
    }

    /// The same, without an answer where no template speaks of it.
    pub(super) fn used_hook(&self, hook: Hook, serve: &WrittenServe, answer: &AnswerSpec) -> Hook {
        if answer.body.as_ref().is_some_and(|body| body.uses("hook")) {
            return hook;
        }
        if let Some(fields) = serve.hook.as_ref().and_then(|hook| hook.fields.as_ref()?.first()) {
            self.report.warning(
                &fields.at,
                "the template of the answer does not use `fields`",
                Some(format!("write `{{{{ hook.{} }}}}` there, or leave `fields` out", fields.value)),
            );
        }
        Hook {
            fields: HookFields::Unused,
            ..hook
        }
    }

    fn check_hook(&self, written: &WrittenHook, when: When, action: &Action) {
        if let (Some(body), Method::Get) = (&written.body, method_of(written, when)) {
            self.report
                .error(&body.at, "a GET has no body", Some("method = \"POST\"".to_owned()));
        }
        for (i, field) in written.fields.iter().flatten().enumerate() {
            self.check_hook_field(written, i, field);
        }
        if when == When::Before {
            return;
        }
        if let Some(field) = written.fields.as_ref().and_then(|fields| fields.first()) {
            self.report.error(
                &field.at,
                "`fields` has no use with `after`: the answer is written before the service is notified",
                Some("when = \"before\"".to_owned()),
            );
        }
        if !action.changes() {
            self.report.error(
                &written.when.at,
                "this route makes and changes nothing of which a service could be notified `after`",
                Some("when = \"before\"".to_owned()),
            );
        } else if written.on_failure.value == "refuse" && !matches!(action, Action::Mint { .. }) {
            self.report.error(
                &written.on_failure.at,
                "only what a `mint` made can be taken back: here `refuse` after the step is not possible",
                Some("on_failure = \"go_on\", or when = \"before\"".to_owned()),
            );
        }
    }

    fn check_hook_field(&self, written: &WrittenHook, number: usize, field: &Located<String>) {
        let is_name = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let others = written.fields.iter().flatten().take(number);
        if number == MAX_FIELDS {
            self.report
                .error(&field.at, format!("at most {MAX_FIELDS} members can be used"), None);
        } else if !field.value.split('.').all(is_name) {
            self.report.error(
                &field.at,
                format!("`{}` is not the name of a member", shorten(&field.value)),
                Some("letters, digits and `_`, with dots for members of members".to_owned()),
            );
        } else if let Some(other) = others
            .map(|other| other.value.as_str())
            .find(|other| is_within(other, &field.value))
        {
            self.report.error(
                &field.at,
                format!("`{}` overlaps with `{other}`", shorten(&field.value)),
                Some("name the object, or its members".to_owned()),
            );
        }
    }

    fn hook_upstream(&self, shared: &Shared<'_>, own: Option<UpstreamIndex>, written: &WrittenHook) -> Option<UpstreamIndex> {
        let known = || shared.upstreams.iter().map(String::as_str);
        match (&written.upstream, own, shared.upstreams) {
            (Some(name), _, all) => {
                let found = all.iter().position(|one| *one == name.value);
                if found.is_none() {
                    self.report.error(
                        &name.at,
                        format!("there is no service `{}`", shorten(&name.value)),
                        suggest(&name.value, known(), "a service"),
                    );
                }
                found.map(UpstreamIndex)
            }
            (None, Some(own), _) => Some(own),
            (None, None, [_]) => Some(UpstreamIndex(0)),
            (None, None, _) => {
                self.report.error(
                    &written.at,
                    "which service?",
                    Some(match known().next() {
                        Some(name) => format!("upstream = \"{name}\""),
                        None => "there is none: describe one in a file of `upstreams/`".to_owned(),
                    }),
                );
                None
            }
        }
    }

    fn hook_body(&self, body: &Located<String>, names: &AnswerNames) -> Option<AnswerTemplate> {
        match AnswerTemplate::parse(&body.value, names) {
            Ok(template) => Some(template),
            Err(error) => {
                let variables = names.variables();
                let known: Vec<&str> = variables.iter().map(String::as_str).collect();
                self.template_error(body, &error, &known);
                None
            }
        }
    }

    fn hook_path(&self, in_scope: &SourceScope<'_>, path: &Located<String>, names: &AnswerNames) -> Vec<PathPart> {
        let mut parts = Vec::new();
        let Some(rest) = path.value.strip_prefix('/') else {
            self.report.error(&path.at, "a path begins with `/`", None);
            return parts;
        };
        for segment in rest.split('/') {
            parts.push(PathPart::Fixed("/".to_owned()));
            parts.push(self.hook_segment(in_scope, path, segment, names));
        }
        parts
    }

    fn hook_segment(&self, in_scope: &SourceScope<'_>, path: &Located<String>, segment: &str, names: &AnswerNames) -> PathPart {
        let fixed = PathPart::Fixed(segment.to_owned());
        if let Some(text) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return self.hook_value(in_scope, path, text, names).map_or(fixed, PathPart::Value);
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b);
        if segment.is_empty() || matches!(segment, "." | "..") || !segment.bytes().all(plain) {
            self.report.error(
                &path.at,
                format!("`{}` cannot be a segment of a path", shorten(segment)),
                Some("letters, digits and `-._~!$&'()*+,=:@`, or a whole `{path.…}`, `{body.…}`, `{caller.…}`".to_owned()),
            );
        }
        fixed
    }

    fn hook_value(&self, in_scope: &SourceScope<'_>, path: &Located<String>, text: &str, names: &AnswerNames) -> Option<HookValue> {
        if text == "credential.id" {
            if names.subject != Subject::Credential {
                self.report
                    .error(&path.at, "there is no single record here that `credential.id` could name", None);
            }
            return Some(HookValue::Credential);
        }
        match source::parse(text) {
            Some(found @ (Source::Path(_) | Source::Body(_) | Source::Caller(_))) => {
                let located = Located {
                    value: found,
                    at: path.at.clone(),
                };
                if let Source::Body(field) = &located.value
                    && in_scope
                        .field(field)
                        .is_some_and(|field| matches!(field.kind, FieldKind::Secret { .. }))
                {
                    self.report.error(&path.at, "a secret cannot be part of a path", None);
                }
                Some(HookValue::Source(self.check_source(in_scope, &located, Parents::None)))
            }
            _ => {
                self.report.error(
                    &path.at,
                    format!("`{{{}}}` names nothing", shorten(text)),
                    Some("`{path.<parameter>}`, `{body.<field>}`, `{caller.<fact>}` or `{credential.id}`".to_owned()),
                );
                None
            }
        }
    }
}

/// Whether one is the other, or a member of it.
fn is_within(one: &str, other: &str) -> bool {
    let below = |long: &str, short: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    below(one, other) || below(other, one)
}

fn method_of(written: &WrittenHook, when: When) -> Method {
    match written.method.as_ref().map(|method| method.value) {
        Some("GET") => Method::Get,
        Some("PUT") => Method::Put,
        Some("PATCH") => Method::Patch,
        Some("DELETE") => Method::Delete,
        Some(_) => Method::Post,
        None if when == When::After => Method::Post,
        None => Method::Get,
    }
}
