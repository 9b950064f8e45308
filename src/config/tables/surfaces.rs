//! `[surfaces.<name>]`: classes of callers, and that no credential of one is mistaken for another's.

use std::collections::{BTreeSet, HashMap};

use toml::de::DeValue;

use crate::base::ids::SurfaceName;
use crate::base::principal::{REFRESH_TOKEN_SURFACE, RESERVED_SURFACES, SIGN_ON_SURFACE, TENANT_SURFACE};
use crate::base::scope::Mode;
use crate::config::declare::{DeclaredTable, Member, Pairs, SettingValue, absent, choice, count, default, required, table, tagged};
use crate::config::reader::{RawEntry, Section, shorten};
use crate::config::report::suggest;
use crate::config::schema::{Setting, ValueKind};
use crate::config::secret::Reference;
use crate::config::source::{Located, Span};
use crate::decide::headers::IdentityNames;
use crate::decide::kinds::KeyOrigin;
use crate::decide::surface::{
    AccountFields, AccountSurface, ApiKeySurface, BasicPassword, BasicSurface, BodyField, Carrier, HalfCarriers, KeyPairSurface, KeyPrefix,
    OverlapKind, SigningSecretSurface, Surface, SurfaceIndex, SurfaceKind, overlaps,
};
use crate::decide::token::ClaimHeader;
use crate::wire::framing::is_token;

use super::Builder;
use super::external::ExternalTable;
use super::gateway::GatewayTable;
use super::names::folded;
use super::routes::{AccessTable, RouteAccess, RouteTable};
use super::sessions::{Owners, RecordOf, SessionTable};

table! {
    /// Classes of callers. A credential of one surface never works on a route of another.
    pub struct SurfaceTable = "`[surfaces.<name>]`" {
        /// The only mode that is admitted here, for a sandbox or a production gateway.
        mode: Option<Located<Mode>> = absent("both");
        ..kind: SurfaceKindTable;
    }
}

tagged! {
    /// Which credential callers present: one opaque key (or token), a publishable and a secret half, a key in
    /// `Authorization: Basic`, an e-mail address with a password, a signed session token, or a token that another issuer
    /// has signed. Nobody presents a `signing_secret`: the service signs with it.
    pub enum SurfaceKindTable by "kind" = required() => {
        ApiKey(ApiKeyTable) = "api_key", "a surface of kind `api_key`";
        KeyPair(KeyPairTable) = "key_pair", "a surface of kind `key_pair`";
        Basic(BasicTable) = "basic", "a surface of kind `basic`";
        Account(AccountTable) = "account", "a surface of kind `account`";
        Session(Box<SessionTable>) = "session_jwt", "a surface of kind `session_jwt`";
        External(ExternalTable) = "external_jwt", "a surface of kind `external_jwt`";
        SigningSecret(SigningSecretTable) = "signing_secret", "a surface of kind `signing_secret`";
    }
}

choice! {
    for Mode {
        Live = "live",
        Test = "test",
    }
}

choice! {
    for KeyOrigin {
        Generated = "generated",
        Imported = "imported",
    }
}

table! {
    /// One opaque key.
    pub struct ApiKeyTable = "`[surfaces.<name>]` of kind `api_key`" {
        /// Where the key may be, in order: `bearer`, `header:<Name>`. Keys in two headers are refused.
        carry: KeyCarriers = absent("`[\"bearer\"]`");
        /// How keys begin, imported ones too: it is what tells them from other texts. The prefix tells the mode.
        prefixes: Prefixes = required();
        /// With `generated` only keys made by durward exist, and a wrong checksum or MAC is refused before any look-up
        /// ([the form of keys](#the-form-of-keys)); `imported` also knows keys made elsewhere.
        keys: KeyOrigin = default("generated");
        /// Random characters of a new key, of 0-9 A-Z a-z; 43 hold 256 bits. Six characters of a MAC and six of a
        /// checksum follow. After a change, keys of another length are no longer valid.
        random: usize = default("43"), count(43, 128);
        /// Claims of the record that become headers, e.g. `tid = "X-Transaction-Id"`. These names are removed from every
        /// request first.
        claim_headers: Pairs = absent("none");
    }
}

table! {
    /// A publishable and a secret half, in two headers or in two fields of a body.
    pub struct KeyPairTable = "`[surfaces.<name>]` of kind `key_pair`" {
        /// Header with the publishable half.
        key_header: Option<Located<String>> = absent("one of `key_header` and `key_field` is required");
        /// Header with the secret half.
        secret_header: Option<Located<String>> = absent("required with `key_header`");
        /// Field of a JSON body with the publishable half. Such pairs are accepted on served routes only.
        key_field: Option<Located<String>> = absent("the halves are in headers");
        /// Field of a JSON body with the secret half.
        secret_field: Option<Located<String>> = absent("required with `key_field`");
        /// With `key_field`: longest text of that field; a longer one is a validation error.
        key_max: Located<usize> = default("256"), count(1, 256);
        /// With `secret_field`: longest text of that field.
        secret_max: Located<usize> = default("256"), count(1, 256);
        /// How publishable halves begin.
        key_prefixes: Prefixes = required();
        /// How secret halves begin; the same modes as `key_prefixes`.
        secret_prefixes: Prefixes = required();
        /// With `generated` only pairs made by durward exist, and a wrong checksum or MAC is refused before any look-up;
        /// `imported` also knows pairs made elsewhere.
        keys: KeyOrigin = default("generated");
    }
}

table! {
    /// A key or a pair in `Authorization: Basic`, see [HTTP Basic](#http-basic).
    pub struct BasicTable = "`[surfaces.<name>]` of kind `basic`" {
        /// How the keys begin that are the user name.
        key_prefixes: Prefixes = required();
        /// How secret halves begin; the same modes as `key_prefixes`.
        secret_prefixes: Option<Prefixes> = absent("required unless `password = \"empty\"`");
        /// What stands after the colon. `secret`: the secret half of a pair (`curl -u key:secret`). `empty`: nothing,
        /// because the user name is the whole key (`curl -u key:`). A surface accepts only the form that is configured.
        password: PasswordForm = default("secret");
        /// With `generated` only keys made by durward exist, and a wrong checksum or MAC is refused before any look-up;
        /// `imported` also knows keys made elsewhere.
        keys: KeyOrigin = default("generated");
    }
}

choice! {
    pub enum PasswordForm {
        Secret = "secret",
        Empty = "empty",
    }
}

table! {
    /// A person: an e-mail address with a password.
    pub struct AccountTable = "`[surfaces.<name>]` of kind `account`" {
        /// Field of a JSON body with the e-mail address. Accounts are accepted on served routes only (log-in).
        login_field: Option<Located<String>> = absent("the account is never presented: other records hang on it");
        /// Field of a JSON body with the password.
        password_field: Option<Located<String>> = absent("required with `login_field`");
        /// Longest e-mail address; 254 is the longest there is (RFC 5321).
        login_max: Located<usize> = default("254"), count(3, 254);
        /// Longest password; hashing longer ones only costs time.
        password_max: Located<usize> = default("128"), count(8, 1_024);
    }
}

table! {
    /// Secrets that a service signs with. Nobody presents them.
    pub struct SigningSecretTable = "`[surfaces.<name>]` of kind `signing_secret`" {
        /// How secrets begin: it is what tells them from other texts. The prefix tells the mode.
        prefixes: Prefixes = required();
    }
}

/// Prefixes with the modes they tell.
#[derive(Debug)]
pub struct Prefixes {
    pub all: Vec<(Located<String>, Option<Mode>)>,
    pub at: Span,
}

impl SettingValue for Prefixes {
    const KIND: ValueKind = ValueKind::Either(
        "table `{ live = \"…\", test = \"…\" }`, or list of texts without modes",
        &[ValueKind::Pairs, ValueKind::Texts],
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let at = entry.at.clone();
        let all: Vec<_> = match entry.value {
            DeValue::Array(_) => Vec::parse(entry)?.into_iter().map(|text| (text, None)).collect(),
            DeValue::Table(_) => Pairs::<String>::parse(entry)?
                .iter()
                .filter_map(|(name, text)| Some((text.clone(), Some(mode_of(entry, name)?))))
                .collect(),
            _ => return entry.wrong(),
        };
        let is_empty = match entry.value {
            DeValue::Array(items) => items.is_empty(),
            DeValue::Table(members) => members.is_empty(),
            _ => false,
        };
        if is_empty {
            let help = "for example { live = \"acme_live_\", test = \"acme_test_\" }";
            entry.error::<()>("at least one prefix is needed", help.to_owned());
        }
        Some(Self { all, at })
    }
}

fn mode_of(entry: &RawEntry<'_>, name: &Located<String>) -> Option<Mode> {
    let mode = Mode::parse(&name.value);
    if mode.is_none() {
        entry.section.report().error(
            &name.at,
            format!("there is no mode `{}`", shorten(&name.value)),
            Some(suggest(&name.value, ["live", "test"], "a mode")),
        );
    }
    mode
}

/// Where keys are carried: never in a cookie, which a browser attaches without anybody's intent.
pub type KeyCarriers = Carriers<false>;

/// Where session tokens are carried.
pub type TokenCarriers = Carriers<true>;

/// Where a credential is carried, in order; with or without cookies.
#[derive(Debug)]
pub struct Carriers<const COOKIES: bool>(pub Vec<Located<Carrier>>);

impl<const COOKIES: bool> SettingValue for Carriers<COOKIES> {
    const KIND: ValueKind = ValueKind::Texts;

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let texts: Vec<Located<String>> = Vec::parse(entry)?;
        if texts.is_empty() {
            entry.error::<()>("`carry` names no place", "remove it for `bearer`, or name at least one".to_owned());
        }
        let carrier = |text: Located<String>| {
            let value = match text.value.split_once(':') {
                None if text.value == "bearer" => Carrier::BEARER,
                Some(("header", name)) => Carrier::Header(name.to_ascii_lowercase()),
                Some(("cookie", name)) if COOKIES => Carrier::Cookie(name.to_owned()),
                _ => {
                    let forms = ["bearer", "header:<Name>", "cookie:<name>"];
                    let forms = if COOKIES { &forms[..] } else { &forms[..2] };
                    entry.section.report().error(
                        &text.at,
                        format!("a credential cannot be carried in `{}` here", shorten(&text.value)),
                        Some(suggest(&text.value, forms.iter().copied(), "a place")),
                    );
                    return None;
                }
            };
            Some(Located { value, at: text.at })
        };
        Some(Self(texts.into_iter().filter_map(carrier).collect()))
    }

    fn fallback(section: &Section<'_>, _: &'static Setting) -> Option<Self> {
        Some(Self(vec![Located {
            value: Carrier::BEARER,
            at: section.at(),
        }]))
    }
}

impl SurfaceKindTable {
    /// Headers of their own in which credentials stand, `Authorization` apart.
    pub fn headers(&self) -> Vec<(&str, &Span)> {
        let carriers = match self {
            Self::ApiKey(key) => &key.carry.0,
            Self::Session(session) => &session.carry.0,
            Self::External(external) => &external.carry.0,
            Self::KeyPair(pair) => {
                let halves = [&pair.key_header, &pair.secret_header];
                return halves.into_iter().flatten().map(|name| (name.value.as_str(), &name.at)).collect();
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
    pub fn secrets(&self) -> &[Located<Reference>] {
        match self {
            Self::Session(session) => &session.secrets,
            Self::ApiKey(_) | Self::KeyPair(_) | Self::Basic(_) | Self::Account(_) | Self::External(_) | Self::SigningSecret(_) => &[],
        }
    }

    /// Claims and the headers they become.
    pub fn claim_headers(&self) -> &[(Located<String>, Located<String>)] {
        match self {
            Self::ApiKey(key) => &key.claim_headers,
            Self::Session(session) => &session.claim_headers,
            Self::External(external) => &external.claim_headers,
            Self::KeyPair(_) | Self::Basic(_) | Self::Account(_) | Self::SigningSecret(_) => &[],
        }
    }

    /// Why no record can hang on a record of this surface; `None` if records can.
    pub fn childless(&self) -> Option<&'static str> {
        match self {
            Self::Session(session) if session.record == RecordOf::Own => None,
            Self::Session(_) | Self::External(_) => Some("has no records of its own"),
            Self::SigningSecret(_) => Some("has signing secrets, and no record can hang on them"),
            Self::ApiKey(_) | Self::KeyPair(_) | Self::Basic(_) | Self::Account(_) => None,
        }
    }

    /// The surface whose records its tokens hang on.
    pub fn record_surface(&self) -> Option<&Located<String>> {
        match self {
            Self::Session(session) if session.record == RecordOf::Sub => session.record_surface.as_ref(),
            Self::Session(_)
            | Self::ApiKey(_)
            | Self::KeyPair(_)
            | Self::Basic(_)
            | Self::Account(_)
            | Self::External(_)
            | Self::SigningSecret(_) => None,
        }
    }
}

/// What a reserved surface is the name of.
fn whose_records(reserved: &str) -> &'static str {
    match reserved {
        TENANT_SURFACE => "tenants' own records",
        SIGN_ON_SURFACE => "records of sessions at identity providers",
        REFRESH_TOKEN_SURFACE => "records of refresh tokens of identity providers",
        _ => "records of identity providers",
    }
}

impl Builder<'_> {
    /// Every surface that makes sense, in the order of the configuration. Names are looked up in the
    /// declared list, so that one bad surface does not make its routes look wrong too.
    pub(super) fn surfaces(&self, gateway: &GatewayTable, identity: &IdentityNames) -> Vec<Surface> {
        let mut owners = Owners::new();
        self.claim_names(gateway, identity);
        gateway
            .surfaces
            .iter()
            .filter_map(|written| {
                self.check_name(&written.name, "a surface");
                if let Some(reserved) = RESERVED_SURFACES.iter().find(|reserved| *reserved == &written.name.value) {
                    self.report.error(
                        &written.name.at,
                        format!("`{reserved}` is the name of {}", whose_records(reserved)),
                        Some("give the surface another name".to_owned()),
                    );
                }
                let Some(kind) = self.surface_kind(written, gateway, &mut owners) else {
                    self.never_missing(&written.name);
                    return None;
                };
                let surface = Surface {
                    name: SurfaceName::parse(&written.name.value).ok()?,
                    kind,
                    mode: written.mode.as_ref().map(|m| m.value),
                };
                self.check_mode(written, &surface);
                Some(surface)
            })
            .collect()
    }

    /// A surface that cannot be built has a mistake, whatever else is said about it: without it, its routes would
    /// refuse everybody.
    fn never_missing(&self, name: &Located<String>) {
        if !self.report.has_errors() {
            self.report.error(
                &name.at,
                format!("the surface `{}` cannot be built from this", shorten(&name.value)),
                Some("compare it with docs/configuration.md: how its credentials are carried and how they begin".to_owned()),
            );
        }
    }

    fn surface_kind(&self, surface: &Member<SurfaceTable>, gateway: &GatewayTable, owners: &mut Owners) -> Option<SurfaceKind> {
        match &surface.kind {
            SurfaceKindTable::ApiKey(key) => {
                let (carriers, prefixes) = (self.carriers(&key.carry.0), self.prefixes(&key.prefixes));
                Some(SurfaceKind::ApiKey(ApiKeySurface {
                    carriers: carriers?,
                    prefixes: prefixes?,
                    keys: key.keys,
                    random: key.random,
                    claim_headers: claim_headers(surface),
                }))
            }
            SurfaceKindTable::KeyPair(pair) => {
                let halves = self.halves(pair);
                let (keys_found, secrets_found) = (self.prefixes(&pair.key_prefixes)?, self.prefixes(&pair.secret_prefixes)?);
                self.check_pair(&keys_found, &secrets_found, &pair.secret_prefixes);
                Some(SurfaceKind::KeyPair(KeyPairSurface {
                    halves: halves?,
                    key_prefixes: keys_found,
                    secret_prefixes: secrets_found,
                    keys: pair.keys,
                }))
            }
            SurfaceKindTable::Basic(basic) => self.basic(basic),
            SurfaceKindTable::Account(account) => self.account(account),
            SurfaceKindTable::Session(session) => self.session(surface, session, gateway, owners),
            SurfaceKindTable::External(external) => self.external(surface, external),
            SurfaceKindTable::SigningSecret(secret) => Some(SurfaceKind::SigningSecret(SigningSecretSurface {
                prefixes: self.prefixes(&secret.prefixes)?,
            })),
        }
    }

    fn basic(&self, written: &BasicTable) -> Option<SurfaceKind> {
        let key_prefixes = self.prefixes(&written.key_prefixes);
        let secrets = written.secret_prefixes.as_ref();
        let found = secrets.map(|at| (self.prefixes(at), at));
        let password = match (written.password, found) {
            (PasswordForm::Empty, None) => BasicPassword::Empty,
            (PasswordForm::Empty, Some((_, secrets))) => {
                self.report.error(
                    &secrets.at,
                    "`secret_prefixes` has no effect with `password = \"empty\"`",
                    Some("leave it out, or leave `password` out: then the password is the secret half of a pair".to_owned()),
                );
                return None;
            }
            (PasswordForm::Secret, None) => return self.needs::<BasicTable, _>(&written.at, "basic", "secret_prefixes"),
            (PasswordForm::Secret, Some((prefixes, at))) => {
                let prefixes = prefixes?;
                self.check_pair(key_prefixes.as_ref()?, &prefixes, at);
                BasicPassword::Secret { prefixes }
            }
        };
        Some(SurfaceKind::Basic(BasicSurface {
            key_prefixes: key_prefixes?,
            password,
            keys: written.keys,
        }))
    }

    /// Where the halves of a pair are presented.
    fn halves(&self, pair: &KeyPairTable) -> Option<HalfCarriers> {
        let (field, secret_field) = (&pair.key_field, &pair.secret_field);
        self.has_effect(&pair.at, &pair.key_max, "key_max", "key_field", field);
        self.has_effect(&pair.at, &pair.secret_max, "secret_max", "secret_field", secret_field);
        let in_headers = pair.key_header.is_some() || pair.secret_header.is_some();
        if let Some(field) = field.as_ref().or(secret_field.as_ref()) {
            if in_headers {
                self.report.error(
                    &field.at,
                    "a pair is presented in headers or in a body, not in both",
                    Some("make two surfaces, or remove one pair of names".to_owned()),
                );
                return None;
            }
            let key = self.needed::<KeyPairTable, _>(pair.key_field.as_ref(), &pair.at, "key_pair", "key_field");
            let secret = self.needed::<KeyPairTable, _>(secret_field.as_ref(), &pair.at, "key_pair", "secret_field");
            let [key, secret] = self.body_fields([(key?, pair.key_max.value), (secret?, pair.secret_max.value)])?;
            return Some(HalfCarriers::Body { key, secret });
        }
        let key = self.needed::<KeyPairTable, _>(pair.key_header.as_ref(), &pair.at, "key_pair", "key_header");
        let secret = self.needed::<KeyPairTable, _>(pair.secret_header.as_ref(), &pair.at, "key_pair", "secret_header");
        let (key, secret) = (key?, secret?);
        let sound = [self.check_request_name(key), self.check_request_name(secret)];
        if folded(&key.value) == folded(&secret.value) {
            self.report
                .error(&secret.at, "both halves of a pair would be in the same header", None);
        }
        sound.iter().all(|ok| *ok).then(|| HalfCarriers::Headers {
            key: key.value.to_ascii_lowercase(),
            secret: secret.value.to_ascii_lowercase(),
        })
    }

    fn account(&self, account: &AccountTable) -> Option<SurfaceKind> {
        let (login, password) = (&account.login_field, &account.password_field);
        self.has_effect(&account.at, &account.login_max, "login_max", "login_field", login);
        self.has_effect(&account.at, &account.password_max, "password_max", "password_field", password);
        if login.is_none() && password.is_none() {
            return Some(SurfaceKind::Account(AccountSurface { fields: None }));
        }
        let login = self.needed::<AccountTable, _>(login.as_ref(), &account.at, "account", "login_field");
        let password = self.needed::<AccountTable, _>(password.as_ref(), &account.at, "account", "password_field");
        let [login, password] = self.body_fields([(login?, account.login_max.value), (password?, account.password_max.value)])?;
        Some(SurfaceKind::Account(AccountSurface {
            fields: Some(AccountFields { login, password }),
        }))
    }

    /// The value of a key that is required because of another one.
    fn needed<'v, T: DeclaredTable, V>(&self, value: Option<&'v V>, at: &Span, kind: &str, name: &str) -> Option<&'v V> {
        if value.is_none() {
            return self.needs::<T, _>(at, kind, name);
        }
        value
    }

    /// Reports that a surface lacks a key. Answers `None`.
    pub(super) fn needs<T: DeclaredTable, V>(&self, at: &Span, kind: &str, name: &str) -> Option<V> {
        let about = T::SCHEMA.find(name).map(|key| key.about.to_owned());
        self.report.error(at, format!("a surface of kind `{kind}` needs `{name}`"), about);
        None
    }

    /// Reports a value that says nothing without another key.
    fn has_effect<T>(&self, table: &Span, value: &Located<T>, name: &str, other: &str, key: &Option<Located<String>>) {
        if value.at != *table && key.is_none() {
            self.report
                .error(&value.at, format!("`{name}` has no effect without `{other}`"), None);
        }
    }

    /// Two fields of a body that together are a credential.
    fn body_fields(&self, fields: [(&Located<String>, usize); 2]) -> Option<[BodyField; 2]> {
        let [(first, _), (second, _)] = fields;
        let sound = [self.check_field_name(first), self.check_field_name(second)];
        if first.value == second.value {
            self.report
                .error(&second.at, "both parts of a credential would be in the same field", None);
        }
        sound.iter().all(|ok| *ok).then(|| {
            fields.map(|(name, max)| BodyField {
                name: name.value.clone(),
                max,
            })
        })
    }

    /// Whether a text may be the name of a field of a body.
    pub(super) fn check_field_name(&self, name: &Located<String>) -> bool {
        let fits = is_field_name(&name.value);
        if !fits {
            self.report.error(
                &name.at,
                format!("`{}` is not the name of a field", shorten(&name.value)),
                Some("1 to 64 letters, digits and `_`, not a digit first".to_owned()),
            );
        }
        fits
    }

    pub(super) fn carriers(&self, written: &[Located<Carrier>]) -> Option<Vec<Carrier>> {
        let mut carriers = Vec::new();
        let mut sound = !written.is_empty();
        for carrier in written {
            let fits = match &carrier.value {
                Carrier::Authorization(_) => true,
                Carrier::Header(name) => self.check_request_name(&Located {
                    value: name.clone(),
                    at: carrier.at.clone(),
                }),
                Carrier::Cookie(name) => {
                    let fits = (1..=64).contains(&name.len()) && name.bytes().all(is_token);
                    if !fits {
                        let message = format!("`{}` is not a cookie name", shorten(name));
                        self.report
                            .error(&carrier.at, message, Some("1 to 64 letters, digits, `-` and `_`".to_owned()));
                    }
                    fits
                }
            };
            if carriers.contains(&carrier.value) {
                self.report.error(&carrier.at, "this place is named twice", None);
            }
            sound &= fits;
            carriers.push(carrier.value.clone());
        }
        sound.then_some(carriers)
    }

    fn prefixes(&self, written: &Prefixes) -> Option<Vec<KeyPrefix>> {
        let mut prefixes: Vec<KeyPrefix> = Vec::new();
        let mut sound = !written.all.is_empty();
        for (text, mode) in &written.all {
            let prefix = match KeyPrefix::parse(&text.value, *mode) {
                Ok(prefix) => prefix,
                Err(error) => {
                    self.report.error(
                        &text.at,
                        format!("`{}` cannot be a prefix", shorten(&text.value)),
                        Some(error.to_string()),
                    );
                    sound = false;
                    continue;
                }
            };
            if let Some(other) = prefixes
                .iter()
                .find(|p| p.text.starts_with(&text.value) || text.value.starts_with(&p.text))
            {
                self.report.error(
                    &text.at,
                    format!("`{}` and `{}` begin alike: a key could be of either", text.value, other.text),
                    Some("choose prefixes of which none is the beginning of another".to_owned()),
                );
            }
            prefixes.push(prefix);
        }
        sound.then_some(prefixes)
    }

    fn check_pair(&self, keys: &[KeyPrefix], secrets: &[KeyPrefix], at: &Prefixes) {
        let modes = |prefixes: &[KeyPrefix]| {
            let mut modes: Vec<Option<Mode>> = prefixes.iter().map(|p| p.mode).collect();
            modes.sort_unstable();
            modes.dedup();
            modes
        };
        if modes(keys) != modes(secrets) {
            self.report.error(
                &at.at,
                "`key_prefixes` and `secret_prefixes` must have the same modes",
                Some("both halves of a pair are of one mode".to_owned()),
            );
        }
    }

    fn check_mode(&self, written: &Member<SurfaceTable>, surface: &Surface) {
        let Some(mode) = &written.mode else { return };
        let prefixes = surface.prefixes();
        if !prefixes.is_empty() && !prefixes.iter().any(|p| p.mode == Some(mode.value)) {
            self.report.error(
                &mode.at,
                format!(
                    "no prefix of this surface is of mode `{}`: nobody could use it",
                    mode.value.as_str()
                ),
                Some("name the modes: prefixes = { live = \"…\", test = \"…\" }".to_owned()),
            );
        }
    }

    /// Reports every overlap: equal prefixes anywhere, tokens in one place where a route accepts both.
    pub(super) fn overlaps(&self, gateway: &GatewayTable, surfaces: &[Surface], routes: &[&RouteTable]) {
        let name = |index: SurfaceIndex| surfaces.get(index.0).map_or("", |s| s.name.as_str());
        let accepting = routes_by_surface(routes);
        for overlap in overlaps(surfaces) {
            let (first, second) = (name(overlap.first), name(overlap.second));
            let Some(at) = place_of(gateway, second) else { continue };
            match overlap.kind {
                OverlapKind::SamePrefix(prefix) => self.report.error(
                    at,
                    format!("`{first}` and `{second}` have keys that begin with `{prefix}` in the same place"),
                    Some("give each its own prefix, or carry one of them in another header".to_owned()),
                ),
                OverlapKind::NestedPrefix { shorter, longer } => self.report.warning(
                    at,
                    format!("prefixes of `{first}` and `{second}` begin alike: `{shorter}` and `{longer}`"),
                    Some("the longer one wins; clearer is a prefix of its own".to_owned()),
                ),
                OverlapKind::Tokens(carrier) => {
                    let routes = accepting.get(second).map_or(&[][..], Vec::as_slice);
                    self.tokens_on_one_route(first, second, &carrier, routes);
                }
            }
        }
    }

    /// `routes` are those that accept `second`.
    fn tokens_on_one_route(&self, first: &str, second: &str, carrier: &Carrier, routes: &[&RouteTable]) {
        let place = match carrier {
            Carrier::Authorization(scheme) => format!("`Authorization: {}`", scheme.as_str()),
            Carrier::Header(name) => format!("the header `{name}`"),
            Carrier::Cookie(name) => format!("the cookie `{name}`"),
        };
        for route in routes {
            let Some(RouteAccess::Surfaces(AccessTable { surfaces, .. })) = &route.access else {
                continue;
            };
            let named = |name: &str| surfaces.value.iter().find(|s: &&Located<String>| s.value == name);
            if let (Some(_), Some(later)) = (named(first), named(second)) {
                self.report.error(
                    &later.at,
                    format!("a route cannot accept both `{first}` and `{second}`: both carry a token in {place}"),
                    Some("tokens look alike until they are verified: make two routes, or carry them in different places".to_owned()),
                );
            }
        }
    }
}

/// The routes that accept each surface, in their order.
fn routes_by_surface<'w>(routes: &[&'w RouteTable]) -> HashMap<&'w str, Vec<&'w RouteTable>> {
    let mut accepting: HashMap<&str, Vec<&RouteTable>> = HashMap::new();
    for route in routes {
        let Some(RouteAccess::Surfaces(AccessTable { surfaces, .. })) = &route.access else {
            continue;
        };
        let names: BTreeSet<&str> = surfaces.value.iter().map(|name| name.value.as_str()).collect();
        for name in names {
            accepting.entry(name).or_default().push(route);
        }
    }
    accepting
}

fn place_of<'g>(gateway: &'g GatewayTable, name: &str) -> Option<&'g Span> {
    gateway.surfaces.iter().find(|s| s.name.value == name).map(|s| &s.name.at)
}

/// Claims of a surface and the headers they become.
pub(super) fn claim_headers(surface: &Member<SurfaceTable>) -> Vec<ClaimHeader> {
    surface
        .kind
        .claim_headers()
        .iter()
        .map(|(claim, header)| ClaimHeader {
            claim: claim.value.clone(),
            header: header.value.clone(),
        })
        .collect()
}

/// A name that a body, a template and a message can hold alike.
pub(super) fn is_field_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}
