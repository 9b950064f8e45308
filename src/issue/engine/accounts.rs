//! The actions for people: log out, change a password.

use zeroize::Zeroizing;

use crate::base::denial::Denial;
use crate::base::login::login_fingerprint;
use crate::base::principal::CredentialRecord;
use crate::base::scope::ScopeSet;
use crate::decide::surface::{Surface, SurfaceIndex};
use crate::issue::answer::{self, AnswerData};
use crate::issue::call::{AdmittedCaller, IssueError, Issued, ServedCall};
use crate::issue::fields::FieldRule;
use crate::issue::narrow::check_scopes;
use crate::issue::password::Requester;
use crate::issue::throttle::AttemptKind;
use crate::issue::token;
use crate::snapshot::served_route::{Extent, Sessions, ValueSource};
use crate::store::CredentialChange;

use super::{Engine, done, refused_hash, unavailable};

/// A change of an account's password, as its route configures it.
pub(super) struct PasswordChange<'c> {
    /// The account surface.
    pub(super) surface: SurfaceIndex,
    /// The body field with the present password. `None` where the caller proved the password in this very request.
    pub(super) current: Option<&'c str>,
    /// The body field with the new password.
    pub(super) new: &'c str,
    pub(super) sessions: Sessions,
    /// Scopes that the account may hold although the caller lacks them.
    pub(super) grants: &'c ScopeSet,
}

impl Engine {
    /// Ends the session of the caller, or every session of its parent, and removes the cookie.
    pub(super) async fn log_out(&self, call: &ServedCall, extent: Extent) -> Result<Issued, IssueError> {
        let now = self.time().await?;
        let caller = call.caller()?;
        let surface = call.surface(caller.surface)?;
        // The person, also for a session that hangs on a sign-on.
        let hangs_on = caller.principal.facts.hangs_on().map(|(record, _)| record);
        let has_records = surface.has_records();
        if caller.record().is_of_tenant() {
            // A token of another issuer cannot be ended here, and no log-out ends a tenant.
            return Err(Denial::Internal.into());
        }
        let (record, change) = match (extent, has_records) {
            // A token without a record of its own cannot be ended alone. Such a route does not load.
            (Extent::This, false) => return Err(Denial::Internal.into()),
            (Extent::This, true) => (caller.record(), CredentialChange::Revoke),
            (Extent::Everywhere, false) => (caller.record(), CredentialChange::EndIssued),
            (Extent::Everywhere, true) => (hangs_on.ok_or(Denial::Internal)?, CredentialChange::EndIssued),
        };
        let data = AnswerData {
            cookies: removed_cookie(surface),
            done: done("log_out", std::iter::once(record)),
            ..AnswerData::default()
        };
        let issued = answer::render(call, data)?;
        let mut changes = vec![(record.id.clone(), change)];
        if extent == Extent::Everywhere && has_records {
            // The watermark has ended this session already. Revoking its record lets lists show when.
            changes.push((caller.record().id.clone(), CredentialChange::Revoke));
        }
        self.change(call, changes, call.rests_on(), now).await?;
        Ok(issued)
    }

    /// Changes the password of the caller's account. The present password is read from the store and not from the
    /// cache, since it may have changed a moment ago.
    pub(super) async fn set_password(&self, call: &ServedCall, change: &PasswordChange<'_>) -> Result<Issued, IssueError> {
        let PasswordChange {
            surface,
            current,
            new,
            sessions,
            grants,
        } = *change;
        let caller = call.caller()?;
        let (account, above) = find_account(caller, call.surface(surface)?).ok_or(Denial::NotFound)?;
        let may = call
            .snapshot
            .scope_grants
            .effective_scopes_of(account, above, &caller.principal.facts.roles);
        check_scopes(&may, caller.scopes(), grants)?;
        match current {
            Some(field) => self.prove_password(call, account, field).await?,
            // Without such a field the caller has proven the password by logging in with this request.
            None if caller.surface == surface => {}
            None => return Err(Denial::Internal.into()),
        }
        let Some(password) = call.body.secret(new) else {
            return Err(call.refuse(&ValueSource::Body(new.to_owned()), FieldRule::Required, Denial::Internal));
        };
        let hash = self.hash_new(call, new, password).await?;
        let data = AnswerData {
            cookies: match sessions {
                Sessions::Ended => removed_cookie(call.surface(caller.surface)?),
                Sessions::Kept => Vec::new(),
            },
            done: done("set_password", std::iter::once(account)),
            ..AnswerData::default()
        };
        let issued = answer::render(call, data)?;
        let now = self.time().await?;
        let mut changes = vec![(account.id.clone(), CredentialChange::SetPassword(hash))];
        if sessions == Sessions::Ended {
            changes.push((account.id.clone(), CredentialChange::EndIssued));
        }
        self.change(call, changes, call.rests_on(), now).await?;
        Ok(issued)
    }

    async fn prove_password(&self, call: &ServedCall, account: &CredentialRecord, field: &str) -> Result<(), IssueError> {
        let source = ValueSource::Body(field.to_owned());
        let Some(password) = call.body.secret(field) else {
            return Err(call.refuse(&source, FieldRule::Required, Denial::Internal));
        };
        // Counted under the same key as log-ins. So an account that was made under an older pepper has no second
        // count.
        let counted = match account.login() {
            Some(login) => login_fingerprint(self.peppers.first(), &account.surface, login),
            None => account.fingerprint,
        };
        let throttle = self.throttle();
        let attempt = throttle.attempt(AttemptKind::Session, counted, call.address, self.clock.now().boot)?;
        match self.check_password(call, account, field, password).await {
            Ok(true) => throttle.succeed(attempt, self.clock.now().boot),
            Ok(false) => return Err(call.refuse(&source, FieldRule::OneOf, Denial::WrongSecret)),
            Err(stop) => {
                throttle.withdraw(attempt, self.clock.now().boot);
                return Err(stop);
            }
        }
        Ok(())
    }

    /// Whether a password is that of the account. The store is asked only after a permit to hash was acquired, so a
    /// refused caller costs the store nothing.
    async fn check_password(
        &self,
        call: &ServedCall,
        account: &CredentialRecord,
        field: &str,
        password: Zeroizing<String>,
    ) -> Result<bool, IssueError> {
        let refused = |error| refused_hash(error, call, field);
        let permit = self.passwords.acquire(Requester::Known, call.address).await.map_err(refused)?;
        let found = self.store.find_credential(account.id.clone()).await;
        let hash = found.map_err(|error| unavailable(&error))?.as_ref().and_then(password_of);
        permit.verify(hash, password).await.map_err(refused)
    }
}

/// The password hash of an account as hashing takes it.
pub(super) fn password_of(record: &CredentialRecord) -> Option<Zeroizing<String>> {
    let hash = record.extras.as_ref()?.password.as_ref()?;
    Some(Zeroizing::new(hash.expose().to_owned()))
}

/// The account that the caller is, or the nearest account above it, with the records above that account. A link stands above an
/// account in the chain of one session and bounds that session; it does not bound what the account itself may do.
fn find_account<'c>(caller: &'c AdmittedCaller, surface: &Surface) -> Option<(&'c CredentialRecord, &'c [CredentialRecord])> {
    let facts = &caller.principal.facts;
    if facts.credential.surface == surface.name {
        return Some((&facts.credential, &facts.ancestors));
    }
    let at = facts.ancestors.iter().position(|record| record.surface == surface.name)?;
    let (account, above) = facts.ancestors.get(at..)?.split_first()?;
    let is_linked = above.first().is_some_and(CredentialRecord::is_link);
    Some((account, if is_linked { &[] } else { above }))
}

fn removed_cookie(surface: &Surface) -> Vec<String> {
    let minting = surface.kind.session().and_then(|session| session.minting.as_ref());
    let spec = minting.and_then(|minting| minting.cookie.as_ref());
    spec.map(token::removed_cookie).into_iter().collect()
}
