//! The steps of SAML 2.0: the request that a browser takes to the provider, the response that it brings back, and our metadata.

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::percent::decode;
use crate::dialect::page::{HtmlPage, PageForm, RenderedPage};
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::{Engine, unavailable};
use crate::sign_on::client::person_rules;
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::log_in_record::{LogInProtocol, cookie_name};
use crate::sign_on::provider::SamlSettings;
use crate::sign_on::saml::SamlFault;
use crate::sign_on::saml::client::{LogoutArrival, SamlArrival, SamlClient, SamlDeparture};
use crate::sign_on::saml::metadata::{SamlBinding, SamlEndpoint};
use crate::sign_on::saml::query::QueryMessage;
use crate::sign_on::saml::request::MessageId;
use crate::snapshot::sign_on_route::{FinishStep, RouteUrl, SamlUrls, SignOnRoute};

use super::provider::FoundProvider;
use super::saml_log_out::{ReceivedAnswer, ReceivedLogout};
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

impl Departure {
    /// The way of a message, with the state that comes back.
    pub(super) fn of(departure: SamlDeparture, carries: QueryMessage, state: Option<&str>) -> Self {
        match departure {
            SamlDeparture::Redirect(address) => Self::Redirect(address),
            SamlDeparture::Post { url, value } => {
                let state = state.map(|state| ("RelayState".to_owned(), state.to_owned()));
                Self::Post(PageForm {
                    action: url,
                    fields: [(carries.parameter().to_owned(), value)].into_iter().chain(state).collect(),
                    button: "Continue".to_owned(),
                })
            }
        }
    }
}

/// Our addresses, as our metadata name them.
pub(super) struct SamlAddresses<'r> {
    pub(super) finish: &'r RouteUrl,
    pub(super) log_out: Option<&'r RouteUrl>,
    pub(super) own: &'r RouteUrl,
}

/// What the browser has brought besides the response.
struct Brought {
    provider: FoundProvider,
    /// The request that the response must answer; `None`: the provider began the sign-on.
    request_id: Option<String>,
    return_to: String,
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
        let client = self.saml_client(provider, saml, urls).map_err(fault)?;
        let departure = client.begin(&id, state, now).map_err(fault)?;
        Ok((Departure::of(departure, QueryMessage::Request, Some(state)), id.to_string()))
    }

    /// We as the service provider of this provider, under the names that these routes give us.
    pub(super) fn saml_client(&self, provider: &FoundProvider, saml: &SamlSettings, urls: &SamlUrls) -> Result<SamlClient, SignOnFault> {
        let tenant = &provider.tenant().id;
        let metadata = urls.metadata.as_ref().map(|url| url.of(tenant));
        SamlClient::new(&provider.record().id, saml, &self.peppers, urls.finish.of(tenant), metadata)
    }

    /// Takes the response of a SAML provider, or its logout request. Either is verified in a confined process, and used once.
    pub(super) async fn finish_saml(&self, call: &ServedCall, route: &SignOnRoute, step: &FinishStep) -> Result<Issued, IssueError> {
        let tenant = path_tenant(call, step.tenant.as_deref().ok_or(Denial::Internal)?)?;
        let urls = SamlUrls {
            finish: step.url.clone(),
            metadata: step.metadata.clone(),
        };
        if let Some(request) = call.body.text("SAMLRequest") {
            let received = ReceivedLogout {
                arrival: LogoutArrival::Posted(request),
                url: step.url.of(&tenant),
                relay_state: call.body.text("RelayState"),
            };
            return self.end_by_saml(&tenant, &urls, received).await;
        }
        let response = call.body.text("SAMLResponse");
        let response = response.ok_or_else(|| refused_early(&SignOnFault::NoSamlResponse))?;
        // The browser says by its own record what is answered, and not the message.
        if let Some(record) = self.log_out_record(call, call.body.text("RelayState"))? {
            let received = ReceivedAnswer {
                arrival: Ok(LogoutArrival::Posted(response)),
                url: step.url.of(&tenant),
            };
            return self.finish_log_out(call, &tenant, &urls, &record, received).await;
        }
        let begun_at = self.time().await?;
        let brought = self.brought(call, route, &tenant).await?;
        let provider = brought.provider;
        let id = provider.record().id.clone();
        let fault = |fault: SignOnFault| refused_by(&fault, &id);
        let saml = provider.settings.saml().ok_or_else(|| fault(SignOnFault::WrongProtocol))?;
        let client = self.saml_client(&provider, saml, &urls).map_err(fault)?;
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
        let saml_name = Some(proven.name).filter(|_| saml.takes_log_outs());
        let proven = ProvenPerson {
            person: proven.person,
            provider,
            begun_at,
            return_to: brought.return_to,
            cookie: brought.cookie,
            saml_name,
        };
        self.sign_person_on(call, step, &proven).await
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
                cookie: None,
            }),
        }
    }

    /// The active SAML providers of a tenant.
    pub(super) async fn saml_providers(&self, tenant: &TenantId) -> Result<Vec<FoundProvider>, IssueError> {
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

    /// Tells a provider about us.
    pub(super) async fn saml_metadata(&self, call: &ServedCall, parameter: &str, about: &SamlAddresses<'_>) -> Result<Issued, IssueError> {
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
        let urls = SamlUrls {
            finish: about.finish.clone(),
            metadata: Some(about.own.clone()),
        };
        let client = self.saml_client(&provider, saml, &urls);
        let client = client.map_err(|fault| refused(&fault, &provider))?;
        // The redirect first: it needs neither a script nor a button.
        let by_redirect = about.log_out.map(|url| (SamlBinding::Redirect, url));
        let log_out = by_redirect.into_iter().chain([(SamlBinding::Post, about.finish)]);
        let log_out: Vec<SamlEndpoint> = log_out.map(|(binding, url)| SamlEndpoint::own(binding, url.of(&tenant))).collect();
        Ok(Issued {
            status: 200,
            fields: vec![("Content-Type".to_owned(), "application/samlmetadata+xml".to_owned())],
            body: Some(client.metadata(&log_out).into_bytes()),
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
