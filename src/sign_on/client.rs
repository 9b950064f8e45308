//! From the settings of a provider, as the store has them, to what a sign-on needs: our client with its secret opened, and the
//! rules that make a person of claims.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::fingerprint::Peppers;
use crate::base::ids::{CredentialId, RoleId};
use crate::base::scope::{Scope, ScopeSet};

use super::fault::SignOnFault;
use super::oidc::{ClientAuthentication, ClientKey, OidcClient};
use super::person::{PersonRules, RoleRow, RoleRules};
use super::provider::{ClientAuthMethod, OidcSettings, ProviderSettings, RoleSettings};
use super::seal::{SealPurpose, SealScope, open};

/// Opens a sealed text of the settings of this provider.
///
/// # Errors
/// [`SignOnFault::Sealed`], also for a text that is missing.
pub fn open_sealed(
    provider: &CredentialId,
    field: &str,
    sealed: Option<&str>,
    peppers: &Peppers,
) -> Result<Zeroizing<Vec<u8>>, SignOnFault> {
    let scope = SealScope {
        purpose: SealPurpose::ProviderSecret,
        owner: provider.as_str(),
        field,
    };
    open(peppers, &scope, sealed.ok_or(SignOnFault::NoSecret)?).map_err(SignOnFault::Sealed)
}

/// Our client of an OpenID Connect provider.
///
/// # Errors
/// [`SignOnFault`] for a secret that cannot be opened, and for a key that is none.
pub fn oidc_client(provider: &CredentialId, oidc: &OidcSettings, peppers: &Peppers) -> Result<OidcClient, SignOnFault> {
    let secret = || -> Result<Zeroizing<String>, SignOnFault> {
        let opened = open_sealed(provider, "client_secret", oidc.client_secret_sealed.as_deref(), peppers)?;
        let text = std::str::from_utf8(&opened).map_err(|_| SignOnFault::ClientText)?;
        Ok(Zeroizing::new(text.to_owned()))
    };
    let authentication = match oidc.auth {
        ClientAuthMethod::ClientSecretBasic => ClientAuthentication::SecretBasic(secret()?),
        ClientAuthMethod::ClientSecretPost => ClientAuthentication::SecretPost(secret()?),
        ClientAuthMethod::PrivateKeyJwt => {
            let der = open_sealed(provider, "private_key", oidc.private_key_sealed.as_deref(), peppers)?;
            ClientAuthentication::PrivateKeyJwt(ClientKey::from_der(&der)?)
        }
    };
    Ok(OidcClient {
        issuer: oidc.issuer.clone(),
        client_id: oidc.client_id.clone(),
        authentication,
        scopes: oidc.scopes.clone(),
        prompt: oidc.prompt.clone(),
        max_age: oidc.max_age.map(Duration::from_secs),
        acr_values: oidc.acr_values.clone(),
        userinfo: oidc.userinfo,
        refresh_tokens: oidc.refresh_tokens,
        algorithms: oidc.id_token_algs.clone(),
    })
}

/// What makes a person of the claims of this provider. Rows of the table with texts that are no roles or scopes give nothing;
/// such settings are refused when they are made.
#[must_use]
pub fn person_rules(settings: &ProviderSettings) -> PersonRules {
    PersonRules {
        subject: settings.subject_claim().to_owned(),
        email: settings.email_claim().to_owned(),
        name: settings.name_claim().to_owned(),
        roles: settings.roles.as_ref().map(role_rules),
        claims: settings.claims.clone(),
    }
}

fn role_rules(settings: &RoleSettings) -> RoleRules {
    let roles = |ids: &[String]| ids.iter().filter_map(|id| RoleId::parse(id).ok()).collect();
    let scopes = |words: &[String]| -> ScopeSet { words.iter().filter_map(|word| Scope::parse(word).ok()).collect() };
    let rows = settings.table.iter().map(|row| RoleRow {
        value: row.value.clone(),
        roles: roles(&row.roles),
        scopes: scopes(&row.scopes),
    });
    RoleRules {
        claim: settings.claim.clone(),
        table: rows.collect(),
        default: roles(&settings.default),
    }
}
