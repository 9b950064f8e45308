//! The steps of SAML 2.0: the request that a browser takes to the provider, the response that it brings back, our metadata.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::percent::decode;
use crate::dialect::page::{Page, PageForm};
use crate::issue::call::{IssueError, Issued, RefusalCause, ServedCall};
use crate::issue::engine::{Engine, unavailable};
use crate::sign_on::client::{open_sealed, person_rules};
use crate::sign_on::fault::{FaultSide, SignOnFault};
use crate::sign_on::log_in_record::{LogInProtocol, cookie_name};
use crate::sign_on::person::{ProviderClaims, ProviderSession, SignedOnPerson};
use crate::sign_on::provider::SamlSettings;
use crate::sign_on::saml::metadata::{RequestSigning, SpMetadata};
use crate::sign_on::saml::query::QueryMessage;
use crate::sign_on::saml::request::{AuthnRequest, FreshLogIn, MessageId, post_value, redirect_url};
use crate::sign_on::saml::response::{ProvenAssertion, ResponseRules, Solicitation, decode_post, judge_response};
use crate::sign_on::saml::verifier::{JobKeys, ResponseClaims, ResponseJob, VerifierAnswer, VerifierJob};
use crate::sign_on::saml::{SamlFault, SpKeyPair};
use crate::snapshot::sign_on_route::{FinishStep, RouteUrl, SamlUrls, SignOnRoute};

use super::provider::FoundProvider;
use super::session::ProvenPerson;
use super::{browser, path_tenant, refused, refused_by, refused_early};

/// Most providers of a tenant that are looked at for the one that may begin sign-ons.
const MAX_CANDIDATES: usize = 16;

/// How a browser takes a request to a provider.
pub(super) enum ProviderRequest {
    /// It is sent to this address.
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
    cookie: Option<String>,
}

/// An assertion as the claims of a person.
struct AssertionPerson<'a>(&'a ProvenAssertion);

impl ProviderClaims for AssertionPerson<'_> {
    fn text(&self, name: &str) -> Option<String> {
        match (name, self.0.values(name)) {
            ("NameID", _) => Some(self.0.name_id.value.clone()),
            (_, Some([one])) => Some(one.clone()),
            _ => None,
        }
    }

    fn texts(&self, name: &str) -> Option<Vec<String>> {
        self.0.values(name).map(<[String]>::to_vec)
    }
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
    ) -> Result<(ProviderRequest, String), IssueError> {
        let id = MessageId::generate().map_err(|fault| refused_saml(&fault, &provider.record().id))?;
        let tenant = &provider.tenant().id;
        let acs_url = urls.finish.of(tenant);
        let sp_entity_id = entity_id(saml, &urls.finish, urls.metadata.as_ref(), tenant);
        let signer = match saml.sign_requests {
            true => Some(self.own_key(provider, saml)?),
            false => None,
        };
        let fault = |fault: SamlFault| refused_saml(&fault, &provider.record().id);
        let request = |destination: &str| {
            let request = AuthnRequest {
                id: &id,
                destination,
                acs_url: &acs_url,
                sp_entity_id: &sp_entity_id,
                name_id_format: saml.name_id_format.as_deref(),
                fresh: FreshLogIn::SessionIsEnough,
            };
            request.xml(now)
        };
        let way = match (&saml.sso_redirect_url, &saml.sso_post_url) {
            (Some(url), _) => {
                let address = redirect_url(url, QueryMessage::Request, &request(url), Some(state), signer.as_ref());
                ProviderRequest::Redirect(address.map_err(fault)?)
            }
            (None, Some(url)) => {
                let value = post_value(&request(url), &id, signer.as_ref()).map_err(fault)?;
                ProviderRequest::Post(PageForm {
                    action: url.clone(),
                    fields: vec![("SAMLRequest".to_owned(), value), ("RelayState".to_owned(), state.to_owned())],
                    button: "Continue".to_owned(),
                })
            }
            (None, None) => return Err(refused(&SignOnFault::NoSamlAddress, provider)),
        };
        Ok((way, id.to_string()))
    }

    /// Takes the response of a SAML provider. It is verified in a confined process, and its assertion is used once.
    pub(super) async fn finish_saml(&self, call: &ServedCall, route: &SignOnRoute, step: &FinishStep) -> Result<Issued, IssueError> {
        let tenant = path_tenant(call, step.tenant.as_deref().ok_or(Denial::Internal)?)?;
        let field = call.body.text("SAMLResponse");
        let message = field.ok_or_else(|| refused_early(&SignOnFault::NoSamlResponse))?;
        let begun_at = self.time().await?;
        let brought = self.brought(call, route, &tenant).await?;
        let provider = brought.provider;
        let id = provider.record().id.clone();
        let fault = |fault: SamlFault| refused_saml(&fault, &id);
        let saml = provider
            .settings
            .saml()
            .ok_or_else(|| refused(&SignOnFault::WrongProtocol, &provider))?;
        let message = decode_post(message).map_err(fault)?;
        let claims = self.verified_response(&provider, saml, message).await?;
        let rules = ResponseRules {
            entity_id: &saml.entity_id,
            sp_entity_id: &entity_id(saml, &step.url, step.metadata.as_ref(), &tenant),
            acs_url: &step.url.of(&tenant),
            solicitation: match &brought.request_id {
                Some(request) => Solicitation::Request(request),
                None if saml.idp_initiated => Solicitation::ProviderMayBegin,
                None => Solicitation::Needed,
            },
            skew: Duration::from_secs(saml.skew),
        };
        let proven = judge_response(&claims, &rules, self.clock.now().wall).map_err(fault)?;
        let used = [id.as_str(), "\0", &proven.assertion_id].concat();
        if !self.take_once("assertion", used.as_bytes(), proven.used_until).await? {
            return Err(fault(SamlFault::Replayed));
        }
        let person = person_of(&proven, &provider).map_err(|fault| refused_by(&fault, &id))?;
        let proven = ProvenPerson {
            person,
            provider,
            begun_at,
            return_to: brought.return_to,
            cookie: brought.cookie,
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
    async fn saml_providers(&self, tenant: &TenantId) -> Result<Vec<FoundProvider>, IssueError> {
        let listed = self.directory.list_active(tenant).await.map_err(|error| unavailable(&error))?;
        let mut found = Vec::new();
        for listed in listed.iter().filter(|listed| listed.kind == "saml").take(MAX_CANDIDATES) {
            // One that has ended since is left out.
            if let Ok(provider) = self.find_provider(&listed.id, self.clock.now().wall).await {
                found.push(provider);
            }
        }
        Ok(found)
    }

    async fn verified_response(
        &self,
        provider: &FoundProvider,
        saml: &SamlSettings,
        message: String,
    ) -> Result<ResponseClaims, IssueError> {
        let fault = |fault: SamlFault| refused_saml(&fault, &provider.record().id);
        let decryption_key = match &saml.own_key_sealed {
            Some(_) => Some(self.own_key(provider, saml)?.private_pem().to_string()),
            None => None,
        };
        let job = VerifierJob::Response(ResponseJob {
            message,
            keys: JobKeys::new(&certificates(saml)?, self.clock.now().wall),
            signed: saml.want,
            encryption: saml.encryption,
            decryption_key,
        });
        match self.saml.ask(&job).await.map_err(fault)? {
            VerifierAnswer::Response(claims) => Ok(*claims),
            _ => Err(fault(SamlFault::VerifierFailed("it answered something else".to_owned()))),
        }
    }

    /// Our own key for this provider.
    fn own_key(&self, provider: &FoundProvider, saml: &SamlSettings) -> Result<SpKeyPair, IssueError> {
        let fault = |fault: SignOnFault| refused(&fault, provider);
        let private = open_sealed(&provider.record().id, "own_key", saml.own_key_sealed.as_deref(), &self.peppers).map_err(fault)?;
        let certificate = own_certificate(saml).ok_or_else(|| fault(SignOnFault::NoSecret))?;
        Ok(SpKeyPair::from_parts(private, certificate))
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
            return Err(super::because(Denial::NotFound, &SignOnFault::NoProvider, None));
        };
        let saml = provider.settings.saml().ok_or(Denial::Internal)?;
        let certificates: Vec<CertificateDer<'static>> = own_certificate(saml).into_iter().collect();
        let metadata = SpMetadata {
            entity_id: &entity_id(saml, finish, Some(own), &tenant),
            acs_url: &finish.of(&tenant),
            logout_url: None,
            certificates: &certificates,
            name_id_format: saml.name_id_format.as_deref(),
            requests: if saml.sign_requests {
                RequestSigning::Signed
            } else {
                RequestSigning::Unsigned
            },
        };
        Ok(Issued {
            status: 200,
            fields: vec![("Content-Type".to_owned(), "application/samlmetadata+xml".to_owned())],
            body: Some(metadata.xml().into_bytes()),
            done: format!("saml_metadata provider:{}", provider.record().id),
            notification: None,
        })
    }
}

/// The answer that lets a browser post a request to its provider.
pub(super) fn post_page(form: PageForm) -> Result<(Vec<(String, String)>, Vec<u8>), Denial> {
    let page = Page {
        title: "Sign in",
        lines: vec!["You are being taken to your organisation's sign-in service.".to_owned()],
        form: Some(form),
        ..Page::default()
    };
    let rendered = page.render()?;
    let fields = rendered.fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    Ok((fields.collect(), rendered.body.to_vec()))
}

/// Our name for this provider: that of its settings, else the address of our metadata, else that of the finish.
fn entity_id(saml: &SamlSettings, finish: &RouteUrl, metadata: Option<&RouteUrl>, tenant: &TenantId) -> String {
    let address = || metadata.unwrap_or(finish).of(tenant);
    saml.sp_entity_id.clone().unwrap_or_else(address)
}

fn person_of(proven: &ProvenAssertion, provider: &FoundProvider) -> Result<SignedOnPerson, SignOnFault> {
    let rules = person_rules(&provider.settings);
    let claims = AssertionPerson(proven);
    if rules.subject == "NameID" && proven.name_id.is_transient() {
        return Err(SignOnFault::TransientNameId);
    }
    let missing = || SignOnFault::MissingClaim(crate::sign_on::fault::ProviderText::of(&rules.subject));
    let subject = claims.text(&rules.subject).ok_or_else(missing)?;
    let session = ProviderSession {
        id: proven.session_index.clone(),
        ends_at: proven.session_ends_at,
        auth_time: Some(proven.authenticated_at),
    };
    SignedOnPerson::of(&subject, &claims, &rules, session)
}

fn certificates(saml: &SamlSettings) -> Result<Vec<CertificateDer<'static>>, Denial> {
    let read = saml
        .certificates
        .iter()
        .map(|text| Some(CertificateDer::from(STANDARD.decode(text).ok()?)));
    read.collect::<Option<_>>().ok_or(Denial::CorruptRecord)
}

fn own_certificate(saml: &SamlSettings) -> Option<CertificateDer<'static>> {
    Some(CertificateDer::from(STANDARD.decode(saml.own_certificate.as_ref()?).ok()?))
}

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

/// The refusal of a message of a SAML provider.
fn refused_saml(fault: &SamlFault, provider: &CredentialId) -> IssueError {
    let denial = match fault {
        SamlFault::VerifierBusy => Denial::Overloaded,
        SamlFault::WrongRequest | SamlFault::Unsolicited | SamlFault::Replayed => Denial::SignOnInvalid,
        fault if fault.side() == FaultSide::Unavailable => Denial::ProviderFailed,
        _ => Denial::SignOnRefused,
    };
    IssueError {
        cause: Some(Box::new(RefusalCause {
            label: fault.label(),
            words: fault.to_string(),
            provider: Some(provider.clone()),
        })),
        ..denial.into()
    }
}
