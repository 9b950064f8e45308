//! `[cors]`: what pages of other origins may do.

use toml::de::DeValue;

use crate::config::reader::{Section, shorten};
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::{Located, Place};
use crate::config::units::secs;

/// `[cors]`, of all routes or of one.
pub const CORS: Schema = Schema {
    parts: &[],
    name: "`[cors]`",
    about: "Which pages may call from a browser, by their origin. The gateway answers preflights itself. Every answer to a listed origin, refusals included, says that its page may read it, and CORS fields of the service are replaced. On routes without these rules the service's fields pass. See [browsers.md](browsers.md).",
    keys: &[
        Key {
            name: "origins",
            kind: Kind::Texts,
            default: Fallback::Required,
            about: "Scheme, host, and the port unless it is the scheme's default: `https://app.example.com`. In `https://*.example.com` the `*` stands for one label. `*` alone means every origin and is allowed only without `credentials`. At most 256.",
        },
        Key {
            name: "credentials",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Pages of these origins may use the session cookie, also for methods that change something and for WebSockets. Without it a session cookie is not used for any page of another origin.",
        },
        Key {
            name: "request_headers",
            kind: Kind::Texts,
            default: Fallback::Absent("none"),
            about: "Headers that pages may send besides `Content-Type`, `Authorization`, `Accept`, `Accept-Language`, `Content-Language` and the headers that carry credentials of the route.",
        },
        Key {
            name: "response_headers",
            kind: Kind::Texts,
            default: Fallback::Absent("none"),
            about: "Headers that pages may read besides `X-Request-Id`, `Retry-After`, `RateLimit`, `RateLimit-Policy` and the header that carries a renewed token.",
        },
        Key {
            name: "max_age",
            kind: Kind::Duration {
                min: secs(0),
                max: secs(86_400),
            },
            default: Fallback::Value("10m"),
            about: "How long a browser may keep the answer to a preflight. Browsers have limits of their own, between 2 and 24 hours.",
        },
    ],
};

/// `[cors]` as written.
#[derive(Debug)]
pub struct WrittenCors {
    /// Listed origins.
    pub origins: Vec<Located<String>>,
    /// Where the list stands, if it is an empty one.
    pub nobody: Option<Place>,
    /// Whether cookies are used, if it is said.
    pub credentials: Option<Located<bool>>,
    /// Further request headers.
    pub request_headers: Vec<Located<String>>,
    /// Further response headers.
    pub response_headers: Vec<Located<String>>,
    /// How long preflights are remembered.
    pub max_age: std::time::Duration,
}

impl WrittenCors {
    /// Whether cookies are used.
    #[must_use]
    pub fn uses_cookies(&self) -> bool {
        self.credentials.as_ref().is_some_and(|flag| flag.value)
    }
}

/// What a route says about pages of other origins.
#[derive(Debug)]
pub enum WrittenRouteCors {
    /// `cors = "none"`.
    None,
    /// A table of its own.
    Own(WrittenCors),
}

/// Reads `[cors]` of the gateway.
#[must_use]
pub fn read(section: &Section<'_>) -> WrittenCors {
    let is_empty = |value: &DeValue<'_>| matches!(value, DeValue::Array(items) if items.is_empty());
    WrittenCors {
        origins: section.texts("origins"),
        nobody: section
            .raw("origins")
            .filter(|value| is_empty(value.get_ref()))
            .map(|value| section.place(value)),
        credentials: section.flag("credentials"),
        request_headers: section.texts("request_headers"),
        response_headers: section.texts("response_headers"),
        max_age: section.duration_or_default("max_age").value,
    }
}

/// Reads `cors` of a route.
#[must_use]
pub fn read_of_route(section: &Section<'_>) -> Option<WrittenRouteCors> {
    let value = section.raw("cors")?;
    match value.get_ref() {
        DeValue::String(word) if word == "none" => Some(WrittenRouteCors::None),
        DeValue::String(word) => {
            section.report().error(
                &section.place(value),
                format!("`cors` cannot be `{}`", shorten(word)),
                Some("write `cors = \"none\"`, or `cors = { origins = [\"https://app.example.com\"] }`".to_owned()),
            );
            None
        }
        _ => section.section("cors").map(|own| WrittenRouteCors::Own(read(&own))),
    }
}
