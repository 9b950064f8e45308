//! The steps of SAML 2.0: the request that a browser takes to the provider, the response or the logout request that it brings
//! back, and our metadata.

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::percent::decode;
use crate::dialect::page::{HtmlPage, PageForm, RenderedPage};
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::{Engine, done, unavailable};
use crate::sign_on::client::person_rules;
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::log_in_record::{LinkIntent, LogInProtocol, cookie_name};
use crate::sign_on::provider::SamlSettings;
use crate::sign_on::saml::SamlFault;
use crate::sign_on::saml::client::{LogoutArrival, NAME_ID_CLAIM, SamlArrival, SamlClient, SamlDeparture};
use crate::sign_on::saml::request::MessageId;
use crate::snapshot::sign_on_route::{FinishStep, RouteUrl, SamlUrls, SignOnRoute};

use super::provider::FoundProvider;
use super::session::ProvenPerson;
use super::{because, browser, path_tenant, refused, refused_by, refused_early};

/// Most providers of a tenant that are looked at for the one whose message it is. Each costs a process.
const MAX_CANDIDATES: usize = 8;

/// How a browser gets to its provider.
pub(super) enum Departure {
    Redirect(String),
    /// It posts a form. Without a script, people press its button.
    Post(PageForm),
}

/// What the browser has brought besides the response.
struct Brought {
    provider: FoundProvider,
    /// The request that the response must answer; `None`: the provider began the sign-on.
    request_id: Option<String>,
    return_to: String,
    /// Set where a session began it to link its account. A sign-on that the provider began never links anything.
    link: Option<LinkIntent>,
    cookie: Option<String>,
}

impl Engine {
    /// A request for authentication that is answered under this state, and its id.
    pub(super) fn saml_request(
        &self,
        provider: &FoundProvider,
        saml: &SamlSettings,
        urls: &SamlUrls,
        state: &str,
        now: UnixMillis,
    ) -> Result<(Departure, String), IssueError> {
        let fault = |fault: SignOnFault| refused(&fault, provider);
        let id = MessageId::generate().map_err(|error| fault(SignOnFault::Saml(error)))?;
        let client = self
            .saml_client(provider, saml, &urls.finish, urls.metadata.as_ref())
            .map_err(fault)?;
        let departure = match client.begin(&id, state, now).map_err(fault)? {
            SamlDeparture::Redirect(address) => Departure::Redirect(address),
            SamlDeparture::Post { url, value } => Departure::Post(PageForm {
                action: url,
                fields: vec![("SAMLRequest".to_owned(), value), ("RelayState".to_owned(), state.to_owned())],
                button: "Continue".to_owned(),
            }),
        };
        Ok((departure, id.to_string()))
    }

    fn saml_client(
        &self,
        provider: &FoundProvider,
        saml: &SamlSettings,
        finish: &RouteUrl,
        metadata: Option<&RouteUrl>,
    ) -> Result<SamlClient, SignOnFault> {
        let tenant = &provider.tenant().id;
        let metadata = metadata.map(|url| url.of(tenant));
        SamlClient::new(&provider.record().id, saml, &self.peppers, finish.of(tenant), metadata)
    }

    /// Takes the response of a SAML provider, or its logout request. Either is verified in a confined process, and used once.
    pub(super) async fn finish_saml(&self, call: &ServedCall, route: &SignOnRoute, step: &FinishStep) -> Result<Issued, IssueError> {
        let tenant = path_tenant(call, step.tenant.as_deref().ok_or(Denial::Internal)?)?;
        if let Some(request) = call.body.text("SAMLRequest") {
            return self.end_by_saml(call, step, &tenant, request).await;
        }
        let response = call.body.text("SAMLResponse");
        let response = response.ok_or_else(|| refused_early(&SignOnFault::NoSamlResponse))?;
        let begun_at = self.time().await?;
        let brought = self.brought(call, route, &tenant).await?;
        let provider = brought.provider;
        let id = provider.record().id.clone();
        let fault = |fault: SignOnFault| refused_by(&fault, &id);
        let saml = provider.settings.saml().ok_or_else(|| fault(SignOnFault::WrongProtocol))?;
        let client = self
            .saml_client(&provider, saml, &step.url, step.metadata.as_ref())
            .map_err(fault)?;
        let arrival = SamlArrival {
            response,
            request_id: brought.request_id.as_deref(),
        };
        let rules = person_rules(&provider.settings);
        let proven = client
            .finish(&self.saml, arrival, &rules, self.clock.now().wall)
            .await
            .map_err(fault)?;
        let used = [id.as_str(), "\0", &proven.assertion_id].concat();
        if !self.take_once("assertion", used.as_bytes(), proven.used_until).await? {
            return Err(fault(SignOnFault::Saml(SamlFault::Replayed)));
        }
        let proven = ProvenPerson {
            person: proven.person,
            provider,
            begun_at,
            return_to: brought.return_to,
            cookie: brought.cookie,
        };
        match &brought.link {
            Some(intent) => self.link_person(call, step, &proven, intent).await,
            None => self.sign_person_on(call, step, &proven).await,
        }
    }

    /// The log-in record under the relay state, or the one provider of the tenant that may begin a sign-on.
    async fn brought(&self, call: &ServedCall, route: &SignOnRoute, tenant: &TenantId) -> Result<Brought, IssueError> {
        let relay = call.body.text("RelayState");
        let kept = &browser(call)?.log_in_records;
        let is_begun_here = |state: &&str| cookie_name(state).is_some_and(|name| kept.iter().any(|(own, _)| *own == name));
        if let Some(state) = relay.filter(is_begun_here) {
            let opened = self.take_log_in(call, state).await?;
            let record = opened.record;
            let fault = |fault: SignOnFault| refused_by(&fault, &record.provider);
            if record.tenant != *tenant {
                return Err(fault(SignOnFault::WrongTenant));
            }
            let LogInProtocol::Saml { request_id } = &record.protocol else {
                return Err(fault(SignOnFault::WrongProtocol));
            };
            let provider = self.find_provider(&record.provider, self.clock.now().wall).await?;
            if provider.tenant().id != *tenant {
                return Err(Denial::CorruptRecord.into());
            }
            return Ok(Brought {
                provider,
                request_id: Some(request_id.clone()),
                return_to: record.return_to.clone(),
                link: record.link.clone(),
                cookie: Some(opened.cookie),
            });
        }
        let rules = &route.settings.return_to;
        let return_to = relay
            .filter(|address| rules.admit(address))
            .map_or_else(|| rules.first(), str::to_owned);
        let mut may_begin = self.saml_providers(tenant).await?;
        may_begin.retain(|provider| provider.settings.saml().is_some_and(|saml| saml.idp_initiated));
        match (may_begin.pop(), may_begin.is_empty()) {
            (None, _) => Err(refused_early(&SignOnFault::NoLogIn)),
            (Some(_), false) => Err(refused_early(&SignOnFault::SeveralMayBegin)),
            (Some(provider), true) => Ok(Brought {
                provider,
                request_id: None,
                return_to,
                link: None,
                cookie: None,
            }),
        }
    }

    /// The active SAML providers of a tenant.
    async fn saml_providers(&self, tenant: &TenantId) -> Result<Vec<FoundProvider>, IssueError> {
        let listed = self.directory.list_active(tenant).await.map_err(|error| unavailable(&error))?;
        let mut found = Vec::new();
        for listed in listed.iter().filter(|listed| listed.kind == "saml").take(MAX_CANDIDATES) {
            // One that has ended since is left out.
            if let Ok(provider) = self.find_provider(&listed.id, self.clock.now().wall).await
                && provider.tenant().id == *tenant
            {
                found.push(provider);
            }
        }
        Ok(found)
    }

    /// Ends what a logout request of a provider names, and sends the browser back with our answer.
    async fn end_by_saml(&self, call: &ServedCall, step: &FinishStep, tenant: &TenantId, request: &str) -> Result<Issued, IssueError> {
        let mut last = because(Denial::NotFound, &SignOnFault::NoProvider, None);
        for provider in self.saml_providers(tenant).await? {
            let id = provider.record().id.clone();
            let fault = |fault: SignOnFault| refused_by(&fault, &id);
            let Some(saml) = provider.settings.saml() else { continue };
            let client = self
                .saml_client(&provider, saml, &step.url, step.metadata.as_ref())
                .map_err(fault)?;
            let now = self.clock.now().wall;
            let url = step.url.of(tenant);
            let ended = match client.logout(&self.saml, LogoutArrival::Posted(request), &url, now).await {
                Ok(ended) => ended,
                // Signed by another one's certificate, or said by another one: the next may be the one.
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
            let relay = call.body.text("RelayState");
            let answer = client.answer_logout(&ended.request_id, relay, now);
            let (status, fields) = match answer.map_err(fault)? {
                Some(address) => (303, vec![("Location".to_owned(), address)]),
                None => (204, Vec::new()),
            };
            return Ok(Issued {
                status,
                fields,
                body: None,
                done: done("saml_log_out", std::iter::once(provider.record()).chain(&records)),
                notification: None,
            });
        }
        Err(last)
    }

    /// Tells a provider about us.
    pub(super) async fn saml_metadata(
        &self,
        call: &ServedCall,
        parameter: &str,
        finish: &RouteUrl,
        own: &RouteUrl,
    ) -> Result<Issued, IssueError> {
        let tenant = path_tenant(call, parameter)?;
        let named = named_provider(call.query.as_deref())?;
        let mut found = self.saml_providers(&tenant).await?;
        if let Some(named) = &named {
            found.retain(|provider| provider.record().id == *named);
        }
        let (Some(provider), true) = (found.pop(), found.is_empty()) else {
            return Err(because(Denial::NotFound, &SignOnFault::NoProvider, None));
        };
        let saml = provider.settings.saml().ok_or(Denial::Internal)?;
        let client = self.saml_client(&provider, saml, finish, Some(own));
        let client = client.map_err(|fault| refused(&fault, &provider))?;
        Ok(Issued {
            status: 200,
            fields: vec![("Content-Type".to_owned(), "application/samlmetadata+xml".to_owned())],
            body: Some(client.metadata(Some(&finish.of(&tenant))).into_bytes()),
            done: format!("saml_metadata provider:{}", provider.record().id),
            notification: None,
        })
    }
}

/// The page that lets a browser post a request to its provider.
pub(super) fn post_page(form: PageForm) -> Result<RenderedPage, Denial> {
    let page = HtmlPage {
        title: "Sign in",
        lines: vec!["You are being taken to your organisation's sign-in service.".to_owned()],
        form: Some(form),
        ..HtmlPage::default()
    };
    page.render()
}

/// The provider that a query names.
fn named_provider(query: Option<&str>) -> Result<Option<CredentialId>, Denial> {
    let mut named = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("provider="));
    match named
        .next()
        .map(|text| decode(text).and_then(|text| CredentialId::parse(&text).ok()))
    {
        None => Ok(None),
        Some(Some(id)) => Ok(Some(id)),
        Some(None) => Err(Denial::NotFound),
    }
}
