//! Records and events as bytes: versioned, bounded, and checked again whenever they are read.
//!
//! A stored value is one version byte and the JSON of a private wire struct. Domain types cannot be
//! serialised, so a field cannot slip into the store by being added to one. Whatever does not decode
//! to a valid record is an error: never a default, never an absence (docs/threats.md F11).
//!
//! A credential's JSON has a line before it: the id of its parent (`-` for none), of a sign-on with a linked account `>` and the
//! id of the link, and the ids of its roles. A script of the shared store follows them in one step without understanding JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{RoleRecord, TenantRecord};
use crate::base::scope::{Scope, ScopeSet};

use super::{EventSubject, StoreError};

mod credential;

pub use credential::{decode_credential, encode_credential};

/// Version of the bytes written now. A reader refuses every other one.
const VERSION: u8 = 2;

/// Largest value: a record with a hundred scopes of full length is 13 KiB, and sixteen claims of full
/// length are as much again; what is larger is a mistake or an attack on memory (docs/threats.md F10).
pub const MAX_RECORD_BYTES: usize = 32 * 1024;

/// Longest name an operator may give, in bytes: a line of text.
const MAX_NAME: usize = 256;

/// Longest description of a role, in bytes: a paragraph.
pub const MAX_DESCRIPTION: usize = 1024;

/// Most fingerprints of one event: a record has two, and two more leave room for a rotated pepper.
const MAX_EVENT_FINGERPRINTS: usize = 4;

/// Why bytes are not a record, or a record cannot be written. Says where, never what: the value may
/// hold a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More than [`MAX_RECORD_BYTES`].
    #[error("it is larger than 32 KiB")]
    TooLarge,
    /// No version byte.
    #[error("it is empty")]
    Empty,
    #[error("its format version is {0}, this gateway reads version 2")]
    Version(u8),
    /// Not the JSON of the wire struct.
    #[error("its JSON is not that of a {kind} (column {column})")]
    Syntax { kind: &'static str, column: usize },
    /// A field has a value that no valid record has.
    #[error("its field {0} is invalid")]
    Field(&'static str),
}

impl From<CodecError> for StoreError {
    fn from(error: CodecError) -> Self {
        Self::Corrupt(error.to_string())
    }
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

/// Bytes of a role of the store.
///
/// # Errors
/// [`CodecError`] when it could not be read back, or belongs to no tenant.
pub fn encode_role(role: &RoleRecord) -> Result<Vec<u8>, CodecError> {
    let tenant = role.tenant.as_ref().ok_or(CodecError::Field("tenant"))?;
    check_role(role)?;
    encode(&WireRole {
        id: role.id.as_str().into(),
        tenant: tenant.as_str().into(),
        name: role.name.as_str().into(),
        description: role.description.as_deref().map(Cow::from),
        scopes: words_of(&role.scopes),
        created_at: role.created_at.0,
        epoch: role.epoch,
    })
}

/// Reads what [`encode_role`] wrote.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode_role(bytes: &[u8]) -> Result<RoleRecord, CodecError> {
    let wire: WireRole<'_> = decode(bytes, "role")?;
    let role = RoleRecord {
        id: RoleId::parse(&wire.id).map_err(|_| CodecError::Field("id"))?,
        tenant: Some(TenantId::parse(&wire.tenant).map_err(|_| CodecError::Field("tenant"))?),
        name: wire.name.into_owned(),
        description: wire.description.map(Cow::into_owned),
        scopes: scopes_of(&wire.scopes)?,
        created_at: UnixMillis(wire.created_at),
        epoch: wire.epoch,
    };
    check_role(&role)?;
    Ok(role)
}

fn check_role(role: &RoleRecord) -> Result<(), CodecError> {
    if role.name.is_empty() || !fits(&role.name, MAX_NAME) {
        return Err(CodecError::Field("name"));
    }
    let described = role.description.as_deref().is_none_or(|text| fits(text, MAX_DESCRIPTION));
    if described { Ok(()) } else { Err(CodecError::Field("description")) }
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
        EventSubject::Role { id } => WireEvent::Role { id: id.as_str().into() },
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
        WireEvent::Role { id } => EventSubject::Role {
            id: RoleId::parse(&id).map_err(|_| CodecError::Field("id"))?,
        },
    })
}

fn encode<T: Serialize>(wire: &T) -> Result<Vec<u8>, CodecError> {
    encode_after(Vec::new(), wire)
}

/// Version byte, then the line `head`, then the JSON.
fn encode_after<T: Serialize>(head: Vec<u8>, wire: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = head;
    bytes.insert(0, VERSION);
    serde_json::to_writer(&mut bytes, wire).map_err(|_| CodecError::Field("json"))?;
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(CodecError::TooLarge);
    }
    Ok(bytes)
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], kind: &'static str) -> Result<T, CodecError> {
    read_json(check_version(bytes)?, kind)
}

/// What follows the version byte.
fn check_version(bytes: &[u8]) -> Result<&[u8], CodecError> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(CodecError::TooLarge);
    }
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        Some((version, _)) => Err(CodecError::Version(*version)),
        None => Err(CodecError::Empty),
    }
}

fn read_json<'a, T: Deserialize<'a>>(json: &'a [u8], kind: &'static str) -> Result<T, CodecError> {
    serde_json::from_slice(json).map_err(|e| CodecError::Syntax { kind, column: e.column() })
}

fn words_of(scopes: &ScopeSet) -> Vec<Cow<'_, str>> {
    scopes.iter().map(|scope| scope.as_str().into()).collect()
}

fn scopes_of(words: &[Cow<'_, str>]) -> Result<ScopeSet, CodecError> {
    let scopes: Result<ScopeSet, _> = words.iter().map(|word| Scope::parse(word)).collect();
    scopes.map_err(|_| CodecError::Field("scopes"))
}

/// A text that people see: bounded, and without control characters that could forge a log line or
/// drive a terminal (docs/threats.md K9).
fn fits(text: &str, max: usize) -> bool {
    text.len() <= max && !text.chars().any(char::is_control)
}

fn optional<T>(field: &'static str, text: Option<Cow<'_, str>>, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, CodecError> {
    text.map(|t| parse(&t).ok_or(CodecError::Field(field))).transpose()
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
    Role { id: Cow<'a, str> },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRole<'a> {
    id: Cow<'a, str>,
    tenant: Cow<'a, str>,
    name: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    scopes: Vec<Cow<'a, str>>,
    created_at: i64,
    epoch: u64,
}

#[cfg(test)]
#[path = "codec/tests.rs"]
pub(super) mod tests;
