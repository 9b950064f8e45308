//! `[routes.hook]`: what a served route asks a service before, or tells it after.

use std::time::Duration;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::{Located, Place};
use crate::config::units::{millis, secs};

/// `[routes.hook]`.
pub const HOOK: Schema = Schema {
    parts: &[],
    name: "`[routes.hook]`",
    about: "One request to a service, over the connections that forwarded requests use. It has the identity headers, the `X-Request-Id` and the client's address, scheme and host as a forwarded request of this caller would have, and none of the client's own fields. `before`: after 2xx the call goes on, and its caller is judged again by what is true then. 404 and 410 are answered as `record_not_found`, every other 4xx as `refused_by_service`, and nothing is made or changed. `after`: the record was made or changed already, and any status but 2xx counts as a failure. Otherwise a failure is any other status (also 408, 421, 425 and 429), a service that cannot be reached or is too slow, and, if its answer is used, an answer that is no JSON object of at most 64 KiB. Failures are logged, and counted in `durward_hook_failures_total`.",
    keys: &[
        Key {
            name: "when",
            kind: Kind::Choice(&["before", "after"]),
            default: Fallback::Required,
            about: "`before`: before anything is made or changed. The service may refuse, and the template of the answer may use the service's answer. `after`: after it. The service is notified; its answer is not used. Both the step and the notification run to their end even if the client leaves. If the gateway crashes between them, the service is not notified.",
        },
        Key {
            name: "upstream",
            kind: Kind::Text,
            default: Fallback::Absent("the service of the file; in `gateway.toml` the only service"),
            about: "Name of the service.",
        },
        Key {
            name: "method",
            kind: Kind::Choice(&["GET", "POST", "PUT", "PATCH", "DELETE"]),
            default: Fallback::Absent("`GET` before, `POST` after"),
            about: "Its method.",
        },
        Key {
            name: "path",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "The path of the request. A whole segment may be `{path.<parameter>}`, `{body.<field>}`, `{caller.<fact>}` or, after a step that concerns one record, `{credential.id}`. If a value is absent, or holds what could be read as another segment (`/`, `\\`, `%`, `;`, a dot segment, a control character), no request is sent and the denial is `record_not_found`; with `on_failure = \"go_on\"` the call goes on.",
        },
        Key {
            name: "body",
            kind: Kind::Text,
            default: Fallback::Absent("no body"),
            about: "Template of the request's JSON body (see Templates). It has the variables of the answer, but no secret of what was made.",
        },
        Key {
            name: "deadline",
            kind: Kind::Duration {
                min: millis(50),
                max: secs(10),
            },
            default: Fallback::Value("2s"),
            about: "How long the request may take, from the wait for a connection to the last byte of the answer. The caller waits for it; people wait at a form no longer than 10 s.",
        },
        Key {
            name: "on_failure",
            kind: Kind::Choice(&["refuse", "go_on"]),
            default: Fallback::Required,
            about: "What a failure means. `refuse`: the call is refused with 502, 503 or 504 (`after`, a 4xx is answered as `before`); `after` it is for `mint` only: what was made is ended again, and nobody has seen its secrets. `go_on`: the call goes on; before the step `hook` is `null`.",
        },
        Key {
            name: "fields",
            kind: Kind::Texts,
            default: Fallback::Absent("the whole answer, as `{{ hook }}`: an object, or `null` where there was a failure"),
            about: "`before`: members of the service's answer that the template may use as `{{ hook.<name> }}`. Dots name members of members. A member that is absent is `null`.",
        },
    ],
};

/// A hook as written.
#[derive(Debug)]
pub struct WrittenHook {
    /// Where it begins.
    pub at: Place,
    /// When it is sent.
    pub when: Located<&'static str>,
    /// Where to.
    pub upstream: Option<Located<String>>,
    /// Its method.
    pub method: Option<Located<&'static str>>,
    /// Its path.
    pub path: Option<Located<String>>,
    /// Its body.
    pub body: Option<Located<String>>,
    /// Its deadline.
    pub deadline: Duration,
    /// What its failure means.
    pub on_failure: Located<&'static str>,
    /// What is used of its answer.
    pub fields: Option<Vec<Located<String>>>,
}

/// Reads a hook.
#[must_use]
pub fn read(section: &Section<'_>) -> WrittenHook {
    WrittenHook {
        at: section.at(),
        when: section.choice("when"),
        upstream: section.text("upstream"),
        method: section.raw("method").map(|_| section.choice("method")),
        path: section.text("path"),
        body: section.text("body"),
        deadline: section.duration_or_default("deadline").value,
        on_failure: section.choice("on_failure"),
        fields: section.raw("fields").map(|_| section.texts("fields")),
    }
}
