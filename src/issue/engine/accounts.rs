//! What issuers do for people: log out, change a password.

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::CredentialId;
use crate::base::principal::{CredentialRecord, PasswordHash};
use crate::decide::surface::{Surface, SurfaceIndex};
use crate::issue::answer::{self, Told};
use crate::issue::call::{Call, Caller, Issued, Stop};
use crate::issue::cookie;
use crate::issue::fields::Rule;
use crate::issue::spec::{Extent, Sessions, Source};
use crate::store::{CredentialChange, NewRecords};

use super::{Engine, done, refused_change, refused_hash, unavailable};

impl Engine {
    /// Ends the caller's session, or every session of what it hangs on, and removes its cookie.
    pub(super) async fn log_out(&self, call: &Call, extent: Extent) -> Result<Issued, Stop> {
        let now = self.now();
        let caller = call.caller()?;
        let surface = call.surface(caller.surface)?;
        let hangs_on = caller.principal.facts.ancestors.first();
        let has_records = surface.has_records();
        if caller.record().is_of_tenant() {
            // A token of another issuer is not ours to end, and no log-out ends a tenant.
            return Err(Denial::Internal.into());
        }
        let (record, change) = match (extent, has_records) {
            // A token without a record cannot be ended by itself; such a route does not load.
            (Extent::This, false) => return Err(Denial::Internal.into()),
            (Extent::This, true) => (caller.record(), CredentialChange::Revoke),
            (Extent::Everywhere, false) => (caller.record(), CredentialChange::ValidAfter(now)),
            (Extent::Everywhere, true) => (hangs_on.ok_or(Denial::Internal)?, CredentialChange::ValidAfter(now)),
        };
        let told = Told {
            cookies: removed_cookie(surface),
            done: done("log_out", std::iter::once(record)),
            ..Told::default()
        };
        let issued = answer::render(call, told)?;
        let mut changes = vec![(record.id.clone(), change)];
        if extent == Extent::Everywhere && has_records {
            // The caller's own session may be of this very millisecond.
            changes.push((caller.record().id.clone(), CredentialChange::Revoke));
        }
        self.change(changes, now).await?;
        Ok(issued)
    }

    /// Changes the password of the account the caller is or hangs on. The present one is asked of the
    /// store, not of what is remembered: it may have been changed a moment ago.
    pub(super) async fn set_password(
        &self,
        call: &Call,
        surface: SurfaceIndex,
        fields: (Option<&str>, &str),
        sessions: Sessions,
    ) -> Result<Issued, Stop> {
        let (current, new) = fields;
        let caller = call.caller()?;
        let account = find_account(caller, call.surface(surface)?).ok_or(Denial::NotFound)?;
        match current {
            Some(field) => self.prove_password(call, account, field).await?,
            // Without a field the caller has just proven it by logging in with this request.
            None if caller.surface == surface => {}
            None => return Err(Denial::Internal.into()),
        }
        let Some(password) = call.body.secret(new) else {
            return Err(call.refuse(&Source::Body(new.to_owned()), Rule::Required, Denial::Internal));
        };
        let hash = self
            .passwords()
            .hash(password)
            .await
            .map_err(|error| refused_hash(error, call, new))?;
        let hash = PasswordHash::parse(&hash).ok_or(Denial::Internal)?;
        let told = Told {
            cookies: match sessions {
                Sessions::Ended => removed_cookie(call.surface(caller.surface)?),
                Sessions::Kept => Vec::new(),
            },
            done: done("set_password", std::iter::once(account)),
            ..Told::default()
        };
        let issued = answer::render(call, told)?;
        let now = self.now();
        let mut changes = vec![(account.id.clone(), CredentialChange::SetPassword(hash))];
        if sessions == Sessions::Ended {
            changes.push((account.id.clone(), CredentialChange::ValidAfter(now)));
        }
        self.change(changes, now).await?;
        Ok(issued)
    }

    /// Makes all of these changes in one step, or none.
    async fn change(&self, changes: Vec<(CredentialId, CredentialChange)>, now: UnixMillis) -> Result<(), Stop> {
        let new = NewRecords {
            changes,
            ..NewRecords::default()
        };
        self.store.create(new, now).await.map(|_| ()).map_err(refused_change)
    }

    async fn prove_password(&self, call: &Call, account: &CredentialRecord, field: &str) -> Result<(), Stop> {
        let source = Source::Body(field.to_owned());
        let Some(password) = call.body.secret(field) else {
            return Err(call.refuse(&source, Rule::Required, Denial::Internal));
        };
        let clock = self.clock.now().boot;
        let attempt = self.throttle().attempt(account.fingerprint, call.address, clock);
        attempt.map_err(|too_many| Stop {
            retry_after: Some(too_many.retry_after),
            ..Stop::from(Denial::RateLimited)
        })?;
        let found = self
            .store
            .find_credential(account.id.clone())
            .await
            .map_err(|error| unavailable(&error))?;
        let hash = found.as_ref().and_then(password_of);
        let right = self.passwords().verify(hash, password).await;
        if right.map_err(|error| refused_hash(error, call, field))? {
            self.throttle().forgive(account.fingerprint, call.address);
            Ok(())
        } else {
            Err(call.refuse(&source, Rule::OneOf, Denial::WrongSecret))
        }
    }
}

/// An account's hash, as the places for hashing take it.
pub(super) fn password_of(record: &CredentialRecord) -> Option<zeroize::Zeroizing<String>> {
    let hash = record.extras.as_ref()?.password.as_ref()?;
    Some(zeroize::Zeroizing::new(hash.expose().to_owned()))
}

/// The account itself, or the nearest one the caller hangs on.
fn find_account<'c>(caller: &'c Caller, surface: &Surface) -> Option<&'c CredentialRecord> {
    let facts = &caller.principal.facts;
    std::iter::once(&facts.credential)
        .chain(&facts.ancestors)
        .find(|record| record.surface == surface.name)
}

fn removed_cookie(surface: &Surface) -> Vec<String> {
    let minting = surface.kind.session().and_then(|session| session.minting.as_ref());
    let spec = minting.and_then(|minting| minting.cookie.as_ref());
    spec.map(cookie::remove).into_iter().collect()
}
