//! Takes over credentials of which only hashes are known, so that nobody has to change a key.

use serde::{Deserialize, Serialize};

use crate::base::fingerprint::{CredentialPart, Fingerprint};
use crate::decide::surface::KeyOrigin;
use crate::issue::minting::adopt;
use crate::store::find_any;

use super::Operations;
use super::error::OperationError;
use super::keys::{KeyView, KeyWords};
use super::surfaces::{KeyParts, find_key_surface};
use super::text::{parse_expiry, parse_id};

/// Takes over a credential of which only SHA-256 hashes are known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportKey {
    /// The surface it is for; it must accept imported keys.
    pub surface: String,
    pub tenant: String,
    /// SHA-256 of the key (or of the publishable half), 64 hexadecimal digits.
    pub sha256: String,
    /// SHA-256 of the secret half, for a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_sha256: Option<String>,
    /// The id of the key; a new one is made when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The last four characters of the key, for lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last4: Option<String>,
    /// `test` or `live`; needed when the surface has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    pub scopes: Vec<String>,
    /// Who acts within the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it ends: `30d`, or RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Operations {
    /// Imports one credential.
    ///
    /// # Errors
    /// [`OperationError::Usage`] on a surface that takes only generated keys or with a malformed
    /// hash, [`OperationError::NotFound`] without the tenant, [`OperationError::Conflict`] when it is there already.
    pub async fn import_key(&self, request: &ImportKey) -> Result<KeyView, OperationError> {
        let snapshot = self.snapshot.load();
        let surface = find_key_surface(&snapshot, &request.surface)?;
        if surface.keys != KeyOrigin::Imported {
            return Err(OperationError::Usage(format!(
                "surface `{}` takes generated keys only; its configuration must allow imported ones first",
                surface.name()
            )));
        }
        let key = parse_hash("sha256", &request.sha256)?;
        let secret = match (&request.secret_sha256, surface.parts) {
            (Some(hash), KeyParts::Pair) => Some(parse_hash("secret_sha256", hash)?),
            (None, KeyParts::Single) => None,
            (None, KeyParts::Pair) => return Err(usage(&format!("surface `{}` takes pairs: give secret_sha256 too", surface.name()))),
            (Some(_), KeyParts::Single) => {
                return Err(usage(&format!(
                    "surface `{}` takes single keys: leave secret_sha256 out",
                    surface.name()
                )));
            }
        };
        let now = self.clock.now().wall;
        let mode = surface.resolve_mode(request.mode.as_deref())?;
        let words = KeyWords {
            scopes: &request.scopes,
            subject: request.subject.as_deref(),
            name: request.name.as_deref(),
        };
        let mut record = self.blank_record(&surface, &request.tenant, mode, &words).await?;
        if let Some(id) = &request.id {
            record.id = parse_id(id)?;
        }
        let older = self.peppers.older();
        let older = older.map(|pepper| pepper.fingerprint_of_sha256(surface.name(), CredentialPart::Key, key.as_bytes()));
        if find_any(&*self.store, older).await? {
            // Also one that was revoked: it must not come back under another pepper.
            return Err(OperationError::Conflict("a credential with this key exists already".into()));
        }
        let secret = secret.as_ref().map(Fingerprint::as_bytes);
        adopt(&mut record, key.as_bytes(), secret, self.peppers.first());
        record.last4 = request.last4.as_deref().map(parse_last4).transpose()?.unwrap_or_default();
        record.expires_at = request.expires.as_deref().map(|text| parse_expiry(text, now)).transpose()?;
        let stored = self.store.create_credential(record).await?;
        tracing::info!(credential = %stored.id, surface = %stored.surface, tenant = %stored.tenant, "credential imported");
        Ok(KeyView::from(&stored))
    }
}

fn parse_hash(field: &str, hex: &str) -> Result<Fingerprint, OperationError> {
    Fingerprint::from_hex(&hex.to_ascii_lowercase()).ok_or_else(|| {
        usage(&format!(
            "`{field}` must be 64 hexadecimal digits, the SHA-256 of the key; never give the key itself"
        ))
    })
}

fn parse_last4(text: &str) -> Result<String, OperationError> {
    if text.len() <= 4 && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        // What is longer may be the whole key, and is not repeated.
        Err(usage("`last4` is not the end of a key: at most four characters without blanks"))
    }
}

fn usage(text: &str) -> OperationError {
    OperationError::Usage(text.to_owned())
}
