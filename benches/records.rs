//! The record that benchmarks look up: an API key that may read and write transactions.

use durward::base::clock::UnixMillis;
use durward::base::fingerprint::{CredentialPart, Pepper};
use durward::base::ids::{CredentialId, SurfaceName, TenantId};
use durward::base::key::GeneratedKey;
use durward::base::principal::{CredentialRecord, CredentialState};
use durward::base::scope::{Mode, Scope};

/// When everything here was made.
pub(crate) const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

/// The record of `key`.
pub(crate) fn record(
    id: CredentialId,
    surface: &SurfaceName,
    tenant: &TenantId,
    (pepper, key): (&Pepper, &GeneratedKey),
) -> Result<CredentialRecord, Box<dyn std::error::Error>> {
    let scopes = ["transactions:read", "transactions:write"].map(Scope::parse);
    Ok(CredentialRecord {
        id,
        surface: surface.clone(),
        tenant: tenant.clone(),
        subject: None,
        mode: Some(Mode::Live),
        scopes: scopes.into_iter().collect::<Result<_, _>>()?,
        state: CredentialState::Active,
        fingerprint: pepper.fingerprint(surface, CredentialPart::Key, key.expose().as_bytes()),
        secret_fingerprint: None,
        prefix: key.prefix().to_owned(),
        last4: key.last4().to_owned(),
        name: None,
        created_at: NOW,
        not_before: None,
        expires_at: None,
        valid_after: None,
        epoch: 0,
        pepper: None,
        extras: None,
    })
}
