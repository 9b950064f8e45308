//! What follows from a provider's answer to a refresh token: new roles, a new refresh token, or the end of the sign-on.

use crate::base::denial::Denial;
use crate::base::principal::RoleRecord;
use crate::base::scope::ScopeSet;
use crate::issue::call::IssueError;
use crate::issue::engine::sign_on::provider::FoundProvider;
use crate::issue::engine::sign_on::roles;
use crate::issue::engine::{Engine, done, unavailable};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::oidc_providers::RefreshedLogIn;
use crate::sign_on::person::GivenRoles;
use crate::sign_on::refresh_token::{SignOnRefresh, StoredRefresh, refresh_token_fingerprint};
use crate::store::{CredentialChange, RestsOn, StoredFacts};

use super::{
    Exchange, FoundSession, MAX_ANSWER_WRITES, MAX_WRITES, RenewalVerdict, RenewedRecords, SessionRenewal, Stop, WRITE_PAUSE, follow,
};

impl Engine {
    /// Writes what the provider said. Whatever it was, a new refresh token is kept: the old one is worth nothing any more.
    pub(in crate::issue::engine) async fn settle(
        &self,
        renewal: &SessionRenewal,
        exchange: &Exchange,
        answer: Result<RefreshedLogIn, SignOnFault>,
    ) -> Result<RenewalVerdict, Stop> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault @ SignOnFault::RefreshRefused(_)) => return self.end_by_renewal(renewal, exchange, &fault).await,
            Err(fault) => return Err(Stop::Fault(fault)),
        };
        for _ in 0..MAX_ANSWER_WRITES {
            match self.write_answer(renewal, exchange, &answer).await {
                Err(Stop::Other(error)) if error.stale => {}
                // With the new refresh token unwritten the person would have to sign on again.
                Err(Stop::Other(error)) if error.denial == Denial::StoreUnavailable => tokio::time::sleep(WRITE_PAUSE).await,
                other => return other,
            }
        }
        Ok(RenewalVerdict::Keep)
    }

    async fn write_answer(&self, renewal: &SessionRenewal, exchange: &Exchange, answer: &RefreshedLogIn) -> Result<RenewalVerdict, Stop> {
        let Some((found, mut rests_on)) = self.find_own_exchange(renewal, exchange).await? else {
            return Ok(RenewalVerdict::Keep);
        };
        let now = self.time().await?;
        let token = SignOnRefresh {
            token: answer.token.clone().unwrap_or_else(|| exchange.refresh.token.clone()),
            origin: exchange.refresh.origin.clone(),
        };
        // Sealed anew under the first pepper, also if the token stays the same.
        let resealed = |confirmed_at, asked_at| {
            let sealed = StoredRefresh::seal(&renewal.sign_on, &token, confirmed_at, self.peppers.first());
            let stored = sealed.map_err(Stop::Fault)?.asked(asked_at);
            Ok::<_, Stop>((found.credential.id.clone(), CredentialChange::SetSettings(stored.to_text())))
        };
        let confirmed_before = exchange.stored.confirmed_at;
        // What the answer was asked and read by must be so still. If it is not, the next try is made by what is true then.
        let provider = match self.find_provider(&renewal.provider, now).await {
            Ok(provider) if provider.is_unchanged_since(&exchange.provider) => provider,
            _ => {
                self.write_renewal(vec![resealed(confirmed_before, None)?], rests_on, now).await?;
                return Ok(RenewalVerdict::Keep);
            }
        };
        let given = match &answer.given {
            Ok(given) => self.existing_roles(renewal, &provider, given.as_ref()).await?,
            Err(fault) => Err(fault.clone()),
        };
        let given = match given {
            Ok(given) => given,
            // Many providers leave the claim out for a person without any group.
            Err(fault @ (SignOnFault::NoRole | SignOnFault::MissingClaim(_))) => {
                return self.end_by_renewal(renewal, exchange, &fault).await;
            }
            Err(fault) => {
                // The right to ask is kept, so that nobody asks again at once.
                let kept = resealed(confirmed_before, exchange.stored.asked_at)?;
                self.write_renewal(vec![kept], rests_on, now).await?;
                return Err(Stop::Fault(fault));
            }
        };
        let mut found_session = match self.find_session(renewal, now).await {
            Ok(found) => found,
            Err(error) => {
                // This session has ended. Others of the sign-on may go on.
                self.write_renewal(vec![resealed(confirmed_before, None)?], rests_on, now).await?;
                return Err(error.into());
            }
        };
        rests_on.add(RestsOn::found(&found_session.facts));
        rests_on.add(provider.rests_on());
        let mut changes = vec![resealed(exchange.begun_at, None)?];
        let mut session = found_session.facts.credential.clone();
        let mut has_changed = false;
        if let Some((given, known)) = given {
            let of_person = roles::set(found_session.given_to(), &given);
            has_changed = !of_person.is_empty();
            changes.extend(of_person);
            rests_on.add_roles(known.iter());
            changes.extend(follow(renewal, &mut session, &found_session, &provider, known));
        }
        let FoundSession { sign_on, person, .. } = found_session;
        let done = done("sso_renew", [&sign_on, &person].into_iter());
        self.write_renewal(changes, rests_on, now).await?;
        if has_changed {
            // The request that began it may have been answered already, so that its entry does not tell.
            tracing::info!(
                request_id = renewal.request_id,
                provider = %renewal.provider,
                person = %person.id,
                "the provider gave a person other roles or scopes at a renewal"
            );
        }
        Ok(RenewalVerdict::Renew(Some(Box::new(RenewedRecords {
            session,
            person,
            done: Some(done),
        }))))
    }

    /// The roles of the answer that exist now, with all that exist; nothing where the provider gives no roles.
    async fn existing_roles(
        &self,
        renewal: &SessionRenewal,
        provider: &FoundProvider,
        given: Option<&GivenRoles>,
    ) -> Result<Result<Option<(GivenRoles, Vec<RoleRecord>)>, SignOnFault>, IssueError> {
        let Some(given) = given else { return Ok(Ok(None)) };
        let known = self.known_roles_under(&renewal.snapshot, &provider.record().tenant).await?;
        let existing = roles::existing(given, &known, provider);
        Ok(existing.map(|given| Some((given, known))))
    }

    /// The record of the refresh token, if this gateway still has the right to write the answer: the sign-on goes on, and nobody has
    /// put another refresh token there.
    async fn find_own_exchange(&self, renewal: &SessionRenewal, exchange: &Exchange) -> Result<Option<(StoredFacts, RestsOn)>, IssueError> {
        let fingerprint = refresh_token_fingerprint(&renewal.sign_on).ok_or(Denial::Internal)?;
        let Some(found) = self.find_facts(fingerprint).await? else {
            return Ok(None);
        };
        let stored = StoredRefresh::of_record(&found.credential).map_err(|error| unavailable(&error))?;
        let is_own = stored.has_token_of(&exchange.stored) && stored.asked_at == exchange.stored.asked_at;
        let rests_on = RestsOn::found(&found);
        Ok(is_own.then_some((found, rests_on)))
    }

    /// Ends the sign-on: the provider says that it is over, or gives the person no role any more. Every session that hangs on it ends.
    /// Without a role, the person loses those of before as well, in every other session too.
    async fn end_by_renewal(&self, renewal: &SessionRenewal, exchange: &Exchange, fault: &SignOnFault) -> Result<RenewalVerdict, Stop> {
        for _ in 0..MAX_WRITES {
            // A sign-on that was made anew meanwhile is not ended by what the provider said before.
            let Some((found, rests_on)) = self.find_own_exchange(renewal, exchange).await? else {
                return Ok(RenewalVerdict::Keep);
            };
            let (sign_on, person, given_to) = match &found.ancestors[..] {
                [sign_on, person, link, ..] if link.is_link() => (sign_on.clone(), person.clone(), link.id.clone()),
                [sign_on, person, ..] => (sign_on.clone(), person.clone(), person.id.clone()),
                _ => return Err(Denial::CorruptRecord.into()),
            };
            let dropped = exchange.stored.dropped().to_text();
            let mut changes = vec![
                (sign_on.id.clone(), CredentialChange::Revoke),
                (found.credential.id, CredentialChange::SetSettings(dropped)),
            ];
            if !matches!(fault, SignOnFault::RefreshRefused(_)) {
                changes.push((given_to.clone(), CredentialChange::SetRoles(Vec::new())));
                changes.push((given_to, CredentialChange::SetScopes(ScopeSet::default())));
            }
            match self.write_renewal(changes, rests_on, self.time().await?).await {
                Err(error) if error.stale => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    tracing::warn!(
                        request_id = renewal.request_id,
                        provider = %renewal.provider,
                        sign_on = %sign_on.id,
                        person = %person.id,
                        cause = fault.label(),
                        "a sign-on was ended at its renewal: {fault}"
                    );
                    return Ok(RenewalVerdict::Ended(done("sso_end", [&sign_on, &person].into_iter())));
                }
            }
        }
        Ok(RenewalVerdict::Keep)
    }
}
