//! What is wrong with the settings of an identity provider: everything at once, each with its field.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use crate::base::ids::{RoleId, SurfaceName};
use crate::base::principal::{MAX_CLAIMS, MAX_ROLES};
use crate::base::scope::Scope;
use crate::decide::surface::{SessionRecord, Surface, SurfaceKind};
use crate::fetch::{FetchSchemes, FetchUrl, is_refused_address};
use crate::sign_on::seal::mark_of;
use crate::snapshot::Snapshot;

use super::{
    ClientAuthMethod, EncryptionDemand, MAX_CERTIFICATES, MAX_DOMAINS, MAX_ROLE_MAPPINGS, OidcSettings, ProviderProtocol, ProviderSettings,
    RoleSettings, SETTINGS_VERSION, SamlSettings, SettingsError, SettingsMistake,
};

/// Longest text in the settings, but for secrets and certificates, in bytes.
const MAX_TEXT: usize = 1024;

/// Longest certificate in base64: an RSA key of 8192 bits with a chain of names is half of it.
const MAX_CERTIFICATE: usize = 8 * 1024;

/// Longest difference of clocks that a provider may be given, in seconds.
const MAX_SKEW: u64 = 300;

/// Shortest session that a provider may be limited to, in seconds.
const MIN_SESSION: u64 = 60;

/// Most scopes and `acr_values` of a request to a provider.
const MAX_WORDS: usize = 50;

impl ProviderSettings {
    /// Everything that is wrong with these settings by themselves.
    #[must_use]
    pub fn mistakes(&self) -> Vec<SettingsMistake> {
        let mut judge = SettingsJudge::default();
        judge.both_kinds(self);
        match &self.protocol {
            ProviderProtocol::Oidc(oidc) => judge.oidc(oidc),
            ProviderProtocol::Saml(saml) => judge.saml(saml),
        }
        if let Err(error @ SettingsError::TooLong(_)) = self.to_text() {
            judge.note("settings", error.to_string());
        }
        judge.mistakes
    }

    /// What of these settings does not fit the configuration that is in force.
    #[must_use]
    pub fn mistakes_under(&self, snapshot: &Snapshot) -> Vec<SettingsMistake> {
        let mut judge = SettingsJudge::default();
        let find = |name: &str| -> Option<&Surface> { snapshot.surfaces.iter().find(|surface| surface.name.as_str() == name) };
        match find(&self.session) {
            None => judge.note("session", format!("there is no surface `{}`", printable(&self.session))),
            Some(surface) => {
                let session = surface.kind.session();
                let fits = session.is_some_and(|session| session.record == SessionRecord::Own && session.minting.is_some());
                if !fits {
                    judge.note(
                        "session",
                        format!(
                            "`{}` is no surface of sessions that durward makes and keeps (`kind = \"session_jwt\"` with records of its own)",
                            printable(&self.session)
                        ),
                    );
                }
                let renews = session
                    .and_then(|session| session.minting.as_ref())
                    .is_some_and(|own| own.refresh.is_some());
                if fits && !renews && self.oidc().is_some_and(|oidc| oidc.refresh_tokens) {
                    judge.note(
                        "protocol.oidc.refresh_tokens",
                        format!(
                            "sessions of `{}` are not renewed, so a refresh token would never be used: give it `refresh` \
                             (`[surfaces.<name>.refresh]`)",
                            printable(&self.session)
                        ),
                    );
                }
            }
        }
        match find(&self.account) {
            None => judge.note("account", format!("there is no surface `{}`", printable(&self.account))),
            Some(surface) if !matches!(surface.kind, SurfaceKind::Account(_)) => judge.note(
                "account",
                format!("`{}` is no surface of accounts (`kind = \"account\"`)", printable(&self.account)),
            ),
            Some(_) => {}
        }
        if let Some((oidc, sign_on)) = self.oidc().zip(snapshot.sign_on.as_ref())
            && FetchUrl::parse(&oidc.issuer, FetchSchemes::Https).is_ok_and(|url| is_refused_address(&url, sign_on.addresses))
        {
            judge.note("protocol.oidc.issuer", "it has a private or local address, which is not asked");
        }
        judge.mistakes
    }
}

/// Collects what is wrong.
#[derive(Default)]
struct SettingsJudge {
    mistakes: Vec<SettingsMistake>,
}

impl SettingsJudge {
    fn note(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.mistakes.push(SettingsMistake {
            field: field.into(),
            why: why.into(),
        });
    }

    fn both_kinds(&mut self, settings: &ProviderSettings) {
        if settings.version != SETTINGS_VERSION {
            self.note("version", format!("it is {SETTINGS_VERSION}"));
        }
        for (field, name) in [("session", &settings.session), ("account", &settings.account)] {
            if SurfaceName::parse(name).is_err() {
                self.note(field, "it is the name of a surface");
            }
        }
        self.domains(&settings.domains);
        if settings.max_session.is_some_and(|seconds| seconds < MIN_SESSION) {
            self.note("max_session", format!("it is at least {MIN_SESSION} seconds"));
        }
        for (field, text) in [("subject", &settings.subject), ("email", &settings.email), ("name", &settings.name)] {
            if let Some(text) = text {
                self.line(field, text);
            }
        }
        if settings.claims.len() > MAX_CLAIMS {
            self.note("claims", format!("an account keeps at most {MAX_CLAIMS} claims"));
        }
        for (i, claim) in settings.claims.iter().enumerate() {
            self.line(&format!("claims[{i}]"), claim);
        }
        if let Some(roles) = &settings.roles {
            self.roles(roles);
        }
    }

    fn domains(&mut self, domains: &[String]) {
        if domains.len() > MAX_DOMAINS {
            self.note("domains", format!("at most {MAX_DOMAINS} domains"));
        }
        for (i, domain) in domains.iter().enumerate() {
            let field = format!("domains[{i}]");
            if !is_domain(domain) {
                self.note(
                    field,
                    format!(
                        "`{}` is no domain of e-mail addresses: write it in lower case, with a dot and without `@`, as acme.example",
                        printable(domain)
                    ),
                );
            } else if domains.iter().take(i).any(|other| other == domain) {
                self.note(field, format!("`{domain}` is there twice"));
            }
        }
    }

    fn roles(&mut self, roles: &RoleSettings) {
        self.line("roles.claim", &roles.claim);
        if roles.table.len() > MAX_ROLE_MAPPINGS {
            self.note("roles.table", format!("at most {MAX_ROLE_MAPPINGS} rows"));
        }
        for (i, row) in roles.table.iter().enumerate() {
            let field = format!("roles.table[{i}]");
            self.line(&format!("{field}.value"), &row.value);
            if row.roles.is_empty() && row.scopes.is_empty() {
                self.note(field.as_str(), "the row gives neither a role nor a scope");
            }
            if roles.table.iter().take(i).any(|other| other.value == row.value) {
                self.note(format!("{field}.value"), format!("`{}` is there twice", printable(&row.value)));
            }
            self.role_ids(&format!("{field}.roles"), &row.roles);
            for scope in row.scopes.iter().filter(|scope| Scope::parse(scope).is_err()) {
                self.note(format!("{field}.scopes"), format!("`{}` is not a scope", printable(scope)));
            }
        }
        self.role_ids("roles.default", &roles.default);
    }

    fn role_ids(&mut self, field: &str, roles: &[String]) {
        if roles.len() > MAX_ROLES {
            self.note(field, format!("an account has at most {MAX_ROLES} roles"));
        }
        for role in roles.iter().filter(|role| RoleId::parse(role).is_err()) {
            self.note(field, format!("`{}` is not the id of a role", printable(role)));
        }
    }

    fn oidc(&mut self, oidc: &OidcSettings) {
        self.url("protocol.oidc.issuer", &oidc.issuer);
        if oidc.issuer.contains('?') {
            self.note(
                "protocol.oidc.issuer",
                "an issuer has no query (OpenID Connect Discovery 1.0, section 2)",
            );
        }
        self.line("protocol.oidc.client_id", &oidc.client_id);
        match (oidc.auth, &oidc.client_secret_sealed, &oidc.private_key_sealed) {
            (ClientAuthMethod::PrivateKeyJwt, _, None) => self.note(
                "protocol.oidc.private_key_sealed",
                "`private_key_jwt` needs a private key; give one in PKCS #8 as PEM",
            ),
            (ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost, None, _) => self.note(
                "protocol.oidc.client_secret_sealed",
                "the client has no secret; the provider shows it where the client is registered",
            ),
            _ => {}
        }
        for (field, sealed) in [
            ("protocol.oidc.client_secret_sealed", &oidc.client_secret_sealed),
            ("protocol.oidc.private_key_sealed", &oidc.private_key_sealed),
        ] {
            self.sealed(field, sealed.as_deref());
        }
        if !oidc.scopes.iter().any(|scope| scope == "openid") {
            self.note(
                "protocol.oidc.scopes",
                "`openid` is missing: without it the provider gives no ID token",
            );
        }
        let is_scope = |scope: &String| !scope.is_empty() && scope.len() <= MAX_TEXT && scope.bytes().all(is_scope_byte);
        if oidc.scopes.len() > MAX_WORDS || !oidc.scopes.iter().all(is_scope) {
            self.note(
                "protocol.oidc.scopes",
                format!("at most {MAX_WORDS} words of visible ASCII without quotes"),
            );
        }
        if let Some(prompt) = &oidc.prompt
            && !matches!(prompt.as_str(), "login" | "consent" | "select_account")
        {
            self.note("protocol.oidc.prompt", "it is `login`, `consent` or `select_account`");
        }
        if oidc.acr_values.len() > MAX_WORDS {
            self.note("protocol.oidc.acr_values", format!("at most {MAX_WORDS} values"));
        }
        for (i, value) in oidc.acr_values.iter().enumerate() {
            self.line(&format!("protocol.oidc.acr_values[{i}]"), value);
        }
        for algorithm in &oidc.id_token_algs {
            let known = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
            if !known.contains(&algorithm.as_str()) {
                self.note(
                    "protocol.oidc.id_token_algs",
                    format!("`{}` is none of {}", printable(algorithm), known.join(", ")),
                );
            }
        }
    }

    fn saml(&mut self, saml: &SamlSettings) {
        self.line("protocol.saml.entity_id", &saml.entity_id);
        for (field, url) in [
            ("protocol.saml.sso_redirect_url", &saml.sso_redirect_url),
            ("protocol.saml.sso_post_url", &saml.sso_post_url),
            ("protocol.saml.slo_url", &saml.slo_url),
            ("protocol.saml.slo_post_url", &saml.slo_post_url),
            ("protocol.saml.slo_response_url", &saml.slo_response_url),
        ] {
            if let Some(url) = url {
                self.url(field, url);
            }
        }
        if saml.sso_redirect_url.is_none() && saml.sso_post_url.is_none() {
            self.note(
                "protocol.saml.sso_redirect_url",
                "the provider has no address for requests, neither by redirect nor by POST",
            );
        }
        match saml.certificates.len() {
            0 => self.note(
                "protocol.saml.certificates",
                "the provider has no certificate: nothing that it sends could be checked",
            ),
            1..=MAX_CERTIFICATES => {}
            _ => self.note("protocol.saml.certificates", format!("at most {MAX_CERTIFICATES} certificates")),
        }
        for (i, certificate) in saml.certificates.iter().enumerate() {
            self.certificate(&format!("protocol.saml.certificates[{i}]"), certificate);
        }
        if let Some(id) = &saml.sp_entity_id {
            self.line("protocol.saml.sp_entity_id", id);
        }
        if let Some(format) = &saml.name_id_format {
            self.line("protocol.saml.name_id_format", format);
        }
        if saml.skew > MAX_SKEW {
            self.note("protocol.saml.skew", format!("at most {MAX_SKEW} seconds; set the clocks right"));
        }
        if saml.own_key_sealed.is_some() != saml.own_certificate.is_some() {
            self.note("protocol.saml.own_key_sealed", "our key and its certificate belong together");
        }
        if saml.own_key_sealed.is_none() && (saml.sign_requests || saml.encryption == EncryptionDemand::Required) {
            self.note(
                "protocol.saml.own_key_sealed",
                "signed requests and encrypted assertions need a key of ours",
            );
        }
        self.sealed("protocol.saml.own_key_sealed", saml.own_key_sealed.as_deref());
        if let Some(certificate) = &saml.own_certificate {
            self.certificate("protocol.saml.own_certificate", certificate);
        }
    }

    /// A text that goes into requests and messages: short, and without control characters.
    fn line(&mut self, field: &str, text: &str) {
        if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            self.note(field, format!("it has 1 to {MAX_TEXT} bytes and no control characters"));
        }
    }

    fn url(&mut self, field: &str, url: &str) {
        if let Err(why) = check_url(url) {
            self.note(field, why);
        }
    }

    fn sealed(&mut self, field: &str, sealed: Option<&str>) {
        if sealed.is_some_and(|sealed| mark_of(sealed).is_none()) {
            self.note(field, "it is not sealed");
        }
    }

    fn certificate(&mut self, field: &str, text: &str) {
        let der = Some(text)
            .filter(|text| text.len() <= MAX_CERTIFICATE)
            .and_then(|text| STANDARD.decode(text).ok());
        // The certificate only carries the key, so an old version of the form will do.
        let parses = der.is_some_and(|der| {
            matches!(
                webpki::EndEntityCert::try_from(&CertificateDer::from(der)),
                Ok(_) | Err(webpki::Error::UnsupportedCertVersion)
            )
        });
        if !parses {
            self.note(field, "it is no X.509 certificate in base64 of DER");
        }
    }
}

const fn is_scope_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}

/// Whether a text is a domain as it stands in e-mail addresses, in lower case. Other scripts are written as `xn--…`.
pub(in crate::sign_on) fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let is_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.contains('.') && !is_number && text.split('.').all(is_label)
}

/// Whether a text is the address of a provider: HTTPS, a host, no user and no fragment.
fn check_url(text: &str) -> Result<(), &'static str> {
    let Some(rest) = text.strip_prefix("https://") else {
        return Err("it begins with `https://`");
    };
    if text.len() > MAX_TEXT || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it is a URL of at most 1024 visible characters");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if text.contains('#') || authority.contains('@') {
        return Err("it has no user and no fragment");
    }
    let has_port = authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    let readable = text
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()) && (!has_port || uri.port_u16().is_some_and(|port| port > 0)));
    if readable {
        Ok(())
    } else {
        Err("its host, port or path cannot be read")
    }
}

/// What an operator wrote, safe to print again.
fn printable(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}
