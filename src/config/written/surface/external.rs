//! `[[surfaces.<name>.issuers]]`: who signs the tokens of an `external_jwt` surface, and what they say.

use std::time::Duration;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::{Located, Place};
use crate::config::units::secs;
use crate::config::written::carrier::{Cookies, read_carriers};
use crate::decide::external::MAX_EXTERNAL_TOKEN;
use crate::decide::kinds::{Carrier, External};

use super::demand;

/// How lists become headers.
pub(super) const CLAIM_LISTS: Key = Key {
    name: "claim_lists",
    kind: Kind::Choice(&["spaces", "commas", "json"]),
    default: Fallback::Value("spaces"),
    about: "`external_jwt`: how a claim that is a list becomes a header: its items separated by spaces or by commas, or JSON. With `json` a claim that is an object becomes a header too.",
};

/// How large tokens may be.
pub(super) const MAX_TOKEN: Key = Key {
    name: "max_token",
    kind: Kind::Size {
        min: 1024,
        max: MAX_EXTERNAL_TOKEN as u64,
    },
    default: Fallback::Value("16KiB"),
    about: "`external_jwt`: largest token. A request head has no room for more. A smaller value reduces the work that is done before the signature is checked.",
};

/// One issuer.
pub(super) const ISSUER: Schema = Schema {
    parts: &[],
    name: "`[[surfaces.<name>.issuers]]`",
    about: "An issuer that is not durward: an identity provider, or a tenant's own. Its tokens are JWTs signed with RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA; the algorithm is the key's and never the token's. They hang on their tenant: it must exist and be active.",
    keys: &[
        Key {
            name: "issuer",
            kind: Kind::Text,
            default: Fallback::Absent("`iss` is not looked at; only if there is no other issuer"),
            about: "Exact `iss`; then required. It chooses the keys of several issuers.",
        },
        Key {
            name: "audience",
            kind: Kind::Text,
            default: Fallback::Absent("`aud` is not looked at"),
            about: "A value `aud` must contain; then required. Without it, every token of the issuer is taken, whichever service it was made for.",
        },
        Key {
            name: "audience_claim",
            kind: Kind::Text,
            default: Fallback::Value("aud"),
            about: "The claim that must contain `audience`: `client_id` for access tokens of Amazon Cognito, which have no `aud`.",
        },
        Key {
            name: "jwks",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "The public keys (RFC 7517): an `https://` URL, or the path of a file, which is read again when it changes.",
        },
        Key {
            name: "rsa_algorithm",
            kind: Kind::Choice(&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
            default: Fallback::Value("RS256"),
            about: "The algorithm of RSA keys without `alg`. A key with `alg` uses that one.",
        },
        Key {
            name: "refresh",
            kind: Kind::Duration {
                min: secs(10),
                max: secs(3_600),
            },
            default: Fallback::Value("30s"),
            about: "A URL is asked again before its keys are older than this, so a key that the issuer withdraws is refused after this time. A token with an unknown `kid` asks at once, but once in 30 s.",
        },
        Key {
            name: "keep",
            kind: Kind::Duration {
                min: secs(60),
                max: secs(86_400),
            },
            default: Fallback::Value("1h"),
            about: "How long the last good keys of a URL are used while it does not answer; then 503.",
        },
        Key {
            name: "ca",
            kind: Kind::Path,
            default: Fallback::Absent("the system's authorities"),
            about: "PEM file of the authorities that vouch for the URL's server.",
        },
        Key {
            name: "insecure_private_address",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Allows a URL whose host has a private or local address, as issuers inside the operator's network have.",
        },
        Key {
            name: "token_type",
            kind: Kind::Text,
            default: Fallback::Absent("`JWT`, `JOSE`, `at+jwt`, or none"),
            about: "The `typ` that the token's header must have, compared without regard to case and with or without `application/`: `at+jwt` admits only access tokens (RFC 9068).",
        },
        Key {
            name: "tenants",
            kind: Kind::Texts,
            default: Fallback::Absent("any; required with several issuers"),
            about: "The tenants this issuer may speak for. With exactly one and no `tenant_claim`, all its tokens are of that tenant.",
        },
        Key {
            name: "tenant_claim",
            kind: Kind::Text,
            default: Fallback::Absent("`tenant`"),
            about: "The claim that names the tenant. Like every claim here, it is given by its whole name or by a path (see [Claims](#claims)).",
        },
        Key {
            name: "subject_claim",
            kind: Kind::Text,
            default: Fallback::Value("sub"),
            about: "The claim with the subject, which becomes `X-Auth-Subject`.",
        },
        Key {
            name: "scopes_claim",
            kind: Kind::Text,
            default: Fallback::Value("scope"),
            about: "The claim with the scopes, for example `scope`, `scp`, `permissions`: a text with spaces, or a list. Items that are not valid scopes, such as `Domain Users`, are ignored.",
        },
        Key {
            name: "scopes",
            kind: Kind::Texts,
            default: Fallback::Absent("any"),
            about: "The only scopes it may give; others in its tokens do not count.",
        },
        Key {
            name: "max_age",
            kind: Kind::Duration {
                min: secs(60),
                max: secs(30 * 86_400),
            },
            default: Fallback::Absent("until `exp`"),
            about: "Longest time since `iat`, which is then required: a token of another issuer cannot be revoked singly.",
        },
        Key {
            name: "require",
            kind: Kind::Pairs,
            default: Fallback::Absent("none"),
            about: "Claims that must have exactly these texts, for example `{ token_use = \"access\" }`; a number or boolean is compared in its JSON form.",
        },
    ],
};

/// An issuer as written.
#[derive(Debug)]
pub struct WrittenIssuer {
    /// Where it begins.
    pub at: Place,
    /// `iss`.
    pub issuer: Option<Located<String>>,
    /// `aud`.
    pub audience: Option<Located<String>>,
    /// The claim it is in.
    pub audience_claim: Located<String>,
    /// File or URL.
    pub jwks: Located<String>,
    /// What RSA keys without `alg` are for.
    pub rsa_algorithm: &'static str,
    /// How often a URL is asked.
    pub refresh: Located<Duration>,
    /// How long its keys are kept.
    pub keep: Located<Duration>,
    /// Authorities.
    pub ca: Option<Located<String>>,
    /// Whether private addresses may be asked.
    pub insecure_private_address: Option<Located<bool>>,
    /// `typ`.
    pub token_type: Option<String>,
    /// Tenants it may speak for.
    pub tenants: Option<Vec<Located<String>>>,
    /// The claim that names the tenant.
    pub tenant_claim: Option<String>,
    /// The claim with the subject.
    pub subject_claim: String,
    /// The claim with the scopes.
    pub scopes_claim: String,
    /// Scopes it may give.
    pub scopes: Option<Vec<Located<String>>>,
    /// Longest time since `iat`.
    pub max_age: Option<Duration>,
    /// Claims with exact texts.
    pub require: Vec<(Located<String>, Located<String>)>,
    /// Keys that are about URLs and were written.
    pub of_url: Vec<(&'static str, Place)>,
}

/// Keys that make sense for URLs only.
const OF_URL: [&str; 4] = ["refresh", "keep", "ca", "insecure_private_address"];

/// A surface of others' tokens, as written.
#[derive(Debug)]
pub struct WrittenExternal {
    /// Where; never a cookie.
    pub carriers: Vec<Located<Carrier>>,
    /// Who signs.
    pub issuers: Vec<WrittenIssuer>,
    /// Clock difference.
    pub skew: Duration,
    /// Largest token.
    pub max_token: u64,
    /// How lists become headers.
    pub claim_lists: &'static str,
    /// Claims and header names.
    pub claim_headers: Vec<(Located<String>, Located<String>)>,
}

/// Reads a surface of this kind.
pub(super) fn read(section: &Section<'_>) -> Option<WrittenExternal> {
    let own = demand::<External>(section, &["issuers"]);
    let external = WrittenExternal {
        carriers: read_carriers(section, Cookies::Refused),
        issuers: section.some_sections("issuers").iter().filter_map(read_issuer).collect(),
        skew: section.duration_or_default("skew").value,
        max_token: section.size_or_default("max_token"),
        claim_lists: section.choice("claim_lists").value,
        claim_headers: section.pairs("claim_headers"),
    };
    own.then_some(external)
}

fn read_issuer(section: &Section<'_>) -> Option<WrittenIssuer> {
    let text = |name| section.text(name).map(|text| text.value);
    let list = |name| section.raw(name).map(|_| section.texts(name));
    let issuer = WrittenIssuer {
        at: section.at(),
        issuer: section.text("issuer"),
        audience: section.text("audience"),
        audience_claim: section.text_or_default("audience_claim"),
        jwks: section.text("jwks").unwrap_or_else(|| Located {
            value: String::new(),
            at: section.at(),
        }),
        rsa_algorithm: section.choice("rsa_algorithm").value,
        refresh: section.duration_or_default("refresh"),
        keep: section.duration_or_default("keep"),
        ca: section.text("ca"),
        insecure_private_address: section.flag("insecure_private_address"),
        token_type: text("token_type"),
        tenants: list("tenants"),
        tenant_claim: text("tenant_claim"),
        subject_claim: section.text_or_default("subject_claim").value,
        scopes_claim: section.text_or_default("scopes_claim").value,
        scopes: list("scopes"),
        max_age: section.duration("max_age").map(|age| age.value),
        require: section.pairs("require"),
        of_url: OF_URL
            .into_iter()
            .filter(|name| section.raw(name).is_some())
            .map(|name| (name, section.place_of(name)))
            .collect(),
    };
    // A missing one was reported when the table was opened.
    (!issuer.jwks.value.is_empty()).then_some(issuer)
}
