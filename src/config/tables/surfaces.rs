//! Surfaces: names, carriers and prefixes that cannot be mistaken for one another.

use crate::base::ids::SurfaceName;
use crate::base::principal::TENANT_SURFACE;
use crate::base::scope::Mode;
use crate::config::reader::shorten;
use crate::config::source::Located;
use crate::config::written::surface::WrittenBasic;
use crate::config::written::{WrittenAccount, WrittenGateway, WrittenHalves, WrittenPrefixes, WrittenSurface, WrittenSurfaceKind};
use crate::decide::headers::IdentityNames;
use crate::decide::surface::{
    Account, AccountFields, ApiKey, Basic, BodyField, Carrier, Halves, KeyPair, KeyPrefix, Password, SigningSecret, Surface, SurfaceKind,
};
use crate::decide::token::ClaimHeader;
use crate::wire::framing::is_token;

use super::Builder;
use super::names::folded;
use super::sessions::Owners;

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
                if written.name.value == TENANT_SURFACE {
                    self.report.error(
                        &written.name.at,
                        format!("`{TENANT_SURFACE}` is the name of tenants' own records"),
                        None,
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

    fn surface_kind(&self, surface: &WrittenSurface, gateway: &WrittenGateway, owners: &mut Owners) -> Option<SurfaceKind> {
        match &surface.kind {
            WrittenSurfaceKind::ApiKey(key) => {
                let (carriers, prefixes) = (self.carriers(&key.carriers), self.prefixes(&key.prefixes));
                Some(SurfaceKind::ApiKey(ApiKey {
                    carriers: carriers?,
                    prefixes: prefixes?,
                    keys: key.keys,
                    random: key.random,
                    claim_headers: claim_headers(surface),
                }))
            }
            WrittenSurfaceKind::KeyPair(pair) => {
                let halves = self.halves(&pair.halves);
                let (keys_found, secrets_found) = (self.prefixes(&pair.key_prefixes)?, self.prefixes(&pair.secret_prefixes)?);
                self.check_pair(&keys_found, &secrets_found, &pair.secret_prefixes);
                Some(SurfaceKind::KeyPair(KeyPair {
                    halves: halves?,
                    key_prefixes: keys_found,
                    secret_prefixes: secrets_found,
                    keys: pair.keys,
                }))
            }
            WrittenSurfaceKind::Basic(basic) => self.basic(basic),
            WrittenSurfaceKind::Account(account) => self.account(account),
            WrittenSurfaceKind::Session(session) => self.session(surface, session, gateway, owners),
            WrittenSurfaceKind::External(external) => self.external(surface, external),
            WrittenSurfaceKind::SigningSecret(secret) => Some(SurfaceKind::SigningSecret(SigningSecret {
                prefixes: self.prefixes(&secret.prefixes)?,
            })),
        }
    }

    fn basic(&self, written: &WrittenBasic) -> Option<SurfaceKind> {
        let key_prefixes = self.prefixes(&written.key_prefixes);
        let secrets = written.secret_prefixes.as_ref();
        let found = secrets.map(|at| self.prefixes(at).map(|prefixes| (prefixes, at)));
        let key_prefixes = key_prefixes?;
        let password = match found {
            None => Password::Empty,
            Some(found) => {
                let (prefixes, at) = found?;
                self.check_pair(&key_prefixes, &prefixes, at);
                Password::Secret { prefixes }
            }
        };
        Some(SurfaceKind::Basic(Basic {
            key_prefixes,
            password,
            keys: written.keys,
        }))
    }

    fn halves(&self, written: &WrittenHalves) -> Option<Halves> {
        match written {
            WrittenHalves::Headers { key, secret } => {
                let sound = [self.check_request_name(key), self.check_request_name(secret)];
                if folded(&key.value) == folded(&secret.value) {
                    self.report
                        .error(&secret.at, "both halves of a pair would be in the same header", None);
                }
                sound.iter().all(|ok| *ok).then(|| Halves::Headers {
                    key: key.value.to_ascii_lowercase(),
                    secret: secret.value.to_ascii_lowercase(),
                })
            }
            WrittenHalves::Fields { key, secret } => {
                let [key, secret] = self.body_fields([key, secret])?;
                Some(Halves::Body { key, secret })
            }
        }
    }

    fn account(&self, written: &WrittenAccount) -> Option<SurfaceKind> {
        let fields = match &written.fields {
            None => None,
            Some([login, password]) => {
                let [login, password] = self.body_fields([login, password])?;
                Some(AccountFields { login, password })
            }
        };
        Some(SurfaceKind::Account(Account { fields }))
    }

    /// Two fields of a body that together are a credential.
    fn body_fields(&self, written: [&(Located<String>, usize); 2]) -> Option<[BodyField; 2]> {
        let [first, second] = written;
        let sound = [self.check_field_name(&first.0), self.check_field_name(&second.0)];
        if first.0.value == second.0.value {
            self.report
                .error(&second.0.at, "both parts of a credential would be in the same field", None);
        }
        sound.iter().all(|ok| *ok).then(|| {
            written.map(|(name, max)| BodyField {
                name: name.value.clone(),
                max: *max,
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
}

/// Claims of a surface and the headers they become.
pub(super) fn claim_headers(surface: &WrittenSurface) -> Vec<ClaimHeader> {
    surface
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
