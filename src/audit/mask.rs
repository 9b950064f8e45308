//! Masks secrets in what the trail records of requests: card numbers, tokens, keys of the configured surfaces, and the
//! values of members whose names say that they are secret.
//!
//! Nothing here panics on any input. The time is linear in the length of the input, and the depth is bounded.

use std::borrow::Cow;

use crate::decide::audit::{AuditedUrl, BodyCapture};
use crate::decide::surface::{Carry, KeyOrigin, KeyPrefix, Recipe, Surface};

use self::names::MemberPath;

mod cards;
mod escapes;
mod form;
mod json;
mod names;
mod text;

#[cfg(test)]
mod tests;

/// What stands in place of a masked value.
pub const MASK: &str = "***";

/// What secrets look like: the forms that the surfaces of a configuration have, besides those that are known everywhere.
#[derive(Debug, Default)]
pub struct Shapes {
    prefixes: Vec<PrefixShape>,
    /// Bytes that one of the prefixes is found by.
    anchors: Vec<u8>,
    /// Names of cookies, fields and headers that carry credentials, folded.
    carriers: Vec<String>,
}

/// Keys that begin with one prefix.
#[derive(Debug)]
struct PrefixShape {
    text: String,
    /// A byte of the prefix that is rare in texts, and where it stands in the prefix.
    anchor: u8,
    anchor_at: usize,
    origin: KeyOrigin,
}

impl Shapes {
    /// The shapes of the credentials of these surfaces.
    #[must_use]
    pub fn of(surfaces: &[Surface]) -> Self {
        let mut shapes = Self::default();
        for surface in surfaces {
            match surface.kind.recipe() {
                Recipe::Keys { key, secret, origin, .. } => {
                    shapes.add_prefixes(key.prefixes, origin);
                    shapes.add_prefixes(secret.map_or(&[], |form| form.prefixes), origin);
                }
                Recipe::Signing(prefixes) => shapes.add_prefixes(prefixes, KeyOrigin::Generated),
                Recipe::Account | Recipe::Session(_) | Recipe::Elsewhere => {}
            }
            shapes.add_prefixes(surface.prefixes(), KeyOrigin::Imported);
            surface.cookies().for_each(|cookie| shapes.add_carrier(cookie));
            match surface.kind.carry() {
                // The publishable half is told by its prefix. Its field may be named `id`.
                Carry::BodyHalves { secret, .. } => shapes.add_carrier(&secret.name),
                Carry::Login(fields) => shapes.add_carrier(&fields.password.name),
                carry => carry.headers().for_each(|header| shapes.add_carrier(header)),
            }
        }
        shapes
    }

    fn add_prefixes(&mut self, prefixes: &[KeyPrefix], origin: KeyOrigin) {
        for prefix in prefixes {
            if self.prefixes.iter().any(|known| known.text == prefix.text) {
                continue;
            }
            let bytes = prefix.text.as_bytes();
            let rare = |byte: &u8| !byte.is_ascii_lowercase();
            let anchor_at = bytes.iter().position(rare).unwrap_or(0);
            let Some(anchor) = bytes.get(anchor_at).copied() else { continue };
            if !self.anchors.contains(&anchor) {
                self.anchors.push(anchor);
            }
            self.prefixes.push(PrefixShape {
                text: prefix.text.clone(),
                anchor,
                anchor_at,
                origin,
            });
        }
    }

    fn add_carrier(&mut self, name: &str) {
        let folded = names::folded(name);
        if !folded.is_empty() && !self.carriers.contains(&folded) {
            self.carriers.push(folded);
        }
    }

    /// Whether a member, parameter, cookie or field of this name is masked whatever its value is.
    #[must_use]
    pub fn is_secret_name(&self, name: &str) -> bool {
        names::is_secret(name, &self.carriers)
    }
}

/// Masks what looks like a secret in a text, and leaves the rest as it is.
#[must_use]
pub fn mask_text<'t>(text: &'t str, shapes: &Shapes) -> Cow<'t, str> {
    text::mask(text, shapes)
}

/// A body as it may be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskedBody {
    /// The whole body, masked.
    Masked(String),
    Withheld(Withheld),
}

/// Why a body is recorded without its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// Its media type is not among those that the route records, or secrets cannot be found in it.
    Type,
    /// It is no text.
    Binary,
    /// It has a content coding.
    Compressed,
    /// It is longer than what the route records.
    TooLong,
    /// It should be JSON and is not, or it is nested too deeply.
    NotJson,
    /// It ended before its end.
    Incomplete,
    /// The memory for bodies that wait to be written was used up.
    Busy,
}

impl Withheld {
    /// The word in entries. It stays the same between versions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Binary => "binary",
            Self::Compressed => "compressed",
            Self::TooLong => "too_long",
            Self::NotJson => "not_json",
            Self::Incomplete => "incomplete",
            Self::Busy => "busy",
        }
    }
}

/// How secrets are found in a media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Json,
    /// One JSON value on each line.
    JsonLines,
    Form,
    Text,
}

impl Syntax {
    /// The syntax of a media type in lower case without parameters. `None` for those that hold other types.
    fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/json" | "text/json" => Self::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/json-lines" | "application/json-seq" => {
                Self::JsonLines
            }
            "application/x-www-form-urlencoded" => Self::Form,
            _ if media_type.ends_with("+json") => Self::Json,
            // Its parts have types and names of their own.
            _ if media_type.starts_with("multipart/") => return None,
            _ => Self::Text,
        })
    }
}

/// The media type of a `Content-Type` field, in lower case without parameters.
#[must_use]
pub fn media_type(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Whether the text is in an encoding in which every ASCII character is one byte. In others a secret would not be found.
fn has_readable_charset(content_type: &str) -> bool {
    let mut parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    parameters.all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        let readable = ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"];
        !name.trim().eq_ignore_ascii_case("charset") || readable.iter().any(|known| value.eq_ignore_ascii_case(known))
    })
}

/// Why no body with this head can be recorded with its text; `None` if one can.
#[must_use]
pub fn withheld_by_type(content_type: &str, capture: &BodyCapture) -> Option<Withheld> {
    let media_type = media_type(content_type);
    let recorded = capture.types.contains(&media_type) && Syntax::of(&media_type).is_some();
    if !recorded {
        Some(Withheld::Type)
    } else if has_readable_charset(content_type) {
        None
    } else {
        Some(Withheld::Binary)
    }
}

/// Masks a whole body of this `Content-Type`.
#[must_use]
pub fn mask_body(content_type: &str, body: &[u8], capture: &BodyCapture, shapes: &Shapes) -> MaskedBody {
    if let Some(why) = withheld_by_type(content_type, capture) {
        return MaskedBody::Withheld(why);
    }
    if body.len() > capture.max {
        return MaskedBody::Withheld(Withheld::TooLong);
    }
    let Some(syntax) = Syntax::of(&media_type(content_type)) else {
        return MaskedBody::Withheld(Withheld::Type);
    };
    let text = match std::str::from_utf8(body) {
        Ok(text) if is_text(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        _ => return MaskedBody::Withheld(Withheld::Binary),
    };
    let rules = Rules {
        shapes,
        patterns: &capture.mask,
    };
    let masked = match syntax {
        Syntax::Json if text.trim_ascii().is_empty() => Some(String::new()),
        Syntax::Json => json::mask(text, rules),
        Syntax::JsonLines => json::mask_lines(text, rules),
        Syntax::Form => Some(form::mask(text, rules)),
        Syntax::Text => Some(text::mask(text, shapes).into_owned()),
    };
    masked.map_or(MaskedBody::Withheld(Withheld::NotJson), MaskedBody::Masked)
}

/// Whether a text has no control characters that only other formats have. A text in UTF-16 is full of zeros, and its
/// secrets would not be found.
fn is_text(text: &str) -> bool {
    crate::base::text::every(text.as_bytes(), |byte| {
        byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b | 0x1e)
    })
}

/// What is masked in a body besides the names that are always masked.
#[derive(Clone, Copy)]
struct Rules<'r> {
    shapes: &'r Shapes,
    /// The `mask` of the route.
    patterns: &'r [String],
}

impl Rules<'_> {
    /// Whether the value of the last member of this path is masked.
    fn masks(self, path: &MemberPath<'_>) -> bool {
        path.last().is_some_and(|name| self.shapes.is_secret_name(name)) || self.patterns.iter().any(|pattern| path.ends_with(pattern))
    }
}

/// Appends a query as entries show it: the names of the parameters, and the values of those that are shown, both masked. A
/// word without `=` may be a value, and is [`MASK`] unless it is shown. The result is ASCII.
pub fn redact_query(query: &str, url: &AuditedUrl, shapes: &Shapes, out: &mut Vec<u8>) {
    form::redact_query(query, url, shapes, out);
}

/// Fewest characters of a segment for which the path of an access line is masked: those of the shortest card number. Shorter
/// texts that [`redact_path`] masks are passwords of matrix parameters such as `;pin=1`.
const SHORTEST_SEGMENT: usize = 13;

/// Whether a path has a segment that is long enough for a credential. Most paths have none, and this looks at a few of their
/// bytes only.
#[must_use]
pub fn has_long_segment(path: &str) -> bool {
    let bytes = path.as_bytes();
    let mut begin = 0;
    // A slash within a window says that no long segment begins before it.
    while let Some(window) = bytes.get(begin..begin + SHORTEST_SEGMENT) {
        match window.iter().rposition(|byte| *byte == b'/') {
            None => return true,
            Some(slash) => begin += slash + 1,
        }
    }
    false
}

/// Appends a path as entries show it: segment by segment, masked. The result is ASCII if the path is.
pub fn redact_path(path: &str, shapes: &Shapes, out: &mut Vec<u8>) {
    form::redact_path(path, shapes, out);
}
