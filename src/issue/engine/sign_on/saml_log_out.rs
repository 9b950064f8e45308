//! Single logout by SAML 2.0: a provider says that sessions there have ended, or answers that it has ended what ended here.

use crate::base::denial::Denial;
use crate::base::ids::TenantId;
use crate::base::principal::CredentialRecord;
use crate::dialect::page::{HtmlPage, PageForm, RenderedPage};
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::{Engine, done};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::log_out_record::{LOG_OUT_TIME, LogOutRecord, remove_cookie, set_cookie};
use crate::sign_on::oidc::LogInValue;
use crate::sign_on::saml::SamlFault;
use crate::sign_on::saml::client::{LogoutArrival, NAME_ID_CLAIM};
use crate::sign_on::saml::query::{QueryMessage, RedirectQuery};
use crate::sign_on::saml::request::MessageId;
use crate::sign_on::sign_on_secrets::SamlName;
use crate::snapshot::sign_on_route::{SamlLogOutStep, SamlUrls};

use super::provider::FoundProvider;
use super::saml::Departure;
use super::{because, browser, path_tenant, refused_by, refused_early};

/// A logout request as it came.
pub(super) struct ReceivedLogout<'c> {
    pub(super) arrival: LogoutArrival<'c>,
    /// Where it arrived, as the provider knows the address.
    pub(super) url: String,
    /// What the provider wants back with the answer.
    pub(super) relay_state: Option<&'c str>,
}

/// The answer to a logout request of ours, as it came.
pub(super) struct ReceivedAnswer<'c> {
    /// The message, or why it is none.
    pub(super) arrival: Result<LogoutArrival<'c>, SignOnFault>,
    /// Where it arrived, as the provider knows the address.
    pub(super) url: String,
}

/// A browser that goes to a SAML provider to be logged out there.
pub(super) struct LeavingBySaml {
    pub(super) way: Departure,
    /// The cookie with the log-out record.
    pub(super) cookie: String,
}

impl Engine {
    /// Takes what a provider sends by redirect: a logout request, or its answer to ours.
    pub(super) async fn log_out_by_redirect(&self, call: &ServedCall, step: &SamlLogOutStep) -> Result<Issued, IssueError> {
        let tenant = path_tenant(call, &step.tenant)?;
        let query = call.query.as_deref().unwrap_or_default();
        let fault = |fault| refused_early(&SignOnFault::Saml(fault));
        let url = step.url.of(&tenant);
        if QueryMessage::carried_by(query).map_err(fault)? == QueryMessage::Response {
            let state = RedirectQuery::relay_state(query).map_err(fault)?;
            let record = self.log_out_record(call, state.as_deref())?;
            let record = record.ok_or_else(|| refused_early(&SignOnFault::NoLogOut))?;
            let query = RedirectQuery::parse(query, QueryMessage::Response).map_err(SignOnFault::Saml);
            let arrival = query
                .as_ref()
                .map(|query| LogoutArrival::Redirected(&query.signed))
                .map_err(Clone::clone);
            return self
                .finish_log_out(call, &tenant, &step.urls, &record, ReceivedAnswer { arrival, url })
                .await;
        }
        let query = RedirectQuery::parse(query, QueryMessage::Request).map_err(fault)?;
        let received = ReceivedLogout {
            arrival: LogoutArrival::Redirected(&query.signed),
            url,
            relay_state: query.relay_state.as_deref(),
        };
        self.end_by_saml(&tenant, &step.urls, received).await
    }

    /// How a browser gets to its SAML provider to be logged out there; `None`: the provider has no address for that.
    pub(super) fn leave_by_saml(
        &self,
        provider: &FoundProvider,
        urls: &SamlUrls,
        sign_on: &CredentialRecord,
        return_to: &str,
    ) -> Result<Option<LeavingBySaml>, SignOnFault> {
        let Some(saml) = provider.settings.saml().filter(|saml| saml.takes_log_outs()) else {
            return Ok(None);
        };
        let name = SamlName::of_record(sign_on, &self.peppers)?;
        let client = self.saml_client(provider, saml, urls)?;
        let id = MessageId::generate().map_err(SignOnFault::Saml)?;
        let now = self.clock.now().wall;
        let record = LogOutRecord {
            tenant: provider.tenant().id.clone(),
            provider: provider.record().id.clone(),
            state: LogInValue::random()?,
            request_id: id.to_string(),
            return_to: return_to.to_owned(),
            expires_at: now.plus(LOG_OUT_TIME),
        };
        let state = record.state.text();
        let Some(departure) = client.begin_logout(&id, &name, &state, now)? else {
            return Ok(None);
        };
        Ok(Some(LeavingBySaml {
            way: Departure::of(departure, QueryMessage::Request, Some(&state)),
            cookie: set_cookie(&record.seal(&self.peppers)?),
        }))
    }

    /// The log-out of this state that the browser has begun.
    pub(super) fn log_out_record(&self, call: &ServedCall, state: Option<&str>) -> Result<Option<LogOutRecord>, Denial> {
        let sealed = browser(call)?.log_out_record.as_deref();
        let now = self.clock.now().wall;
        Ok(sealed
            .zip(state)
            .and_then(|(sealed, state)| LogOutRecord::open(sealed, state, &self.peppers, now)))
    }

    /// Takes the provider's answer to our logout request. Whatever it says, the session here ended before the browser left, so the
    /// browser goes where the person wanted. That the provider has not ended its own is told to administrators.
    pub(super) async fn finish_log_out(
        &self,
        call: &ServedCall,
        tenant: &TenantId,
        urls: &SamlUrls,
        record: &LogOutRecord,
        received: ReceivedAnswer<'_>,
    ) -> Result<Issued, IssueError> {
        if record.tenant != *tenant {
            return Err(refused_by(&SignOnFault::WrongTenant, &record.provider));
        }
        if !self.take_once("log-out", record.request_id.as_bytes(), record.expires_at).await? {
            return Err(refused_by(&SignOnFault::Saml(SamlFault::Replayed), &record.provider));
        }
        let proven = match self.find_provider(&record.provider, self.clock.now().wall).await {
            Ok(provider) => self.prove_log_out(&provider, urls, record, received).await,
            // It was disabled or deleted while the browser was there.
            Err(stop) if stop.cause.is_some() => Err(SignOnFault::ProviderEnded),
            Err(stop) => return Err(stop),
        };
        let what = match &proven {
            Ok(()) => "saml_logged_out".to_owned(),
            Err(fault) => {
                tracing::warn!(
                    request_id = call.request_id,
                    provider = %record.provider,
                    cause = fault.label(),
                    "a session was ended here, and that it was ended at its provider is not proven: {fault}"
                );
                format!("saml_log_out_unproven {}", fault.label())
            }
        };
        let location = ("Location".to_owned(), record.return_to.clone());
        Ok(Issued {
            status: 303,
            fields: vec![location, ("Set-Cookie".to_owned(), remove_cookie())],
            body: None,
            done: format!("{what} provider:{}", record.provider),
            notification: None,
        })
    }

    async fn prove_log_out(
        &self,
        provider: &FoundProvider,
        urls: &SamlUrls,
        record: &LogOutRecord,
        received: ReceivedAnswer<'_>,
    ) -> Result<(), SignOnFault> {
        let saml = provider.settings.saml().ok_or(SignOnFault::WrongProtocol)?;
        let client = self.saml_client(provider, saml, urls)?;
        let now = self.clock.now().wall;
        client
            .logout_answer(&self.saml, received.arrival?, &received.url, &record.request_id, now)
            .await
    }

    /// Ends what a logout request of a provider names, and sends the browser back with our answer. The request is verified in a
    /// confined process, and used once.
    pub(super) async fn end_by_saml(&self, tenant: &TenantId, urls: &SamlUrls, received: ReceivedLogout<'_>) -> Result<Issued, IssueError> {
        let mut last = because(Denial::NotFound, &SignOnFault::NoProvider, None);
        for provider in self.saml_providers(tenant).await? {
            let id = provider.record().id.clone();
            let fault = |fault: SignOnFault| refused_by(&fault, &id);
            let Some(saml) = provider.settings.saml() else { continue };
            let client = self.saml_client(&provider, saml, urls).map_err(fault)?;
            let now = self.clock.now().wall;
            let ended = match client.logout(&self.saml, received.arrival, &received.url, now).await {
                Ok(ended) => ended,
                // It is the request of another provider of the tenant.
                Err(refusal @ SignOnFault::Saml(SamlFault::SignatureWrong | SamlFault::WrongIssuer(_))) => {
                    last = fault(refusal);
                    continue;
                }
                Err(refusal) => return Err(fault(refusal)),
            };
            let used = [id.as_str(), "\0", &ended.request_id].concat();
            if !self.take_once("logout request", used.as_bytes(), ended.used_until).await? {
                return Err(fault(SignOnFault::Saml(SamlFault::Replayed)));
            }
            let mut records = Vec::new();
            for session in &ended.session_indexes {
                records.extend(self.end_session_of_provider(&provider, session).await?);
            }
            if ended.session_indexes.is_empty() {
                // Where an attribute identifies people, a name id says nothing about whose sessions these are.
                if provider.settings.subject_claim() != NAME_ID_CLAIM {
                    return Err(fault(SignOnFault::Saml(SamlFault::Missing("`SessionIndex`".to_owned()))));
                }
                records = self.end_sessions_of_person(&provider, &ended.name_id.value).await?;
            }
            let answer = client.answer_logout(&ended.request_id, received.relay_state, now).map_err(fault)?;
            let way = answer.map(|answer| Departure::of(answer, QueryMessage::Response, received.relay_state));
            let (status, fields, body) = match way {
                Some(Departure::Redirect(address)) => (303, vec![("Location".to_owned(), address)], None),
                Some(Departure::Post(form)) => {
                    let page = log_out_page(form)?;
                    (200, page.fields, Some(page.body.to_vec()))
                }
                None => (204, Vec::new(), None),
            };
            return Ok(Issued {
                status,
                fields,
                body,
                done: done("saml_log_out", std::iter::once(provider.record()).chain(&records)),
                notification: None,
            });
        }
        Err(last)
    }
}

/// The page that lets a browser post a message of single logout to the provider.
pub(super) fn log_out_page(form: PageForm) -> Result<RenderedPage, Denial> {
    let page = HtmlPage {
        title: "Log out",
        lines: vec!["You are logged out here. Go on, so that your organisation's sign-in service logs you out too.".to_owned()],
        form: Some(form),
        ..HtmlPage::default()
    };
    page.render()
}
