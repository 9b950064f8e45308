//! Session surfaces: secrets of their own, records to hang on, cookies and renewal that make sense.

use std::collections::HashMap;

use crate::base::ids::SurfaceName;
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::secret::Reference;
use crate::config::source::{Located, Place};
use crate::config::units::write_duration;
use crate::config::written::{WrittenGateway, WrittenSession, WrittenSurface, WrittenSurfaceKind};
use crate::decide::surface::{Carrier, CookieSpec, Minting, Refresh, SameSite, Session, SessionRecord, SurfaceKind};
use crate::decide::token::{MIN_SECRET_LEN, TokenKeys, TokenRules};

use super::Builder;
use super::surfaces::claim_headers;

/// Whose secret a hash is, for the search for equal ones.
pub(super) type Owners = HashMap<[u8; 32], (String, Place)>;

impl Builder<'_> {
    pub(super) fn session(
        &self,
        surface: &WrittenSurface,
        session: &WrittenSession,
        gateway: &WrittenGateway,
        owners: &mut Owners,
    ) -> Option<SurfaceKind> {
        if let Some(records) = &session.record_surface {
            self.check_record_surface(records, gateway);
        }
        if session.token_kind.value.is_empty() {
            self.report.error(
                &session.token_kind.at,
                "`token_kind` is empty",
                Some("it is what keeps sessions of two kinds apart".to_owned()),
            );
        }
        let keys: Vec<_> = session
            .secrets
            .iter()
            .map(|s| self.token_secret(&surface.name, s, owners))
            .collect();
        let keys: Option<Vec<_>> = keys.into_iter().collect();
        let carriers = self.carriers(&session.carriers);
        let minting = self.minting(session);
        let rules = TokenRules {
            keys: TokenKeys::new(keys?.iter().map(|k| k.as_slice())).ok()?,
            kind: session.token_kind.value.clone(),
            issuer: session.issuer.clone(),
            audience: session.audience.clone(),
            skew: session.skew,
            scopes_claim: session.scopes_claim.clone(),
            claim_headers: claim_headers(surface),
        };
        Some(SurfaceKind::Session(Session {
            carriers: carriers?,
            rules: Box::new(rules),
            record: match &session.record_surface {
                Some(records) => SessionRecord::Sub(SurfaceName::parse(&records.value).ok()?),
                None => SessionRecord::Own,
            },
            minting: minting.map(Box::new),
        }))
    }

    fn minting(&self, session: &WrittenSession) -> Option<Minting> {
        let lifetime = session.lifetime.as_ref()?;
        Some(Minting {
            lifetime: lifetime.value,
            cookie: self.cookie(session),
            refresh: session.refresh.as_ref().map(|refresh| {
                if refresh.after.value >= lifetime.value {
                    self.report.error(
                        &refresh.after.at,
                        "a token would end before it is renewed",
                        Some(format!("`lifetime` is {}", write_duration(lifetime.value))),
                    );
                }
                if let Some(header) = &refresh.header {
                    self.check_request_name(header);
                }
                Refresh {
                    after: refresh.after.value,
                    header: refresh.header.as_ref().map(|h| h.value.clone()),
                }
            }),
        })
    }

    /// The cookie of a surface that mints and is carried in one.
    fn cookie(&self, session: &WrittenSession) -> Option<CookieSpec> {
        let mut names = session.carriers.iter().filter_map(|c| match &c.value {
            Carrier::Cookie(name) => Some((name, &c.at)),
            Carrier::Authorization(_) | Carrier::Header(_) => None,
        });
        let written = session.cookie.as_ref();
        let Some((name, at)) = names.next() else {
            if let Some(written) = written {
                self.report.error(
                    &written.at,
                    "`carry` names no cookie",
                    Some("carry = [\"cookie:__Host-session\"]".to_owned()),
                );
            }
            return None;
        };
        if let Some((_, at)) = names.next() {
            self.report.error(
                at,
                "a surface that mints its tokens is carried in one cookie at most",
                Some("nobody could say which of them a new token belongs in".to_owned()),
            );
        }
        let path = written.map_or("/", |w| w.path.value.as_str());
        if let Some(written) = written {
            self.check_cookie_path(&written.path);
        }
        if name.starts_with("__Host-") && path != "/" {
            self.report.error(
                written.map_or(at, |w| &w.path.at),
                "a cookie whose name begins with `__Host-` has the path `/`",
                Some("browsers drop it otherwise (RFC 6265bis, section 4.1.3.2)".to_owned()),
            );
        }
        Some(CookieSpec {
            name: name.clone(),
            same_site: written.map_or(SameSite::Lax, |w| w.same_site),
            path: path.to_owned(),
            max_age: written.and_then(|w| w.max_age),
        })
    }

    fn check_cookie_path(&self, path: &Located<String>) {
        let fits = path.value.starts_with('/') && path.value.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b';' && b != b',');
        if !fits {
            self.report.error(
                &path.at,
                format!("`{}` is not the path of a cookie", shorten(&path.value)),
                Some("it begins with `/` and holds visible ASCII without `;` and `,`".to_owned()),
            );
        }
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
            Some(_) => self.report.warning(
                &secret.at,
                "this secret is named twice",
                Some("name the new one first and the old one after it".to_owned()),
            ),
            None => {
                owners.insert(digest, (surface.value.clone(), secret.at.clone()));
            }
        }
        Some(bytes)
    }

    fn check_record_surface(&self, name: &Located<String>, gateway: &WrittenGateway) {
        match gateway.surfaces.iter().find(|s| s.name.value == name.value) {
            Some(found) if matches!(found.kind, WrittenSurfaceKind::SigningSecret(_)) => self.report.error(
                &name.at,
                format!("`{}` has signing secrets, and no record can hang on them", shorten(&name.value)),
                Some("name a surface of keys, pairs or accounts".to_owned()),
            ),
            Some(found) if found.has_records() => {}
            Some(_) => self.report.error(
                &name.at,
                format!("`{}` has no records of its own", shorten(&name.value)),
                Some("name a surface of keys, pairs or accounts".to_owned()),
            ),
            None if self.is_broken_surface(&name.value) => {}
            None => {
                let with_records = gateway.surfaces.iter().filter(|s| s.has_records());
                self.report.error(
                    &name.at,
                    format!("there is no surface `{}`", shorten(&name.value)),
                    suggest(&name.value, with_records.map(|s| s.name.value.as_str()), "a surface with records"),
                );
            }
        }
    }
}
