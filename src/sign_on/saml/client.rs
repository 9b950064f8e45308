//! A sign-on by SAML from its begin to the person, with the settings of one provider.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Peppers;
use crate::base::ids::CredentialId;
use crate::sign_on::fault::{ProviderText, SignOnFault};
use crate::sign_on::person::{PersonRules, ProviderClaims, ProviderSession, SignedOnPerson};
use crate::sign_on::provider::SamlSettings;
use crate::sign_on::seal::{SealPurpose, SealScope, open};
use crate::sign_on::sign_on_secrets::SamlName;

use super::child::SamlVerifier;
use super::fault::SamlFault;
use super::key_pair::SpKeyPair;
use super::logout::{EndedAtProvider, LogoutRules, judge_logout, judge_logout_answer, logout_request, logout_response};
use super::metadata::{RequestSigning, SamlEndpoint, SpMetadata};
use super::query::{QueryMessage, SignedQuery};
use super::request::{AuthnRequest, MessageId, post_value, redirect_url};
use super::response::{ProvenAssertion, ResponseRules, Solicitation, decode_post, judge_response};
use super::verifier::{JobKeys, LogoutJob, LogoutMessage, ResponseJob, VerifierAnswer, VerifierJob};

/// The claim that stands for the name of the person at the provider, beside the attributes.
pub const NAME_ID_CLAIM: &str = "NameID";

/// We as the service provider of one identity provider. It holds our key, so it has no `Debug`.
pub struct SamlClient {
    settings: SamlSettings,
    certificates: Vec<CertificateDer<'static>>,
    own: Option<SpKeyPair>,
    acs_url: String,
    sp_entity_id: String,
}

/// How a browser gets to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SamlDeparture {
    /// To this address.
    Redirect(String),
    /// With this value of the message's field, posted to this address.
    Post { url: String, value: String },
}

/// What a browser brought back.
#[derive(Clone, Copy)]
pub struct SamlArrival<'a> {
    /// The form field `SAMLResponse`.
    pub response: &'a str,
    /// The id of the request in the browser's log-in record; `None`: the browser has none.
    pub request_id: Option<&'a str>,
}

/// A person whom a response proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenBySaml {
    pub person: SignedOnPerson,
    /// How the provider calls the person and the session, for a log-out there.
    pub name: SamlName,
    /// The assertion, which must be taken as used before a session is made.
    pub assertion_id: String,
    /// Until when it must be kept as used; within a day.
    pub used_until: UnixMillis,
}

/// A logout request or an answer to one, as it came.
#[derive(Clone, Copy)]
pub enum LogoutArrival<'a> {
    /// The form field with the message.
    Posted(&'a str),
    Redirected(&'a SignedQuery),
}

impl SamlClient {
    /// The client of the provider `provider`. `acs_url` is where responses arrive; `metadata_url` is our name unless the settings
    /// have another one.
    ///
    /// # Errors
    /// Certificates that cannot be read, and a key that cannot be opened.
    pub fn new(
        provider: &CredentialId,
        settings: &SamlSettings,
        peppers: &Peppers,
        acs_url: String,
        metadata_url: Option<String>,
    ) -> Result<Self, SignOnFault> {
        let certificates = settings
            .certificates
            .iter()
            .map(|text| read_der(text))
            .collect::<Result<_, _>>()
            .map_err(SignOnFault::Saml)?;
        let own = match (&settings.own_key_sealed, &settings.own_certificate) {
            (Some(sealed), Some(certificate)) => {
                let scope = SealScope {
                    purpose: SealPurpose::ProviderSecret,
                    owner: provider.as_str(),
                    field: "own_key",
                };
                let private = open(peppers, &scope, sealed).map_err(SignOnFault::Sealed)?;
                Some(SpKeyPair::from_parts(private, read_der(certificate).map_err(SignOnFault::Saml)?))
            }
            _ => None,
        };
        let sp_entity_id = settings.sp_entity_id.clone().or(metadata_url).unwrap_or_else(|| acs_url.clone());
        Ok(Self {
            settings: settings.clone(),
            certificates,
            own,
            acs_url,
            sp_entity_id,
        })
    }

    /// Sends a browser to the provider. `state` comes back as `RelayState`.
    ///
    /// # Errors
    /// There is no address to send it to, or no key to sign with.
    pub fn begin(&self, request_id: &MessageId, state: &str, now: UnixMillis) -> Result<SamlDeparture, SignOnFault> {
        let signer = self.signer()?;
        let request = |destination| AuthnRequest {
            id: request_id,
            destination,
            acs_url: &self.acs_url,
            sp_entity_id: &self.sp_entity_id,
            name_id_format: self.settings.name_id_format.as_deref(),
        };
        match (&self.settings.sso_redirect_url, &self.settings.sso_post_url) {
            (Some(url), _) => {
                let xml = request(url).xml(now);
                let address = redirect_url(url, QueryMessage::Request, &xml, Some(state), signer).map_err(SignOnFault::Saml)?;
                Ok(SamlDeparture::Redirect(address))
            }
            (None, Some(url)) => Ok(SamlDeparture::Post {
                url: url.clone(),
                value: post_value(&request(url).xml(now), request_id, signer).map_err(SignOnFault::Saml)?,
            }),
            (None, None) => Err(SignOnFault::Saml(SamlFault::NoAddress)),
        }
    }

    fn signer(&self) -> Result<Option<&SpKeyPair>, SignOnFault> {
        match (&self.own, self.settings.sign_requests) {
            (Some(own), true) => Ok(Some(own)),
            (None, true) => Err(SignOnFault::NoSecret),
            (_, false) => Ok(None),
        }
    }

    /// The person whom a response proves. A log-in record must have been used up before.
    ///
    /// # Errors
    /// The first rule that the response does not fit.
    pub async fn finish(
        &self,
        verifier: &SamlVerifier,
        arrival: SamlArrival<'_>,
        rules: &PersonRules,
        now: UnixMillis,
    ) -> Result<ProvenBySaml, SignOnFault> {
        let job = ResponseJob {
            message: decode_post(arrival.response).map_err(SignOnFault::Saml)?,
            keys: JobKeys::new(&self.certificates, now),
            signed: self.settings.want,
            encryption: self.settings.encryption,
            decryption_key: self.own.as_ref().map(|own| own.private_pem().as_str().to_owned()),
        };
        let VerifierAnswer::Response(claims) = verifier.ask(&VerifierJob::Response(job)).await.map_err(SignOnFault::Saml)? else {
            return Err(another_answer());
        };
        let solicitation = match arrival.request_id {
            Some(id) => Solicitation::Request(id),
            None if self.settings.idp_initiated => Solicitation::ProviderMayBegin,
            None => Solicitation::Needed,
        };
        let response_rules = ResponseRules {
            entity_id: &self.settings.entity_id,
            sp_entity_id: &self.sp_entity_id,
            acs_url: &self.acs_url,
            solicitation,
            skew: Duration::from_secs(self.settings.skew),
        };
        proven_person(judge_response(&claims, &response_rules, now).map_err(SignOnFault::Saml)?, rules)
    }

    /// What a logout request that arrived at `url` ends. The request must be taken as used before anything is ended.
    ///
    /// # Errors
    /// The first rule that the request does not fit.
    pub async fn logout(
        &self,
        verifier: &SamlVerifier,
        arrival: LogoutArrival<'_>,
        url: &str,
        now: UnixMillis,
    ) -> Result<EndedAtProvider, SignOnFault> {
        let job = self.logout_job(arrival, now)?;
        let VerifierAnswer::LogoutRequest(claims) = verifier.ask(&VerifierJob::LogoutRequest(job)).await.map_err(SignOnFault::Saml)? else {
            return Err(another_answer());
        };
        let rules = self.logout_rules(url);
        judge_logout(&claims, &rules, now).map_err(SignOnFault::Saml)
    }

    /// How a browser takes our answer to a logout request to the provider; `None` if the provider has no address for it.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn answer_logout(
        &self,
        request_id: &str,
        relay_state: Option<&str>,
        now: UnixMillis,
    ) -> Result<Option<SamlDeparture>, SignOnFault> {
        let id = MessageId::generate().map_err(SignOnFault::Saml)?;
        let xml = |destination: &str| logout_response(&id, &self.sp_entity_id, destination, request_id, now);
        self.to_logout_service(QueryMessage::Response, &id, relay_state, &xml)
    }

    /// How a browser takes our logout request for the session of this name to the provider; `None` if the provider has no address
    /// for it. `state` comes back as `RelayState`.
    ///
    /// # Errors
    /// There is no key to sign with.
    pub fn begin_logout(
        &self,
        id: &MessageId,
        name: &SamlName,
        state: &str,
        now: UnixMillis,
    ) -> Result<Option<SamlDeparture>, SignOnFault> {
        if self.own.is_none() {
            return Err(SignOnFault::NoSecret);
        }
        let xml = |destination: &str| logout_request(id, &self.sp_entity_id, destination, name, now);
        self.to_logout_service(QueryMessage::Request, id, Some(state), &xml)
    }

    /// Whether the provider ended everything, by its answer that arrived at `url`, to our request of this id.
    ///
    /// # Errors
    /// The first rule that the answer does not fit, or what the provider did not end.
    pub async fn logout_answer(
        &self,
        verifier: &SamlVerifier,
        arrival: LogoutArrival<'_>,
        url: &str,
        request_id: &str,
        now: UnixMillis,
    ) -> Result<(), SignOnFault> {
        let job = self.logout_job(arrival, now)?;
        let VerifierAnswer::LogoutAnswer(claims) = verifier.ask(&VerifierJob::LogoutAnswer(job)).await.map_err(SignOnFault::Saml)? else {
            return Err(another_answer());
        };
        judge_logout_answer(&claims, &self.logout_rules(url), request_id, now).map_err(SignOnFault::Saml)
    }

    fn logout_job(&self, arrival: LogoutArrival<'_>, now: UnixMillis) -> Result<LogoutJob, SignOnFault> {
        Ok(LogoutJob {
            message: match arrival {
                LogoutArrival::Posted(field) => LogoutMessage::Posted(decode_post(field).map_err(SignOnFault::Saml)?),
                LogoutArrival::Redirected(query) => LogoutMessage::Redirected(query.clone()),
            },
            keys: JobKeys::new(&self.certificates, now),
        })
    }

    fn logout_rules<'r>(&'r self, url: &'r str) -> LogoutRules<'r> {
        LogoutRules {
            entity_id: &self.settings.entity_id,
            url,
            skew: Duration::from_secs(self.settings.skew),
        }
    }

    /// The way of a message of single logout, whose text depends on where it goes. Providers want it signed whatever requests
    /// for authentication are (SAML profiles, sections 4.4.4.1 and 4.4.4.2).
    fn to_logout_service(
        &self,
        carries: QueryMessage,
        id: &MessageId,
        state: Option<&str>,
        xml: &dyn Fn(&str) -> String,
    ) -> Result<Option<SamlDeparture>, SignOnFault> {
        let elsewhere = match carries {
            QueryMessage::Request => None,
            QueryMessage::Response => self.settings.slo_response_url.as_deref(),
        };
        let signer = self.own.as_ref();
        let departure = match (&self.settings.slo_url, &self.settings.slo_post_url) {
            (Some(url), _) => {
                let url = elsewhere.unwrap_or(url);
                redirect_url(url, carries, &xml(url), state, signer).map(SamlDeparture::Redirect)
            }
            (None, Some(url)) => {
                let url = elsewhere.unwrap_or(url);
                post_value(&xml(url), id, signer).map(|value| SamlDeparture::Post {
                    url: url.to_owned(),
                    value,
                })
            }
            (None, None) => return Ok(None),
        };
        departure.map(Some).map_err(SignOnFault::Saml)
    }

    /// Our metadata for this provider. `logout` are our addresses for single logout.
    #[must_use]
    pub fn metadata(&self, logout: &[SamlEndpoint]) -> String {
        let certificates: Vec<CertificateDer<'_>> = self.own.iter().map(|own| own.certificate().clone()).collect();
        let requests = if self.settings.sign_requests {
            RequestSigning::Signed
        } else {
            RequestSigning::Unsigned
        };
        let metadata = SpMetadata {
            entity_id: &self.sp_entity_id,
            acs_url: &self.acs_url,
            logout,
            certificates: &certificates,
            name_id_format: self.settings.name_id_format.as_deref(),
            requests,
        };
        metadata.xml()
    }
}

fn another_answer() -> SignOnFault {
    SignOnFault::Saml(SamlFault::VerifierFailed("it answered something else".to_owned()))
}

fn read_der(text: &str) -> Result<CertificateDer<'static>, SamlFault> {
    let der = STANDARD.decode(text);
    der.map(CertificateDer::from)
        .map_err(|_| SamlFault::NoCertificate("a certificate of the settings is not base64".to_owned()))
}

fn proven_person(proven: ProvenAssertion, rules: &PersonRules) -> Result<ProvenBySaml, SignOnFault> {
    let subject = if rules.subject == NAME_ID_CLAIM {
        if proven.name_id.is_transient() {
            return Err(SignOnFault::Saml(SamlFault::TransientName));
        }
        proven.name_id.value.clone()
    } else {
        let missing = || SignOnFault::MissingClaim(ProviderText::of(&rules.subject));
        proven.text(&rules.subject).ok_or_else(missing)?
    };
    let session = ProviderSession {
        id: proven.session_index.clone(),
        ends_at: proven.session_ends_at,
        auth_time: Some(proven.authenticated_at),
    };
    let name = SamlName {
        name_id: proven.name_id.clone(),
        session_index: proven.session_index.clone(),
    };
    Ok(ProvenBySaml {
        name,
        person: SignedOnPerson::of(&subject, &proven, rules, session)?,
        assertion_id: proven.assertion_id,
        used_until: proven.used_until,
    })
}

impl ProviderClaims for ProvenAssertion {
    fn text(&self, name: &str) -> Option<String> {
        match self.texts(name)?.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        }
    }

    fn texts(&self, name: &str) -> Option<Vec<String>> {
        if name == NAME_ID_CLAIM {
            return Some(vec![self.name_id.value.clone()]);
        }
        self.values(name).map(<[String]>::to_vec)
    }
}
