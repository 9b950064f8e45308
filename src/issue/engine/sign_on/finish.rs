//! The end of a sign-on: what the provider sent back is proven, and the person is given a session.

use crate::base::denial::Denial;
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::Engine;
use crate::sign_on::client::{oidc_client, person_rules};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::log_in_record::LogInProtocol;
use crate::sign_on::oidc::Callback;
use crate::sign_on::oidc_providers::{FinishedLogIn, OidcLogIn};
use crate::snapshot::sign_on_route::{FinishStep, SignOnRoute};
use crate::store::MarkRoom;

use super::provider::FoundProvider;
use super::session::ProvenPerson;
use super::{OpenedLogIn, access, ending_log_in, path_tenant, refused, refused_by, refused_early};

impl Engine {
    /// Takes the code of an OIDC provider.
    pub(super) async fn finish_oidc(&self, call: &ServedCall, route: &SignOnRoute, step: &FinishStep) -> Result<Issued, IssueError> {
        let query = call.query.as_deref().unwrap_or_default();
        let callback = Callback::parse(query.as_bytes()).map_err(|fault| refused_early(&fault))?;
        let opened = self.open_log_in(call, callback.state())?;
        let cookie = Some(opened.cookie.clone());
        let finished = self.exchange_code(call, route, step, callback, opened).await;
        finished.map_err(|refusal| ending_log_in(refusal, cookie))
    }

    /// The code is sent to the provider once: its log-in record is used up before. What can be refused without either is refused
    /// before both.
    async fn exchange_code(
        &self,
        call: &ServedCall,
        route: &SignOnRoute,
        step: &FinishStep,
        callback: Callback,
        opened: OpenedLogIn,
    ) -> Result<Issued, IssueError> {
        let begun_at = self.time().await?;
        let provider = self.provider_of(call, step, &opened).await?;
        let (LogInProtocol::Oidc(values), Some(oidc)) = (&opened.record.protocol, provider.settings.oidc()) else {
            return Err(refused(&SignOnFault::WrongProtocol, &provider));
        };
        let fault = |fault: SignOnFault| refused(&fault, &provider);
        let client = oidc_client(&provider.record().id, oidc, &self.peppers).map_err(fault)?;
        let log_in = OidcLogIn {
            client: &client,
            redirect_uri: &step.url.of(&opened.record.tenant),
            values,
            access: &access(&route.settings),
        };
        let rules = person_rules(&provider.settings);
        let accepted = self.oidc.accept(log_in, callback).await.map_err(fault)?;
        self.use_log_in_up(&opened.record, MarkRoom::Unproven).await?;
        let FinishedLogIn { person, refresh } = self.oidc.finish(log_in, accepted, &rules).await.map_err(fault)?;
        if client.refresh_tokens && refresh.is_none() {
            self.warn_of_renewal(&call.request_id, &provider.record().id, &SignOnFault::NoRefreshToken);
        }
        let proven = ProvenPerson {
            person,
            refresh,
            provider,
            begun_at,
            return_to: opened.record.return_to,
            cookie: Some(opened.cookie),
            saml_name: None,
        };
        match &opened.record.link {
            Some(intent) => self.link_person(call, step, &proven, intent).await,
            None => self.sign_person_on(call, step, &proven).await,
        }
    }

    /// The provider with which a sign-on was begun.
    async fn provider_of(&self, call: &ServedCall, step: &FinishStep, opened: &OpenedLogIn) -> Result<FoundProvider, IssueError> {
        let record = &opened.record;
        if let Some(parameter) = &step.tenant
            && path_tenant(call, parameter).map_err(|_| refused_by(&SignOnFault::WrongTenant, &record.provider))? != record.tenant
        {
            return Err(refused_by(&SignOnFault::WrongTenant, &record.provider));
        }
        let provider = self.find_provider(&record.provider, self.clock.now().wall).await?;
        if provider.tenant().id != record.tenant {
            return Err(Denial::CorruptRecord.into());
        }
        Ok(provider)
    }
}
