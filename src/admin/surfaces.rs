//! Finds the surface that an operator means, and what a key of it opens.

use std::collections::BTreeSet;

use crate::base::ids::SurfaceName;
use crate::base::scope::{Mode, Scope, ScopeSet};
use crate::decide::route::{Access, Destination};
use crate::decide::surface::{KeyOrigin, Recipe, Surface, SurfaceIndex, SurfaceKind};
use crate::snapshot::Snapshot;
use crate::snapshot::served_route::Action;

use super::error::OperationError;
use super::text::{parse_surface, printable};

/// The surface of this name, if it `fits`. Without a name, the only surface that fits. `what` names what such surfaces take,
/// for messages.
///
/// # Errors
/// [`OperationError::Usage`], which names the surfaces that fit.
pub(crate) fn find_surface_of<'s>(
    snapshot: &'s Snapshot,
    what: &str,
    fits: fn(&SurfaceKind) -> bool,
    name: Option<&str>,
) -> Result<&'s Surface, OperationError> {
    let all: Vec<&Surface> = snapshot.surfaces.iter().filter(|s| fits(&s.kind)).collect();
    let names = || all.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    let refusal = match (name, all.as_slice()) {
        (_, []) => format!("no surface of the configuration is one of {what}"),
        (None, [only]) => return Ok(only),
        (None, _) => format!(
            "there is more than one surface of {what}: name one of them with --surface: {}",
            names()
        ),
        (Some(name), all) => {
            parse_surface(name)?;
            match all.iter().find(|s| s.name.as_str() == name) {
                Some(surface) => return Ok(surface),
                None => format!("`{}` is not a surface of {what}; there is: {}", printable(name), names()),
            }
        }
    };
    Err(OperationError::Usage(refusal))
}

/// A surface on which keys are made, with what a new key needs.
pub(crate) struct KeySurface<'s> {
    index: SurfaceIndex,
    pub(crate) surface: &'s Surface,
    pub(crate) parts: KeyParts,
    pub(crate) keys: KeyOrigin,
}

/// What a key of a surface consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyParts {
    Single,
    /// A publishable half and a secret half.
    Pair,
}

impl KeySurface<'_> {
    /// The mode of a new key: the requested one if the surface has it, or the only mode of the surface.
    pub(crate) fn resolve_mode(&self, name: Option<&str>) -> Result<Option<Mode>, OperationError> {
        let mut modes: Vec<Mode> = self.surface.prefixes().iter().filter_map(|p| p.mode).collect();
        modes.sort_unstable();
        modes.dedup();
        modes.retain(|mode| self.surface.mode.is_none_or(|pinned| pinned == *mode));
        let words = modes.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(" or ");
        let Some(name) = name else {
            return match modes.as_slice() {
                [] => Ok(None),
                [only] => Ok(Some(*only)),
                _ => Err(OperationError::Usage(format!(
                    "surface `{}` has more than one mode: say --mode {words}",
                    self.name()
                ))),
            };
        };
        let mode = Mode::parse(name).filter(|mode| modes.contains(mode));
        mode.map(Some).ok_or_else(|| {
            OperationError::Usage(if modes.is_empty() {
                format!("surface `{}` has no modes: leave --mode out", self.name())
            } else {
                format!("surface `{}` has no mode `{}`: say --mode {words}", self.name(), printable(name))
            })
        })
    }

    pub(crate) const fn name(&self) -> &SurfaceName {
        &self.surface.name
    }

    pub(crate) fn prefix(&self, mode: Option<Mode>) -> &str {
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
    let (parts, keys) = match surface.kind.recipe() {
        Recipe::Keys { secret, origin, .. } => (if secret.is_some() { KeyParts::Pair } else { KeyParts::Single }, origin),
        Recipe::Signing(_) => (KeyParts::Single, KeyOrigin::Generated),
        Recipe::Elsewhere => {
            return Err(OperationError::Usage(format!(
                "surface `{name}` takes tokens of issuers that are not durward: they are made there"
            )));
        }
        Recipe::Session(_) => {
            return Err(OperationError::Usage(format!(
                "surface `{name}` takes sessions, which routes with `serve` mint; a session hangs on a credential of surface `{}`",
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
        parts,
        keys,
    })
}

fn takes_keys(surface: &Surface) -> bool {
    matches!(surface.kind.recipe(), Recipe::Keys { .. } | Recipe::Signing(_))
}

/// Warns of scopes that no route needs, neither of the key nor of a credential that is made with it. Most often they are
/// misspelled.
pub(crate) fn unused_scopes(snapshot: &Snapshot, surface: &KeySurface<'_>, scopes: &ScopeSet) -> Vec<String> {
    let reached = reached_surfaces(snapshot, surface);
    let needed = |scope: &Scope| {
        snapshot.routes.iter().any(|route| match &route.access {
            Access::Public => false,
            Access::Surfaces { surfaces, scopes } => surfaces.iter().any(|index| reached.contains(index)) && scopes.contains(scope),
        })
    };
    let unused = scopes.iter().filter(|scope| !needed(scope));
    unused
        .map(|scope| format!("no route of surface `{}` needs the scope `{scope}`", surface.name()))
        .collect()
}

/// The surfaces whose routes a key of this surface opens: its own surface, the surfaces of its children, and the surfaces of
/// all credentials that can be minted with any of these.
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
            let (Access::Surfaces { surfaces, .. }, Destination::Served(served_route)) = (&route.access, route.destination) else {
                continue;
            };
            let Some(Action::Mint { mints, .. }) = snapshot.served_routes.get(served_route.0).map(|route| &route.action) else {
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
