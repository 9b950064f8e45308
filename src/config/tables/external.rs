//! Surfaces whose tokens others sign: issuers, their keys, and whose tenants they speak for.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;

use crate::base::ids::{SurfaceName, TenantId};
use crate::base::principal::TENANT_SURFACE;
use crate::base::scope::{Scope, ScopeSet};
use crate::config::reader::shorten;
use crate::config::source::Located;
use crate::config::written::WrittenSurface;
use crate::config::written::surface::{WrittenExternal, WrittenIssuer};
use crate::decide::external::{
    Addresses, ExternalIssuer, ExternalRules, IssuerAlgorithm, KeySet, KeyUrl, MAX_EXTERNAL_TOKEN, Published, Tenants,
};
use crate::decide::surface::{External, SurfaceKind};
use crate::decide::token::ClaimLists;
use crate::snapshot::Snapshot;

use super::Builder;
use super::surfaces::claim_headers;
use super::upstreams::split_authority;

impl Builder<'_> {
    /// A surface of kind `external_jwt`.
    pub(super) fn external(&self, surface: &WrittenSurface, written: &WrittenExternal) -> Option<SurfaceKind> {
        let WrittenExternal {
            carriers,
            issuers,
            skew,
            max_token,
            claim_lists,
            ..
        } = written;
        if let Some(mode) = &surface.mode {
            self.report.error(
                &mode.at,
                "tokens of other issuers have no mode",
                Some("remove `mode`, or name a claim in `require`".to_owned()),
            );
        }
        let carriers = self.carriers(carriers);
        self.check_issuers(issuers);
        let built: Vec<Option<ExternalIssuer>> = issuers.iter().map(|issuer| self.external_issuer(issuer)).collect();
        let rules = ExternalRules {
            issuers: built.into_iter().collect::<Option<_>>()?,
            skew: *skew,
            max_token: usize::try_from(*max_token).unwrap_or(MAX_EXTERNAL_TOKEN),
            claim_headers: claim_headers(surface),
            claim_lists: match *claim_lists {
                "json" => ClaimLists::Json,
                "commas" => ClaimLists::Commas,
                _ => ClaimLists::Spaces,
            },
        };
        if rules.issuers.is_empty() {
            return None;
        }
        Some(SurfaceKind::External(External {
            carriers: carriers?,
            rules: Box::new(rules),
            record_surface: SurfaceName::parse(TENANT_SURFACE).ok()?,
        }))
    }

    /// Several issuers must be told apart, and none may speak for the tenants of all.
    fn check_issuers(&self, issuers: &[WrittenIssuer]) {
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

    fn external_issuer(&self, written: &WrittenIssuer) -> Option<ExternalIssuer> {
        let keys = if written.jwks.value.contains("://") {
            self.key_url(written).map(|url| Published::of_url(Box::new(url)))
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

    fn key_file(&self, written: &WrittenIssuer) -> Option<Published> {
        for (name, at) in &written.of_url {
            self.report
                .error(at, format!("`{name}` is about keys that are fetched from a URL"), None);
        }
        let bytes = self.read_file(&written.jwks, "the key set")?;
        match KeySet::parse_with(&bytes, unnamed_rsa(written)) {
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
                Some(Published::of_file(self.resolve(&written.jwks.value), keys))
            }
            Err(error) => {
                self.report
                    .error(&written.jwks.at, format!("this is not a set of public keys: {error}"), None);
                None
            }
        }
    }

    fn key_url(&self, written: &WrittenIssuer) -> Option<KeyUrl> {
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
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(KeyUrl {
            host,
            port,
            target: target.to_owned(),
            tls: Arc::new(tls),
            trust: Self::digest(trust.as_ref().map_or(&b"system"[..], |pem| pem)),
            addresses: if written.insecure_private_address.as_ref().is_some_and(|flag| flag.value) {
                Addresses::InsecureAny
            } else {
                Addresses::Public
            },
            unnamed_rsa: unnamed_rsa(written),
            refresh: written.refresh.value,
            keep: written.keep.value,
        })
    }

    fn issuer_tenants(&self, written: &WrittenIssuer) -> Option<Tenants> {
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

/// What RSA keys of this issuer sign with that do not tell.
fn unnamed_rsa(written: &WrittenIssuer) -> IssuerAlgorithm {
    IssuerAlgorithm::of_rsa(written.rsa_algorithm).unwrap_or(IssuerAlgorithm::Rs256)
}

/// Keeps what is known of issuers whose keys the new configuration fetches like the current one: a
/// reload must not make anybody wait for keys.
pub(in crate::config) fn keep_keys(snapshot: &mut Snapshot, current: &Snapshot) {
    let all = current.surfaces.iter().flat_map(|surface| surface.kind.issuers());
    let known: Vec<&Arc<Published>> = all.map(|issuer| &issuer.keys).collect();
    for surface in &mut snapshot.surfaces {
        for issuer in surface.kind.issuers_mut() {
            if let Some(same) = known.iter().find(|keys| keys.is_same(&issuer.keys)) {
                issuer.keys = Arc::clone(same);
            }
        }
    }
}
