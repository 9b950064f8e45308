//! A verified response is for us, here, now, and the answer to what this browser began.

use super::*;
use crate::sign_on::saml::response::ProvenAssertion;

fn judged(of: &SampleResponse, rules: &ResponseRules<'_>, now: UnixMillis) -> Result<ProvenAssertion, SamlFault> {
    let claims = verify(&of.with_signed_assertion(provider())).unwrap();
    judge_response(&claims, rules, now)
}

#[test]
fn what_fits_is_proven() {
    let proven = judged(&response(), &rules(), NOW).unwrap();
    assert_eq!(proven.name_id.value, "ada@corp.example");
    assert!(!proven.name_id.is_transient());
    assert_eq!(proven.session_index.as_deref(), Some("_session"));
    assert_eq!(proven.assertion_id, "_assertion");
    assert_eq!(proven.authenticated_at, NOW);
    assert_eq!(proven.values("groups").unwrap(), ["staff", "finance"]);
    assert_eq!(proven.values("mail").unwrap(), ["ada@corp.example"]);
    assert_eq!(proven.values("urn:oid:0.9.2342.19200300.100.1.3").unwrap(), ["ada@corp.example"]);
    assert!(proven.values("absent").is_none());
    // It is kept as used until it could be delivered by nobody any more.
    assert_eq!(proven.used_until, UnixMillis(NOW.0 + 300_000 + 60_000));
}

#[test]
fn a_response_for_others_is_refused() {
    let mut cases: Vec<(SampleResponse, &str)> = Vec::new();
    let mut case = |change: fn(&mut SampleResponse), label| {
        let mut wrong = response();
        change(&mut wrong);
        cases.push((wrong, label));
    };
    case(|r| r.audience = "https://other.example/saml".to_owned(), "saml_wrong_audience");
    case(|r| r.recipient = "https://other.example/acs".to_owned(), "saml_wrong_recipient");
    case(|r| r.recipient = format!("{ACS_URL}/"), "saml_wrong_recipient");
    case(
        |r| r.destination = Some("https://other.example/acs".to_owned()),
        "saml_wrong_destination",
    );
    case(|r| r.issuer = "https://other-idp.example/".to_owned(), "saml_wrong_issuer");
    case(|r| r.in_response_to = Some("_another".to_owned()), "saml_wrong_request");
    case(|r| r.in_response_to = None, "saml_wrong_request");
    for (wrong, label) in cases {
        assert_eq!(judged(&wrong, &rules(), NOW).unwrap_err().label(), label);
    }
}

#[test]
fn a_destination_may_be_left_out_where_the_response_is_not_signed() {
    let mut without = response();
    without.destination = None;
    judged(&without, &rules(), NOW).unwrap();
    let claims = verify(&without.signed(provider())).unwrap();
    assert_eq!(judge_response(&claims, &rules(), NOW).unwrap_err().label(), "saml_missing");
}

#[test]
fn a_provider_begins_a_sign_on_only_where_it_may() {
    let mut unsolicited = response();
    unsolicited.in_response_to = None;
    let rules = |solicitation| ResponseRules { solicitation, ..rules() };
    judged(&unsolicited, &rules(Solicitation::ProviderMayBegin), NOW).unwrap();
    assert_eq!(
        judged(&unsolicited, &rules(Solicitation::Needed), NOW).unwrap_err(),
        SamlFault::Unsolicited
    );
    // The answer to the request of another browser is no begin.
    assert_eq!(
        judged(&response(), &rules(Solicitation::ProviderMayBegin), NOW).unwrap_err(),
        SamlFault::WrongRequest
    );
    assert_eq!(
        judged(&response(), &rules(Solicitation::Needed), NOW).unwrap_err(),
        SamlFault::Unsolicited
    );
}

#[test]
fn times_count_with_the_skew_and_both_clocks_are_told() {
    let at = |offset: i64| UnixMillis(NOW.0 + offset);
    // From a minute before it was made until a minute behind its end.
    for (offset, expected) in [
        (-60_000, None),
        (-60_001, Some("saml_not_yet_valid")),
        (300_000, None),
        (359_999, None),
        (360_000, Some("saml_expired")),
        (3_600_000, Some("saml_expired")),
        (-3_600_000, Some("saml_not_yet_valid")),
    ] {
        let outcome = judged(&response(), &rules(), at(offset));
        assert_eq!(outcome.err().map(|fault| fault.label()), expected, "{offset}");
    }
    let told = judged(&response(), &rules(), at(3_600_000)).unwrap_err().to_string();
    assert!(
        told.contains("2026-11-29T11:05:00") && told.contains("2026-11-29T12:00:00") && told.contains("clocks"),
        "{told}"
    );
    // No setting makes it count for hours.
    let loose = ResponseRules {
        skew: Duration::from_secs(86_400),
        ..rules()
    };
    judged(&response(), &loose, at(300_000 + 299_999)).unwrap();
    assert_eq!(
        judged(&response(), &loose, at(300_000 + 300_000)).unwrap_err().label(),
        "saml_expired"
    );
    // Nor does a provider.
    let mut long = response();
    long.ends = 30 * 86_400_000;
    let proven = judged(&long, &rules(), at(11 * 3_600_000)).unwrap();
    assert_eq!(proven.used_until, at(12 * 3_600_000 + 60_000));
    assert_eq!(judged(&long, &rules(), at(13 * 3_600_000)).unwrap_err().label(), "saml_expired");
}

#[test]
fn what_an_assertion_must_say_is_named_where_it_is_missing() {
    let signed = |assertion: &str| response().around(&provider().sign(assertion, "_assertion", &SignatureStyle::default()));
    let assertion = response().assertion();
    let without = |element: &str| with(&assertion, cut_element(&assertion, element), "");
    for (element, label) in [
        ("saml:Subject", "saml_missing"),
        ("saml:NameID", "saml_missing"),
        ("saml:Conditions", "saml_missing"),
        ("saml:AudienceRestriction", "saml_missing"),
        ("saml:SubjectConfirmation", "saml_no_confirmation"),
        ("saml:AuthnStatement", "saml_no_authentication"),
    ] {
        let outcome = verify(&signed(&without(element))).and_then(|claims| judge_response(&claims, &rules(), NOW));
        assert_eq!(outcome.unwrap_err().label(), label, "{element}");
    }
    for (old, new, label) in [
        (r#" Recipient="https://gateway.example/saml/acs""#, "", "saml_no_confirmation"),
        ("cm:bearer", "cm:holder-of-key", "saml_no_confirmation"),
        (
            r#"IssueInstant="2026-11-29T11:00:00.000Z""#,
            r#"IssueInstant="yesterday""#,
            "saml_malformed",
        ),
        (
            r#"IssueInstant="2026-11-29T11:00:00.000Z""#,
            r#"IssueInstant="2026-11-29T11:00:00+01:00""#,
            "saml_malformed",
        ),
        (
            "<saml:AuthnStatement ",
            r#"<saml:AuthnStatement SessionNotOnOrAfter="2026-11-29T10:00:00Z" "#,
            "saml_session_over",
        ),
        ("<saml:NameID ", "<saml:EncryptedID/><saml:NameID ", "saml_encryption_form"),
        (
            "</saml:Conditions>",
            r#"<saml:Condition xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="delegation"/></saml:Conditions>"#,
            "saml_unknown_condition",
        ),
        (
            "</saml:Conditions>",
            r#"<OneTimeUse xmlns="urn:other"/></saml:Conditions>"#,
            "saml_unknown_condition",
        ),
        (">ada@corp.example</saml:NameID>", "></saml:NameID>", "saml_missing"),
        (">ada@corp.example</saml:NameID>", ">ada<saml:b/></saml:NameID>", "saml_malformed"),
    ] {
        let outcome = verify(&signed(&with(&assertion, old, new))).and_then(|claims| judge_response(&claims, &rules(), NOW));
        assert_eq!(outcome.unwrap_err().label(), label, "{new}");
    }
    verify(&signed(&assertion)).unwrap();
    let kept = "<saml:OneTimeUse/><saml:ProxyRestriction Count=\"0\"/></saml:Conditions>";
    verify(&signed(&with(&assertion, "</saml:Conditions>", kept))).unwrap();
}

fn cut_element<'t>(text: &'t str, name: &str) -> &'t str {
    let begin = text
        .match_indices(&format!("<{name}"))
        .map(|(at, _)| at)
        .find(|at| text[at + name.len() + 1..].starts_with([' ', '>']));
    let begin = begin.unwrap();
    let closing = format!("</{name}>");
    let end = begin + text[begin..].find(&closing).unwrap() + closing.len();
    &text[begin..end]
}

#[test]
fn values_that_are_structures_or_too_long_are_left_out() {
    let assertion = with(
        &response().assertion(),
        "<saml:AttributeValue>staff</saml:AttributeValue>",
        &format!(
            "<saml:AttributeValue><saml:NameID>x</saml:NameID></saml:AttributeValue><saml:AttributeValue>{}</saml:AttributeValue>",
            "x".repeat(5_000)
        ),
    );
    let message = response().around(&provider().sign(&assertion, "_assertion", &SignatureStyle::default()));
    let proven = judge_response(&verify(&message).unwrap(), &rules(), NOW).unwrap();
    assert_eq!(proven.values("groups").unwrap(), ["finance"]);
}
