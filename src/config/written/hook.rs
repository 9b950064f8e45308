//! `[routes.hook]`: what a served route asks a service before, or tells it after.

use std::time::Duration;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema, millis, secs};
use crate::config::source::{Located, Place};

/// `[routes.hook]`.
pub const HOOK: Schema = Schema {
    name: "`[routes.hook]`",
    about: "One request to a service, over the connections that forwarded requests use, with the identity headers, the `X-Request-Id` and the origin that a forwarded request of this caller would have, and with none of the client's own fields. `before`: 2xx lets the call go on, judged anew by what is true then; 404 and 410 are told as `record_not_found`, every other 4xx as `refused_by_service`, and nothing is made or changed. `after`: it was made or changed already. A failure is any other status (also 408, 421, 425 and 429), a service that cannot be reached or is too slow, and, where its answer is used, one that is no JSON object of at most 64 KiB. Failures are logged, and counted in `durward_hook_failures_total`.",
    keys: &[
        Key {
            name: "when",
            kind: Kind::Choice(&["before", "after"]),
            default: Fallback::Required,
            about: "`before` anything is made or changed: the service may refuse, and the template of the answer may use what it said. `after`: the service is told; what it answers is not used. A call that is told after is made and told to its end also when its client leaves; a crash of the gateway between the two leaves it untold.",
        },
        Key {
            name: "upstream",
            kind: Kind::Text,
            default: Fallback::Absent("the service of the file; in `gateway.toml` the only one there is"),
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
            about: "Its path. A whole segment may be `{path.<parameter>}`, `{body.<field>}`, `{caller.<fact>}`, or after a step that concerns one record `{credential.id}`. A value that could be read as another segment (a slash, `%`, `;`, a dot segment, a control character), or that is not there, is `record_not_found`, or a failure where a failure lets the call go on.",
        },
        Key {
            name: "body",
            kind: Kind::Text,
            default: Fallback::Absent("no body"),
            about: "Template of its JSON body, see Templates: with the variables of the answer, but never a secret of what was made.",
        },
        Key {
            name: "deadline",
            kind: Kind::Duration {
                min: millis(50),
                max: secs(10),
            },
            default: Fallback::Value("2s"),
            about: "How long the service has, from the wait for a connection to the last byte of its answer. The caller waits for it: 10 s are what a form bears.",
        },
        Key {
            name: "on_failure",
            kind: Kind::Choice(&["refuse", "go_on"]),
            default: Fallback::Required,
            about: "What a failure means. `refuse`: the call is refused with 502, 503 or 504; after a `mint`, what was made is ended again, and its secrets were told to nobody. `go_on`: as if the service knew nothing (`hook` is `null`), or was told.",
        },
        Key {
            name: "fields",
            kind: Kind::Texts,
            default: Fallback::Absent("the whole answer, as `{{ hook }}`: an object, or `null` where there was a failure"),
            about: "`before`: members of the service's answer that the template may use, as `{{ hook.<name> }}`, with dots for members of members; what is not there is `null`.",
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
