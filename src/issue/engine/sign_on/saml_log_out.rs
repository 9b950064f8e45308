//! Single logout by SAML 2.0: a provider says that sessions there have ended.

use crate::base::denial::Denial;
use crate::base::ids::TenantId;
use crate::dialect::page::{HtmlPage, PageForm, RenderedPage};
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::{Engine, done};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::saml::SamlFault;
use crate::sign_on::saml::client::{LogoutArrival, NAME_ID_CLAIM};
use crate::sign_on::saml::query::{QueryMessage, RedirectQuery};
use crate::snapshot::sign_on_route::{SamlLogOutStep, SamlUrls};

use super::saml::Departure;
use super::{because, path_tenant, refused_by, refused_early};

/// A logout request as it came.
pub(super) struct ReceivedLogout<'c> {
    pub(super) arrival: LogoutArrival<'c>,
    /// Where it arrived, as the provider knows the address.
    pub(super) url: String,
    /// What the provider wants back with the answer.
    pub(super) relay_state: Option<&'c str>,
}

impl Engine {
    /// Takes a logout request of a provider that came by redirect.
    pub(super) async fn log_out_by_redirect(&self, call: &ServedCall, step: &SamlLogOutStep) -> Result<Issued, IssueError> {
        let tenant = path_tenant(call, &step.tenant)?;
        let query = call.query.as_deref().unwrap_or_default();
        let fault = |fault| refused_early(&SignOnFault::Saml(fault));
        if QueryMessage::carried_by(query).map_err(fault)? == QueryMessage::Response {
            return Err(fault(SamlFault::WrongMessage("LogoutResponse".to_owned())));
        }
        let query = RedirectQuery::parse(query, QueryMessage::Request).map_err(fault)?;
        let received = ReceivedLogout {
            arrival: LogoutArrival::Redirected(&query.signed),
            url: step.url.of(&tenant),
            relay_state: query.relay_state.as_deref(),
        };
        self.end_by_saml(&tenant, &step.urls, received).await
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
fn log_out_page(form: PageForm) -> Result<RenderedPage, Denial> {
    let page = HtmlPage {
        title: "Log out",
        lines: vec!["You are logged out here. Go on, so that your organisation's sign-in service logs you out too.".to_owned()],
        form: Some(form),
        ..HtmlPage::default()
    };
    page.render()
}
