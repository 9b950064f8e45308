//! Makes credentials for served routes and for operators: a record, its secrets, its token. Pure but for the
//! randomness it needs.

use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::fingerprint::{CredentialPart, Fingerprint, Pepper, Peppers};
use crate::base::ids::{RoleId, Subject, TenantId};
use crate::base::key::{GeneratedKey, IdKind, MAX_KEY_LEN, NoRandomness, mint_id, mint_tenant_id};
use crate::base::login::login_fingerprint;
use crate::base::principal::{ClaimValue, CredentialRecord, CredentialState, Extras, IdleTimeout, Parent, PasswordHash, RecordClaims};
use crate::base::scope::{Mode, Scope, ScopeSet};
use crate::decide::scope_grants::mode_reaches;
use crate::decide::surface::{DEFAULT_RANDOM, KeyForm, KeyPrefix, Recipe, SessionRecord, SessionSurface, Surface};

use crate::store::codec::MAX_DESCRIPTION;

use super::call::{IssueError, ServedCall};
use super::fields::FieldRule;
use super::narrow::{check_scopes, end_of, resolve_mode};
use super::token::{SignedToken, TokenFacts, sign};
use crate::snapshot::served_route::{Mint, MintLifetime, ModeSource, ScopeSource, ValueSource};

/// Longest name of a record for people, in bytes: one line of a list.
pub const MAX_NAME: usize = 200;

/// A new credential that is not stored yet.
#[derive(Debug)]
pub struct MintedCredential {
    /// The record. A token without a record has here what its record would say, under the id of its parent.
    pub record: CredentialRecord,
    /// Whether the record is to be stored.
    pub storage: RecordStorage,
    /// A key, or the publishable half of a pair.
    pub key: Option<GeneratedKey>,
    pub secret: Option<GeneratedKey>,
    pub token: Option<SignedToken>,
}

/// What a new record hangs on.
#[derive(Debug, Clone)]
pub struct ParentRecord {
    pub record: CredentialRecord,
    /// The scopes that the parent may use now.
    pub may: ScopeSet,
    /// The sign-on of the person `record`, if the new record hangs on it. The new record ends with both, and says of itself
    /// what it says of a person's record.
    pub sign_on: Option<CredentialRecord>,
}

/// Whether the record of a new credential is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordStorage {
    Stored,
    /// Nowhere: the token hangs on the record of its parent.
    TokenAlone,
}

/// What minting needs and the engine had to wait for.
#[derive(Debug)]
pub struct MintInputs<'r> {
    pub tenant: &'r TenantId,
    pub parent: Option<&'r ParentRecord>,
    /// The hashed password of an account.
    pub password: Option<PasswordHash>,
    pub roles: Vec<RoleId>,
    pub role_scopes: ScopeSet,
    pub pepper: &'r Pepper,
    pub now: UnixMillis,
    /// The latest `iat` that gateways accept in a token now.
    pub latest: UnixMillis,
}

/// Makes the credential of one `mint`.
///
/// # Errors
/// [`IssueError`]: [`Denial::InvalidFields`] for a value of the body that does not fit its purpose,
/// [`Denial::InsufficientScope`] for more than the caller may give, [`Denial::Internal`] for a configuration that
/// should not have loaded or a system without randomness.
pub fn make(call: &ServedCall, mint: &Mint, ready: MintInputs<'_>) -> Result<MintedCredential, IssueError> {
    let surface = call.surface(mint.surface)?;
    let parent = ready.parent.map(|base| &base.record);
    let mode = find_mode(call, mint, surface, parent)?;
    let scopes = find_scopes(call, mint, parent)?;
    let empty = ScopeSet::default();
    let callers_scopes = call.caller.as_ref().map_or(&empty, |caller| caller.scopes());
    for requested in [&scopes, &ready.role_scopes] {
        check_scopes(requested, callers_scopes, &mint.grants)?;
    }
    if let Some(base) = ready.parent {
        // The new record could never use more than its parent may do, so it is not given more.
        check_scopes(&scopes, &base.may, &mint.grants)?;
        check_scopes(&ready.role_scopes, &base.may, &empty)?;
    }
    let blank = blank(surface, ready.tenant.clone(), ready.now)?;
    let text = |source: &Option<ValueSource>| source.as_ref().and_then(|source| call.find_text(source, parent));
    let login = text(&mint.login);
    let fingerprint = login
        .as_ref()
        .map_or(blank.fingerprint, |login| login_fingerprint(ready.pepper, &surface.name, login));
    let sign_on = ready.parent.and_then(|base| base.sign_on.as_ref());
    let extras = Extras {
        parent: sign_on.or(parent).map(|parent| Parent {
            surface: parent.surface.clone(),
            id: parent.id.clone(),
        }),
        roles: ready.roles,
        account: None,
        link: None,
        claims: find_claims(call, mint, parent)?,
        idle: mint.idle.map(|timeout| IdleTimeout {
            timeout,
            last_used: ready.now,
        }),
        login,
        password: ready.password,
        granted: parent.map(|_| scopes.intersection(&mint.grants)),
        description: find_line(call, mint.description.as_ref(), parent, MAX_DESCRIPTION)?,
        settings: None,
    };
    let lifetime = find_lifetime(call, &mint.lifetime)?.or_else(|| token_lifetime(surface));
    let record = CredentialRecord {
        fingerprint,
        subject: find_subject(call, mint, parent)?,
        mode,
        scopes,
        name: find_line(call, mint.name.as_ref(), parent, MAX_NAME)?,
        expires_at: end_of(
            ready.now,
            lifetime,
            parent.into_iter().chain(sign_on).filter_map(|above| above.expires_at).min(),
        ),
        extras: extras.boxed(),
        ..blank
    };
    Ok(finish(surface, record, parent, ready.latest, ready.pepper)?)
}

/// Why a credential cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// The system has no randomness to give.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// Others make the credentials of this surface.
    #[error("credentials of this surface are made elsewhere")]
    Elsewhere,
    /// The surface has no prefix for this mode.
    #[error("the surface has no prefix for this mode")]
    NoPrefix,
    /// The surface is pinned to another mode.
    #[error("the surface takes no credential of this mode any more")]
    NoMode,
    /// A token of this surface cannot hold what was asked for.
    #[error("no token of this surface can be signed so")]
    NoToken,
}

impl From<MakeError> for Denial {
    fn from(error: MakeError) -> Self {
        match error {
            // A record that its surface no longer takes looks as if it did not exist.
            MakeError::NoMode => Self::NotFound,
            MakeError::NoRandomness(_) | MakeError::Elsewhere | MakeError::NoPrefix | MakeError::NoToken => {
                tracing::error!(%error, "nothing can be made");
                Self::Internal
            }
        }
    }
}

impl From<MakeError> for IssueError {
    fn from(error: MakeError) -> Self {
        Denial::from(error).into()
    }
}

/// The kind of the ids of this surface's records; `None` if others make its tokens.
#[must_use]
pub fn id_kind(surface: &Surface) -> Option<IdKind> {
    match surface.kind.recipe() {
        Recipe::Keys { id, .. } => Some(id),
        Recipe::Account => Some(IdKind::Account),
        Recipe::Session(_) => Some(IdKind::Session),
        Recipe::Signing(_) => Some(IdKind::Signing),
        Recipe::Elsewhere => None,
    }
}

/// A new record of this surface with an id and nothing else: no secret, no scope, no end. Only its id finds it until
/// [`finish`] adds the secrets.
///
/// # Errors
/// [`MakeError`].
pub fn blank(surface: &Surface, tenant: TenantId, now: UnixMillis) -> Result<CredentialRecord, MakeError> {
    let kind = id_kind(surface).ok_or(MakeError::Elsewhere)?;
    let id = mint_id(kind, now)?;
    Ok(CredentialRecord {
        fingerprint: Fingerprint::of_id(&surface.name, &id),
        id,
        surface: surface.name.clone(),
        tenant,
        subject: None,
        mode: None,
        scopes: ScopeSet::default(),
        state: CredentialState::Active,
        secret_fingerprint: None,
        prefix: String::new(),
        last4: String::new(),
        name: None,
        created_at: now,
        not_before: None,
        expires_at: None,
        valid_after: None,
        epoch: 0,
        pepper: None,
        extras: None,
    })
}

/// Makes a credential with the rights of `old`, and with an id and secrets of its own.
///
/// # Errors
/// [`MakeError`].
pub fn successor(surface: &Surface, old: &CredentialRecord, now: UnixMillis, pepper: &Pepper) -> Result<MintedCredential, MakeError> {
    if surface.mode.is_some_and(|pinned| old.mode != Some(pinned)) {
        return Err(MakeError::NoMode);
    }
    let blank = blank(surface, old.tenant.clone(), now)?;
    let mut record = CredentialRecord {
        subject: old.subject.clone(),
        mode: old.mode,
        scopes: old.scopes.clone(),
        name: old.name.clone(),
        not_before: old.not_before,
        expires_at: old.expires_at,
        extras: old.extras.clone(),
        ..blank
    };
    if let Some(idle) = record.extras.as_mut().and_then(|extras| extras.idle.as_mut()) {
        idle.last_used = now;
    }
    let at = record.created_at;
    finish(surface, record, None, at, pepper)
}

/// Gives a record the fingerprints of imported secrets, of which only the SHA-256 is known.
pub fn adopt(record: &mut CredentialRecord, key: &[u8; 32], secret: Option<&[u8; 32]>, pepper: &Pepper) {
    record.fingerprint = pepper.fingerprint_of_sha256(&record.surface, CredentialPart::Key, key);
    record.secret_fingerprint = secret.map(|hash| pepper.fingerprint_of_sha256(&record.surface, CredentialPart::Secret, hash));
}

/// Gives a record its secrets, or signs its token, whose `iat` is at most `latest`.
///
/// # Errors
/// [`MakeError`].
pub fn finish(
    surface: &Surface,
    mut record: CredentialRecord,
    parent: Option<&CredentialRecord>,
    latest: UnixMillis,
    pepper: &Pepper,
) -> Result<MintedCredential, MakeError> {
    let mut made = MintedCredential {
        storage: RecordStorage::Stored,
        key: None,
        secret: None,
        token: None,
        record: record.clone(),
    };
    match surface.kind.recipe() {
        Recipe::Account => {}
        Recipe::Signing(prefixes) => {
            let secret = derive_secret(prefixes, &record, pepper).ok_or(MakeError::NoPrefix)?;
            record.prefix = secret.prefix().to_owned();
            record.last4 = secret.last4().to_owned();
            // The fingerprint tells later which pepper the secret was derived from. No look-up uses it.
            record.secret_fingerprint = Some(pepper.fingerprint(&surface.name, CredentialPart::Secret, secret.expose().as_bytes()));
            made.key = Some(secret);
            made.record = record;
            return Ok(made);
        }
        Recipe::Elsewhere => return Err(MakeError::Elsewhere),
        Recipe::Keys { key, secret, .. } => {
            made.key = Some(mint_key(key, record.mode, pepper)?);
            made.secret = secret.map(|secret| mint_key(secret, record.mode, pepper)).transpose()?;
        }
        Recipe::Session(SessionSurface { rules, record: of, .. }) => match of {
            SessionRecord::Own => {
                let lifetime = token_lifetime(surface).ok_or(MakeError::NoToken)?;
                made.token = Some(signed(sign(rules, &TokenFacts::own(&record, parent, lifetime, latest)))?);
            }
            SessionRecord::Sub(wanted) => {
                let parent = parent.filter(|parent| parent.surface == *wanted).ok_or(MakeError::NoToken)?;
                made.token = Some(signed(
                    TokenFacts::alone(&record, parent, latest).and_then(|facts| sign(rules, &facts)),
                )?);
                made.storage = RecordStorage::TokenAlone;
                record.id = parent.id.clone();
            }
        },
    }
    if let Some(key) = &made.key {
        record.prefix = key.prefix().to_owned();
        record.last4 = key.last4().to_owned();
        record.fingerprint = pepper.fingerprint(&surface.name, CredentialPart::Key, key.expose().as_bytes());
    }
    if let Some(secret) = &made.secret {
        record.secret_fingerprint = Some(pepper.fingerprint(&surface.name, CredentialPart::Secret, secret.expose().as_bytes()));
    }
    made.record = record;
    Ok(made)
}

/// Derives the signing secret of a record from a pepper; `None` if the surface has no prefix for the record's mode.
fn derive_secret(prefixes: &[KeyPrefix], record: &CredentialRecord, pepper: &Pepper) -> Option<GeneratedKey> {
    let form = KeyForm {
        prefixes,
        random: DEFAULT_RANDOM,
        longest: MAX_KEY_LEN,
    };
    let prefix = form.prefix(record.mode)?;
    Some(GeneratedKey::derive(&prefix.text, pepper, &record.surface, &record.id))
}

/// Derives the signing secret of a record whose pepper is among `peppers`; `None` for any other record.
#[must_use]
pub fn signing_secret(surface: &Surface, record: &CredentialRecord, peppers: &Peppers) -> Option<GeneratedKey> {
    let Recipe::Signing(prefixes) = surface.kind.recipe() else {
        return None;
    };
    let storage = record.secret_fingerprint?;
    peppers.iter().find_map(|pepper| {
        let secret = derive_secret(prefixes, record, pepper)?;
        let fingerprint = pepper.fingerprint(&surface.name, CredentialPart::Secret, secret.expose().as_bytes());
        (fingerprint == storage).then_some(secret)
    })
}

fn mint_key(form: KeyForm<'_>, mode: Option<Mode>, pepper: &Pepper) -> Result<GeneratedKey, MakeError> {
    let prefix = form.prefix(mode).ok_or(MakeError::NoPrefix)?;
    Ok(form.mint(prefix, pepper)?)
}

/// Turns a refusal to sign into [`MakeError::NoToken`]. Whoever refused has logged the reason.
fn signed(token: Result<SignedToken, Denial>) -> Result<SignedToken, MakeError> {
    token.map_err(|_| MakeError::NoToken)
}

fn token_lifetime(surface: &Surface) -> Option<Duration> {
    let minting = surface.kind.session()?.minting.as_ref()?;
    Some(minting.lifetime)
}

fn find_mode(call: &ServedCall, mint: &Mint, surface: &Surface, parent: Option<&CredentialRecord>) -> Result<Option<Mode>, IssueError> {
    let own = call.caller.as_ref().and_then(|caller| caller.record().mode);
    let refused = |rule| match &mint.mode {
        ModeSource::From(source) => call.refuse(source, rule, Denial::InsufficientScope),
        _ => Denial::Internal.into(),
    };
    let requested = match &mint.mode {
        ModeSource::Caller => own,
        ModeSource::CallerOr(mode) => own.or(Some(*mode)),
        ModeSource::Unset => None,
        ModeSource::From(source) => match call.find_text(source, parent) {
            None => own,
            Some(word) => Some(Mode::parse(&word).ok_or_else(|| refused(FieldRule::OneOf))?),
        },
    };
    let modes: Vec<Option<Mode>> = surface
        .prefixes()
        .iter()
        .map(|p| p.mode)
        .filter(|mode| surface.mode.is_none_or(|pinned| *mode == Some(pinned)))
        .collect();
    let resolved = resolve_mode(requested, &modes).ok_or_else(|| refused(FieldRule::OneOf))?;
    let pinned = surface.mode.is_none_or(|pinned| resolved.is_none_or(|mode| mode == pinned));
    if !pinned || !mode_reaches(own, resolved) {
        return Err(refused(FieldRule::OneOf));
    }
    // A surface without prefixes that is pinned to a mode has only records of that mode.
    Ok(resolved.or(surface.mode))
}

fn find_scopes(call: &ServedCall, mint: &Mint, parent: Option<&CredentialRecord>) -> Result<ScopeSet, IssueError> {
    match &mint.scopes {
        ScopeSource::None => Ok(ScopeSet::default()),
        ScopeSource::Fixed(scopes) => Ok(scopes.clone()),
        ScopeSource::Caller => Ok(call.caller.as_ref().map(|caller| caller.scopes().clone()).unwrap_or_default()),
        ScopeSource::From(source) => {
            let words = call.find_words(source, parent);
            let scopes: Result<ScopeSet, _> = words.iter().map(|word| Scope::parse(word)).collect();
            scopes.map_err(|_| call.refuse(source, FieldRule::Format, Denial::Internal))
        }
    }
}

fn find_claims(call: &ServedCall, mint: &Mint, parent: Option<&CredentialRecord>) -> Result<RecordClaims, IssueError> {
    let mut all = Vec::new();
    for (name, source) in &mint.claims {
        let Some(value) = call.find(source, parent).map(ClaimValue::from) else {
            continue;
        };
        // Each claim is checked alone first, so that the error names its field.
        RecordClaims::new([(name.clone(), value.clone())]).map_err(|_| call.refuse(source, FieldRule::Format, Denial::Internal))?;
        all.push((name.clone(), value));
    }
    RecordClaims::new(all).map_err(|_| Denial::Internal.into())
}

fn find_subject(call: &ServedCall, mint: &Mint, parent: Option<&CredentialRecord>) -> Result<Option<Subject>, IssueError> {
    let Some(source) = &mint.subject else {
        return Ok(None);
    };
    let Some(text) = call.find_text(source, parent) else {
        return Ok(None);
    };
    let subject = Subject::parse(&text);
    subject
        .map(Some)
        .map_err(|_| call.refuse(source, FieldRule::Format, Denial::Internal))
}

/// A text for people of at most `max` bytes.
fn find_line(
    call: &ServedCall,
    source: Option<&ValueSource>,
    parent: Option<&CredentialRecord>,
    max: usize,
) -> Result<Option<String>, IssueError> {
    let Some((source, text)) = source.and_then(|source| Some((source, call.find_text(source, parent)?))) else {
        return Ok(None);
    };
    if text.len() > max {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        return Err(call.refuse(source, FieldRule::Max(max), Denial::Internal));
    }
    if text.chars().any(char::is_control) {
        return Err(call.refuse(source, FieldRule::Format, Denial::Internal));
    }
    Ok(Some(text))
}

/// The lifetime that the caller asks for, up to the longest one; otherwise the default.
fn find_lifetime(call: &ServedCall, lifetime: &MintLifetime) -> Result<Option<Duration>, IssueError> {
    let Some(source @ ValueSource::Body(field)) = &lifetime.from else {
        return Ok(lifetime.default);
    };
    let Some(seconds) = call.body.integer(field) else {
        return Ok(lifetime.default);
    };
    let longest = lifetime.max.map(|max| i64::try_from(max.as_secs()).unwrap_or(i64::MAX));
    match (u64::try_from(seconds), longest) {
        (Err(_) | Ok(0), _) => Err(call.refuse(source, FieldRule::Min(1), Denial::Internal)),
        (_, Some(longest)) if seconds > longest => Err(call.refuse(source, FieldRule::Max(longest), Denial::Internal)),
        (Ok(seconds), _) => Ok(Some(Duration::from_secs(seconds))),
    }
}

/// A new tenant id.
///
/// # Errors
/// [`Denial::Internal`] without randomness.
pub fn mint_tenant() -> Result<TenantId, Denial> {
    Ok(mint_tenant_id().map_err(MakeError::from)?)
}
