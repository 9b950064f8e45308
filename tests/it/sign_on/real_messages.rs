//! What real SAML providers sent is read and judged as they meant it; the same at another time or for somebody else is refused.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use durward::base::clock::UnixMillis;
use durward::sign_on::provider::{EncryptionDemand, SignedPart};
use durward::sign_on::saml::logout::{LogoutRules, judge_logout};
use durward::sign_on::saml::metadata::{IdpMetadata, SamlBinding};
use durward::sign_on::saml::query::{QueryMessage, RedirectQuery};
use durward::sign_on::saml::response::{ProvenAssertion, ResponseRules, Solicitation, decode_post, judge_response};
use durward::sign_on::saml::verifier::{JobKeys, LogoutJob, LogoutMessage, ResponseJob, VerifierAnswer, VerifierJob, answer};
use durward::sign_on::saml::{SamlFault, SamlVerifier};
use rustls::pki_types::CertificateDer;

use super::samples::RealSample;

/// The difference of clocks that a provider is granted.
const SKEW: Duration = Duration::from_secs(60);

const RESPONSES: [&str; 6] = [
    "pysaml2-assertion-signed",
    "pysaml2-response-signed",
    "pysaml2-encrypted",
    "pysaml2-unsolicited",
    "lemonldap-saml",
    "lemonldap-saml-encrypted",
];

impl RealSample {
    fn metadata(&self) -> IdpMetadata {
        let document = self.text("idp_metadata").to_owned();
        match answer(&VerifierJob::Metadata { document }) {
            VerifierAnswer::Metadata(metadata) => *metadata,
            other => panic!("{other:?}"),
        }
    }

    fn job_keys(&self) -> JobKeys {
        let metadata = self.metadata();
        let certificates = metadata
            .certificates
            .iter()
            .map(|one| CertificateDer::from(STANDARD.decode(&one.der).unwrap()));
        JobKeys::new(&certificates.collect::<Vec<_>>(), self.now)
    }

    fn response(&self) -> Result<ProvenAssertion, SamlFault> {
        self.response_for(self.text("sp_entity_id"), self.now)
    }

    fn job(&self) -> VerifierJob {
        let posted = self.sample["message"]["fields"]["SAMLResponse"].as_str().unwrap();
        VerifierJob::Response(ResponseJob {
            message: decode_post(posted).unwrap(),
            keys: self.job_keys(),
            signed: SignedPart::Either,
            encryption: EncryptionDemand::Optional,
            decryption_key: Some(self.text("sp_key").to_owned()),
        })
    }

    fn response_for(&self, audience: &str, now: UnixMillis) -> Result<ProvenAssertion, SamlFault> {
        let claims = match answer(&self.job()) {
            VerifierAnswer::Response(claims) => *claims,
            VerifierAnswer::Refused(fault) => return Err(fault),
            other => panic!("{other:?}"),
        };
        let entity_id = self.metadata().entity_id;
        let request = self.sample["expected"]["request"].as_str();
        let rules = ResponseRules {
            entity_id: &entity_id,
            sp_entity_id: audience,
            acs_url: self.text("acs_url"),
            solicitation: request.map_or(Solicitation::ProviderMayBegin, Solicitation::Request),
            skew: SKEW,
        };
        judge_response(&claims, &rules, now)
    }
}

#[test]
fn real_responses_prove_who_signed_on() {
    for name in RESPONSES {
        let message = RealSample::of(name);
        let proven = message.response().unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let expected = &message.sample["expected"];
        assert_eq!(proven.name_id.value, expected["name_id"].as_str().unwrap(), "{name}");
        assert_eq!(proven.session_index.as_deref(), expected["session_index"].as_str(), "{name}");
        for (attribute, values) in expected["attributes"].as_object().unwrap() {
            let mut expected: Vec<&str> = values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
            let mut read: Vec<&str> = proven.values(attribute).unwrap_or_default().iter().map(String::as_str).collect();
            expected.sort_unstable();
            read.sort_unstable();
            assert_eq!(read, expected, "{name}: {attribute}");
        }
    }
}

/// The process has what they need, which for encrypted ones includes memory for the cryptography.
#[test]
fn real_responses_are_read_in_confinement() {
    let verifier = SamlVerifier::new(env!("CARGO_BIN_EXE_durward").into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for name in RESPONSES {
        let message = RealSample::of(name);
        let answered = runtime.block_on(verifier.ask(&message.job()));
        let VerifierAnswer::Response(claims) = answered.unwrap_or_else(|fault| panic!("{name}: {fault}")) else {
            panic!("{name}: something else");
        };
        let expected = message.sample["expected"]["name_id"].as_str().unwrap();
        assert_eq!(claims.assertion.name_id.value, expected, "{name}");
    }
}

/// As old providers make them.
#[test]
fn weak_signatures_and_ciphers_are_refused() {
    for (name, label) in [
        ("pysaml2-sha1", "saml_signature_algorithm"),
        ("pysaml2-triple-des", "saml_encryption_algorithm"),
    ] {
        assert_eq!(RealSample::of(name).response().unwrap_err().label(), label, "{name}");
    }
}

#[test]
fn real_responses_prove_nothing_to_others_or_later() {
    for name in RESPONSES {
        let message = RealSample::of(name);
        let other = message.response_for("https://other.example/metadata", message.now).unwrap_err();
        assert_eq!(other.label(), "saml_wrong_audience", "{name}");
        let later = message.now.plus(Duration::from_secs(73 * 3600));
        let later = message.response_for(message.text("sp_entity_id"), later).unwrap_err();
        assert_eq!(later.label(), "saml_expired", "{name}");
    }
}

#[test]
fn real_metadata_say_where_to_sign_on_and_by_which_keys() {
    for name in RESPONSES {
        let message = RealSample::of(name);
        let metadata = message.metadata();
        metadata.judge(message.now).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        for binding in [SamlBinding::Redirect, SamlBinding::Post] {
            assert!(metadata.sign_on.iter().any(|one| one.binding == binding), "{name}: {binding:?}");
            assert!(metadata.logout.iter().any(|one| one.binding == binding), "{name}: {binding:?}");
        }
        assert_eq!(metadata.certificates.len(), 1, "{name}");
    }
}

#[test]
fn a_real_logout_request_names_the_session() {
    let message = RealSample::of("pysaml2-log-out");
    let target = message.sample["message"]["target"].as_str().unwrap();
    let (_, query) = target.split_once('?').unwrap();
    let verified = |query: &str| {
        let job = LogoutJob {
            message: LogoutMessage::Redirected(RedirectQuery::parse(query, QueryMessage::Request)?.signed),
            keys: message.job_keys(),
        };
        match answer(&VerifierJob::LogoutRequest(job)) {
            VerifierAnswer::LogoutRequest(claims) => Ok(*claims),
            VerifierAnswer::Refused(fault) => Err(fault),
            other => panic!("{other:?}"),
        }
    };
    let claims = verified(query).unwrap();
    let entity_id = message.metadata().entity_id;
    let rules = LogoutRules {
        entity_id: &entity_id,
        url: message.text("slo_url"),
        skew: SKEW,
    };
    let ended = judge_logout(&claims, &rules, message.now).unwrap();
    let expected = &message.sample["expected"];
    assert_eq!(ended.name_id.value, expected["name_id"].as_str().unwrap());
    assert_eq!(ended.session_indexes, [expected["session_index"].as_str().unwrap()]);

    let changed = query.replacen("SAMLRequest=", "RelayState=other&SAMLRequest=", 1);
    assert_eq!(verified(&changed).unwrap_err().label(), "saml_signature_wrong");
}
