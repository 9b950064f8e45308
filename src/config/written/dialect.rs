//! `[dialects.<name>]`: how refusals are written.

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::Located;

/// `[dialects.<name>]`.
pub const DIALECT: Schema = Schema {
    parts: &[],
    name: "`[dialects.<name>]`",
    about: "Every refusal carries `Cache-Control: no-store` and `X-Request-Id`; 401 and `insufficient_scope` a `WWW-Authenticate`, 429 and 503 a `Retry-After`, 405 an `Allow`.",
    keys: &[
        Key {
            name: "base",
            kind: Kind::Text,
            default: Fallback::Value("problem"),
            about: "The dialect this one begins as: `problem` is RFC 9457, `plain` is `{\"error\":{\"code\",\"message\"}}`, or another of yours. What this one says beats what its base says.",
        },
        Key {
            name: "content_type",
            kind: Kind::Text,
            default: Fallback::Absent("the base's; `application/json` with `body`"),
            about: "`Content-Type` of refusals.",
        },
        Key {
            name: "body",
            kind: Kind::Text,
            default: Fallback::Absent("the base's"),
            about: "Template of the body, see Templates. Variables: `code`, `message`, `status`, `title`, `request_id`, and `details` (messages by field, or none).",
        },
        Key {
            name: "realm",
            kind: Kind::Text,
            default: Fallback::Absent("the base's; `api`"),
            about: "`realm` of `WWW-Authenticate`.",
        },
        Key {
            name: "headers",
            kind: Kind::Pairs,
            default: Fallback::Absent("none"),
            about: "Further headers of every refusal.",
        },
        Key {
            name: "denials",
            kind: Kind::Named(&DENIAL),
            default: Fallback::Absent("the defaults"),
            about: "Changes for single refusals, by the name of a denial or, for all that share it, by a default code (`invalid_credential`). A name beats a code. See the table of denials.",
        },
    ],
};

/// `[dialects.<name>.denials.<denial>]`.
pub const DENIAL: Schema = Schema {
    parts: &[],
    name: "`[dialects.<name>.denials.<denial>]`",
    about: "What differs from the dialect's own answer.",
    keys: &[
        Key {
            name: "status",
            kind: Kind::Count { min: 400, max: 599 },
            default: Fallback::Absent("the denial's"),
            about: "Status. A fault of the caller stays 4xx, a fault of ours stays 5xx: an unreachable store must never look like a bad credential.",
        },
        Key {
            name: "code",
            kind: Kind::Text,
            default: Fallback::Absent("the denial's"),
            about: "What `code` is.",
        },
        Key {
            name: "message",
            kind: Kind::Text,
            default: Fallback::Absent("the denial's"),
            about: "What `message` is.",
        },
        Key {
            name: "headers",
            kind: Kind::Pairs,
            default: Fallback::Absent("none"),
            about: "Further headers; one of the same name is replaced.",
        },
        Key {
            name: "body",
            kind: Kind::Text,
            default: Fallback::Absent("the dialect's"),
            about: "Another template for this refusal.",
        },
    ],
};

/// A dialect as written.
#[derive(Debug)]
pub struct WrittenDialect {
    /// Its name.
    pub name: Located<String>,
    /// Another dialect.
    pub base: Option<Located<String>>,
    /// `Content-Type`.
    pub content_type: Option<Located<String>>,
    /// Body template.
    pub body: Option<Located<String>>,
    /// Realm.
    pub realm: Option<Located<String>>,
    /// Further headers.
    pub headers: Vec<(Located<String>, Located<String>)>,
    /// Changes for single refusals.
    pub denials: Vec<WrittenDenial>,
}

/// Changes for one refusal, or for all with one default code.
#[derive(Debug)]
pub struct WrittenDenial {
    /// Denial or default code.
    pub name: Located<String>,
    /// Status.
    pub status: Option<Located<u16>>,
    /// Code.
    pub code: Option<Located<String>>,
    /// Message.
    pub message: Option<Located<String>>,
    /// Further headers.
    pub headers: Vec<(Located<String>, Located<String>)>,
    /// Body template.
    pub body: Option<Located<String>>,
}

/// Reads one dialect.
#[must_use]
pub fn read(name: Located<String>, section: &Section<'_>) -> WrittenDialect {
    WrittenDialect {
        name,
        base: section.text("base"),
        content_type: section.text("content_type"),
        body: section.text("body"),
        realm: section.text("realm"),
        headers: section.pairs("headers"),
        denials: section
            .named("denials")
            .into_iter()
            .map(|(name, s)| WrittenDenial {
                name,
                status: s.count("status").and_then(|n| {
                    Some(Located {
                        value: u16::try_from(n.value).ok()?,
                        at: n.at,
                    })
                }),
                code: s.text("code"),
                message: s.text("message"),
                headers: s.pairs("headers"),
                body: s.text("body"),
            })
            .collect(),
    }
}
