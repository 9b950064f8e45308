//! Credential records as bytes.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{Fingerprint, PepperMark};
use crate::base::ids::{CredentialId, RoleId, Subject, SurfaceName, TenantId};
use crate::base::principal::{
    ClaimValue, CredentialRecord, CredentialState, Extras, IdleTimeout, MAX_ROLES, MAX_SETTINGS, MAX_SIGN_ON_SECRETS, Parent, PasswordHash,
    RecordClaims,
};
use crate::base::scope::Mode;

use super::{CodecError, MAX_DESCRIPTION, MAX_NAME, check_version, encode_after, fits, optional, read_json, scopes_of, words_of};

/// Longest visible beginning of a key, in bytes; configured prefixes are far shorter.
const MAX_PREFIX: usize = 64;

/// Longest visible end, in bytes: four characters of at most four bytes.
const MAX_LAST4: usize = 16;

/// Longest log-in name: an e-mail address has at most 254 characters (RFC 5321, section 4.5.3.1.3).
const MAX_LOGIN: usize = 254;

/// Bytes of a credential record.
///
/// # Errors
/// [`CodecError`] when the record has a value that could not be read back.
pub fn encode_credential(record: &CredentialRecord) -> Result<Vec<u8>, CodecError> {
    check_texts(record)?;
    let wire = WireCredential {
        id: record.id.as_str().into(),
        surface: record.surface.as_str().into(),
        tenant: record.tenant.as_str().into(),
        subject: record.subject.as_ref().map(|s| s.as_str().into()),
        mode: record.mode.map(|m| m.as_str().into()),
        scopes: words_of(&record.scopes),
        state: match record.state {
            CredentialState::Active => WireState::Active,
            CredentialState::Disabled => WireState::Disabled,
            CredentialState::Revoked { at } => WireState::Revoked { at: at.0 },
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
        extras: record.extras.as_deref().map(wire_extras),
        pepper: record.pepper.map(|mark| mark.to_string().into()),
    };
    encode_after(head_of(record), &wire)
}

/// Reads what [`encode_credential`] wrote.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode_credential(bytes: &[u8]) -> Result<CredentialRecord, CodecError> {
    let rest = check_version(bytes)?;
    let end = rest.iter().position(|b| *b == b'\n').ok_or(CodecError::Field("head"))?;
    let (head, json) = rest.split_at(end + 1);
    let wire: WireCredential<'_> = read_json(json, "credential")?;
    let record = CredentialRecord {
        id: CredentialId::parse(&wire.id).map_err(|_| CodecError::Field("id"))?,
        surface: SurfaceName::parse(&wire.surface).map_err(|_| CodecError::Field("surface"))?,
        tenant: TenantId::parse(&wire.tenant).map_err(|_| CodecError::Field("tenant"))?,
        subject: optional("subject", wire.subject, |s| Subject::parse(s).ok())?,
        mode: optional("mode", wire.mode, Mode::parse)?,
        scopes: scopes_of(&wire.scopes)?,
        state: match wire.state {
            WireState::Active => CredentialState::Active,
            WireState::Disabled => CredentialState::Disabled,
            WireState::Revoked { at } => CredentialState::Revoked { at: UnixMillis(at) },
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
        extras: wire.extras.map(extras_of).transpose()?.and_then(Extras::boxed),
        pepper: optional("pepper", wire.pepper, PepperMark::parse)?,
    };
    check_texts(&record)?;
    // What scripts follow and what the record says must be the same.
    if head_of(&record) != head {
        return Err(CodecError::Field("head"));
    }
    Ok(record)
}

/// Parent and roles as scripts of the shared store read them: their alphabet has no space.
fn head_of(record: &CredentialRecord) -> Vec<u8> {
    let mut head = record.parent().map_or("-", |parent| parent.id.as_str()).to_owned();
    for role in record.roles() {
        head.push(' ');
        head.push_str(role.as_str());
    }
    head.push('\n');
    head.into_bytes()
}

fn wire_extras(extras: &Extras) -> WireExtras<'_> {
    WireExtras {
        parent: extras.parent.as_ref().map(|parent| WireParent {
            surface: parent.surface.as_str().into(),
            id: parent.id.as_str().into(),
        }),
        roles: extras.roles.iter().map(|role| role.as_str().into()).collect(),
        claims: extras
            .claims
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    ClaimValue::Text(text) => WireClaim::Text(text.as_str().into()),
                    ClaimValue::List(words) => WireClaim::List(words.iter().map(|word| word.as_str().into()).collect()),
                };
                (name.into(), value)
            })
            .collect(),
        idle: extras.idle.map(|idle| WireIdle {
            timeout: u64::try_from(idle.timeout.as_millis()).unwrap_or(u64::MAX),
            last_used: idle.last_used.0,
        }),
        login: extras.login.as_deref().map(Cow::from),
        password: extras.password.as_ref().map(|hash| hash.expose().into()),
        granted: extras.granted.as_ref().map(words_of),
        description: extras.description.as_deref().map(Cow::from),
        settings: extras.settings.as_deref().map(Cow::from),
    }
}

fn extras_of(wire: WireExtras<'_>) -> Result<Extras, CodecError> {
    let roles: Result<Vec<RoleId>, _> = wire.roles.iter().map(|role| RoleId::parse(role)).collect();
    let claims = wire.claims.into_iter().map(|(name, value)| {
        let value = match value {
            WireClaim::Text(text) => ClaimValue::Text(text.into_owned()),
            WireClaim::List(words) => ClaimValue::List(words.into_iter().map(Cow::into_owned).collect()),
        };
        (name.into_owned(), value)
    });
    Ok(Extras {
        parent: wire
            .parent
            .map(|parent| {
                Ok(Parent {
                    surface: SurfaceName::parse(&parent.surface).map_err(|_| CodecError::Field("parent"))?,
                    id: CredentialId::parse(&parent.id).map_err(|_| CodecError::Field("parent"))?,
                })
            })
            .transpose()?,
        roles: roles.map_err(|_| CodecError::Field("roles"))?,
        claims: RecordClaims::new(claims).map_err(|_| CodecError::Field("claims"))?,
        idle: wire.idle.map(|idle| IdleTimeout {
            timeout: Duration::from_millis(idle.timeout),
            last_used: UnixMillis(idle.last_used),
        }),
        login: wire.login.map(Cow::into_owned),
        password: optional("password", wire.password, PasswordHash::parse)?,
        granted: wire.granted.as_deref().map(scopes_of).transpose()?,
        description: wire.description.map(Cow::into_owned),
        settings: wire.settings.map(Arc::from),
    })
}

/// Texts that people see, and lists: bounded.
fn check_texts(record: &CredentialRecord) -> Result<(), CodecError> {
    if !fits(&record.prefix, MAX_PREFIX) {
        return Err(CodecError::Field("prefix"));
    }
    if !fits(&record.last4, MAX_LAST4) {
        return Err(CodecError::Field("last4"));
    }
    if !record.name.as_deref().is_none_or(|name| fits(name, MAX_NAME)) {
        return Err(CodecError::Field("name"));
    }
    if !record.login().is_none_or(|login| fits(login, MAX_LOGIN)) {
        return Err(CodecError::Field("login"));
    }
    if !record.description().is_none_or(|text| fits(text, MAX_DESCRIPTION)) {
        return Err(CodecError::Field("description"));
    }
    if record.roles().len() > MAX_ROLES {
        return Err(CodecError::Field("roles"));
    }
    // JSON without control characters, on records that hold settings, on sign-ons, and on no other.
    let fits_surface = match record.settings() {
        Some(text) if record.is_sign_on() => fits(text, MAX_SIGN_ON_SECRETS),
        Some(text) => record.is_provider_settings() && fits(text, MAX_SETTINGS),
        None => !record.is_provider_settings(),
    };
    if !fits_surface {
        return Err(CodecError::Field("settings"));
    }
    Ok(())
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extras: Option<WireExtras<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pepper: Option<Cow<'a, str>>,
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
struct WireExtras<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<WireParent<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<Cow<'a, str>>,
    // Pairs and not an object: a name that is there twice must be seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claims: Vec<(Cow<'a, str>, WireClaim<'a>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle: Option<WireIdle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<Cow<'a, str>>,
    // Absent on records made before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    granted: Option<Vec<Cow<'a, str>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireParent<'a> {
    surface: Cow<'a, str>,
    id: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum WireClaim<'a> {
    Text(Cow<'a, str>),
    List(Vec<Cow<'a, str>>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireIdle {
    timeout: u64,
    last_used: i64,
}
