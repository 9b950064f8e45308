//! A sign-on by SAML with the settings of a provider, from its begin to the person, and the end of a session at the provider.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use durward::base::clock::UnixMillis;
use durward::base::fingerprint::{Pepper, Peppers};
use durward::base::ids::{CredentialId, RoleId};
use durward::sign_on::fault::SignOnFault;
use durward::sign_on::person::{PersonRules, RoleRow, RoleRules};
use durward::sign_on::provider::{EncryptionDemand, SamlSettings, SignedPart};
use durward::sign_on::saml::client::{LogoutArrival, NAME_ID_CLAIM, ProvenBySaml, SamlArrival, SamlClient, SamlDeparture};
use durward::sign_on::saml::key_pair::SpKeyPair;
use durward::sign_on::saml::metadata::{SamlBinding, SamlEndpoint};
use durward::sign_on::saml::query::{QueryMessage, RedirectQuery, inflate};
use durward::sign_on::saml::request::{MessageId, redirect_url};
use durward::sign_on::saml::sample::{ACS_URL, ENTITY_ID, SP_ENTITY_ID, SampleProvider, SampleResponse, encrypted, key_pair};
use durward::sign_on::saml::{SamlFault, SamlVerifier};
use durward::sign_on::seal::{SealPurpose, SealScope, seal};

use super::confined::{block_on, durward, provider};

const NOW: UnixMillis = UnixMillis(1_795_950_000_000);
const SSO_URL: &str = "https://idp.example/sso";

fn id() -> CredentialId {
    CredentialId::parse("prv_1").unwrap()
}

fn pepper() -> Pepper {
    Pepper::new(&[7; 32]).unwrap()
}

fn settings(own: &SpKeyPair) -> SamlSettings {
    let provider_id = id();
    let scope = SealScope {
        purpose: SealPurpose::ProviderSecret,
        owner: provider_id.as_str(),
        field: "own_key",
    };
    SamlSettings {
        entity_id: ENTITY_ID.to_owned(),
        sso_redirect_url: Some(SSO_URL.to_owned()),
        sso_post_url: Some("https://idp.example/post".to_owned()),
        slo_url: Some("https://idp.example/slo".to_owned()),
        slo_post_url: None,
        slo_response_url: None,
        certificates: vec![STANDARD.encode(provider().certificate())],
        sp_entity_id: None,
        sign_requests: true,
        want: SignedPart::Either,
        encryption: EncryptionDemand::Optional,
        idp_initiated: false,
        name_id_format: None,
        skew: 60,
        own_key_sealed: Some(seal(&pepper(), &scope, own.private_der()).unwrap()),
        own_certificate: Some(STANDARD.encode(own.certificate())),
    }
}

fn client_of(settings: &SamlSettings) -> SamlClient {
    let peppers = Peppers::new(vec![pepper()]).unwrap();
    SamlClient::new(&id(), settings, &peppers, ACS_URL.to_owned(), Some(SP_ENTITY_ID.to_owned())).unwrap()
}

fn rules(subject: &str) -> PersonRules {
    PersonRules {
        subject: subject.to_owned(),
        email: "mail".to_owned(),
        name: "displayName".to_owned(),
        roles: Some(RoleRules {
            claim: "groups".to_owned(),
            table: vec![RoleRow {
                value: "finance".to_owned(),
                roles: vec![RoleId::parse("accountant").unwrap()],
                scopes: Default::default(),
            }],
            default: Vec::new(),
        }),
        claims: Vec::new(),
    }
}

fn finish(client: &SamlClient, xml: &str, request_id: Option<&str>, subject: &str) -> Result<ProvenBySaml, SignOnFault> {
    let field = STANDARD.encode(xml);
    let arrival = SamlArrival {
        response: &field,
        request_id,
    };
    block_on(client.finish(&SamlVerifier::new(durward()), arrival, &rules(subject), NOW))
}

fn response_to(request_id: Option<&str>) -> SampleResponse {
    let mut response = SampleResponse::new(NOW);
    response.in_response_to = request_id.map(str::to_owned);
    response
}

#[test]
fn a_response_to_the_request_of_the_browser_proves_a_person() {
    let own = key_pair(NOW);
    let client = client_of(&settings(&own));
    let request_id = MessageId::generate().unwrap();
    let SamlDeparture::Redirect(address) = client.begin(&request_id, "state", NOW).unwrap() else {
        panic!("no redirect")
    };
    let query = address.strip_prefix(&format!("{SSO_URL}?")).unwrap();
    assert!(query.contains("RelayState=state") && query.contains("&Signature="));
    let request = query.strip_prefix("SAMLRequest=").unwrap().split('&').next().unwrap();
    let xml = inflate(&durward::base::percent::decode(request).unwrap()).unwrap();
    assert!(xml.contains(request_id.as_str()) && xml.contains(SP_ENTITY_ID) && xml.contains(ACS_URL));

    let own_id = Some(request_id.as_str());
    let right = response_to(own_id).signed_twice(provider());
    let proven = finish(&client, &right, own_id, NAME_ID_CLAIM).unwrap();
    assert_eq!(proven.person.subject, "ada@corp.example");
    assert_eq!(proven.person.email.as_deref(), Some("ada@corp.example"));
    assert_eq!(proven.person.roles, [RoleId::parse("accountant").unwrap()]);
    assert_eq!(proven.person.session_id.as_deref(), Some("_session"));
    assert_eq!(proven.assertion_id, "_assertion");
    assert!(proven.used_until > NOW && proven.used_until.0 <= NOW.0 + 86_400_000);
    // Encrypted for the key that the settings seal.
    let assertion = provider().sign(&response_to(own_id).assertion(), "_assertion", &Default::default());
    let ciphertext = encrypted(
        &assertion,
        own.certificate(),
        "http://www.w3.org/2009/xmlenc11#aes256-gcm",
        "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p",
    );
    let encrypted = response_to(own_id).around(&ciphertext);
    assert_eq!(finish(&client, &encrypted, own_id, NAME_ID_CLAIM).unwrap(), proven);

    let label = |xml: &str, request_id, subject| finish(&client, xml, request_id, subject).unwrap_err().label();
    assert_eq!(label(&right, Some("_another"), NAME_ID_CLAIM), "saml_wrong_request");
    assert_eq!(label(&right, None, NAME_ID_CLAIM), "saml_unsolicited");
    assert_eq!(label(&right, own_id, "employeeNumber"), "missing_claim");
    let stranger = response_to(own_id).signed(&SampleProvider::new(NOW));
    assert_eq!(label(&stranger, own_id, NAME_ID_CLAIM), "saml_signature_wrong");
    let format = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
    let transient = response_to(own_id)
        .assertion()
        .replace(format, "urn:oasis:names:tc:SAML:2.0:nameid-format:transient");
    let transient = response_to(own_id).around(&provider().sign(&transient, "_assertion", &Default::default()));
    assert_eq!(label(&transient, own_id, NAME_ID_CLAIM), "saml_transient_name");
    finish(&client, &transient, own_id, "mail").unwrap();
}

#[test]
fn settings_say_which_binding_and_who_begins() {
    let own = key_pair(NOW);
    let request_id = MessageId::generate().unwrap();
    let mut post_only = settings(&own);
    post_only.sso_redirect_url = None;
    let departure = client_of(&post_only).begin(&request_id, "state", NOW).unwrap();
    let SamlDeparture::Post { url, value } = departure else {
        panic!("no form")
    };
    assert_eq!(url, "https://idp.example/post");
    assert!(
        String::from_utf8(STANDARD.decode(value).unwrap())
            .unwrap()
            .contains("<ds:SignatureValue>")
    );
    post_only.sso_post_url = None;
    let nowhere = client_of(&post_only).begin(&request_id, "state", NOW).unwrap_err();
    assert_eq!(nowhere, SignOnFault::Saml(SamlFault::NoAddress));

    let mut may_begin = settings(&own);
    may_begin.idp_initiated = true;
    let client = client_of(&may_begin);
    let unsolicited = response_to(None).with_signed_assertion(provider());
    finish(&client, &unsolicited, None, NAME_ID_CLAIM).unwrap();
    let answer = response_to(Some("_of_another_browser")).with_signed_assertion(provider());
    let refused = finish(&client, &answer, None, NAME_ID_CLAIM).unwrap_err();
    assert_eq!(refused.label(), "saml_wrong_request");
    let log_out = [SamlEndpoint::own(SamlBinding::Redirect, "https://gateway.example/slo".to_owned())];
    assert!(client.metadata(&log_out).contains("SingleLogoutService"));
    assert!(!client.metadata(&[]).contains("SingleLogoutService"));

    let mut without_key = settings(&own);
    without_key.own_key_sealed = None;
    let refused = client_of(&without_key).begin(&request_id, "state", NOW).unwrap_err();
    assert_eq!(refused, SignOnFault::NoSecret);
    without_key.sign_requests = false;
    client_of(&without_key).begin(&request_id, "state", NOW).unwrap();
    let mut of_another_pepper = settings(&own);
    of_another_pepper.own_key_sealed = Some("v1.00.AAAA".to_owned());
    let peppers = Peppers::new(vec![pepper()]).unwrap();
    assert!(SamlClient::new(&id(), &of_another_pepper, &peppers, ACS_URL.to_owned(), None).is_err());
}

#[test]
fn a_logout_request_says_what_has_ended_and_is_answered() {
    let client = client_of(&settings(&key_pair(NOW)));
    let verifier = SamlVerifier::new(durward());
    let url = "https://gateway.example/saml/slo";
    let request = format!(
        r#"<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_logout" Version="2.0" IssueInstant="2026-11-29T11:00:00Z" Destination="{url}"><saml:Issuer>{ENTITY_ID}</saml:Issuer><saml:NameID>ada@corp.example</saml:NameID><samlp:SessionIndex>_session</samlp:SessionIndex></samlp:LogoutRequest>"#
    );
    let posted = STANDARD.encode(provider().sign(&request, "_logout", &Default::default()));
    let redirected = redirect_url(url, QueryMessage::Request, &request, None, Some(&provider().keys)).unwrap();
    let query = RedirectQuery::parse(redirected.split_once('?').unwrap().1, QueryMessage::Request).unwrap();
    for arrival in [LogoutArrival::Posted(&posted), LogoutArrival::Redirected(&query.signed)] {
        let ended = block_on(client.logout(&verifier, arrival, url, NOW)).unwrap();
        assert_eq!(ended.session_indexes, ["_session"]);
        let elsewhere = block_on(client.logout(&verifier, arrival, "https://gateway.example/other", NOW));
        assert_eq!(elsewhere.unwrap_err().label(), "saml_wrong_destination");
    }
    let unsigned = STANDARD.encode(&request);
    let refused = block_on(client.logout(&verifier, LogoutArrival::Posted(&unsigned), url, NOW));
    assert_eq!(refused.unwrap_err().label(), "saml_unsigned");
    let answer = |settings: &SamlSettings| client_of(settings).answer_logout("_logout", Some("relay"), NOW).unwrap();
    let mut other = settings(&key_pair(NOW));
    let Some(SamlDeparture::Redirect(address)) = answer(&other) else {
        panic!("no redirect")
    };
    assert!(address.starts_with("https://idp.example/slo?SAMLResponse=") && address.contains("&RelayState=relay&SigAlg="));
    // Where the provider takes answers elsewhere, and by which binding.
    other.slo_response_url = Some("https://idp.example/slo-return".to_owned());
    let Some(SamlDeparture::Redirect(address)) = answer(&other) else {
        panic!("no redirect")
    };
    assert!(address.starts_with("https://idp.example/slo-return?SAMLResponse="), "{address}");
    other.slo_post_url = other.slo_url.take();
    let Some(SamlDeparture::Post { url, value }) = answer(&other) else {
        panic!("no form")
    };
    assert_eq!(url, "https://idp.example/slo-return");
    let xml = String::from_utf8(STANDARD.decode(value).unwrap()).unwrap();
    assert!(
        xml.contains("<ds:SignatureValue>") && xml.contains("Destination=\"https://idp.example/slo-return\""),
        "{xml}"
    );
    other.slo_post_url = None;
    assert_eq!(answer(&other), None);
}
