//! Surfaces: names, carriers, prefixes and token secrets that cannot be mistaken for one another.

use std::collections::HashMap;

use crate::base::ids::SurfaceName;
use crate::base::scope::Mode;
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::secret::Reference;
use crate::config::source::{Located, Place};
use crate::config::written::{WrittenGateway, WrittenPrefixes, WrittenSurface, WrittenSurfaceKind};
use crate::decide::headers::IdentityNames;
use crate::decide::surface::{Carrier, KeyPrefix, Surface, SurfaceKind};
use crate::decide::token::{ClaimHeader, MIN_SECRET_LEN, TokenKeys, TokenRules};
use crate::wire::framing::is_token;

use super::Builder;
use super::names::folded;

/// Whose secret a hash is, for the search for equal ones.
type Owners = HashMap<[u8; 32], (String, Place)>;

impl Builder<'_> {
    /// Every surface that makes sense, in the order of the configuration. Names are looked up in the
    /// written list, so that one bad surface does not make its routes look wrong too.
    pub(super) fn surfaces(&self, gateway: &WrittenGateway, identity: &IdentityNames) -> Vec<Surface> {
        let mut owners = Owners::new();
        self.claim_names(gateway, identity);
        gateway
            .surfaces
            .iter()
            .filter_map(|written| {
                self.check_name(&written.name, "a surface");
                let kind = self.surface_kind(written, gateway, &mut owners)?;
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

    fn surface_kind(&self, surface: &WrittenSurface, gateway: &WrittenGateway, owners: &mut Owners) -> Option<SurfaceKind> {
        match &surface.kind {
            WrittenSurfaceKind::ApiKey { carriers, prefixes, keys } => {
                let (carriers, prefixes) = (self.carriers(carriers), self.prefixes(prefixes));
                Some(SurfaceKind::ApiKey {
                    carriers: carriers?,
                    prefixes: prefixes?,
                    keys: *keys,
                })
            }
            WrittenSurfaceKind::KeyPair {
                key_header,
                secret_header,
                key_prefixes,
                secret_prefixes,
                keys,
            } => {
                let headers = [self.check_request_name(key_header), self.check_request_name(secret_header)];
                if folded(&key_header.value) == folded(&secret_header.value) {
                    self.report
                        .error(&secret_header.at, "both halves of a pair would be in the same header", None);
                }
                let (keys_found, secrets_found) = (self.prefixes(key_prefixes)?, self.prefixes(secret_prefixes)?);
                self.check_pair(&keys_found, &secrets_found, secret_prefixes);
                headers.iter().all(|ok| *ok).then(|| SurfaceKind::KeyPair {
                    key_header: key_header.value.to_ascii_lowercase(),
                    secret_header: secret_header.value.to_ascii_lowercase(),
                    key_prefixes: keys_found,
                    secret_prefixes: secrets_found,
                    keys: *keys,
                })
            }
            WrittenSurfaceKind::SessionJwt { .. } => self.session(surface, gateway, owners),
        }
    }

    fn session(&self, surface: &WrittenSurface, gateway: &WrittenGateway, owners: &mut Owners) -> Option<SurfaceKind> {
        let WrittenSurfaceKind::SessionJwt {
            carriers,
            token_kind,
            secrets,
            issuer,
            audience,
            skew,
            scopes_claim,
            record_surface,
            claim_headers,
        } = &surface.kind
        else {
            return None;
        };
        self.check_record_surface(record_surface, gateway);
        if token_kind.value.is_empty() {
            self.report.error(
                &token_kind.at,
                "`token_kind` is empty",
                Some("it is what keeps sessions of two kinds apart".to_owned()),
            );
        }
        let keys: Option<Vec<_>> = secrets.iter().map(|s| self.token_secret(&surface.name, s, owners)).collect();
        let carriers = self.carriers(carriers);
        let rules = TokenRules {
            keys: TokenKeys::new(keys?.iter().map(|k| k.as_slice())).ok()?,
            kind: token_kind.value.clone(),
            issuer: issuer.clone(),
            audience: audience.clone(),
            skew: *skew,
            scopes_claim: scopes_claim.clone(),
            claim_headers: claim_headers
                .iter()
                .map(|(claim, header)| ClaimHeader {
                    claim: claim.value.clone(),
                    header: header.value.clone(),
                })
                .collect(),
        };
        Some(SurfaceKind::SessionJwt {
            carriers: carriers?,
            rules: Box::new(rules),
            record_surface: SurfaceName::parse(&record_surface.value).ok()?,
        })
    }

    /// A secret long enough, and of no other surface (hardening J4).
    fn token_secret(
        &self,
        surface: &Located<String>,
        secret: &Located<Reference>,
        owners: &mut Owners,
    ) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let bytes = self.read_secret(secret, "the token secret")?;
        if bytes.len() < MIN_SECRET_LEN {
            self.report.error(
                &secret.at,
                format!("a token secret has at least {MIN_SECRET_LEN} bytes; this one has {}", bytes.len()),
                Some("make one with `head -c 32 /dev/urandom | base64 > FILE`".to_owned()),
            );
            return None;
        }
        let digest = Self::digest(&bytes);
        match owners.get(&digest) {
            Some((owner, _)) if *owner != surface.value => {
                self.report.error(
                    &secret.at,
                    format!("this secret is also one of the surface `{owner}`"),
                    Some("each surface needs its own: with a shared one, only the `kind` claim keeps their tokens apart".to_owned()),
                );
            }
            _ => {
                owners.insert(digest, (surface.value.clone(), secret.at.clone()));
            }
        }
        Some(bytes)
    }

    fn check_record_surface(&self, name: &Located<String>, gateway: &WrittenGateway) {
        let found = gateway.surfaces.iter().find(|s| s.name.value == name.value);
        match found.map(|s| &s.kind) {
            Some(WrittenSurfaceKind::SessionJwt { .. }) => self.report.error(
                &name.at,
                format!("`{}` has no records of its own", shorten(&name.value)),
                Some("name a surface of kind `api_key` or `key_pair`".to_owned()),
            ),
            Some(_) => {}
            None => {
                let with_records = gateway
                    .surfaces
                    .iter()
                    .filter(|s| !matches!(s.kind, WrittenSurfaceKind::SessionJwt { .. }));
                self.report.error(
                    &name.at,
                    format!("there is no surface `{}`", shorten(&name.value)),
                    suggest(&name.value, with_records.map(|s| s.name.value.as_str()), "a surface with records"),
                );
            }
        }
    }

    fn carriers(&self, written: &[Located<Carrier>]) -> Option<Vec<Carrier>> {
        let mut carriers = Vec::new();
        let mut sound = !written.is_empty();
        for carrier in written {
            let fits = match &carrier.value {
                Carrier::Bearer => true,
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

    fn prefixes(&self, written: &WrittenPrefixes) -> Option<Vec<KeyPrefix>> {
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

    fn check_pair(&self, keys: &[KeyPrefix], secrets: &[KeyPrefix], at: &WrittenPrefixes) {
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

    fn check_mode(&self, written: &WrittenSurface, surface: &Surface) {
        let Some(mode) = &written.mode else { return };
        let prefixes = match &surface.kind {
            SurfaceKind::ApiKey { prefixes, .. } => prefixes,
            SurfaceKind::KeyPair { key_prefixes, .. } => key_prefixes,
            SurfaceKind::SessionJwt { .. } => return,
        };
        if !prefixes.iter().any(|p| p.mode == Some(mode.value)) {
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

    /// Claim headers must be names of their own: one that meets an identity header or the header of
    /// a credential would let a claim speak as something else.
    fn claim_names(&self, gateway: &WrittenGateway, identity: &IdentityNames) {
        let reserved: Vec<String> = [
            &identity.tenant,
            &identity.scopes,
            &identity.surface,
            &identity.mode,
            &identity.subject,
            &identity.credential_id,
        ]
        .iter()
        .map(|n| folded(n))
        .chain(gateway.surfaces.iter().flat_map(credential_headers))
        .collect();
        for surface in &gateway.surfaces {
            let WrittenSurfaceKind::SessionJwt { claim_headers, .. } = &surface.kind else {
                continue;
            };
            let mut seen: Vec<String> = Vec::new();
            for (claim, header) in claim_headers {
                if claim.value.is_empty() || claim.value.len() > 64 {
                    self.report.error(&claim.at, "a claim's name has 1 to 64 bytes", None);
                }
                if !self.check_request_name(header) {
                    continue;
                }
                let fold = folded(&header.value);
                if reserved.contains(&fold) || seen.contains(&fold) {
                    let message = format!(
                        "`{}` is taken: it carries an identity, a credential or another claim",
                        shorten(&header.value)
                    );
                    self.report.error(&header.at, message, Some("choose a name of its own".to_owned()));
                }
                seen.push(fold);
            }
        }
        for surface in &gateway.surfaces {
            for (header, at) in credential_header_places(surface) {
                if reserved.iter().take(6).any(|r| *r == header) {
                    self.report
                        .error(&at, "this header carries an identity and cannot carry a credential", None);
                }
            }
        }
    }
}

fn credential_headers(surface: &WrittenSurface) -> impl Iterator<Item = String> {
    credential_header_places(surface).into_iter().map(|(name, _)| name)
}

fn credential_header_places(surface: &WrittenSurface) -> Vec<(String, Place)> {
    match &surface.kind {
        WrittenSurfaceKind::KeyPair {
            key_header, secret_header, ..
        } => [key_header, secret_header]
            .iter()
            .map(|h| (folded(&h.value), h.at.clone()))
            .collect(),
        WrittenSurfaceKind::ApiKey { carriers, .. } | WrittenSurfaceKind::SessionJwt { carriers, .. } => carriers
            .iter()
            .filter_map(|c| match &c.value {
                Carrier::Header(name) => Some((folded(name), c.at.clone())),
                _ => None,
            })
            .collect(),
    }
}
