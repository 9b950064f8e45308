//! Surfaces whose tokens others sign: issuers, their keys, and whose tenants they speak for.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;

use crate::base::authority::split_authority;
use crate::base::ids::{SurfaceName, TenantId};
use crate::base::principal::TENANT_SURFACE;
use crate::base::scope::{Scope, ScopeSet};
use crate::config::declare::{Member, Pairs, absent, choice, default, duration, path, required, size, table};
use crate::config::reader::shorten;
use crate::config::source::{Located, Span};
use crate::config::units::secs;
use crate::decide::external::{
    ExternalIssuer, ExternalRules, FetchAddresses, IssuerAlgorithm, KeySet, KeyUrl, MAX_EXTERNAL_TOKEN, PublishedKeys, Tenants,
};
use crate::decide::surface::{ExternalSurface, SurfaceKind};
use crate::decide::token::{ClaimLists, RulesId};
use crate::snapshot::Snapshot;

use super::Builder;
use super::surfaces::{KeyCarriers, SurfaceTable, claim_headers};

table! {
    /// A token that another issuer has signed, see [tokens of other issuers](#tokens-of-other-issuers).
    pub struct ExternalTable = "`[surfaces.<name>]` of kind `external_jwt`" {
        /// Where the token may be, in order: `bearer`, `header:<Name>`. Tokens in two headers are refused.
        carry: KeyCarriers = absent("`[\"bearer\"]`");
        /// Who signs its tokens.
        issuers: Vec<IssuerTable> = required();
        /// Tolerated clock difference. It is taken from the revocation bound, so at most 5 s.
        skew: Duration = default("0s"), duration(secs(0), secs(5));
        /// Claims of the token that become headers, e.g. `tid = "X-Transaction-Id"`. These names are removed from every
        /// request first.
        claim_headers: Pairs = absent("none");
        /// How a claim that is a list becomes a header: its items separated by spaces or by commas, or JSON. With `json` a
        /// claim that is an object becomes a header too.
        claim_lists: ClaimLists = default("spaces");
        /// Largest token. A request head has no room for more. A smaller value reduces the work that is done before the
        /// signature is checked.
        max_token: usize = default("16KiB"), size(1024, MAX_EXTERNAL_TOKEN as u64);
    }
}

choice! {
    for ClaimLists {
        Spaces = "spaces",
        Commas = "commas",
        Json = "json",
    }
}

table! {
    /// An issuer that is not durward: an identity provider, or a tenant's own. Its tokens are JWTs signed with RS256,
    /// RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA; the algorithm is the key's and never the token's. They
    /// hang on their tenant: it must exist and be active.
    pub struct IssuerTable = "`[[surfaces.<name>.issuers]]`" {
        /// Exact `iss`; then required. It chooses the keys of several issuers.
        issuer: Option<Located<String>> = absent("`iss` is not looked at; only if there is no other issuer");
        /// A value `aud` must contain; then required. Without it, every token of the issuer is taken, whichever service
        /// it was made for.
        audience: Option<Located<String>> = absent("`aud` is not looked at");
        /// The claim that must contain `audience`: `client_id` for access tokens of Amazon Cognito, which have no `aud`.
        audience_claim: Located<String> = default("aud");
        /// The public keys (RFC 7517): an `https://` URL, or the path of a file, which is read again when it changes.
        jwks: Located<String> = required();
        /// The algorithm of RSA keys without `alg`. A key with `alg` uses that one.
        rsa_algorithm: IssuerAlgorithm = default("RS256");
        /// A URL is asked again before its keys are older than this, so a key that the issuer withdraws is refused after
        /// this time. A token with an unknown `kid` asks at once, but once in 30 s.
        refresh: Located<Duration> = default("30s"), duration(secs(10), secs(3_600));
        /// How long the last good keys of a URL are used while it does not answer; then 503.
        keep: Located<Duration> = default("1h"), duration(secs(60), secs(86_400));
        /// PEM file of the authorities that vouch for the URL's server.
        ca: Option<Located<String>> = absent("the system's authorities"), path();
        /// Allows a URL whose host has a private or local address, as issuers inside the operator's network have.
        insecure_private_address: Option<Located<bool>> = default("false");
        /// The `typ` that the token's header must have, compared without regard to case and with or without
        /// `application/`: `at+jwt` admits only access tokens (RFC 9068).
        token_type: Option<String> = absent("`JWT`, `JOSE`, `at+jwt`, or none");
        /// The tenants this issuer may speak for. With exactly one and no `tenant_claim`, all its tokens are of that
        /// tenant.
        tenants: Option<Vec<Located<String>>> = absent("any; required with several issuers");
        /// The claim that names the tenant. Like every claim here, it is given by its whole name or by a path (see
        /// [Claims](#claims)).
        tenant_claim: Option<String> = absent("`tenant`");
        /// The claim with the subject, which becomes `X-Auth-Subject`.
        subject_claim: String = default("sub");
        /// The claim with the scopes, for example `scope`, `scp`, `permissions`: a text with spaces, or a list. Items
        /// that are not valid scopes, such as `Domain Users`, are ignored.
        scopes_claim: String = default("scope");
        /// The only scopes it may give; others in its tokens do not count.
        scopes: Option<Vec<Located<String>>> = absent("any");
        /// Longest time since `iat`, which is then required: a token of another issuer cannot be revoked singly.
        max_age: Option<Duration> = absent("until `exp`"), duration(secs(60), secs(30 * 86_400));
        /// Claims that must have exactly these texts, for example `{ token_use = "access" }`; a number or boolean is
        /// compared in its JSON form.
        require: Pairs = absent("none");
    }
}

choice! {
    for IssuerAlgorithm {
        Rs256 = "RS256",
        Rs384 = "RS384",
        Rs512 = "RS512",
        Ps256 = "PS256",
        Ps384 = "PS384",
        Ps512 = "PS512",
    }
}

impl Builder<'_> {
    /// A surface of kind `external_jwt`.
    pub(super) fn external(&self, surface: &Member<SurfaceTable>, written: &ExternalTable) -> Option<SurfaceKind> {
        let issuers = &written.issuers;
        if let Some(mode) = &surface.mode {
            self.report.error(
                &mode.at,
                "tokens of other issuers have no mode",
                Some("remove `mode`, or name a claim in `require`".to_owned()),
            );
        }
        let carriers = self.carriers(&written.carry.0);
        self.check_issuers(issuers);
        let built: Vec<Option<ExternalIssuer>> = issuers.iter().map(|issuer| self.external_issuer(issuer)).collect();
        let rules = ExternalRules {
            id: RulesId::unique(),
            issuers: built.into_iter().collect::<Option<_>>()?,
            skew: written.skew,
            max_token: written.max_token,
            claim_headers: claim_headers(surface),
            claim_lists: written.claim_lists,
        };
        if rules.issuers.is_empty() {
            return None;
        }
        Some(SurfaceKind::External(ExternalSurface {
            carriers: carriers?,
            rules: Box::new(rules),
            record_surface: SurfaceName::parse(TENANT_SURFACE).ok()?,
        }))
    }

    /// Several issuers must be told apart, and none may speak for the tenants of all.
    fn check_issuers(&self, issuers: &[IssuerTable]) {
        for (i, issuer) in issuers.iter().enumerate() {
            match &issuer.issuer {
                Some(name) if name.value.is_empty() => self.report.error(&name.at, "`issuer` is empty", None),
                Some(name)
                    if issuers
                        .iter()
                        .take(i)
                        .any(|other| other.issuer.as_ref().is_some_and(|o| o.value == name.value)) =>
                {
                    self.report
                        .error(&name.at, format!("there is an issuer `{}` already", shorten(&name.value)), None);
                }
                None if issuers.len() > 1 => self.report.error(
                    &issuer.at,
                    "with several issuers each needs `issuer`: it chooses the keys",
                    Some("write the exact `iss` of its tokens".to_owned()),
                ),
                _ => {}
            }
            if issuers.len() > 1 && issuer.tenants.is_none() {
                self.report.error(
                    &issuer.at,
                    "with several issuers each needs `tenants`: one could speak for another's",
                    Some("tenants = [\"acme\"]".to_owned()),
                );
            }
            match &issuer.audience {
                Some(audience) if audience.value.is_empty() => self.report.error(&audience.at, "`audience` is empty", None),
                None if issuer.audience_claim.value != "aud" => self.report.error(
                    &issuer.audience_claim.at,
                    "`audience_claim` has no effect without `audience`",
                    Some("write the `audience` that this claim must contain".to_owned()),
                ),
                _ => {}
            }
            if issuer.audience.is_none() && issuer.token_type.is_none() && issuer.require.is_empty() {
                self.report.note(
                    &issuer.at,
                    "every token of this issuer is taken, whichever service it was made for",
                    Some("name the `audience` its tokens for this service have".to_owned()),
                );
            }
        }
    }

    fn external_issuer(&self, written: &IssuerTable) -> Option<ExternalIssuer> {
        let keys = if written.jwks.value.contains("://") {
            self.key_url(written).map(|url| PublishedKeys::of_url(Box::new(url)))
        } else {
            self.key_file(written)
        };
        let tenants = self.issuer_tenants(written);
        let scopes = written.scopes.as_ref().map(|scopes| self.scope_set(scopes));
        Some(ExternalIssuer {
            issuer: written.issuer.as_ref().map(|issuer| issuer.value.clone()),
            audience: written.audience.as_ref().map(|audience| audience.value.clone()),
            audience_claim: written.audience_claim.value.clone(),
            token_type: written.token_type.clone(),
            tenants: tenants?,
            subject_claim: written.subject_claim.clone(),
            scopes_claim: written.scopes_claim.clone(),
            scopes,
            required: written
                .require
                .iter()
                .map(|(name, value)| (name.value.clone(), value.value.clone()))
                .collect(),
            max_age: written.max_age,
            keys: Arc::new(keys?),
        })
    }

    fn key_file(&self, written: &IssuerTable) -> Option<PublishedKeys> {
        let own = |at: &Span| *at == written.at;
        let of_url = [
            ("refresh", Some(&written.refresh.at).filter(|at| !own(at))),
            ("keep", Some(&written.keep.at).filter(|at| !own(at))),
            ("ca", written.ca.as_ref().map(|ca| &ca.at)),
            (
                "insecure_private_address",
                written.insecure_private_address.as_ref().map(|flag| &flag.at),
            ),
        ];
        for (name, at) in of_url.into_iter().filter_map(|(name, at)| Some((name, at?))) {
            self.report
                .error(at, format!("`{name}` is about keys that are fetched from a URL"), None);
        }
        let bytes = self.read_file(&written.jwks, "the key set")?;
        match KeySet::parse_with(&bytes, written.rsa_algorithm) {
            Ok(keys) => {
                if let Some(ignored) = keys.warning() {
                    self.report
                        .warning(&written.jwks.at, format!("keys of this set are left out: {ignored}"), None);
                }
                if keys.is_empty() && keys.ignored().is_empty() {
                    self.report.note(
                        &written.jwks.at,
                        "this set has no keys yet: all tokens of the issuer are refused",
                        None,
                    );
                } else if keys.is_empty() {
                    self.report.warning(
                        &written.jwks.at,
                        "no key of this set can be used: all tokens of the issuer are refused",
                        Some("it needs RSA keys of 2048 to 4096 bits, P-256, P-384 or Ed25519 keys, for signatures".to_owned()),
                    );
                }
                Some(PublishedKeys::of_file(self.resolve(&written.jwks.value), keys))
            }
            Err(error) => {
                self.report
                    .error(&written.jwks.at, format!("this is not a set of public keys: {error}"), None);
                None
            }
        }
    }

    fn key_url(&self, written: &IssuerTable) -> Option<KeyUrl> {
        let url = &written.jwks;
        let bad = |why: &str| {
            self.report.error(
                &url.at,
                format!("`{}` cannot be fetched: {why}", shorten(&url.value)),
                Some("for example \"https://login.example.com/.well-known/jwks.json\"".to_owned()),
            );
        };
        let Some(rest) = url.value.strip_prefix("https://") else {
            bad("it must begin with `https://`");
            return None;
        };
        let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let target = if target.is_empty() { "/" } else { target };
        let graphic = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let place = (!authority.contains(['@', '?', '#']) && graphic).then(|| split_authority(authority, 443));
        let Some((host, port)) = place.flatten() else {
            bad("host, port or path cannot be read; it has no user and no fragment");
            return None;
        };
        if written.keep.value < written.refresh.value {
            self.report.error(
                &written.keep.at,
                "`keep` is shorter than `refresh`: keys would be gone before they are renewed",
                None,
            );
        }
        let (roots, _) = self.authorities(written.ca.as_ref(), &url.at)?;
        let trust = written.ca.as_ref().and_then(|ca| self.read_file(ca, "the authorities' file"));
        Some(KeyUrl {
            host,
            port,
            target: target.to_owned(),
            tls: fetch_tls(roots)?,
            trust: Self::digest(trust.as_ref().map_or(&b"system"[..], |pem| pem)),
            addresses: if written.insecure_private_address.as_ref().is_some_and(|flag| flag.value) {
                FetchAddresses::InsecureAny
            } else {
                FetchAddresses::Public
            },
            unnamed_rsa: written.rsa_algorithm,
            refresh: written.refresh.value,
            keep: written.keep.value,
        })
    }

    fn issuer_tenants(&self, written: &IssuerTable) -> Option<Tenants> {
        let parsed: Option<Vec<Option<TenantId>>> = written
            .tenants
            .as_ref()
            .map(|names| names.iter().map(|name| self.tenant_id(name)).collect());
        let allowed: Option<Vec<TenantId>> = match parsed {
            Some(all) => Some(all.into_iter().collect::<Option<_>>()?),
            None => None,
        };
        match (allowed, &written.tenant_claim) {
            (Some(tenants), _) if tenants.is_empty() => {
                self.report
                    .error(&written.at, "`tenants` is empty: the issuer would speak for nobody", None);
                None
            }
            (Some(mut tenants), None) if tenants.len() == 1 => tenants.pop().map(Tenants::One),
            (allowed, claim) => Some(Tenants::Claim {
                claim: claim.clone().unwrap_or_else(|| "tenant".to_owned()),
                allowed,
            }),
        }
    }

    fn tenant_id(&self, name: &Located<String>) -> Option<TenantId> {
        let parsed = TenantId::parse(&name.value).ok();
        if parsed.is_none() {
            self.report
                .error(&name.at, format!("`{}` is not a tenant's id", shorten(&name.value)), None);
        }
        parsed
    }

    fn scope_set(&self, scopes: &[Located<String>]) -> ScopeSet {
        let parse = |scope: &Located<String>| {
            let parsed = Scope::parse(&scope.value).ok();
            if parsed.is_none() {
                self.report
                    .error(&scope.at, format!("`{}` is not a scope", shorten(&scope.value)), None);
            }
            parsed
        };
        scopes.iter().filter_map(parse).collect()
    }
}

/// Keeps what is known of issuers whose keys the new configuration fetches like the current one: a
/// reload must not make anybody wait for keys.
pub(in crate::config) fn keep_keys(snapshot: &mut Snapshot, current: &Snapshot) {
    let all = current.surfaces.iter().flat_map(|surface| surface.kind.issuers());
    let known: Vec<&Arc<PublishedKeys>> = all.map(|issuer| &issuer.keys).collect();
    for surface in &mut snapshot.surfaces {
        for issuer in surface.kind.issuers_mut() {
            if let Some(same) = known.iter().find(|keys| keys.is_same(&issuer.keys)) {
                issuer.keys = Arc::clone(same);
            }
        }
    }
}

/// How servers of issuers and identity providers are verified.
pub(super) fn fetch_tls(roots: Arc<rustls::RootCertStore>) -> Option<Arc<rustls::ClientConfig>> {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(tls))
}
