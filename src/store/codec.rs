//! Records and events as bytes: versioned, bounded, and checked again whenever they are read.
//!
//! A stored value is one version byte and the JSON of a private wire struct. Domain types cannot be
//! serialised, so a field cannot slip into the store by being added to one. Whatever does not decode
//! to a valid record is an error: never a default, never an absence (hardening F11).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, Subject, SurfaceName, TenantId};
use crate::base::principal::{CredentialRecord, State, TenantRecord};
use crate::base::scope::{Mode, Scope, ScopeSet};

use super::{EventSubject, StoreError};

/// Version of the bytes written now. A reader refuses every other one.
const VERSION: u8 = 1;

/// Largest value: a record with a hundred scopes of full length is 13 KiB; what is larger is a
/// mistake or an attack on memory (hardening F10).
pub const MAX_RECORD_BYTES: usize = 16 * 1024;

/// Longest visible beginning of a key, in bytes; configured prefixes are far shorter.
const MAX_PREFIX: usize = 64;

/// Longest visible end, in bytes: four characters of at most four bytes.
const MAX_LAST4: usize = 16;

/// Longest name an operator may give, in bytes: a line of text.
const MAX_NAME: usize = 256;

/// Most fingerprints of one event: a record has two, and two more leave room for a rotated pepper.
const MAX_EVENT_FINGERPRINTS: usize = 4;

/// Why bytes are not a record, or a record cannot be written. Says where, never what: the value may
/// hold a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More than [`MAX_RECORD_BYTES`].
    #[error("it is larger than 16 KiB")]
    TooLarge,
    /// No version byte.
    #[error("it is empty")]
    Empty,
    /// Written by another version.
    #[error("its format version is {0}, this gateway reads version 1")]
    Version(u8),
    /// Not the JSON of the wire struct.
    #[error("its JSON is not that of a {kind} (column {column})")]
    Syntax {
        /// What it should be.
        kind: &'static str,
        /// Where it fails.
        column: usize,
    },
    /// A field has a value that no valid record has.
    #[error("its field {0} is invalid")]
    Field(&'static str),
}

impl From<CodecError> for StoreError {
    fn from(error: CodecError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// Bytes of a credential record.
///
/// # Errors
/// [`CodecError`] when the record has a value that could not be read back.
pub fn encode_credential(record: &CredentialRecord) -> Result<Vec<u8>, CodecError> {
    check_texts(record)?;
    encode(&WireCredential {
        id: record.id.as_str().into(),
        surface: record.surface.as_str().into(),
        tenant: record.tenant.as_str().into(),
        subject: record.subject.as_ref().map(|s| s.as_str().into()),
        mode: record.mode.map(|m| m.as_str().into()),
        scopes: record.scopes.iter().map(|s| s.as_str().into()).collect(),
        state: match record.state {
            State::Active => WireState::Active,
            State::Disabled => WireState::Disabled,
            State::Revoked { at } => WireState::Revoked { at: at.0 },
        },
        key: record.fingerprint.to_hex().into(),
        secret: record.secret_fingerprint.map(|f| f.to_hex().into()),
        prefix: record.prefix.as_str().into(),
        last4: record.last4.as_str().into(),
        name: record.name.as_deref().map(Cow::from),
        created_at: record.created_at.0,
        not_before: record.not_before.map(|t| t.0),
        expires_at: record.expires_at.map(|t| t.0),
        valid_after: record.valid_after.map(|t| t.0),
        epoch: record.epoch,
    })
}

/// Reads what [`encode_credential`] wrote.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode_credential(bytes: &[u8]) -> Result<CredentialRecord, CodecError> {
    let wire: WireCredential<'_> = decode(bytes, "credential")?;
    let scopes: Result<ScopeSet, _> = wire.scopes.iter().map(|s| Scope::parse(s)).collect();
    let record = CredentialRecord {
        id: CredentialId::parse(&wire.id).map_err(|_| CodecError::Field("id"))?,
        surface: SurfaceName::parse(&wire.surface).map_err(|_| CodecError::Field("surface"))?,
        tenant: TenantId::parse(&wire.tenant).map_err(|_| CodecError::Field("tenant"))?,
        subject: optional("subject", wire.subject, |s| Subject::parse(s).ok())?,
        mode: optional("mode", wire.mode, Mode::parse)?,
        scopes: scopes.map_err(|_| CodecError::Field("scopes"))?,
        state: match wire.state {
            WireState::Active => State::Active,
            WireState::Disabled => State::Disabled,
            WireState::Revoked { at } => State::Revoked { at: UnixMillis(at) },
        },
        fingerprint: Fingerprint::from_hex(&wire.key).ok_or(CodecError::Field("key"))?,
        secret_fingerprint: optional("secret", wire.secret, Fingerprint::from_hex)?,
        prefix: wire.prefix.into_owned(),
        last4: wire.last4.into_owned(),
        name: wire.name.map(Cow::into_owned),
        created_at: UnixMillis(wire.created_at),
        not_before: wire.not_before.map(UnixMillis),
        expires_at: wire.expires_at.map(UnixMillis),
        valid_after: wire.valid_after.map(UnixMillis),
        epoch: wire.epoch,
    };
    check_texts(&record)?;
    Ok(record)
}

/// Bytes of a tenant record.
///
/// # Errors
/// [`CodecError`] when they would be too large.
pub fn encode_tenant(record: &TenantRecord) -> Result<Vec<u8>, CodecError> {
    encode(&WireTenant {
        id: record.id.as_str().into(),
        active: record.active,
        created_at: record.created_at.0,
        epoch: record.epoch,
    })
}

/// Reads what [`encode_tenant`] wrote.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode_tenant(bytes: &[u8]) -> Result<TenantRecord, CodecError> {
    let wire: WireTenant<'_> = decode(bytes, "tenant")?;
    Ok(TenantRecord {
        id: TenantId::parse(&wire.id).map_err(|_| CodecError::Field("id"))?,
        active: wire.active,
        created_at: UnixMillis(wire.created_at),
        epoch: wire.epoch,
    })
}

/// Bytes of what an event is about; its position is kept beside them by the store that counts it.
///
/// # Errors
/// [`CodecError`] when it names more fingerprints than a record can have.
pub fn encode_event(subject: &EventSubject) -> Result<Vec<u8>, CodecError> {
    encode(&match subject {
        EventSubject::Credential { id, fingerprints } => {
            if fingerprints.len() > MAX_EVENT_FINGERPRINTS {
                return Err(CodecError::Field("fingerprints"));
            }
            WireEvent::Credential {
                id: id.as_str().into(),
                fingerprints: fingerprints.iter().map(|f| f.to_hex().into()).collect(),
            }
        }
        EventSubject::Tenant { id } => WireEvent::Tenant { id: id.as_str().into() },
    })
}

/// Reads what [`encode_event`] wrote.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode_event(bytes: &[u8]) -> Result<EventSubject, CodecError> {
    Ok(match decode::<WireEvent<'_>>(bytes, "change event")? {
        WireEvent::Credential { id, fingerprints } => {
            if fingerprints.len() > MAX_EVENT_FINGERPRINTS {
                return Err(CodecError::Field("fingerprints"));
            }
            let fingerprints: Option<Vec<_>> = fingerprints.iter().map(|f| Fingerprint::from_hex(f)).collect();
            EventSubject::Credential {
                id: CredentialId::parse(&id).map_err(|_| CodecError::Field("id"))?,
                fingerprints: fingerprints.ok_or(CodecError::Field("fingerprints"))?,
            }
        }
        WireEvent::Tenant { id } => EventSubject::Tenant {
            id: TenantId::parse(&id).map_err(|_| CodecError::Field("id"))?,
        },
    })
}

fn encode<T: Serialize>(wire: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, wire).map_err(|_| CodecError::Field("json"))?;
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(CodecError::TooLarge);
    }
    Ok(bytes)
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], kind: &'static str) -> Result<T, CodecError> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(CodecError::TooLarge);
    }
    let (version, json) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    serde_json::from_slice(json).map_err(|e| CodecError::Syntax { kind, column: e.column() })
}

/// Texts that people see: bounded, and without control characters that could forge a log line or
/// drive a terminal (hardening K9).
fn check_texts(record: &CredentialRecord) -> Result<(), CodecError> {
    let fits = |text: &str, max: usize| text.len() <= max && !text.chars().any(char::is_control);
    if !fits(&record.prefix, MAX_PREFIX) {
        return Err(CodecError::Field("prefix"));
    }
    if !fits(&record.last4, MAX_LAST4) {
        return Err(CodecError::Field("last4"));
    }
    if !record.name.as_deref().is_none_or(|name| fits(name, MAX_NAME)) {
        return Err(CodecError::Field("name"));
    }
    Ok(())
}

fn optional<T>(field: &'static str, text: Option<Cow<'_, str>>, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, CodecError> {
    text.map(|t| parse(&t).ok_or(CodecError::Field(field))).transpose()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCredential<'a> {
    id: Cow<'a, str>,
    surface: Cow<'a, str>,
    tenant: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Cow<'a, str>>,
    scopes: Vec<Cow<'a, str>>,
    state: WireState,
    key: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Cow<'a, str>>,
    prefix: Cow<'a, str>,
    last4: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_after: Option<i64>,
    epoch: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum WireState {
    Active,
    Disabled,
    Revoked { at: i64 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTenant<'a> {
    id: Cow<'a, str>,
    active: bool,
    created_at: i64,
    epoch: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum WireEvent<'a> {
    Credential { id: Cow<'a, str>, fingerprints: Vec<Cow<'a, str>> },
    Tenant { id: Cow<'a, str> },
}

#[cfg(test)]
#[path = "codec/tests.rs"]
pub(super) mod tests;
