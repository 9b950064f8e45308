//! `[surfaces.<name>]`: classes of callers.

use crate::base::scope::Mode;
use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::secret::Reference;
use crate::config::source::{Located, Place};
use crate::config::units::{millis, secs};
use crate::decide::kinds::{Account, ApiKey, Basic, Carrier, External, KeyOrigin, KeyPair, Kind as OneKind, Session, SigningSecret, WORDS};

mod account;
mod api_key;
mod basic;
mod external;
mod key_pair;
mod session;
mod signing_secret;

pub use account::WrittenAccount;
pub use api_key::WrittenApiKey;
pub use basic::WrittenBasic;
pub use external::{WrittenExternal, WrittenIssuer};
pub use key_pair::{WrittenHalves, WrittenKeyPair};
pub use session::{WrittenCookie, WrittenRefresh, WrittenSession};
pub use signing_secret::WrittenSigningSecret;

/// `[surfaces.<name>]`.
pub const SURFACE: Schema = Schema {
    parts: &[],
    name: "`[surfaces.<name>]`",
    about: "A credential of one surface never works on a route of another. Keys marked with a kind belong to that kind only.",
    keys: &[
        Key {
            name: "kind",
            kind: Kind::Choice(&WORDS),
            default: Fallback::Required,
            about: "Which credential callers present: one opaque key (or token), a publishable and a secret half, a key in `Authorization: Basic`, an e-mail address with a password, a signed session token, or a token that another issuer has signed. Nobody presents a `signing_secret`: the service signs with it.",
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
            about: "`api_key`, `session_jwt`, `external_jwt`: where the credential may be, in order: `bearer`, `header:<Name>`, `cookie:<name>` (`session_jwt` only). A header beats a cookie; two headers are refused.",
        },
        Key {
            name: "prefixes",
            kind: Kind::Either("table `{ live = \"…\", test = \"…\" }`, or list of texts without modes", &[]),
            default: Fallback::Absent("required for `api_key` and `signing_secret`"),
            about: "`api_key`, `signing_secret`: how keys begin, imported ones too: it is what tells them from other texts. The prefix tells the mode.",
        },
        Key {
            name: "keys",
            kind: Kind::Choice(&["generated", "imported"]),
            default: Fallback::Value("generated"),
            about: "`api_key`, `key_pair`, `basic`: with `generated` only keys made by durward exist, and a wrong checksum or MAC is refused before any look-up ([the form of keys](#the-form-of-keys)); `imported` also knows keys made elsewhere.",
        },
        Key {
            name: "random",
            kind: Kind::Count { min: 43, max: 128 },
            default: Fallback::Value("43"),
            about: "`api_key`: random characters of a new key, of 0-9 A-Z a-z; 43 hold 256 bits. Six characters of a MAC and six of a checksum follow. After a change, keys of another length are no longer valid.",
        },
        Key {
            name: "key_header",
            kind: Kind::Text,
            default: Fallback::Absent("one of `key_header` and `key_field` is required for `key_pair`"),
            about: "`key_pair`: header with the publishable half.",
        },
        Key {
            name: "secret_header",
            kind: Kind::Text,
            default: Fallback::Absent("required with `key_header`"),
            about: "`key_pair`: header with the secret half.",
        },
        Key {
            name: "key_field",
            kind: Kind::Text,
            default: Fallback::Absent("the halves are in headers"),
            about: "`key_pair`: field of a JSON body with the publishable half. Such pairs are accepted on served routes only.",
        },
        Key {
            name: "secret_field",
            kind: Kind::Text,
            default: Fallback::Absent("required with `key_field`"),
            about: "`key_pair`: field of a JSON body with the secret half.",
        },
        Key {
            name: "key_max",
            kind: Kind::Count { min: 1, max: 256 },
            default: Fallback::Value("256"),
            about: "`key_pair` with `key_field`: longest text of that field; a longer one is a validation error.",
        },
        Key {
            name: "secret_max",
            kind: Kind::Count { min: 1, max: 256 },
            default: Fallback::Value("256"),
            about: "`key_pair` with `secret_field`: longest text of that field.",
        },
        Key {
            name: "key_prefixes",
            kind: Kind::Either("like `prefixes`", &[]),
            default: Fallback::Absent("required for `key_pair` and `basic`"),
            about: "`key_pair`: how publishable halves begin. `basic`: how the keys begin that are the user name.",
        },
        Key {
            name: "secret_prefixes",
            kind: Kind::Either("like `prefixes`", &[]),
            default: Fallback::Absent("required for `key_pair`, and for `basic` unless `password = \"empty\"`"),
            about: "`key_pair`, `basic`: how secret halves begin; the same modes as `key_prefixes`.",
        },
        Key {
            name: "password",
            kind: Kind::Choice(&["secret", "empty"]),
            default: Fallback::Value("secret"),
            about: "`basic`: what stands behind the colon: the secret half of a pair (`curl -u key:secret`), or nothing, where the user name is the whole key (`curl -u key:`). Neither form is taken where the other is configured.",
        },
        Key {
            name: "login_field",
            kind: Kind::Text,
            default: Fallback::Absent("the account is never presented: other records hang on it"),
            about: "`account`: field of a JSON body with the e-mail address. Accounts are accepted on served routes only (log-in).",
        },
        Key {
            name: "password_field",
            kind: Kind::Text,
            default: Fallback::Absent("required with `login_field`"),
            about: "`account`: field of a JSON body with the password.",
        },
        Key {
            name: "login_max",
            kind: Kind::Count { min: 3, max: 254 },
            default: Fallback::Value("254"),
            about: "`account`: longest e-mail address; 254 is the longest there is (RFC 5321).",
        },
        Key {
            name: "password_max",
            kind: Kind::Count { min: 8, max: 1_024 },
            default: Fallback::Value("128"),
            about: "`account`: longest password; hashing longer ones only costs time.",
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
            about: "`session_jwt`: HS256 secrets of at least 32 bytes. The first signs, all verify: put a new one first, and take the old one out when its last token has ended; what is renewed until then is signed with the first, from the record and not from the token. No two surfaces may share one.",
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
            about: "`session_jwt`, `external_jwt`: tolerated clock difference. It is taken from the revocation bound, so at most 5 s.",
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
            default: Fallback::Absent("required with `record = \"sub\"`"),
            about: "`session_jwt`: the surface whose record the token's `sub` names by its id; when that record ends, the session ends.",
        },
        Key {
            name: "record",
            kind: Kind::Choice(&["sub", "own"]),
            default: Fallback::Value("sub"),
            about: "`session_jwt`: `sub` hangs on the record that `sub` names; `own` has a record for each session, named by `jti`, so that one session can be ended by itself and renewed.",
        },
        Key {
            name: "lifetime",
            kind: Kind::Duration {
                min: secs(1),
                max: secs(366 * 86_400),
            },
            default: Fallback::Absent("the gateway mints none of these tokens"),
            about: "`session_jwt`: how long a token lives that the gateway mints, unless a `mint` says otherwise.",
        },
        Key {
            name: "cookie",
            kind: Kind::Table(&COOKIE),
            default: Fallback::Absent("the defaults below, where `carry` names a cookie"),
            about: "`session_jwt` with `lifetime`: the cookie a minted token is set as. Its name is the one in `carry`.",
        },
        Key {
            name: "refresh",
            kind: Kind::Table(&REFRESH),
            default: Fallback::Absent("a token ends with its `exp`"),
            about: "`session_jwt` with `record = \"own\"`: renews tokens while they are used, up to the end of their record.",
        },
        Key {
            name: "issuers",
            kind: Kind::Tables(&external::ISSUER),
            default: Fallback::Absent("required for `external_jwt`"),
            about: "`external_jwt`: who signs its tokens.",
        },
        Key {
            name: "claim_headers",
            kind: Kind::Pairs,
            default: Fallback::Absent("none"),
            about: "`api_key`, `session_jwt`, `external_jwt`: claims (of the record, of the token) that become headers, e.g. `tid = \"X-Transaction-Id\"`. These names are removed from every request first.",
        },
        external::CLAIM_LISTS,
        external::MAX_TOKEN,
    ],
};

/// `cookie` of a session surface.
pub const COOKIE: Schema = Schema {
    parts: &[],
    name: "`[surfaces.<name>.cookie]`",
    about: "Always `HttpOnly` and `Secure`, without `Domain`. A name that begins with `__Host-` keeps other hosts from setting it.",
    keys: &[
        Key {
            name: "same_site",
            kind: Kind::Choice(&["strict", "lax", "none"]),
            default: Fallback::Value("lax"),
            about: "`SameSite`. Changing methods need the proof of one origin whatever is chosen.",
        },
        Key {
            name: "path",
            kind: Kind::Text,
            default: Fallback::Value("/"),
            about: "`Path`.",
        },
        Key {
            name: "max_age",
            kind: Kind::Duration {
                min: secs(1),
                max: secs(400 * 86_400),
            },
            default: Fallback::Absent("until the browser closes"),
            about: "`Max-Age`. Browsers cut it to 400 days. The session ends when it ends, whatever the browser keeps.",
        },
    ],
};

/// `refresh` of a session surface.
pub const REFRESH: Schema = Schema {
    parts: &[],
    name: "`[surfaces.<name>.refresh]`",
    about: "A request with a token older than `after` is answered with a new one.",
    keys: &[
        Key {
            name: "after",
            kind: Kind::Duration {
                min: millis(1_000),
                max: secs(366 * 86_400),
            },
            default: Fallback::Required,
            about: "Age from which a token is renewed; shorter than `lifetime`.",
        },
        Key {
            name: "header",
            kind: Kind::Text,
            default: Fallback::Absent("only callers with a cookie are told"),
            about: "Response header that tells the new token to callers without a cookie.",
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
    ApiKey(WrittenApiKey),
    /// Two halves.
    KeyPair(WrittenKeyPair),
    /// HTTP Basic.
    Basic(WrittenBasic),
    /// A login with a password.
    Account(WrittenAccount),
    /// A signed token.
    Session(Box<WrittenSession>),
    /// A token that others sign.
    External(WrittenExternal),
    /// A secret to sign with.
    SigningSecret(WrittenSigningSecret),
}

impl WrittenSurfaceKind {
    /// Headers of their own in which credentials stand, `Authorization` apart.
    #[must_use]
    pub fn headers(&self) -> Vec<(&str, &Place)> {
        let carriers = match self {
            Self::ApiKey(key) => &key.carriers,
            Self::Session(session) => &session.carriers,
            Self::External(external) => &external.carriers,
            Self::KeyPair(pair) => {
                return match &pair.halves {
                    WrittenHalves::Headers { key, secret } => vec![(&key.value, &key.at), (&secret.value, &secret.at)],
                    WrittenHalves::Fields { .. } => Vec::new(),
                };
            }
            Self::Basic(_) | Self::Account(_) | Self::SigningSecret(_) => return Vec::new(),
        };
        let named = carriers.iter().filter_map(|carrier| match &carrier.value {
            Carrier::Header(name) => Some((name.as_str(), &carrier.at)),
            Carrier::Authorization(_) | Carrier::Cookie(_) => None,
        });
        named.collect()
    }

    /// Secrets that sign its tokens.
    #[must_use]
    pub fn secrets(&self) -> &[Located<Reference>] {
        match self {
            Self::Session(session) => &session.secrets,
            Self::ApiKey(_) | Self::KeyPair(_) | Self::Basic(_) | Self::Account(_) | Self::External(_) | Self::SigningSecret(_) => &[],
        }
    }
}

impl WrittenSurface {
    /// Claims and the headers they become.
    #[must_use]
    pub fn claim_headers(&self) -> &[(Located<String>, Located<String>)] {
        match &self.kind {
            WrittenSurfaceKind::ApiKey(key) => &key.claim_headers,
            WrittenSurfaceKind::Session(session) => &session.claim_headers,
            WrittenSurfaceKind::External(external) => &external.claim_headers,
            WrittenSurfaceKind::KeyPair(_)
            | WrittenSurfaceKind::Basic(_)
            | WrittenSurfaceKind::Account(_)
            | WrittenSurfaceKind::SigningSecret(_) => &[],
        }
    }

    /// Whether it has records of its own.
    #[must_use]
    pub const fn has_records(&self) -> bool {
        match &self.kind {
            WrittenSurfaceKind::Session(session) => session.record_surface.is_none(),
            WrittenSurfaceKind::External(_) => false,
            WrittenSurfaceKind::ApiKey(_)
            | WrittenSurfaceKind::KeyPair(_)
            | WrittenSurfaceKind::Basic(_)
            | WrittenSurfaceKind::Account(_)
            | WrittenSurfaceKind::SigningSecret(_) => true,
        }
    }

    /// The surface whose records its tokens hang on.
    #[must_use]
    pub const fn record_surface(&self) -> Option<&Located<String>> {
        match &self.kind {
            WrittenSurfaceKind::Session(session) => session.record_surface.as_ref(),
            WrittenSurfaceKind::ApiKey(_)
            | WrittenSurfaceKind::KeyPair(_)
            | WrittenSurfaceKind::Basic(_)
            | WrittenSurfaceKind::Account(_)
            | WrittenSurfaceKind::External(_)
            | WrittenSurfaceKind::SigningSecret(_) => None,
        }
    }
}

const SHARED: &[&str] = &["kind", "mode"];

/// Reads one surface. `None` when what is there cannot be made sense of; the reasons are reported.
#[must_use]
pub fn read(name: Located<String>, section: &Section<'_>) -> Option<WrittenSurface> {
    let mode = section.raw("mode").and_then(|_| {
        let word = section.choice("mode");
        Mode::parse(word.value).map(|value| Located { value, at: word.at })
    });
    let kind = section.text("kind")?;
    let kind = match kind.value.as_str() {
        ApiKey::WORD => WrittenSurfaceKind::ApiKey(api_key::read(section)?),
        KeyPair::WORD => WrittenSurfaceKind::KeyPair(key_pair::read(section)?),
        Basic::WORD => WrittenSurfaceKind::Basic(basic::read(section)?),
        Account::WORD => WrittenSurfaceKind::Account(account::read(section)?),
        Session::WORD => WrittenSurfaceKind::Session(Box::new(session::read(section)?)),
        External::WORD => WrittenSurfaceKind::External(external::read(section)?),
        SigningSecret::WORD => WrittenSurfaceKind::SigningSecret(signing_secret::read(section)?),
        _ => {
            let _ = section.choice("kind");
            return None;
        }
    };
    Some(WrittenSurface { name, mode, kind })
}

/// Reports keys of another kind and missing ones of this kind.
fn demand<K: OneKind>(section: &Section<'_>, required: &[&str]) -> bool {
    let (kind, own) = (K::WORD, K::KEYS);
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

/// Reports keys that say nothing without another one.
fn needs(section: &Section<'_>, names: &[&str], other: &str) {
    if section.raw(other).is_some() {
        return;
    }
    for name in names.iter().filter(|n| section.raw(n).is_some()) {
        section
            .report()
            .error(&section.place_of(name), format!("`{name}` has no effect without `{other}`"), None);
    }
}

fn read_origin(section: &Section<'_>) -> KeyOrigin {
    match section.choice("keys").value {
        "imported" => KeyOrigin::Imported,
        _ => KeyOrigin::Generated,
    }
}

fn read_count(section: &Section<'_>, name: &str) -> usize {
    usize::try_from(section.count_or_default(name)).unwrap_or(usize::MAX)
}
