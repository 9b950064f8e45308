//! The mint action: first everything that can fail, then one step of the store.

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::CredentialId;
use crate::base::login::login_fingerprint;
use crate::base::principal::CredentialRecord;
use crate::decide::token::MAX_AHEAD;
use crate::issue::answer::{self, AnswerData};
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::minting::{MintInputs, MintedCredential, ParentRecord, RecordStorage, make, mint_tenant};
use crate::issue::token;
use crate::snapshot::served_route::{Mint, ParentSource, Reach, TenantSource};
use crate::store::{CredentialChange, NewRecords, RestsOn, find_any};

use super::{Engine, RecordTarget, check_in_force, done, may_do, named_tenant, refused_change, unavailable};

impl Engine {
    /// Makes credentials. Everything that can fail comes first, the rendering of the answer included. Then the store
    /// makes all changes in one atomic step.
    pub(super) async fn mint(
        &self,
        call: &ServedCall,
        tenant: &TenantSource,
        mints: &[Mint],
        cookie: Option<usize>,
    ) -> Result<Issued, IssueError> {
        let now = self.time().await?;
        let (tenant, new_tenant) = match tenant {
            TenantSource::New => (mint_tenant()?, true),
            TenantSource::Caller => (call.caller()?.record().tenant.clone(), false),
            TenantSource::CallerNamed(parameter) => (named_tenant(call, parameter)?, false),
        };
        let mut rests_on = call.rests_on();
        let mut made: Vec<MintedCredential> = Vec::with_capacity(mints.len());
        let mut bases: Vec<ParentRecord> = Vec::with_capacity(mints.len());
        for mint in mints {
            let parent = self.find_parent(call, mint, &bases, now, &mut rests_on).await?;
            let (roles, role_scopes) = self.find_roles(call, mint.roles.as_ref(), &tenant, &mut rests_on).await?;
            let ready = MintInputs {
                tenant: &tenant,
                parent: parent.as_ref(),
                password: self.hash(call, mint.password.as_ref()).await?,
                role_scopes: role_scopes.clone(),
                roles,
                pepper: self.peppers.first(),
                now,
                latest: self.clock.now().wall.plus(MAX_AHEAD),
            };
            let one = make(call, mint, ready)?;
            bases.push(ParentRecord {
                may: one.record.scopes.union(&role_scopes),
                record: one.record.clone(),
                sign_on: None,
            });
            made.push(one);
        }
        self.refuse_taken(&made).await?;
        let mut data = AnswerData {
            minted: made.iter().map(|one| answer::minted(one, now)).collect(),
            done: done("mint", made.iter().map(|one| &one.record)),
            made: stored(&made).map(|record| record.id.clone()).collect(),
            ..AnswerData::default()
        };
        if let Some(index) = cookie {
            data.cookies.push(session_cookie(call, mints, &made, index, now)?);
        }
        let issued = answer::render(call, data)?;
        let credentials = made
            .into_iter()
            .filter(|one| one.storage == RecordStorage::Stored)
            .map(|one| one.record);
        // This step runs for tokens without a record too: it compares the facts that they rest on.
        let new = NewRecords {
            tenant: new_tenant.then_some(tenant),
            credentials: credentials.collect(),
            rests_on,
            ..NewRecords::default()
        };
        self.write(call, new, now).await?;
        self.end_replaced(call, now).await;
        Ok(issued)
    }

    /// Refuses an e-mail address that has an account under an older pepper already.
    async fn refuse_taken(&self, made: &[MintedCredential]) -> Result<(), IssueError> {
        for record in made.iter().map(|one| &one.record) {
            let Some(login) = record.login() else { continue };
            let older = self.peppers.older().map(|pepper| login_fingerprint(pepper, &record.surface, login));
            if find_any(&*self.store, older).await.map_err(|error| unavailable(&error))? {
                return Err(Denial::Taken.into());
            }
        }
        Ok(())
    }

    async fn find_parent(
        &self,
        call: &ServedCall,
        mint: &Mint,
        made: &[ParentRecord],
        now: UnixMillis,
        rests_on: &mut RestsOn,
    ) -> Result<Option<ParentRecord>, IssueError> {
        match &mint.parent {
            ParentSource::None => Ok(None),
            ParentSource::Caller => {
                let caller = call.caller()?;
                Ok(Some(ParentRecord {
                    record: caller.record().clone(),
                    may: caller.principal.record_scopes().clone(),
                    sign_on: None,
                }))
            }
            ParentSource::CallersParent => {
                let facts = &call.caller()?.principal.facts;
                // What hangs on the person outlives a sign-on, as it outlives a session.
                let (parent, above) = facts.hangs_on().ok_or(Denial::NotFound)?;
                let may = call.snapshot.scope_grants.effective_scopes_of(parent, above, &facts.roles);
                Ok(Some(ParentRecord {
                    may: may.into_owned(),
                    record: parent.clone(),
                    sign_on: None,
                }))
            }
            // Such a route is no `mint`.
            ParentSource::Person => Err(Denial::Internal.into()),
            ParentSource::Minted(index) => Ok(Some(made.get(*index).ok_or(Denial::Internal)?.clone())),
            ParentSource::Record { surface, id } => {
                let found = self
                    .find_target(
                        call,
                        RecordTarget {
                            surface: *surface,
                            id,
                            reach: &Reach::Tenant,
                        },
                    )
                    .await?;
                check_in_force(&found, now)?;
                rests_on.add(RestsOn::found(&found));
                Ok(Some(ParentRecord {
                    may: may_do(call, &found),
                    record: found.credential,
                    sign_on: None,
                }))
            }
        }
    }

    /// Revokes new records because the hook could not tell its service about them. Nobody has received their secrets.
    pub(super) async fn end_made(&self, made: &[CredentialId]) -> Result<(), IssueError> {
        let now = self.time().await?;
        let new = NewRecords {
            changes: made.iter().map(|id| (id.clone(), CredentialChange::Revoke)).collect(),
            ..NewRecords::default()
        };
        self.store.create(new, now).await.map(drop).map_err(refused_change)
    }

    /// Revokes the session whose cookie was replaced. The new session exists already. If the store fails now, the old
    /// session lives until it expires.
    pub(super) async fn end_replaced(&self, call: &ServedCall, now: UnixMillis) {
        if let Some(id) = &call.replaced
            && let Err(error) = self.store.change_credential(id.clone(), CredentialChange::Revoke, now).await
        {
            tracing::warn!(credential = %id, %error, "a replaced session could not be ended");
        }
    }
}

/// The records that are stored.
fn stored(made: &[MintedCredential]) -> impl Iterator<Item = &CredentialRecord> {
    made.iter()
        .filter(|one| one.storage == RecordStorage::Stored)
        .map(|one| &one.record)
}

pub(super) fn session_cookie(
    call: &ServedCall,
    mints: &[Mint],
    made: &[MintedCredential],
    index: usize,
    now: UnixMillis,
) -> Result<String, Denial> {
    let (mint, made) = mints.get(index).zip(made.get(index)).ok_or(Denial::Internal)?;
    let token = made.token.as_ref().ok_or(Denial::Internal)?;
    let minting = call
        .surface(mint.surface)?
        .kind
        .session()
        .and_then(|session| session.minting.as_ref());
    let spec = minting.and_then(|minting| minting.cookie.as_ref()).ok_or(Denial::Internal)?;
    let end = made.record.expires_at.unwrap_or(token.expires_at);
    let remaining = u64::try_from(end.0.saturating_sub(now.0)).unwrap_or(0);
    Ok(token::session_cookie(
        spec,
        &token.text,
        std::time::Duration::from_millis(remaining),
    ))
}
