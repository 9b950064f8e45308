//! `[routes.hook]`: what a served route asks a service before, or tells it after.

use std::time::Duration;

use crate::config::declare::{absent, choice, default, duration, required, table};
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::Located;
use crate::decide::method::Method;
use crate::decide::route::UpstreamIndex;
use crate::dialect::answer::{AnswerNames, AnswerSubject, AnswerTemplate, HookNames, Secrets};
use crate::snapshot::body_schema::FieldKind;
use crate::snapshot::served_route::{Action, AnswerSpec, Hook, HookFields, HookValue, OnFailure, PathPart, ValueSource, When};

use crate::config::units::{millis, secs};

use super::Builder;
use super::routes::RouteInputs;
use super::serve::{ServeTable, answer_names};
use super::sources::{self, ParentPresence, SourceScope};

table! {
    /// One request to a service, over the connections that forwarded requests use. It has the identity headers, the
    /// `X-Request-Id` and the client's address, scheme and host as a forwarded request of this caller would have, and
    /// none of the client's own fields. `before`: after 2xx the call goes on, and its caller is judged again by what is
    /// true then. 404 and 410 are answered as `record_not_found`, every other 4xx as `refused_by_service`, and nothing is
    /// made or changed. `after`: the record was made or changed already, and any status but 2xx counts as a failure.
    /// Otherwise a failure is any other status (also 408, 421, 425 and 429), a service that cannot be reached or is too
    /// slow, and, if its answer is used, an answer that is no JSON object of at most 64 KiB. Failures are logged, and
    /// counted in `durward_hook_failures_total`.
    pub struct HookTable = "`[routes.hook]`" {
        /// `before`: before anything is made or changed. The service may refuse, and the template of the answer may use
        /// the service's answer. `after`: after it. The service is notified; its answer is not used. Both the step and
        /// the notification run to their end even if the client leaves. If the gateway crashes between them, the service
        /// is not notified.
        when: Located<When> = required();
        /// Name of the service.
        upstream: Option<Located<String>> = absent("the service of the file; in `gateway.toml` the only service");
        /// Its method.
        method: Option<HookMethod> = absent("`GET` before, `POST` after");
        /// The path of the request. A whole segment may be `{path.<parameter>}`, `{body.<field>}`, `{caller.<fact>}` or,
        /// after a step that concerns one record, `{credential.id}`. If a value is absent, or holds what could be read as
        /// another segment (`/`, `\`, `%`, `;`, a dot segment, a control character), no request is sent and the denial is
        /// `record_not_found`; with `on_failure = "go_on"` the call goes on.
        path: Located<String> = required();
        /// Template of the request's JSON body (see Templates). It has the variables of the answer, but no secret of what
        /// was made.
        body: Option<Located<String>> = absent("no body");
        /// How long the request may take, from the wait for a connection to the last byte of the answer. The caller waits
        /// for it; people wait at a form no longer than 10 s.
        deadline: Duration = default("2s"), duration(millis(50), secs(10));
        /// What a failure means. `refuse`: the call is refused with 502, 503 or 504 (`after`, a 4xx is answered as
        /// `before`); `after` it is for `mint` only: what was made is ended again, and nobody has seen its secrets.
        /// `go_on`: the call goes on; before the step `hook` is `null`.
        on_failure: Located<OnFailure> = required();
        /// `before`: members of the service's answer that the template may use as `{{ hook.<name> }}`. Dots name members
        /// of members. A member that is absent is `null`.
        fields: Option<Vec<Located<String>>> = absent("the whole answer, as `{{ hook }}`: an object, or `null` where there was a failure");
    }
}

choice! {
    for When {
        Before = "before",
        After = "after",
    }
}

choice! {
    for OnFailure {
        Refuse = "refuse",
        GoOn = "go_on",
    }
}

choice! {
    pub enum HookMethod {
        Get = "GET",
        Post = "POST",
        Put = "PUT",
        Patch = "PATCH",
        Delete = "DELETE",
    }
}

/// Most members of an answer that a template may use: as many as a body of ours has fields.
const MAX_FIELDS: usize = 64;

/// What the template of an answer may use of the service that is asked.
pub(super) fn hook_names(serve: &ServeTable) -> HookNames {
    let Located { value, at } = &serve.hook;
    let hook = match value {
        Some(hook) if hook.when.value == When::Before => hook,
        // What is wrong with it was reported: nothing more can be said of it.
        None if *at != serve.at => return HookNames::Whole,
        Some(_) | None => return HookNames::None,
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
        shared: &RouteInputs<'_>,
        upstream: Option<UpstreamIndex>,
        in_scope: &SourceScope<'_>,
        serve: &ServeTable,
        action: &Action,
    ) -> Option<Hook> {
        let written = serve.hook.value.as_ref()?;
        let when = written.when.value;
        self.check_hook(written, when, action);
        let names = AnswerNames {
            subject: match when {
                // Nothing is made or found yet.
                When::Before => AnswerSubject::None,
                When::After => answer_names(in_scope, action).subject,
            },
            secrets: Secrets::Withheld,
            ..answer_names(in_scope, action)
        };
        Some(Hook {
            when,
            upstream: self.hook_upstream(shared, upstream, written)?,
            method: method_of(written, when),
            path: self.hook_path(in_scope, &written.path, &names),
            body: match &written.body {
                Some(body) => Some(self.hook_body(body, &names)?),
                None => None,
            },
            deadline: written.deadline,
            on_failure: written.on_failure.value,
            fields: match hook_names(serve) {
                HookNames::None => HookFields::Unused,
                HookNames::Whole => HookFields::Whole,
                HookNames::Named(names) => HookFields::Named(names),
            },
        })
    }

    /// The same, without an answer where no template speaks of it.
    pub(super) fn used_hook(&self, hook: Hook, serve: &ServeTable, answer: &AnswerSpec) -> Hook {
        if answer.body.as_ref().is_some_and(|body| body.uses("hook")) {
            return hook;
        }
        if let Some(fields) = serve.hook.value.as_ref().and_then(|hook| hook.fields.as_ref()?.first()) {
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

    fn check_hook(&self, written: &HookTable, when: When, action: &Action) {
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
        } else if written.on_failure.value == OnFailure::Refuse && !matches!(action, Action::Mint { .. }) {
            self.report.error(
                &written.on_failure.at,
                "only what a `mint` made can be taken back: here `refuse` after the step is not possible",
                Some("on_failure = \"go_on\", or when = \"before\"".to_owned()),
            );
        }
    }

    fn check_hook_field(&self, written: &HookTable, number: usize, field: &Located<String>) {
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

    fn hook_upstream(&self, shared: &RouteInputs<'_>, own: Option<UpstreamIndex>, written: &HookTable) -> Option<UpstreamIndex> {
        let known = || shared.upstreams.iter().map(String::as_str);
        match (&written.upstream, own, shared.upstreams) {
            (Some(name), ..) => {
                let found = shared.upstream_index.get(name.value.as_str()).copied();
                if found.is_none() {
                    self.report.error(
                        &name.at,
                        format!("there is no service `{}`", shorten(&name.value)),
                        suggest(&name.value, known(), "a service"),
                    );
                }
                found
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
            if names.subject != AnswerSubject::Credential {
                self.report
                    .error(&path.at, "there is no single record here that `credential.id` could name", None);
            }
            return Some(HookValue::Credential);
        }
        match sources::parse(text) {
            Some(found @ (ValueSource::Path(_) | ValueSource::Body(_) | ValueSource::Caller(_))) => {
                let located = Located {
                    value: found,
                    at: path.at.clone(),
                };
                if let ValueSource::Body(field) = &located.value
                    && in_scope
                        .field(field)
                        .is_some_and(|field| matches!(field.kind, FieldKind::Secret { .. }))
                {
                    self.report.error(&path.at, "a secret cannot be part of a path", None);
                }
                Some(HookValue::Source(self.check_source(in_scope, &located, ParentPresence::None)))
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

fn method_of(written: &HookTable, when: When) -> Method {
    match written.method {
        Some(HookMethod::Get) => Method::Get,
        Some(HookMethod::Post) => Method::Post,
        Some(HookMethod::Put) => Method::Put,
        Some(HookMethod::Patch) => Method::Patch,
        Some(HookMethod::Delete) => Method::Delete,
        None if when == When::After => Method::Post,
        None => Method::Get,
    }
}
