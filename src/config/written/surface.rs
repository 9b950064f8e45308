//! `[surfaces.<name>]`: classes of callers.

use std::time::Duration;

use crate::base::scope::Mode;
use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema, secs};
use crate::config::secret::Reference;
use crate::config::source::Located;
use crate::decide::surface::{Carrier, KeyOrigin};

use super::carrier::{Cookies, WrittenPrefixes, read_carriers, read_prefixes};

/// `[surfaces.<name>]`.
pub const SURFACE: Schema = Schema {
    name: "`[surfaces.<name>]`",
    about: "A credential of one surface never works on a route of another. Keys marked with a kind belong to that kind only.",
    keys: &[
        Key {
            name: "kind",
            kind: Kind::Choice(&["api_key", "key_pair", "session_jwt"]),
            default: Fallback::Required,
            about: "Which credential callers present.",
        },
        Key {
            name: "mode",
            kind: Kind::Choice(&["live", "test"]),
            default: Fallback::Absent("both"),
            about: "The only mode admitted here, for a sandbox or a production gateway.",
        },
        Key {
            name: "carry",
            kind: Kind::Texts,
            default: Fallback::Absent("`[\"bearer\"]`"),
            about: "`api_key`, `session_jwt`: where the credential may be, in order: `bearer`, `header:<Name>`, `cookie:<name>` (`session_jwt` only). A header beats a cookie; two headers are refused.",
        },
        Key {
            name: "prefixes",
            kind: Kind::Either("table `{ live = \"…\", test = \"…\" }`, or list of texts without modes", None),
            default: Fallback::Absent("required, except with `keys = \"imported\"`"),
            about: "`api_key`: how keys begin. The prefix tells the mode.",
        },
        Key {
            name: "keys",
            kind: Kind::Choice(&["generated", "imported"]),
            default: Fallback::Value("generated"),
            about: "`api_key`, `key_pair`: with `generated` only keys made by durward exist, and a wrong checksum is refused before any look-up; `imported` also knows keys made elsewhere.",
        },
        Key {
            name: "key_header",
            kind: Kind::Text,
            default: Fallback::Absent("required for `key_pair`"),
            about: "`key_pair`: header with the publishable half.",
        },
        Key {
            name: "secret_header",
            kind: Kind::Text,
            default: Fallback::Absent("required for `key_pair`"),
            about: "`key_pair`: header with the secret half.",
        },
        Key {
            name: "key_prefixes",
            kind: Kind::Either("like `prefixes`", None),
            default: Fallback::Absent("required for `key_pair`"),
            about: "`key_pair`: how publishable halves begin.",
        },
        Key {
            name: "secret_prefixes",
            kind: Kind::Either("like `prefixes`", None),
            default: Fallback::Absent("required for `key_pair`"),
            about: "`key_pair`: how secret halves begin; the same modes as `key_prefixes`.",
        },
        Key {
            name: "token_kind",
            kind: Kind::Text,
            default: Fallback::Absent("required for `session_jwt`"),
            about: "`session_jwt`: exact value of the `kind` claim, so that a token of one surface is never one of another.",
        },
        Key {
            name: "secrets",
            kind: Kind::Secrets,
            default: Fallback::Absent("required for `session_jwt`"),
            about: "`session_jwt`: HS256 secrets of at least 32 bytes, several while one is replaced. No two surfaces may share one.",
        },
        Key {
            name: "issuer",
            kind: Kind::Text,
            default: Fallback::Absent("`iss` is not looked at"),
            about: "`session_jwt`: exact `iss`; then required.",
        },
        Key {
            name: "audience",
            kind: Kind::Text,
            default: Fallback::Absent("`aud` is not looked at"),
            about: "`session_jwt`: a value `aud` must contain; then required.",
        },
        Key {
            name: "skew",
            kind: Kind::Duration {
                min: secs(0),
                max: secs(5),
            },
            default: Fallback::Value("0s"),
            about: "`session_jwt`: tolerated clock difference. It is taken from the revocation bound, so at most 5 s.",
        },
        Key {
            name: "scopes_claim",
            kind: Kind::Text,
            default: Fallback::Absent("scopes come from the record"),
            about: "`session_jwt`: the claim that lists scopes; narrowed to what the record holds.",
        },
        Key {
            name: "record_surface",
            kind: Kind::Text,
            default: Fallback::Absent("required for `session_jwt`"),
            about: "`session_jwt`: the surface whose record the token's `sub` names by its id; when that record ends, the session ends.",
        },
        Key {
            name: "claim_headers",
            kind: Kind::Pairs,
            default: Fallback::Absent("none"),
            about: "`session_jwt`: claims that become headers, e.g. `tid = \"X-Transaction-Id\"`. These names are removed from every request first.",
        },
    ],
};

/// A surface as written.
#[derive(Debug)]
pub struct WrittenSurface {
    /// Its name.
    pub name: Located<String>,
    /// The only mode admitted.
    pub mode: Option<Located<Mode>>,
    /// The credential.
    pub kind: WrittenSurfaceKind,
}

/// The credential of a surface, as written.
#[derive(Debug)]
pub enum WrittenSurfaceKind {
    /// One opaque key.
    ApiKey {
        /// Where.
        carriers: Vec<Located<Carrier>>,
        /// How keys begin.
        prefixes: WrittenPrefixes,
        /// Which keys exist.
        keys: KeyOrigin,
    },
    /// Two halves.
    KeyPair {
        /// Header of the publishable half.
        key_header: Located<String>,
        /// Header of the secret half.
        secret_header: Located<String>,
        /// How publishable halves begin.
        key_prefixes: WrittenPrefixes,
        /// How secret halves begin.
        secret_prefixes: WrittenPrefixes,
        /// Which pairs exist.
        keys: KeyOrigin,
    },
    /// A signed token.
    SessionJwt {
        /// Where.
        carriers: Vec<Located<Carrier>>,
        /// The `kind` claim.
        token_kind: Located<String>,
        /// Verification secrets.
        secrets: Vec<Located<Reference>>,
        /// `iss`.
        issuer: Option<String>,
        /// `aud`.
        audience: Option<String>,
        /// Clock difference.
        skew: Duration,
        /// The claim with scopes.
        scopes_claim: Option<String>,
        /// Whose records.
        record_surface: Located<String>,
        /// Claims and header names.
        claim_headers: Vec<(Located<String>, Located<String>)>,
    },
}

const SHARED: &[&str] = &["kind", "mode"];
const OF_API_KEY: &[&str] = &["carry", "prefixes", "keys"];
const OF_KEY_PAIR: &[&str] = &["key_header", "secret_header", "key_prefixes", "secret_prefixes", "keys"];
const OF_SESSION: &[&str] = &[
    "carry",
    "token_kind",
    "secrets",
    "issuer",
    "audience",
    "skew",
    "scopes_claim",
    "record_surface",
    "claim_headers",
];

/// Reads one surface. `None` when what is there cannot be made sense of; the reasons are reported.
#[must_use]
pub fn read(name: Located<String>, section: &Section<'_>) -> Option<WrittenSurface> {
    let mode = section.raw("mode").and_then(|_| {
        let word = section.choice("mode");
        Mode::parse(word.value).map(|value| Located { value, at: word.at })
    });
    let kind = section.text("kind")?;
    let kind = match kind.value.as_str() {
        "api_key" => read_api_key(section)?,
        "key_pair" => read_key_pair(section)?,
        "session_jwt" => read_session(section)?,
        _ => {
            let _ = section.choice("kind");
            return None;
        }
    };
    Some(WrittenSurface { name, mode, kind })
}

fn read_api_key(section: &Section<'_>) -> Option<WrittenSurfaceKind> {
    let own = demand(section, "api_key", OF_API_KEY, &[]);
    let keys = read_origin(section);
    if keys == KeyOrigin::Generated && section.raw("prefixes").is_none() {
        missing(section, "prefixes", "api_key");
        return None;
    }
    let carriers = read_carriers(section, Cookies::Refused);
    let prefixes = read_prefixes(section, "prefixes");
    own.then_some(WrittenSurfaceKind::ApiKey { carriers, prefixes, keys })
}

fn read_key_pair(section: &Section<'_>) -> Option<WrittenSurfaceKind> {
    let own = demand(
        section,
        "key_pair",
        OF_KEY_PAIR,
        &["key_header", "secret_header", "key_prefixes", "secret_prefixes"],
    );
    let (key_prefixes, secret_prefixes) = (read_prefixes(section, "key_prefixes"), read_prefixes(section, "secret_prefixes"));
    let (key_header, secret_header) = (section.text("key_header"), section.text("secret_header"));
    let keys = read_origin(section);
    if !own {
        return None;
    }
    Some(WrittenSurfaceKind::KeyPair {
        key_header: key_header?,
        secret_header: secret_header?,
        key_prefixes,
        secret_prefixes,
        keys,
    })
}

fn read_session(section: &Section<'_>) -> Option<WrittenSurfaceKind> {
    let own = demand(section, "session_jwt", OF_SESSION, &["token_kind", "secrets", "record_surface"]);
    let (token_kind, record_surface) = (section.text("token_kind"), section.text("record_surface"));
    let (carriers, secrets) = (read_carriers(section, Cookies::Allowed), Reference::read_list(section, "secrets"));
    let claim = |name| section.text(name).map(|t| t.value);
    let (issuer, audience, scopes_claim) = (claim("issuer"), claim("audience"), claim("scopes_claim"));
    let (skew, claim_headers) = (section.duration_or_default("skew").value, section.pairs("claim_headers"));
    if !own {
        return None;
    }
    Some(WrittenSurfaceKind::SessionJwt {
        carriers,
        token_kind: token_kind?,
        secrets,
        issuer,
        audience,
        skew,
        scopes_claim,
        record_surface: record_surface?,
        claim_headers,
    })
}

/// Reports keys of another kind and missing ones of this kind.
fn demand(section: &Section<'_>, kind: &str, own: &[&str], required: &[&str]) -> bool {
    let foreign = SURFACE
        .keys
        .iter()
        .map(|k| k.name)
        .filter(|n| !SHARED.contains(n) && !own.contains(n) && section.raw(n).is_some());
    for name in foreign {
        section.report().error(
            &section.place_of(name),
            format!("`{name}` does not belong to a surface of kind `{kind}`"),
            Some(format!("such a surface has {}", own.join(", "))),
        );
    }
    let absent: Vec<_> = required.iter().filter(|n| section.raw(n).is_none()).collect();
    for name in &absent {
        missing(section, name, kind);
    }
    absent.is_empty()
}

fn missing(section: &Section<'_>, name: &str, kind: &str) {
    let about = SURFACE.find(name).map_or("", |k| k.about);
    section.report().error(
        &section.at(),
        format!("a surface of kind `{kind}` needs `{name}`"),
        Some(about.to_owned()),
    );
}

fn read_origin(section: &Section<'_>) -> KeyOrigin {
    match section.choice("keys").value {
        "imported" => KeyOrigin::Imported,
        _ => KeyOrigin::Generated,
    }
}
