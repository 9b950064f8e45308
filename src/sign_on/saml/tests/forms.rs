//! Forms of messages and signatures that are refused before anything is verified.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::sign_on::saml::response::decode_post;
use crate::sign_on::saml::xml::MAX_MESSAGE;

fn message() -> String {
    response().with_signed_assertion(provider())
}

#[test]
fn ambiguous_xml_is_refused() {
    let message = message();
    let begins = |before: &str| format!("{before}{message}");
    let laughs = r#"<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>"#;
    let deep = format!("{}{}", "<saml:Advice>".repeat(40), "</saml:Advice>".repeat(40));
    let many = format!(
        r#"<saml:Attribute Name="x"{}/>"#,
        (0..70).fold(String::new(), |all, n| format!(r#"{all} a{n}="""#))
    );
    let cases: [(&str, String, &str); 16] = [
        ("an entity bomb", begins(laughs), "saml_document_type"),
        (
            "an external entity",
            begins(r#"<!DOCTYPE r SYSTEM "file:///etc/passwd">"#),
            "saml_document_type",
        ),
        (
            "a comment in a name",
            with(
                &message,
                ">ada@corp.example</saml:NameID>",
                ">ada@corp.example<!---->.evil.example</saml:NameID>",
            ),
            "saml_comment",
        ),
        ("a comment before the root", begins("<!-- -->"), "saml_comment"),
        (
            "a processing instruction",
            with(&message, "<saml:Subject>", "<saml:Subject><?php echo 1 ?>"),
            "saml_processing_instruction",
        ),
        ("a CDATA section", with(&message, ">staff<", "><![CDATA[staff]]><"), "saml_cdata"),
        (
            "deep nesting",
            with(&message, "<samlp:Status>", &format!("{deep}<samlp:Status>")),
            "saml_too_deep",
        ),
        (
            "many attributes",
            with(&message, "<samlp:Status>", &format!("{many}<samlp:Status>")),
            "saml_too_many",
        ),
        (
            "many elements",
            with(&message, "<samlp:Status>", &format!("{}<samlp:Status>", "<saml:X/>".repeat(9_000))),
            "saml_too_many",
        ),
        (
            "a namespace without a canonical form",
            with(&message, "<saml:Subject>", r#"<saml:Subject xmlns:x="relative">"#),
            "saml_relative_namespace",
        ),
        (
            "two IDs at one element",
            with(&message, r#"ID="_assertion""#, r#"ID="_assertion" Id="_other""#),
            "saml_duplicate_id",
        ),
        (
            "an ID in another namespace",
            with(&message, r#"ID="_assertion""#, r#"samlp:ID="_other" ID="_assertion""#),
            "saml_duplicate_id",
        ),
        (
            "another encoding",
            begins(r#"<?xml version="1.0" encoding="UTF-7"?>"#),
            "saml_not_xml",
        ),
        ("no XML", "SAMLResponse".to_owned(), "saml_not_xml"),
        ("half of it", message[..message.len() / 2].to_owned(), "saml_not_xml"),
        (
            "too much",
            with(&message, "<samlp:Status>", &format!("{}<samlp:Status>", " ".repeat(MAX_MESSAGE))),
            "saml_too_large",
        ),
    ];
    for (name, message, expected) in &cases {
        assert_eq!(refusal(message), *expected, "{name}");
    }
    // What providers really send before and around a message.
    verify(&begins("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")).unwrap();
    let spaced = with(&message, "<samlp:Status>", "\n  <samlp:Status>");
    verify(&spaced).unwrap();
}

#[test]
fn an_escaped_comment_is_a_text() {
    let mut named = response();
    named.name_id = "ada@corp.example<!---->.evil.example".to_owned();
    let claims = verify(&named.with_signed_assertion(provider())).unwrap();
    assert_eq!(claims.assertion.name_id.value, "ada@corp.example<!---->.evil.example");
}

#[test]
fn only_a_response_with_one_assertion_is_one() {
    let message = message();
    let cases: [(&str, String, &str); 7] = [
        (
            "an assertion alone",
            provider().sign(&response().assertion(), "_assertion", &SignatureStyle::default()),
            "saml_wrong_message",
        ),
        ("no assertion", response().around(""), "saml_no_assertion"),
        (
            "two assertions, both signed",
            {
                let mut second = response();
                second.assertion_id = "_second".to_owned();
                let second = provider().sign(&second.assertion(), "_second", &SignatureStyle::default());
                with(&message, "</samlp:Response>", &format!("{second}</samlp:Response>"))
            },
            "saml_several_assertions",
        ),
        (
            "an assertion below something else",
            {
                let assertion = cut(&message, "saml:Assertion").to_owned();
                with(&message, &assertion, &format!("<samlp:Extensions>{assertion}</samlp:Extensions>"))
            },
            "saml_assertion_elsewhere",
        ),
        (
            "another version",
            with(&message, r#"ID="_response" Version="2.0""#, r#"ID="_response" Version="1.1""#),
            "saml_wrong_version",
        ),
        (
            "a failure",
            with(
                &message,
                r#"<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/>"#,
                r#"<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Responder"><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"/></samlp:StatusCode>"#,
            ),
            "saml_status",
        ),
        ("no status", with(&message, cut_status(&message), ""), "saml_missing"),
    ];
    for (name, message, expected) in &cases {
        assert_eq!(refusal(message), *expected, "{name}");
    }
    verify(&message).unwrap();
}

fn cut_status(message: &str) -> &str {
    let (begin, end) = (message.find("<samlp:Status>").unwrap(), "</samlp:Status>");
    &message[begin..message.find(end).unwrap() + end.len()]
}

#[test]
fn unsigned_and_wrongly_signed_messages_are_refused() {
    assert_eq!(refusal(&response().around(&response().assertion())), "saml_unsigned");
    assert_eq!(refusal(&response().with_signed_assertion(stranger())), "saml_signature_wrong");
    assert_eq!(refusal(&response().signed(stranger())), "saml_signature_wrong");
    // The key that the message itself brings is no key.
    let style = SignatureStyle {
        key_info: format!(
            "<ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data>",
            STANDARD.encode(stranger().certificate())
        ),
        ..SignatureStyle::default()
    };
    let own = stranger().sign(&response().assertion(), "_assertion", &style);
    assert_eq!(refusal(&response().around(&own)), "saml_signature_wrong");
    // The provider's own certificate in the message does no harm.
    let style = SignatureStyle {
        key_info: format!(
            "<ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data>",
            STANDARD.encode(provider().certificate())
        ),
        ..SignatureStyle::default()
    };
    verify(&response().around(&provider().sign(&response().assertion(), "_assertion", &style))).unwrap();
}

#[test]
fn a_provider_may_have_two_certificates_and_an_expired_one_is_named() {
    let message = response().with_signed_assertion(provider());
    let mut both = job(&message);
    both.keys = JobKeys::new(&[stranger().certificate(), provider().certificate()], NOW);
    verify_response(&both).unwrap();
    let later = UnixMillis(NOW.0 + 11 * 365 * 86_400_000);
    for certificates in [
        vec![provider().certificate()],
        vec![stranger().certificate(), provider().certificate()],
    ] {
        both.keys = JobKeys::new(&certificates, later);
        assert_eq!(verify_response(&both).unwrap_err(), SamlFault::CertificateExpired);
    }
    both.keys = JobKeys::new(&[stranger().certificate()], later);
    assert_eq!(verify_response(&both).unwrap_err(), SamlFault::SignatureWrong);
    both.keys = JobKeys::new(&[], NOW);
    assert_eq!(verify_response(&both).unwrap_err().label(), "saml_no_certificate");
    both.keys = JobKeys::new(&[vec![1, 2, 3].into()], NOW);
    assert_eq!(verify_response(&both).unwrap_err().label(), "saml_no_certificate");
}

#[test]
fn what_must_be_signed_is_a_setting() {
    let cases = [
        (
            response().with_signed_assertion(provider()),
            SignedPart::Response,
            Some("saml_response_unsigned"),
        ),
        (response().with_signed_assertion(provider()), SignedPart::Assertion, None),
        (response().signed(provider()), SignedPart::Response, None),
        (
            response().signed(provider()),
            SignedPart::Assertion,
            Some("saml_assertion_unsigned"),
        ),
        (response().signed_twice(provider()), SignedPart::Response, None),
        (response().signed_twice(provider()), SignedPart::Assertion, None),
    ];
    for (message, signed, refused) in cases {
        let job = ResponseJob { signed, ..job(&message) };
        assert_eq!(verify_response(&job).err().map(|fault| fault.label()), refused, "{signed:?}");
    }
}

#[test]
fn only_listed_algorithms_are_taken() {
    let message = message();
    let (sha256, rsa) = (
        "http://www.w3.org/2001/04/xmlenc#sha256",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    );
    let cases: [(&str, String, &str); 8] = [
        (
            "RSA with SHA-1",
            with(&message, rsa, "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
            "saml_signature_algorithm",
        ),
        (
            "SHA-1",
            with(&message, sha256, "http://www.w3.org/2000/09/xmldsig#sha1"),
            "saml_signature_algorithm",
        ),
        (
            "HMAC",
            with(&message, rsa, "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
            "saml_signature_algorithm",
        ),
        (
            "DSA",
            with(&message, rsa, "http://www.w3.org/2009/xmldsig11#dsa-sha256"),
            "saml_signature_algorithm",
        ),
        (
            "MD5",
            with(&message, sha256, "http://www.w3.org/2001/04/xmldsig-more#md5"),
            "saml_signature_algorithm",
        ),
        (
            "XSLT",
            message.replacen(
                r#"<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>"#,
                r#"<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"/>"#,
                1,
            ),
            "saml_transform",
        ),
        (
            "XPath",
            message.replacen(
                r#"<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>"#,
                r#"<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"/>"#,
                1,
            ),
            "saml_transform",
        ),
        (
            "inclusive canonicalisation",
            message.replacen(
                r#"<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>"#,
                r#"<ds:CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"/>"#,
                1,
            ),
            "saml_transform",
        ),
    ];
    for (name, message, expected) in &cases {
        assert_eq!(refusal(message), *expected, "{name}");
    }
    for (method, digest) in [
        (
            "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
            "http://www.w3.org/2001/04/xmldsig-more#sha384",
        ),
        (
            "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
            "http://www.w3.org/2001/04/xmlenc#sha512",
        ),
    ] {
        let style = SignatureStyle {
            method,
            digest,
            ..SignatureStyle::default()
        };
        verify(&response().around(&provider().sign(&response().assertion(), "_assertion", &style))).unwrap();
    }
}

#[test]
fn references_lead_nowhere_but_to_the_enclosing_element() {
    let message = message();
    let to = |uri: &str| with(&message, r##"URI="#_assertion""##, &format!(r#"URI="{uri}""#));
    for uri in [
        "",
        "Cargo.toml",
        "./gateway.toml",
        "../../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "https://evil.example/",
        "cid:x",
        "#_response",
        "#xpointer(/)",
        "#xpointer(id('_assertion'))",
        "#",
    ] {
        assert_eq!(refusal(&to(uri)), "saml_reference_elsewhere", "{uri}");
    }
    verify(&to("#_assertion")).unwrap();
    let references = cut(&message, "ds:Reference").to_owned();
    let cases: [(&str, String, &str); 7] = [
        (
            "two references",
            with(&message, &references, &format!("{references}{references}")),
            "saml_signature_form",
        ),
        ("no reference", with(&message, &references, ""), "saml_signature_form"),
        (
            "another attribute in front",
            with(&message, r##"URI="#_assertion""##, r##"saml:URI="#_response" URI="#_assertion""##),
            "saml_signature_form",
        ),
        (
            "a manifest",
            with(
                &message,
                "</ds:SignedInfo>",
                "</ds:SignedInfo><ds:Object><ds:Manifest/></ds:Object>",
            ),
            "saml_signature_form",
        ),
        (
            "two signed texts",
            with(&message, "</ds:SignedInfo>", "</ds:SignedInfo><ds:SignedInfo/>"),
            "saml_signature_form",
        ),
        (
            "a key elsewhere",
            with(
                &message,
                "</ds:Signature>",
                r#"<ds:KeyInfo><ds:RetrievalMethod URI="Cargo.toml"/></ds:KeyInfo></ds:Signature>"#,
            ),
            "saml_signature_form",
        ),
        (
            "a shortened MAC",
            with(
                &message,
                r#"<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>"#,
                r#"<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"><ds:HMACOutputLength>1</ds:HMACOutputLength></ds:SignatureMethod>"#,
            ),
            "saml_signature_form",
        ),
    ];
    for (name, message, expected) in &cases {
        assert_eq!(refusal(message), *expected, "{name}");
    }
}

#[test]
fn the_field_of_a_form_is_bounded_base64() {
    let message = message();
    let field = STANDARD.encode(&message);
    assert_eq!(decode_post(&field).unwrap(), message);
    let in_lines: String = field
        .as_bytes()
        .chunks(76)
        .map(|line| format!("{}\r\n", String::from_utf8_lossy(line)))
        .collect();
    assert_eq!(decode_post(&in_lines).unwrap(), message);
    for (field, expected) in [
        ("A".repeat(10 * 1024 * 1024), "saml_too_large"),
        (STANDARD.encode(vec![b'a'; MAX_MESSAGE + 1]), "saml_too_large"),
        ("%%%".to_owned(), "saml_encoding"),
        (STANDARD.encode([0xff, 0xfe]), "saml_encoding"),
    ] {
        assert_eq!(decode_post(&field).unwrap_err().label(), expected);
    }
}
