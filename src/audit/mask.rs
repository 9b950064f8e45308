//! Masks secrets in what the trail records of requests: card numbers, tokens, keys of the configured surfaces, and the
//! values of members whose names say that they are secret.
//!
//! Nothing here panics on any input. The time is linear in the length of the input, and the depth is bounded.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::decide::audit::{AuditedUrl, BodyCapture};
use crate::decide::surface::{Carry, KeyOrigin, KeyPrefix, Recipe, Surface};

use self::classes::ByteClasses;
use self::names::{CarrierName, MemberPath, PlainNames};

mod cards;
mod classes;
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
    /// Of bytes, among them those that the prefixes are found by.
    classes: ByteClasses,
    /// Names of cookies, fields and headers that carry credentials.
    carriers: Vec<CarrierName>,
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
            self.classes.add_anchor(anchor);
            self.prefixes.push(PrefixShape {
                text: prefix.text.clone(),
                anchor,
                anchor_at,
                origin,
            });
        }
    }

    fn add_carrier(&mut self, name: &str) {
        let carrier = CarrierName::of(name);
        if !carrier.is_empty() && !self.carriers.contains(&carrier) {
            self.carriers.push(carrier);
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

/// Whether the text is in an encoding in which every ASCII character is one byte. In others a secret would not be found.
fn has_readable_charset(content_type: &str) -> bool {
    let mut parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    parameters.all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        let readable = ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"];
        !name.trim().eq_ignore_ascii_case("charset") || readable.iter().any(|known| value.eq_ignore_ascii_case(known))
    })
}

/// How a body is read, by its `Content-Type`.
#[derive(Debug)]
pub struct BodyType {
    /// In lower case without parameters.
    media_type: String,
    syntax: Result<Syntax, Withheld>,
}

impl BodyType {
    #[must_use]
    pub fn of(content_type: &str, capture: &BodyCapture) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default();
        let media_type = essence.trim().to_ascii_lowercase();
        let syntax = Syntax::of(&media_type).filter(|_| capture.types.contains(&media_type));
        let syntax = match syntax {
            None => Err(Withheld::Type),
            Some(_) if !has_readable_charset(content_type) => Err(Withheld::Binary),
            Some(syntax) => Ok(syntax),
        };
        Self { media_type, syntax }
    }

    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Why no body of this type can be recorded with its text; `None` if one can.
    #[must_use]
    pub fn withheld(&self) -> Option<Withheld> {
        self.syntax.err()
    }
}

/// Appends a whole body, masked. On an error what was appended is of no use.
fn mask_typed(body_type: &BodyType, body: &[u8], max: usize, rules: Rules<'_>, out: &mut String) -> Result<(), Withheld> {
    let syntax = body_type.syntax?;
    if body.len() > max {
        return Err(Withheld::TooLong);
    }
    let text = std::str::from_utf8(body).map_err(|_| Withheld::Binary)?;
    let json = text.strip_prefix('\u{feff}').unwrap_or(text);
    // All that JSON may have is text, so that JSON need not be read twice.
    let is_json = match syntax {
        Syntax::Json if json.trim_ascii().is_empty() => Some(()),
        Syntax::Json => json::mask(json, rules, out),
        _ => None,
    };
    match (is_json, syntax) {
        (Some(()), _) => return Ok(()),
        _ if !is_text(text) => return Err(Withheld::Binary),
        (None, Syntax::Json) => return Err(Withheld::NotJson),
        (None, Syntax::JsonLines) => json::mask_lines(json, rules, out).ok_or(Withheld::NotJson)?,
        (None, Syntax::Form) => out.push_str(&form::mask(json, rules)),
        (None, Syntax::Text) => out.push_str(&text::mask(json, rules.shapes)),
    }
    Ok(())
}

/// What is remembered of the names of members from one body to the next.
#[derive(Debug, Default)]
pub struct MaskMemory {
    sets: Vec<RememberedNames>,
}

/// Names that were looked at by the same rules. The shapes are kept, so that no others come to stand at their address.
#[derive(Debug)]
struct RememberedNames {
    shapes: Arc<Shapes>,
    patterns: Vec<String>,
    names: PlainNames,
}

/// Sets of rules whose names are remembered: each has 2 KiB. Most configurations have one or two lists of patterns.
const MAX_REMEMBERED: usize = 8;

impl MaskMemory {
    /// The names by these rules.
    fn names(&mut self, shapes: &Arc<Shapes>, patterns: &[String]) -> Option<&PlainNames> {
        let is_same = |set: &RememberedNames| Arc::ptr_eq(&set.shapes, shapes) && set.patterns == patterns;
        let at = self.sets.iter().position(is_same).unwrap_or_else(|| {
            if self.sets.len() >= MAX_REMEMBERED {
                self.sets.remove(0);
            }
            self.sets.push(RememberedNames {
                shapes: shapes.clone(),
                patterns: patterns.to_vec(),
                names: PlainNames::default(),
            });
            self.sets.len() - 1
        });
        self.sets.get(at).map(|set| &set.names)
    }

    /// Appends a whole body, masked. On an error what was appended is of no use.
    pub fn mask(
        &mut self,
        body_type: &BodyType,
        body: &[u8],
        capture: &BodyCapture,
        shapes: &Arc<Shapes>,
        out: &mut String,
    ) -> Result<(), Withheld> {
        let mut rules = Rules::new(shapes, &capture.mask);
        rules.plain_names = self.names(shapes, &capture.mask);
        mask_typed(body_type, body, capture.max, rules, out)
    }
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
    /// Whether one of them may mean members of any name.
    has_open_pattern: bool,
    plain_names: Option<&'r PlainNames>,
}

impl<'r> Rules<'r> {
    fn new(shapes: &'r Shapes, patterns: &'r [String]) -> Self {
        Self {
            shapes,
            patterns,
            has_open_pattern: patterns.iter().any(|pattern| names::is_open(pattern)),
            plain_names: None,
        }
    }

    /// Whether the value of the last member of this path is masked.
    fn masks(self, path: &MemberPath<'_>) -> bool {
        path.last().is_some_and(|name| self.shapes.is_secret_name(name)) || self.pattern_masks(path)
    }

    fn pattern_masks(self, path: &MemberPath<'_>) -> bool {
        self.patterns.iter().any(|pattern| path.ends_with(pattern))
    }

    /// Whether a part of a text is a name that was found plain before, or is now.
    #[inline]
    fn is_known(self, text: &str, part: Range<usize>) -> bool {
        let look = || text.get(part.clone()).is_some_and(|name| self.is_plain_name(name));
        self.plain_names
            .is_some_and(|known| known.have(text.as_bytes(), part.clone(), look))
    }

    fn is_plain_name(self, name: &str) -> bool {
        let means_nothing = |pattern: &String| names::is_open(pattern) || !names::may_end_with(name, pattern);
        !self.shapes.is_secret_name(name)
            && self.patterns.iter().all(means_nothing)
            && matches!(text::mask(name, self.shapes), Cow::Borrowed(_))
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
