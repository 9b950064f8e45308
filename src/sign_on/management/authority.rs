//! For whom an identity provider is made or changed, and what they may do: an operator everything, a tenant's administrator
//! nothing that would give anybody more than the administrator has.

use crate::base::ids::TenantId;
use crate::base::principal::CredentialRecord;
use crate::base::scope::{Mode, ScopeSet};
use crate::sign_on::provider::{OidcSettings, ProviderSettings, SettingsMistake};
use crate::snapshot::provider_route::ProviderSurfaces;
use crate::store::RestsOn;

use super::error::{ManagementError, mistake};

#[cfg(test)]
mod tests;

/// Who asks.
#[derive(Debug)]
pub enum ProviderAuthority {
    Operator,
    /// Somebody of the tenant, by a route.
    Administrator(Box<Administrator>),
}

/// An administrator of a tenant's identity providers, as the route admitted them.
#[derive(Debug)]
pub struct Administrator {
    /// The only tenant whose providers they reach.
    pub tenant: TenantId,
    pub mode: Option<Mode>,
    /// The scopes that they may use, as they were admitted, and those that the route grants.
    pub scopes: ScopeSet,
    /// The claims that the route lets accounts keep. A claim can decide which records a caller reaches, so it is the operator's
    /// word which of them providers may state.
    pub claims: Vec<String>,
    /// The surfaces of what the route lets them make.
    pub surfaces: Option<ProviderSurfaces>,
    /// What they were judged by.
    pub rests_on: RestsOn,
}

/// Whoever says where people sign on can sign on as any of them. So a provider that may give more than an administrator has would be
/// a way to it.
const ABOVE: &str = "the provider may give more than you may do, so it is changed by somebody who may do as much; you can disable it";

/// Sessions by a provider have no mode, so they would reach what a credential of one mode does not.
const ONE_MODE: &str = "a credential of one mode changes no identity provider, since people who sign on have both";

const SCOPES: &str = "the scopes and roles of a provider may hold nothing that you may not do yourself";

impl ProviderAuthority {
    /// The administrator, if it is one.
    #[must_use]
    pub fn administrator(&self) -> Option<&Administrator> {
        match self {
            Self::Operator => None,
            Self::Administrator(administrator) => Some(administrator),
        }
    }

    /// Whether the provider may be seen.
    pub(super) fn reaches(&self, provider: &CredentialRecord) -> bool {
        self.reaches_tenant(&provider.tenant)
    }

    pub(super) fn reaches_tenant(&self, tenant: &TenantId) -> bool {
        self.administrator().is_none_or(|administrator| administrator.tenant == *tenant)
    }

    /// What every change rests on.
    pub(super) fn rests_on(&self) -> RestsOn {
        self.administrator()
            .map_or_else(RestsOn::default, |administrator| administrator.rests_on.clone())
    }

    /// Checks that they may make, change, enable or delete providers at all.
    ///
    /// # Errors
    /// [`ManagementError::Forbidden`].
    pub(super) fn check_mode(&self) -> Result<(), ManagementError> {
        match self.administrator() {
            Some(administrator) if administrator.mode.is_some() => Err(ManagementError::Forbidden(ONE_MODE)),
            _ => Ok(()),
        }
    }

    /// Checks that a provider is not more than who changes, enables or deletes it (docs/threats.md B30).
    ///
    /// # Errors
    /// [`ManagementError::Forbidden`].
    pub(super) fn check_not_above(&self, ceiling: &ScopeSet, settings: &ProviderSettings) -> Result<(), ManagementError> {
        let Some(administrator) = self.administrator() else {
            return Ok(());
        };
        if administrator.scopes.covers(ceiling) && settings.claims.iter().all(|claim| administrator.claims.contains(claim)) {
            Ok(())
        } else {
            Err(ManagementError::Forbidden(ABOVE))
        }
    }

    /// Checks that they may give these scopes: those of a ceiling, or of a table of roles.
    ///
    /// # Errors
    /// [`ManagementError::Forbidden`].
    pub(super) fn check_scopes(&self, scopes: &ScopeSet) -> Result<(), ManagementError> {
        match self.administrator() {
            Some(administrator) if !administrator.scopes.covers(scopes) => Err(ManagementError::Forbidden(SCOPES)),
            _ => Ok(()),
        }
    }

    /// Everything in the settings that an administrator may not say. `before` are those of a provider that exists.
    pub(super) fn mistakes(&self, before: Option<&ProviderSettings>, after: &ProviderSettings) -> Vec<SettingsMistake> {
        let Some(administrator) = self.administrator() else {
            return Vec::new();
        };
        let mut mistakes = Vec::new();
        if after.domains != before.map_or(&[][..], |before| before.domains.as_slice()) {
            mistakes.push(mistake(
                "domains",
                "which e-mail domains are yours is the word of whoever operates this service: ask them to add or remove one",
            ));
        }
        let surfaces = |settings: &ProviderSettings| ProviderSurfaces {
            session: settings.session.clone(),
            account: settings.account.clone(),
        };
        let own = before.map(surfaces).or_else(|| administrator.surfaces.clone());
        if own.is_none_or(|own| own != surfaces(after)) {
            mistakes.push(mistake(
                "session",
                "which sessions and accounts a provider gives is set by the operator",
            ));
        }
        for claim in after.claims.iter().filter(|claim| !administrator.claims.contains(claim)) {
            // Its name was judged: it is short, and has no control characters.
            let claim: String = claim.chars().take(80).flat_map(char::escape_default).collect();
            mistakes.push(mistake("claims", format!("accounts may not keep the claim `{claim}`")));
        }
        if let Some((before, after)) = before.and_then(ProviderSettings::oidc).zip(after.oidc()) {
            mistakes.extend(kept_secrets(before, after));
        }
        mistakes
    }
}

/// A secret goes to the token endpoint that the issuer names. So another issuer would be sent the secret that somebody else gave
/// for this one, and an administrator could read it there (docs/threats.md B31).
fn kept_secrets(before: &OidcSettings, after: &OidcSettings) -> Vec<SettingsMistake> {
    if before.issuer == after.issuer {
        return Vec::new();
    }
    let secrets = [
        ("secrets.client_secret", &before.client_secret_sealed, &after.client_secret_sealed),
        ("secrets.private_key", &before.private_key_sealed, &after.private_key_sealed),
    ];
    let kept = secrets.into_iter().filter(|(_, before, after)| after.is_some() && before == after);
    kept.map(|(field, ..)| {
        mistake(
            field,
            "the issuer changes: give this anew, since the old one is not for the new issuer",
        )
    })
    .collect()
}
