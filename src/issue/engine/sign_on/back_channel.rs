//! What a provider says has ended there ends here: by OpenID Connect Back-Channel Logout 1.0.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, SurfaceName, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::decide::token::json::{JsonObject, JsonValue};
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::{Engine, refused_change, unavailable};
use crate::sign_on::client::oidc_client;
use crate::sign_on::fault::SignOnFault;
use crate::snapshot::sign_on_route::SignOnRoute;
use crate::store::{ChangeError, CredentialChange, MAX_NEW, NewRecords};

use super::provider::FoundProvider;
use super::session::{SessionNotes, end_of_note, new_sign_on, noted_fingerprint, periods};
use super::{access, because, path_tenant};

/// Most providers of a tenant that are looked at for the issuer of a token.
const MAX_CANDIDATES: usize = 32;

/// How often an end is written. A session has two notes or three; the rest is for sign-ons that come in between.
const MAX_WRITES: usize = 10;

impl Engine {
    /// Ends what a logout token names. Every refusal is a 400, as the protocol has it (section 2.8).
    pub(in crate::issue::engine) async fn end_by_back_channel(
        &self,
        call: &ServedCall,
        route: &SignOnRoute,
        parameter: &str,
    ) -> Result<Issued, IssueError> {
        let tenant = path_tenant(call, parameter)?;
        let token = call
            .body
            .text("logout_token")
            .ok_or_else(|| invalid(&SignOnFault::LogOutForm, None))?;
        let provider = self.provider_of_token(&tenant, token).await?;
        let id = provider.record().id.clone();
        let fault = |fault: SignOnFault| invalid(&fault, Some(&id));
        let oidc = provider.settings.oidc().ok_or_else(|| fault(SignOnFault::WrongProtocol))?;
        let client = oidc_client(&id, oidc, &self.peppers).map_err(fault)?;
        let ended = self
            .oidc
            .logout_token(&client, token, &access(&route.settings))
            .await
            .map_err(fault)?;
        let mark = [id.as_str(), "\0", &ended.id].concat();
        if !self.take_once("logout token", mark.as_bytes(), ended.until).await? {
            return Err(fault(SignOnFault::LogOutReplayed));
        }
        let records = match (&ended.session_id, &ended.subject) {
            (Some(session), _) => self.end_session_of_provider(&provider, session).await?,
            (None, Some(subject)) => self.end_sessions_of_person(&provider, subject).await?,
            (None, None) => Vec::new(),
        };
        self.drop_refresh_tokens(records.iter().filter(|record| record.is_sign_on()).map(|record| &record.id))
            .await;
        let done = crate::issue::engine::done("sso_back_channel", std::iter::once(provider.record()).chain(&records));
        Ok(Issued {
            status: 200,
            fields: Vec::new(),
            body: None,
            done,
            notification: None,
        })
    }

    /// The provider whose issuer and client a token names. It chooses the keys by which the token is verified, and nothing else.
    async fn provider_of_token(&self, tenant: &TenantId, token: &str) -> Result<FoundProvider, IssueError> {
        let unknown = || invalid(&SignOnFault::NoProvider, None);
        let (issuer, audiences) = named_in(token).ok_or_else(|| invalid(&SignOnFault::LogOutForm, None))?;
        let listed = self.directory.list_active(tenant).await.map_err(|error| unavailable(&error))?;
        for listed in listed.iter().filter(|listed| listed.kind == "oidc").take(MAX_CANDIDATES) {
            let Ok(provider) = self.find_provider(&listed.id, self.clock.now().wall).await else {
                continue;
            };
            let is_it = provider
                .settings
                .oidc()
                .is_some_and(|oidc| oidc.issuer == issuer && audiences.contains(&oidc.client_id));
            if is_it && provider.tenant().id == *tenant {
                return Ok(provider);
            }
        }
        Err(unknown())
    }

    /// Ends everything below a session at the provider. A session that is not known yet is noted as ended, so that a sign-on that
    /// is on its way comes too late.
    pub(in crate::issue::engine) async fn end_session_of_provider(
        &self,
        provider: &FoundProvider,
        session: &str,
    ) -> Result<Vec<CredentialRecord>, IssueError> {
        for _ in 0..MAX_WRITES {
            let now = self.time().await?;
            let SessionNotes { this, earlier } = self.find_notes(provider, session, now).await?;
            let living = this
                .iter()
                .chain(&earlier)
                .filter(|note| note.credential.state == CredentialState::Active);
            let changes: Vec<_> = living.map(|note| (note.credential.id.clone(), CredentialChange::Revoke)).collect();
            if changes.is_empty() && !this.is_empty() {
                // Read after everything was ended: a sign-on that has noted the session meanwhile is among them.
                return Ok(this.into_iter().chain(earlier).map(|note| note.credential).collect());
            }
            let mut credentials = Vec::new();
            if this.is_empty() {
                let [period, _] = periods(now);
                let fingerprint = noted_fingerprint(self.peppers.first(), provider, session, period, 0);
                let mut record = new_sign_on(provider, provider.record(), fingerprint, Some(end_of_note(period)), now)?;
                record.state = CredentialState::Revoked { at: now };
                credentials.push(record);
            }
            let new = NewRecords {
                credentials,
                changes: changes.into_iter().take(MAX_NEW).collect(),
                ..NewRecords::default()
            };
            match self.store.create(new, now).await {
                Ok(_) | Err(ChangeError::Taken(_)) => {}
                Err(error) => return Err(refused_change(error)),
            }
        }
        Err(Denial::StoreUnavailable.into())
    }

    /// Ends all sessions of a person. A person who has never signed on here has none.
    pub(in crate::issue::engine) async fn end_sessions_of_person(
        &self,
        provider: &FoundProvider,
        subject: &str,
    ) -> Result<Vec<CredentialRecord>, IssueError> {
        let account = SurfaceName::parse(&provider.settings.account).map_err(|_| Denial::Internal)?;
        let Some(found) = self.find_person(provider, &account, subject).await? else {
            return Ok(Vec::new());
        };
        let now = self.time().await?;
        let id = found.credential.id.clone();
        match self.store.change_credential(id, CredentialChange::EndIssued, now).await {
            Ok(record) => Ok(vec![record]),
            // A revoked person has no sessions.
            Err(ChangeError::Conflict(_)) => Ok(Vec::new()),
            Err(error) => Err(refused_change(error)),
        }
    }
}

/// The issuer and the audiences that a token names, before anything of it is believed.
fn named_in(token: &str) -> Option<(String, Vec<String>)> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims = JsonObject::parse(&payload).ok()?;
    let issuer = claims.find("iss")?.text()?.to_owned();
    let audiences = match claims.find("aud")? {
        JsonValue::Text(one) => vec![one.to_string()],
        JsonValue::List(all) => all.iter().filter_map(|item| Some(item.text()?.to_owned())).collect(),
        _ => return None,
    };
    Some((issuer, audiences))
}

fn invalid(fault: &SignOnFault, provider: Option<&CredentialId>) -> IssueError {
    let denial = match super::denial_of(fault) {
        Denial::ProviderFailed => Denial::ProviderFailed,
        Denial::Overloaded => Denial::Overloaded,
        Denial::Internal => Denial::Internal,
        _ => Denial::SignOnInvalid,
    };
    because(denial, fault, provider)
}
