//! Signature wrapping: a right signature beside claims that it does not cover.

use super::*;

/// A forged assertion, which nobody signed.
fn forged() -> String {
    let mut forged = response();
    forged.assertion_id = "_forged".to_owned();
    forged.name_id = "mallory@evil.example".to_owned();
    forged.assertion()
}

#[test]
fn the_message_that_is_wrapped_below_is_right_by_itself() {
    for message in [
        response().with_signed_assertion(provider()),
        response().signed(provider()),
        response().signed_twice(provider()),
    ] {
        let claims = verify(&message).unwrap();
        assert_eq!(claims.assertion.name_id.value, "ada@corp.example");
        judge_response(&claims, &rules(), NOW).unwrap();
    }
}

/// The nine permutations that are known from the literature (Somorovsky and others, 2012) and from crewjam/saml.
#[test]
fn a_signature_never_covers_claims_beside_it() {
    let forged = forged();
    let forged_around = |inside: &str| with(&forged, "</saml:Issuer>", &format!("</saml:Issuer>{inside}"));

    let signed_response = response().signed(provider());
    let of_response = cut(&signed_response, "ds:Signature").to_owned();
    let bare_response = with(&signed_response, &of_response, "");
    let mut outer = response();
    outer.response_id = "_forged_response".to_owned();
    let in_signature = |signature: &str, what: &str| with(signature, "</ds:Signature>", &format!("{what}</ds:Signature>"));

    let signed = provider().sign(&response().assertion(), "_assertion", &SignatureStyle::default());
    let of_assertion = cut(&signed, "ds:Signature").to_owned();
    let bare = with(&signed, &of_assertion, "");
    let same_id = with(&forged, r#"ID="_forged""#, r#"ID="_assertion""#);

    let cases: [(&str, String, &str); 9] = [
        (
            "1: the signed response inside its own signature, in a forged response",
            outer.around(&format!("{}{forged}", in_signature(&of_response, &bare_response))),
            "saml_several_assertions",
        ),
        (
            "2: the signed response before its signature, in a forged response",
            outer.around(&format!("{bare_response}{of_response}{forged}")),
            "saml_several_assertions",
        ),
        (
            "3: a forged assertion before the signed one",
            response().around(&format!("{forged}{signed}")),
            "saml_several_assertions",
        ),
        (
            "4: the signed assertion inside a forged one",
            response().around(&forged_around(&signed)),
            "saml_several_assertions",
        ),
        (
            "5: a forged assertion with the signature, the signed one beside it",
            response().around(&format!("{}{bare}", forged_around(&of_assertion))),
            "saml_several_assertions",
        ),
        (
            "6: a forged assertion with the signature, which holds the signed one",
            response().around(&forged_around(&in_signature(&of_assertion, &bare))),
            "saml_several_assertions",
        ),
        (
            "7: the same ID in the extensions of the response",
            response().around(&format!("<samlp:Extensions>{same_id}</samlp:Extensions>{signed}")),
            "saml_duplicate_id",
        ),
        (
            "8: the same ID in an object of the signature",
            response().around(&with(
                &same_id,
                "</saml:Issuer>",
                &format!(
                    "</saml:Issuer>{}",
                    in_signature(&of_assertion, &format!("<ds:Object>{bare}</ds:Object>"))
                ),
            )),
            "saml_duplicate_id",
        ),
        (
            "9: a forged assertion with the signature and the signed assertion behind it",
            response().around(&forged_around(&format!("{of_assertion}{bare}"))),
            "saml_several_assertions",
        ),
    ];
    for (name, message, expected) in &cases {
        assert_eq!(refusal(message), *expected, "{name}");
    }
}

/// Permutations that have one assertion only, so that they reach the check of the signature.
#[test]
fn a_signature_counts_only_where_it_stands_directly_below_what_it_signs() {
    let forged = forged();
    let signed = provider().sign(&response().assertion(), "_assertion", &SignatureStyle::default());
    let of_assertion = cut(&signed, "ds:Signature").to_owned();
    // The signed assertion, in a name that we do not count as an assertion.
    let hidden = |text: &str| text.replace("saml:Assertion", "saml:Evidence");
    let bare = with(&signed, &of_assertion, "");
    let in_object = with(
        &of_assertion,
        "</ds:Signature>",
        &format!("<ds:Object>{}</ds:Object></ds:Signature>", hidden(&bare)),
    );
    let cases: [(&str, String, &str); 5] = [
        (
            "the signature of another element",
            response().around(&with(&forged, "</saml:Issuer>", &format!("</saml:Issuer>{of_assertion}"))),
            "saml_reference_elsewhere",
        ),
        (
            "the signed element in an object of its signature",
            response().around(&with(&forged, "</saml:Issuer>", &format!("</saml:Issuer>{in_object}"))),
            "saml_signature_form",
        ),
        (
            "the signature in the extensions",
            response().around(&format!("<samlp:Extensions>{}</samlp:Extensions>{forged}", hidden(&signed))),
            "saml_signature_elsewhere",
        ),
        (
            "the signature of the assertion at the response",
            response().around(&format!("{of_assertion}{forged}")),
            "saml_reference_elsewhere",
        ),
        (
            "two signatures at one element",
            response().around(&with(&signed, &of_assertion, &format!("{of_assertion}{of_assertion}"))),
            "saml_several_signatures",
        ),
    ];
    for (name, message, expected) in &cases {
        assert_eq!(refusal(message), *expected, "{name}");
    }
}

#[test]
fn a_changed_byte_of_what_is_signed_is_noticed() {
    for message in [response().with_signed_assertion(provider()), response().signed(provider())] {
        verify(&message).unwrap();
        let changed = message.replacen("ada@corp.example", "bob@corp.example", 1);
        assert_eq!(refusal(&changed), "saml_signature_wrong");
        let more = with(&message, "<saml:AttributeValue>staff<", "<saml:AttributeValue>admin<");
        assert_eq!(refusal(&more), "saml_signature_wrong");
    }
    // One right signature does not make up for a wrong one.
    let twice = response().signed_twice(provider());
    let value = cut(&twice, "ds:Signature");
    let broken = twice.replacen(value, &value.replacen("<ds:SignatureValue>", "<ds:SignatureValue>AAAA", 1), 1);
    assert_eq!(refusal(&broken), "saml_signature_wrong");
}

/// Whatever is put into a signed message, or taken out of it, and wherever: what verifies says what was signed.
#[test]
fn no_edit_of_a_signed_message_changes_what_it_says() {
    let right = response();
    let signed = verify(&right.signed(provider())).unwrap().assertion;
    let put = [
        "",
        "x",
        " ",
        "&#65;",
        "</saml:Issuer>",
        "<saml:NameID>mallory</saml:NameID>",
        "<ds:Object/>",
        r#" ID="_forged""#,
        r#" xmlns:saml="urn:forged""#,
    ];
    let mut verified = 0;
    for message in [
        right.with_signed_assertion(provider()),
        right.signed(provider()),
        right.signed_twice(provider()),
    ] {
        for (turn, at) in (0..message.len()).step_by(7).enumerate() {
            let end = (at + turn % 3).min(message.len());
            let edited = format!("{}{}{}", &message[..at], put[turn % put.len()], &message[end..]);
            if let Ok(claims) = verify(&edited) {
                verified += 1;
                assert_eq!(claims.assertion, signed, "{edited}");
            }
        }
    }
    // Some edits are harmless: of members of the response that nobody signed, of white space between attributes.
    assert!(verified > 0);
}
