//! The start of a sign-on: the tenant's provider is found, what the answer must fit is sealed into a cookie, and the browser is
//! sent to the provider. Nothing is stored.

use serde_json::json;

use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::login::is_email;
use crate::base::percent::{decode, push_query};
use crate::decide::accept::AnswerForm;
use crate::dialect::page::{HtmlPage, PageChoice};
use crate::issue::call::{BrowserRequest, IssueError, Issued, ServedCall};
use crate::issue::engine::{Engine, unavailable};
use crate::sign_on::client::oidc_client;
use crate::sign_on::directory::{DomainOwner, ListedProvider};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::log_in_record::{LOG_IN_TIME, LinkIntent, LogInProtocol, LogInRecord, MAX_LOG_INS, remove_cookie, set_cookie};
use crate::sign_on::oidc::LogInValues;
use crate::sign_on::oidc_providers::OidcLogIn;
use crate::sign_on::provider::ProviderProtocol;
use crate::snapshot::sign_on_route::{SignOnRoute, StartStep, StartTenant};

use super::provider::FoundProvider;
use super::saml::{Departure, post_page};
use super::{access, because, browser, path_tenant, refused, refused_early};

/// Longest value of a parameter that is read.
const MAX_VALUE: usize = 2_048;

/// What the query of a start may say. Other parameters are not read.
#[derive(Debug, Default)]
struct StartQuery {
    provider: Option<CredentialId>,
    email: Option<String>,
    return_to: Option<String>,
}

impl StartQuery {
    fn parse(query: Option<&str>) -> Result<Self, SignOnFault> {
        let mut read = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = || {
                let plain = value.replace('+', " ");
                decode(&plain)
                    .filter(|text| (1..=MAX_VALUE).contains(&text.len()))
                    .ok_or(SignOnFault::StartForm)
            };
            match name {
                "provider" if read.provider.is_none() => {
                    read.provider = Some(CredentialId::parse(&value()?).map_err(|_| SignOnFault::StartForm)?);
                }
                "email" if read.email.is_none() => {
                    read.email = Some(value()?).filter(|text| is_email(text));
                    if read.email.is_none() {
                        return Err(SignOnFault::StartForm);
                    }
                }
                "return_to" if read.return_to.is_none() => read.return_to = Some(value()?),
                // Said twice, nobody knows which one is meant.
                "provider" | "email" | "return_to" => return Err(SignOnFault::StartForm),
                _ => {}
            }
        }
        Ok(read)
    }
}

/// What a sign-on begins with.
struct Beginning<'b> {
    route: &'b SignOnRoute,
    step: &'b StartStep,
    tenant: &'b TenantId,
    return_to: String,
    email: Option<String>,
    /// Set where a session begins it to link its account.
    link: Option<LinkIntent>,
    /// How the way to the provider is answered.
    answer: AnswerForm,
    /// The action for the access line.
    done: &'static str,
}

impl Engine {
    pub(super) async fn start_sign_on(&self, call: &ServedCall, route: &SignOnRoute, step: &StartStep) -> Result<Issued, IssueError> {
        let query = StartQuery::parse(call.query.as_deref()).map_err(|fault| refused_early(&fault))?;
        let rules = &route.settings.return_to;
        let return_to = match &query.return_to {
            None => rules.first(),
            Some(address) if rules.admit(address) => address.clone(),
            Some(_) => return Err(refused_early(&SignOnFault::ReturnTo)),
        };
        let (tenant, mut offered) = self.offered(call, step, &query).await?;
        if let Some(chosen) = &query.provider {
            offered.retain(|provider| provider.id == *chosen);
        }
        let beginning = Beginning {
            route,
            step,
            tenant: &tenant,
            return_to,
            email: query.email.clone(),
            link: None,
            // A start is where a browser goes, whatever it would like to read.
            answer: AnswerForm::Html,
            done: "sso_start",
        };
        match offered.as_slice() {
            [] => Err(because(Denial::NotFound, &SignOnFault::NoProvider, None)),
            [only] => {
                let provider = self.find_provider(&only.id, self.clock.now().wall).await?;
                self.begin(call, &beginning, &provider).await
            }
            several => choose(call, &beginning, several),
        }
    }

    /// The tenant, and its providers that this route can begin with.
    async fn offered(
        &self,
        call: &ServedCall,
        step: &StartStep,
        query: &StartQuery,
    ) -> Result<(TenantId, Vec<ListedProvider>), IssueError> {
        let (tenant, only) = match &step.tenant {
            StartTenant::Path(parameter) => (path_tenant(call, parameter)?, None),
            StartTenant::EmailDomain => {
                let address = query.email.as_deref().ok_or_else(|| refused_early(&SignOnFault::StartForm))?;
                match self.directory.find_owner(address).await.map_err(|error| unavailable(&error))? {
                    DomainOwner::Tenant { tenant, providers } => (tenant, Some(providers)),
                    DomainOwner::Nobody => return Err(because(Denial::NotFound, &SignOnFault::UnknownDomain, None)),
                    DomainOwner::Several => return Err(because(Denial::NotFound, &SignOnFault::DomainOfSeveral, None)),
                }
            }
            StartTenant::Caller => (call.caller()?.record().tenant.clone(), None),
        };
        let offered = self.offered_at(&tenant, step, only.as_deref()).await?;
        Ok((tenant, offered))
    }

    /// The providers of a tenant that this route can begin with: all, or those of `only`.
    pub(super) async fn offered_at(
        &self,
        tenant: &TenantId,
        step: &StartStep,
        only: Option<&[CredentialId]>,
    ) -> Result<Vec<ListedProvider>, IssueError> {
        let mut offered = self.directory.list_active(tenant).await.map_err(|error| unavailable(&error))?;
        offered.retain(|provider| {
            let has_way_back = match provider.kind {
                "oidc" => step.oidc.is_some(),
                _ => step.saml.is_some(),
            };
            has_way_back && only.is_none_or(|ids| ids.contains(&provider.id))
        });
        Ok(offered)
    }

    /// Begins a sign-on that links the account of a session.
    pub(super) async fn begin_link(
        &self,
        call: &ServedCall,
        route: &SignOnRoute,
        step: &StartStep,
        provider: &FoundProvider,
        return_to: String,
        intent: LinkIntent,
    ) -> Result<Issued, IssueError> {
        let tenant = provider.tenant().id.clone();
        let beginning = Beginning {
            route,
            step,
            tenant: &tenant,
            return_to,
            email: None,
            link: Some(intent),
            answer: browser(call)?.form,
            done: "sso_link_start",
        };
        self.begin(call, &beginning, provider).await
    }

    async fn begin(&self, call: &ServedCall, beginning: &Beginning<'_>, provider: &FoundProvider) -> Result<Issued, IssueError> {
        let now = self.clock.now().wall;
        if provider.tenant().id != *beginning.tenant {
            return Err(because(Denial::NotFound, &SignOnFault::NoProvider, None));
        }
        let fault = |fault: SignOnFault| refused(&fault, provider);
        let record = |protocol: LogInProtocol, values: &LogInValues| {
            let mut id = [0; 16];
            aws_lc_rs::rand::fill(&mut id).map_err(|_| SignOnFault::NoRandomness)?;
            Ok(LogInRecord {
                id,
                tenant: beginning.tenant.clone(),
                provider: provider.record().id.clone(),
                state: values.state,
                protocol,
                return_to: beginning.return_to.clone(),
                link: beginning.link.clone(),
                expires_at: now.plus(LOG_IN_TIME),
            })
        };
        let values = LogInValues::random().map_err(fault)?;
        let (way, record) = match (&provider.settings.protocol, &beginning.step.oidc, &beginning.step.saml) {
            (ProviderProtocol::Oidc(oidc), Some(finish), _) => {
                let client = oidc_client(&provider.record().id, oidc, &self.peppers).map_err(fault)?;
                let log_in = OidcLogIn {
                    client: &client,
                    redirect_uri: &finish.of(beginning.tenant),
                    values: &values,
                    access: &access(&beginning.route.settings),
                };
                let location = self.oidc.begin(log_in, beginning.email.as_deref()).await.map_err(fault)?;
                let record = record(LogInProtocol::Oidc(values), &values).map_err(fault)?;
                (Departure::Redirect(location), record)
            }
            (ProviderProtocol::Saml(saml), _, Some(urls)) => {
                let (way, request_id) = self.saml_request(provider, saml, urls, &values.state.text(), now)?;
                (way, record(LogInProtocol::Saml { request_id }, &values).map_err(fault)?)
            }
            _ => return Err(because(Denial::NotFound, &SignOnFault::NoProvider, None)),
        };
        self.send_to_provider(call, beginning, provider, &record, way)
    }

    /// The answer that sends a browser to its provider, with the log-in record in a cookie.
    fn send_to_provider(
        &self,
        call: &ServedCall,
        beginning: &Beginning<'_>,
        provider: &FoundProvider,
        record: &LogInRecord,
        way: Departure,
    ) -> Result<Issued, IssueError> {
        let name = record.cookie().ok_or(Denial::Internal)?;
        let sealed = record.seal(&self.peppers).map_err(|fault| refused(&fault, provider))?;
        let mut cookies = self.forgotten(browser(call)?);
        cookies.push(set_cookie(&name, &sealed, &record.protocol));
        let cookies = cookies.into_iter().map(|cookie| ("Set-Cookie".to_owned(), cookie));
        let json = |value: serde_json::Value| (200, Vec::new(), Some(value.to_string().into_bytes()));
        let (status, fields, body) = match (way, beginning.answer) {
            (Departure::Redirect(location), AnswerForm::Html) => (303, vec![("Location".to_owned(), location)], None),
            // A page that begins by a script goes there itself: a script cannot follow a redirect to another site.
            (Departure::Redirect(location), AnswerForm::Json) => json(json!({ "location": location })),
            (Departure::Post(form), AnswerForm::Json) => {
                let fields: serde_json::Map<_, _> = form.fields.into_iter().map(|(name, value)| (name, value.into())).collect();
                json(json!({ "location": form.action, "fields": fields }))
            }
            (Departure::Post(form), AnswerForm::Html) => {
                let page = post_page(form)?;
                (200, page.fields, Some(page.body.to_vec()))
            }
        };
        Ok(Issued {
            status,
            fields: fields.into_iter().chain(cookies).collect(),
            body,
            done: format!("{} provider:{}", beginning.done, provider.record().id),
            notification: None,
        })
    }

    /// The cookies that are removed, so that a browser has no more log-in records than it may: those that nobody can open any
    /// more, and the oldest of the others. A page of another site can begin sign-ons in a browser, and must not fill its requests
    /// with cookies.
    fn forgotten(&self, browser: &BrowserRequest) -> Vec<String> {
        let now = self.clock.now().wall;
        let mut kept: Vec<(&String, Option<LogInRecord>)> = browser
            .log_in_records
            .iter()
            .map(|(name, sealed)| (name, LogInRecord::open(name, sealed, &self.peppers, now)))
            .collect();
        kept.sort_by_key(|(_, record)| record.as_ref().map(|record| record.expires_at));
        let dead = kept.iter().filter(|(_, record)| record.is_none()).count();
        let living = kept.len() - dead;
        let most = MAX_LOG_INS - 1;
        let gone = dead + living.saturating_sub(most);
        kept.iter().take(gone).map(|(name, _)| remove_cookie(name)).collect()
    }
}

/// Lets people choose among the providers of their tenant; programs are given the list.
fn choose(call: &ServedCall, beginning: &Beginning<'_>, offered: &[ListedProvider]) -> Result<Issued, IssueError> {
    let address = |provider: &ListedProvider| {
        let mut query = b"?provider=".to_vec();
        push_query(&mut query, provider.id.as_str());
        for (name, value) in [("email", beginning.email.as_ref()), ("return_to", Some(&beginning.return_to))] {
            if let Some(value) = value {
                query.extend_from_slice(format!("&{name}=").as_bytes());
                push_query(&mut query, value);
            }
        }
        String::from_utf8(query).unwrap_or_default()
    };
    let form = browser(call)?.form;
    let (fields, body) = match form {
        AnswerForm::Html => {
            let choices = offered.iter().map(|provider| PageChoice {
                name: provider.name.clone(),
                url: address(provider),
            });
            let page = HtmlPage {
                title: "Sign in",
                lines: vec!["Choose how you sign in.".to_owned()],
                choices: choices.collect(),
                ..HtmlPage::default()
            };
            let rendered = page.render()?;
            (rendered.fields, rendered.body.to_vec())
        }
        AnswerForm::Json => {
            let listed = offered.iter().map(
                |provider| json!({ "id": provider.id.as_str(), "name": provider.name, "kind": provider.kind, "url": address(provider) }),
            );
            let listed: Vec<serde_json::Value> = listed.collect();
            (Vec::new(), json!({ "providers": listed }).to_string().into_bytes())
        }
    };
    Ok(Issued {
        // A browser shows the page of a 300 that has no `Location`, and a program knows that it has to choose.
        status: if form == AnswerForm::Html { 200 } else { 300 },
        fields,
        body: Some(body),
        done: "sso_choose".to_owned(),
        notification: None,
    })
}
