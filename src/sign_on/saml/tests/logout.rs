//! Logout requests: signed by the provider, for us, now; by either binding.

use super::*;
use crate::sign_on::saml::assertion::NameId;
use crate::sign_on::saml::logout::{
    EndedAtProvider, LogoutClaims, LogoutRules, judge_logout, judge_logout_answer, logout_request, logout_response,
};
use crate::sign_on::saml::query::{QueryMessage, RedirectQuery};
use crate::sign_on::saml::request::{MessageId, redirect_url, utc};
use crate::sign_on::saml::verifier::{LogoutJob, LogoutMessage, verify_logout_answer, verify_logout_request};
use crate::sign_on::sign_on_secrets::SamlName;

const SLO_URL: &str = "https://gateway.example/saml/slo";

fn request() -> String {
    format!(
        r#"<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_logout" Version="2.0" IssueInstant="{}" Destination="{SLO_URL}"><saml:Issuer>{ENTITY_ID}</saml:Issuer><saml:NameID>ada@corp.example</saml:NameID><samlp:SessionIndex>_session</samlp:SessionIndex></samlp:LogoutRequest>"#,
        utc(NOW)
    )
}

fn verify_message(message: LogoutMessage) -> Result<LogoutClaims, SamlFault> {
    verify_logout_request(&LogoutJob {
        message,
        keys: JobKeys::new(&[provider().certificate()], NOW),
    })
}

fn posted(text: &str) -> Result<LogoutClaims, SamlFault> {
    verify_message(LogoutMessage::Posted(text.to_owned()))
}

fn redirected(url: &str) -> Result<LogoutClaims, SamlFault> {
    let query = RedirectQuery::parse(url.split_once('?').unwrap().1, QueryMessage::Request)?;
    verify_message(LogoutMessage::Redirected(query.signed))
}

fn judged(claims: &LogoutClaims, now: UnixMillis) -> Result<EndedAtProvider, SamlFault> {
    let rules = LogoutRules {
        entity_id: ENTITY_ID,
        url: SLO_URL,
        skew: Duration::from_secs(60),
    };
    judge_logout(claims, &rules, now)
}

#[test]
fn a_signed_request_ends_the_session_that_it_names() {
    let signed = provider().sign(&request(), "_logout", &SignatureStyle::default());
    let url = redirect_url(
        SLO_URL,
        QueryMessage::Request,
        &request(),
        Some("state & more"),
        Some(&provider().keys),
    )
    .unwrap();
    for claims in [posted(&signed).unwrap(), redirected(&url).unwrap()] {
        let ended = judged(&claims, NOW).unwrap();
        assert_eq!(ended.request_id, "_logout");
        assert_eq!(ended.name_id.value, "ada@corp.example");
        assert_eq!(ended.session_indexes, ["_session"]);
        assert_eq!(ended.used_until, UnixMillis(NOW.0 + 360_000));
    }
    let query = RedirectQuery::parse(url.split_once('?').unwrap().1, QueryMessage::Request).unwrap();
    assert_eq!(query.relay_state.as_deref(), Some("state & more"));
    let query = RedirectQuery::parse("SAMLRequest=x&RelayState=a+b%2Bc&SigAlg=a&Signature=b", QueryMessage::Request).unwrap();
    assert_eq!(query.relay_state.as_deref(), Some("a b+c"), "as forms write spaces");
}

#[test]
fn a_query_carries_one_message() {
    let carried = |query: &str| QueryMessage::carried_by(query).map_err(|fault| fault.label());
    assert_eq!(carried("RelayState=x&SAMLRequest=x"), Ok(QueryMessage::Request));
    assert_eq!(carried("SAMLResponse=x"), Ok(QueryMessage::Response));
    for query in [
        "",
        "SAMLRequest",
        "samlrequest=x",
        "SAMLRequest=x&SAMLResponse=x",
        "SAMLResponse=x&SAMLResponse=x",
    ] {
        assert_eq!(carried(query), Err("saml_encoding"), "{query}");
    }
}

#[test]
fn a_request_that_the_provider_did_not_sign_is_refused() {
    let label = |outcome: Result<LogoutClaims, SamlFault>| outcome.unwrap_err().label();
    assert_eq!(label(posted(&request())), "saml_unsigned");
    assert_eq!(
        label(posted(&stranger().sign(&request(), "_logout", &SignatureStyle::default()))),
        "saml_signature_wrong"
    );
    let signed = provider().sign(&request(), "_logout", &SignatureStyle::default());
    assert_eq!(label(posted(&with(&signed, "ada@", "bob@"))), "saml_signature_wrong");
    // A response is no request.
    assert_eq!(label(posted(&response().signed(provider()))), "saml_wrong_message");

    let by = |keys: Option<&SpKeyPair>| redirect_url(SLO_URL, QueryMessage::Request, &request(), None, keys).unwrap();
    assert_eq!(label(redirected(&by(None))), "saml_unsigned");
    assert_eq!(label(redirected(&by(Some(&stranger().keys)))), "saml_signature_wrong");
    let right = by(Some(&provider().keys));
    redirected(&right).unwrap();
    let sha1 = right.replacen("2001%2F04%2Fxmldsig-more%23rsa-sha256", "2000%2F09%2Fxmldsig%23rsa-sha1", 1);
    assert_ne!(sha1, right);
    assert_eq!(label(redirected(&sha1)), "saml_signature_algorithm");
    assert_eq!(label(redirected(&format!("{right}&RelayState=x"))), "saml_signature_wrong");
    assert_eq!(label(redirected(&format!("{right}&SAMLRequest=x"))), "saml_encoding");
    assert_eq!(label(redirected(&right.replacen("SAMLRequest", "SAMLResponse", 1))), "saml_missing");
    assert_eq!(
        label(redirected(&format!("{right}&RelayState={}", "x".repeat(81)))),
        "saml_encoding"
    );
    assert_eq!(label(redirected(&format!("{right}&SAMLEncoding=other"))), "saml_encoding");
    assert_eq!(label(redirected(&right.replacen("SigAlg=", "SigAlg=%zz", 1))), "saml_encoding");
}

#[test]
fn a_deflated_message_does_not_grow_without_end() {
    let bomb = format!("{}{}", request(), " ".repeat(10 * 1024 * 1024));
    let url = redirect_url(SLO_URL, QueryMessage::Request, &bomb, None, Some(&provider().keys)).unwrap();
    assert!(url.len() < 64 * 1024);
    assert_eq!(redirected(&url).unwrap_err().label(), "saml_too_large");
}

#[test]
fn a_logout_request_is_for_us_and_fresh() {
    let claims = posted(&provider().sign(&request(), "_logout", &SignatureStyle::default())).unwrap();
    let label = |claims: &LogoutClaims, now| judged(claims, now).map(|_| "").unwrap_or_else(|fault| fault.label());
    let at = |offset: i64| UnixMillis(NOW.0 + offset);
    assert_eq!(label(&claims, at(359_999)), "");
    assert_eq!(label(&claims, at(360_000)), "saml_expired");
    assert_eq!(label(&claims, at(-60_001)), "saml_not_yet_valid");
    let changed = |change: fn(&mut LogoutClaims)| {
        let mut changed = claims.clone();
        change(&mut changed);
        changed
    };
    assert_eq!(label(&changed(|c| c.issuer.push('x')), NOW), "saml_wrong_issuer");
    assert_eq!(
        label(&changed(|c| c.destination = Some("https://other.example/".to_owned())), NOW),
        "saml_wrong_destination"
    );
    assert_eq!(label(&changed(|c| c.destination = None), NOW), "saml_missing");
    // However long it says that it counts, it counts for minutes.
    let long = changed(|c| c.not_on_or_after = Some(i64::MAX));
    assert_eq!(judged(&long, NOW).unwrap().used_until, at(360_000));
    let empty = with(&request(), ">_session<", "><");
    let outcome = posted(&provider().sign(&empty, "_logout", &SignatureStyle::default()));
    assert_eq!(outcome.unwrap_err().label(), "saml_malformed");
}

#[test]
fn an_answer_is_taken_by_both_bindings_and_its_status_is_read_whole() {
    let id = MessageId::generate().unwrap();
    let right = logout_response(&id, ENTITY_ID, SLO_URL, "_ours", NOW);
    let status = |code: &str| {
        with(
            &right,
            "<samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/>",
            code,
        )
    };
    let keys = || JobKeys::new(&[provider().certificate()], NOW);
    let verify = |message| verify_logout_answer(&LogoutJob { message, keys: keys() });
    let rules = LogoutRules {
        entity_id: ENTITY_ID,
        url: SLO_URL,
        skew: Duration::from_secs(60),
    };
    let outcome = |xml: &str| {
        let posted = verify(LogoutMessage::Posted(provider().sign(xml, id.as_str(), &SignatureStyle::default())));
        let url = redirect_url(SLO_URL, QueryMessage::Response, xml, None, Some(&provider().keys)).unwrap();
        let query = RedirectQuery::parse(url.split_once('?').unwrap().1, QueryMessage::Response).unwrap();
        let redirected = verify(LogoutMessage::Redirected(query.signed));
        assert_eq!(posted, redirected);
        judge_logout_answer(&posted.unwrap(), &rules, "_ours", NOW).map_err(|fault| fault.to_string())
    };
    assert_eq!(outcome(&right), Ok(()));
    let code = |inside: &str| format!(r#"<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:{inside}"#);
    let partial = status(&format!("{}{}\"/></samlp:StatusCode>", code("Success\">"), code("PartialLogout")));
    assert!(outcome(&partial).unwrap_err().contains("`PartialLogout`"));
    assert!(outcome(&status(&code("Responder\"/>"))).unwrap_err().contains("`Responder`"));
    assert!(outcome(&with(&right, "_ours", "_other")).is_err());
    let label = |message| verify(message).unwrap_err().label();
    assert_eq!(label(LogoutMessage::Posted(right.clone())), "saml_unsigned");
    let of_stranger = stranger().sign(&right, id.as_str(), &SignatureStyle::default());
    assert_eq!(label(LogoutMessage::Posted(of_stranger)), "saml_signature_wrong");
    // A request is no answer, and an answer is no request.
    let request = provider().sign(&request(), "_logout", &SignatureStyle::default());
    assert_eq!(label(LogoutMessage::Posted(request)), "saml_wrong_message");
    assert_eq!(
        posted(&provider().sign(&right, id.as_str(), &SignatureStyle::default()))
            .unwrap_err()
            .label(),
        "saml_wrong_message"
    );
}

#[test]
fn our_request_names_the_person_and_the_session_as_the_provider_did() {
    let id = MessageId::generate().unwrap();
    let mut name = SamlName {
        name_id: NameId {
            value: "a&b <c>".into(),
            format: Some("urn:f".into()),
            name_qualifier: Some("https://idp.example/?a=1&b=2".into()),
            sp_name_qualifier: Some("\"us\"".into()),
        },
        session_index: Some("_session<1>".into()),
    };
    let signed = |name: &SamlName| {
        let xml = logout_request(&id, ENTITY_ID, SLO_URL, name, NOW);
        posted(&provider().sign(&xml, id.as_str(), &SignatureStyle::default())).unwrap()
    };
    let claims = signed(&name);
    assert_eq!(
        (&claims.name_id, claims.session_indexes.as_slice()),
        (&name.name_id, &["_session<1>".to_owned()][..])
    );
    assert_eq!(judged(&claims, NOW).unwrap().request_id, id.as_str());
    assert_eq!(claims.not_on_or_after, Some(NOW.0 + 300_000));
    name.session_index = None;
    (name.name_id.format, name.name_id.name_qualifier, name.name_id.sp_name_qualifier) = (None, None, None);
    let claims = signed(&name);
    assert!(claims.session_indexes.is_empty() && claims.name_id == name.name_id);
}

#[test]
fn our_answer_names_the_request() {
    let id = MessageId::generate().unwrap();
    let answer = logout_response(&id, SP_ENTITY_ID, "https://idp.example/slo?a=1&b=2", "_logout", NOW);
    assert!(answer.contains(r#"InResponseTo="_logout""#) && answer.contains(r#"Destination="https://idp.example/slo?a=1&amp;b=2""#));
    assert!(answer.contains("status:Success") && answer.contains(id.as_str()));
}
