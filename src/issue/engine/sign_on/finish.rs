//! The end of a sign-on: what the provider sent back is proven, and the person is given a session.

use crate::base::denial::Denial;
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::Engine;
use crate::sign_on::client::{oidc_client, person_rules};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::log_in_record::LogInProtocol;
use crate::sign_on::oidc::Callback;
use crate::sign_on::oidc_providers::OidcLogIn;
use crate::snapshot::sign_on_route::{FinishStep, SignOnRoute};

use super::provider::FoundProvider;
use super::session::ProvenPerson;
use super::{OpenedLogIn, access, path_tenant, refused, refused_by, refused_early};

impl Engine {
    /// Takes the code of an OIDC provider. The code is sent to the provider once: its log-in record is used up before.
    pub(super) async fn finish_oidc(&self, call: &ServedCall, route: &SignOnRoute, step: &FinishStep) -> Result<Issued, IssueError> {
        let query = call.query.as_deref().unwrap_or_default();
        let callback = Callback::parse(query.as_bytes()).map_err(|fault| refused_early(&fault))?;
        let begun_at = self.time().await?;
        let opened = self.take_log_in(call, callback.state()).await?;
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
        let person = self.oidc.finish(log_in, callback, &rules).await.map_err(fault)?;
        let proven = ProvenPerson {
            person,
            provider,
            begun_at,
            return_to: opened.record.return_to,
            cookie: Some(opened.cookie),
            saml_name: None,
        };
        self.sign_person_on(call, step, &proven).await
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
