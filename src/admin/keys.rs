//! Operations on keys: make, list, show, switch off and on, revoke.

use std::collections::BTreeSet;

use crate::base::ids::{CredentialId, Subject, SurfaceName};
use crate::base::principal::{CredentialRecord, Extras, Parent};
use crate::base::scope::{Mode, Scope, ScopeSet};
use crate::decide::route::{Access, Destination};
use crate::decide::surface::{KeyOrigin, Recipe, Surface, SurfaceIndex};
use crate::issue::minting::{blank, finish, signing_secret};
use crate::snapshot::Snapshot;
use crate::snapshot::served_route::Action;
use crate::store::{CredentialChange, CredentialFilter};

use super::Operations;
use super::api::{CreateKey, Created, KeyList, KeyView, Revealed};
use super::error::OperationError;
use super::mint::Minted;
use super::roles::parse_description;
use super::rotate::refuse_unused;
use super::tenants::{PAGE, parse_tenant};
use super::times::{parse_expiry, printable};

/// Longest name for people, in bytes: one line of a list.
const MAX_NAME: usize = 200;

/// A surface on which keys are made, reduced to what making needs.
pub(crate) struct KeySurface<'s> {
    index: SurfaceIndex,
    pub(crate) surface: &'s Surface,
    pub(crate) halves: Halves,
    pub(crate) keys: KeyOrigin,
}

/// How many secrets a key of a surface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halves {
    /// The key itself.
    One,
    /// A secret half besides.
    Two,
}

/// The checked words of a request to make or import a key.
pub(crate) struct KeyWords<'r> {
    pub(crate) scopes: &'r [String],
    pub(crate) subject: Option<&'r str>,
    pub(crate) name: Option<&'r str>,
}

impl Operations {
    /// Makes a key, or a key pair. The answer is the only place where the secret is shown.
    ///
    /// # Errors
    /// [`OperationError::Usage`] with what would have been right, [`OperationError::NotFound`] without
    /// the tenant, or as the store has it.
    pub async fn create_key(&self, request: &CreateKey) -> Result<Created, OperationError> {
        let snapshot = self.snapshot.load();
        let surface = find_key_surface(&snapshot, &request.surface)?;
        let mode = surface.resolve_mode(request.mode.as_deref())?;
        let signs = matches!(surface.surface.kind.recipe(), Recipe::Signing(_));
        if signs && !(request.scopes.is_empty() && request.roles.is_empty() && request.subject.is_none()) {
            return Err(OperationError::Usage(format!(
                "a signing secret of `{}` opens nothing: it has no scopes, no roles and no subject",
                surface.name()
            )));
        }
        let now = self.clock.now().wall;
        let words = KeyWords {
            scopes: &request.scopes,
            subject: request.subject.as_deref(),
            name: request.name.as_deref(),
        };
        let mut record = self.blank_record(&surface, &request.tenant, mode, &words).await?;
        record.expires_at = request.expires.as_deref().map(|text| parse_expiry(text, now)).transpose()?;
        let parent = self.resolve_parent(request.parent.as_deref()).await?;
        record.extras = Extras {
            roles: self.resolve_roles(&snapshot, &record.tenant, &request.roles).await?,
            // No route granted it anything: it goes as far as its parent does.
            granted: parent.as_ref().map(|_| ScopeSet::default()),
            parent,
            description: request
                .description
                .as_deref()
                .map(parse_description)
                .transpose()?
                .filter(|text| !text.is_empty()),
            ..Extras::default()
        }
        .boxed();
        let warnings = unused_scopes(&snapshot, &surface, &record.scopes);
        let at = record.created_at;
        let made = finish(surface.surface, record, (None, at), self.peppers.first())?;
        let Minted { credential, doubt, .. } = self.store_made(made, Vec::new()).await?;
        tracing::info!(credential = %credential.id, surface = %surface.name(), tenant = %credential.tenant, "credential created");
        Ok(Created {
            credential,
            warnings,
            doubt,
        })
    }

    /// Lists credentials.
    ///
    /// # Errors
    /// [`OperationError`], as the store has it.
    pub async fn list_keys(
        &self,
        tenant: Option<&str>,
        surface: Option<&str>,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<KeyList, OperationError> {
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
        let filter = CredentialFilter {
            tenant: tenant.map(parse_tenant).transpose()?,
            surface: surface.map(parse_surface).transpose()?,
            after: after.map(parse_id).transpose()?,
            limit,
            ..CredentialFilter::default()
        };
        let found = self.store.list_credentials(filter).await?;
        let next = (found.len() == limit).then(|| found.last().map(|r| r.id.as_str().to_owned()));
        Ok(KeyList {
            keys: found.iter().map(KeyView::from).collect(),
            next: next.flatten(),
        })
    }

    /// Shows one credential.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or as the store has it.
    pub async fn show_key(&self, id: &str) -> Result<KeyView, OperationError> {
        Ok(KeyView::from(&self.find_record(id).await?))
    }

    /// Reveals a signing secret, by the id of its record, while it is in force.
    ///
    /// # Errors
    /// [`OperationError::Usage`] for a credential of another kind, whose secret nobody knows;
    /// [`OperationError::Conflict`] for one that is not in force, [`OperationError::NotFound`], or as the store has it.
    pub async fn reveal_key(&self, id: &str) -> Result<Revealed, OperationError> {
        let record = self.find_record(id).await?;
        let snapshot = self.snapshot.load();
        let surface = find_key_surface(&snapshot, record.surface.as_str())?;
        if !matches!(surface.surface.kind.recipe(), Recipe::Signing(_)) {
            return Err(OperationError::Usage(format!(
                "`{id}` is no signing secret: of other credentials only the hash is kept"
            )));
        }
        refuse_unused(&record, record.expires_at.is_some_and(|end| end <= self.clock.now().wall))?;
        let secret = signing_secret(surface.surface, &record, &self.peppers).ok_or_else(|| {
            OperationError::Conflict(format!(
                "`{id}` was made under a pepper or a prefix that this gateway has not any more"
            ))
        })?;
        tracing::info!(credential = %record.id, "signing secret revealed");
        Ok(Revealed {
            id: record.id.as_str().into(),
            secret: secret.expose().to_owned(),
            tenant: record.tenant.as_str().into(),
            expires_at: record.expires_at.map(super::times::write),
        })
    }

    /// Switches a credential off, on, or ends it for ever.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Conflict`] for a revoked one, or as the store has it.
    pub async fn change_key(&self, id: &str, change: CredentialChange) -> Result<KeyView, OperationError> {
        let id = parse_id(id)?;
        let record = self.store.change_credential(id, change.clone(), self.clock.now().wall).await?;
        tracing::info!(credential = %record.id, ?change, "credential changed");
        Ok(KeyView::from(&record))
    }

    async fn resolve_parent(&self, id: Option<&str>) -> Result<Option<Parent>, OperationError> {
        let Some(id) = id else { return Ok(None) };
        let record = self.find_record(id).await?;
        Ok(Some(Parent {
            surface: record.surface,
            id: record.id,
        }))
    }

    pub(crate) async fn find_record(&self, id: &str) -> Result<CredentialRecord, OperationError> {
        let id = parse_id(id)?;
        let found = self.store.find_credential(id.clone()).await?;
        found.ok_or_else(|| OperationError::NotFound(format!("there is no credential `{id}`")))
    }

    /// A record with everything but its secrets; its tenant exists.
    pub(crate) async fn blank_record(
        &self,
        surface: &KeySurface<'_>,
        tenant: &str,
        mode: Option<Mode>,
        words: &KeyWords<'_>,
    ) -> Result<CredentialRecord, OperationError> {
        let tenant = parse_tenant(tenant)?;
        let scopes = parse_scopes(words.scopes)?;
        let subject = words.subject.map(parse_subject).transpose()?;
        let name = words.name.map(parse_name).transpose()?;
        if self.store.find_tenant(tenant.clone()).await?.is_none() {
            return Err(OperationError::NotFound(format!(
                "there is no tenant `{tenant}`; `durward tenants create {tenant}` makes it"
            )));
        }
        Ok(CredentialRecord {
            subject,
            mode,
            scopes,
            prefix: surface.prefix(mode).to_owned(),
            name,
            ..blank(surface.surface, tenant, self.store.time().await?)?
        })
    }
}

impl KeySurface<'_> {
    /// The mode of a new key: what was asked for if the surface has it, or the only one there is.
    pub(crate) fn resolve_mode(&self, asked: Option<&str>) -> Result<Option<Mode>, OperationError> {
        let mut modes: Vec<Mode> = self.surface.prefixes().iter().filter_map(|p| p.mode).collect();
        modes.sort_unstable();
        modes.dedup();
        modes.retain(|mode| self.surface.mode.is_none_or(|pinned| pinned == *mode));
        let words = modes.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(" or ");
        let Some(asked) = asked else {
            return match modes.as_slice() {
                [] => Ok(None),
                [only] => Ok(Some(*only)),
                _ => Err(OperationError::Usage(format!(
                    "surface `{}` has more than one mode: say --mode {words}",
                    self.name()
                ))),
            };
        };
        let mode = Mode::parse(asked).filter(|mode| modes.contains(mode));
        mode.map(Some).ok_or_else(|| {
            OperationError::Usage(if modes.is_empty() {
                format!("surface `{}` has no modes: leave --mode out", self.name())
            } else {
                format!("surface `{}` has no mode `{}`: say --mode {words}", self.name(), printable(asked))
            })
        })
    }

    pub(crate) const fn name(&self) -> &SurfaceName {
        &self.surface.name
    }

    fn prefix(&self, mode: Option<Mode>) -> &str {
        let mut prefixes = self.surface.prefixes().iter();
        prefixes.find(|p| p.mode == mode).map_or("", |p| p.text.as_str())
    }
}

/// The surface of this name, if keys are made on it.
pub(crate) fn find_key_surface<'s>(snapshot: &'s Snapshot, name: &str) -> Result<KeySurface<'s>, OperationError> {
    let found = snapshot.surfaces.iter().enumerate().find(|(_, s)| s.name.as_str() == name);
    let Some((index, surface)) = found else {
        let names = snapshot.surfaces.iter().filter(|s| takes_keys(s)).map(|s| s.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        return Err(OperationError::Usage(format!(
            "there is no surface `{}`; keys can be made for: {names}",
            printable(name)
        )));
    };
    let (halves, keys) = match surface.kind.recipe() {
        Recipe::Keys { secret, origin, .. } => (if secret.is_some() { Halves::Two } else { Halves::One }, origin),
        Recipe::Signing(_) => (Halves::One, KeyOrigin::Generated),
        Recipe::Elsewhere => {
            return Err(OperationError::Usage(format!(
                "surface `{name}` takes tokens of issuers that are not durward: they are made there"
            )));
        }
        Recipe::Session(_) => {
            return Err(OperationError::Usage(format!(
                "surface `{name}` takes sessions, which issuers mint; a session hangs on a credential of surface `{}`",
                surface.record_surface()
            )));
        }
        Recipe::Account => {
            return Err(OperationError::Usage(format!(
                "surface `{name}` takes accounts, which `durward accounts create` makes"
            )));
        }
    };
    Ok(KeySurface {
        index: SurfaceIndex(index),
        surface,
        halves,
        keys,
    })
}

fn takes_keys(surface: &Surface) -> bool {
    matches!(surface.kind.recipe(), Recipe::Keys { .. } | Recipe::Signing(_))
}

/// Warns of scopes that open nothing, neither to the key nor to what is made with it: most often a
/// misspelling.
pub(crate) fn unused_scopes(snapshot: &Snapshot, surface: &KeySurface<'_>, held: &ScopeSet) -> Vec<String> {
    let reached = reached_surfaces(snapshot, surface);
    let needed = |scope: &Scope| {
        snapshot.routes.iter().any(|route| match &route.access {
            Access::Public => false,
            Access::Surfaces { surfaces, scopes } => surfaces.iter().any(|index| reached.contains(index)) && scopes.contains(scope),
        })
    };
    let unused = held.iter().filter(|scope| !needed(scope));
    unused
        .map(|scope| format!("no route of surface `{}` needs the scope `{scope}`", surface.name()))
        .collect()
}

/// The surfaces whose routes a key of this surface opens: its own, those of tokens that hang on it, and
/// those of everything that can be minted with any of these.
fn reached_surfaces(snapshot: &Snapshot, surface: &KeySurface<'_>) -> BTreeSet<SurfaceIndex> {
    let hangs_here = |s: &Surface| s.record_surface() == surface.name();
    let on_it = (0..snapshot.surfaces.len()).map(SurfaceIndex);
    let mut reached: BTreeSet<_> = on_it
        .filter(|index| snapshot.surfaces.get(index.0).is_some_and(hangs_here))
        .collect();
    reached.insert(surface.index);
    loop {
        let before = reached.len();
        for route in &snapshot.routes {
            let (Access::Surfaces { surfaces, .. }, Destination::Served(issuer)) = (&route.access, route.destination) else {
                continue;
            };
            let Some(Action::Mint { mints, .. }) = snapshot.served_routes.get(issuer.0).map(|issuer| &issuer.action) else {
                continue;
            };
            if surfaces.iter().any(|index| reached.contains(index)) {
                reached.extend(mints.iter().map(|mint| mint.surface));
            }
        }
        // Every round but the last adds a surface, so there are no more rounds than surfaces.
        if reached.len() == before {
            return reached;
        }
    }
}

pub(crate) fn parse_id(id: &str) -> Result<CredentialId, OperationError> {
    CredentialId::parse(id).map_err(|e| OperationError::Usage(format!("`{}` is not a credential id: {e}", printable(id))))
}

pub(crate) fn parse_surface(name: &str) -> Result<SurfaceName, OperationError> {
    SurfaceName::parse(name).map_err(|e| OperationError::Usage(format!("`{}` is not a surface name: {e}", printable(name))))
}

pub(crate) fn parse_subject(subject: &str) -> Result<Subject, OperationError> {
    Subject::parse(subject).map_err(|e| OperationError::Usage(format!("`{}` is not a subject: {e}", printable(subject))))
}

pub(crate) fn parse_scopes(words: &[String]) -> Result<ScopeSet, OperationError> {
    let parse = |word: &String| Scope::parse(word).map_err(|e| OperationError::Usage(format!("`{}` is not a scope: {e}", printable(word))));
    words.iter().map(parse).collect()
}

pub(crate) fn parse_name(name: &str) -> Result<String, OperationError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(OperationError::Usage(format!(
            "`{}` is not a name: 1 to {MAX_NAME} bytes without control characters",
            printable(name)
        )));
    }
    Ok(name.to_owned())
}
