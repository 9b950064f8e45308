//! Encrypted assertions: decrypted with our key, verified afterwards, and never an answer that helps to decrypt.

use super::*;
use crate::sign_on::saml::sample::encrypted;
use crate::sign_on::saml::verifier::VerifierJob;

const GCM: &str = "http://www.w3.org/2009/xmlenc11#aes256-gcm";
const CBC: &str = "http://www.w3.org/2001/04/xmlenc#aes128-cbc";
const OAEP: &str = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";

/// A signed assertion, encrypted for us.
fn ciphertext(content: &str) -> String {
    let signed = provider().sign(&response().assertion(), "_assertion", &SignatureStyle::default());
    encrypted(&signed, own_keys().certificate(), content, OAEP)
}

fn in_signed_response(content: &str) -> String {
    provider().sign(&response().around(content), "_response", &SignatureStyle::default())
}

#[test]
fn an_encrypted_assertion_is_read_when_it_is_signed() {
    for content in [GCM, "http://www.w3.org/2009/xmlenc11#aes128-gcm"] {
        for message in [response().around(&ciphertext(content)), in_signed_response(&ciphertext(content))] {
            let claims = verify(&message).unwrap();
            assert_eq!(claims.assertion.name_id.value, "ada@corp.example");
            judge_response(&claims, &rules(), NOW).unwrap();
        }
    }
    // The key of RSA-OAEP in the newer form.
    let signed = provider().sign(&response().assertion(), "_assertion", &SignatureStyle::default());
    let newer = encrypted(&signed, own_keys().certificate(), GCM, "http://www.w3.org/2009/xmlenc11#rsa-oaep");
    verify(&response().around(&newer)).unwrap();
}

#[test]
fn the_verifier_prepares_for_decryption_when_a_message_may_need_it() {
    let may_decrypt = |message: &str, key: bool| {
        let job = job(message);
        VerifierJob::Response(ResponseJob {
            decryption_key: job.decryption_key.filter(|_| key),
            ..job
        })
        .may_decrypt()
    };
    let encrypted = response().around(&ciphertext(GCM));
    assert!(may_decrypt(&encrypted, true));
    assert!(!may_decrypt(&encrypted, false));
    assert!(!may_decrypt(&response().around(&response().assertion()), true));
}

#[test]
fn an_encryption_that_notices_no_change_counts_in_a_signed_response_only() {
    assert_eq!(refusal(&response().around(&ciphertext(CBC))), "saml_unsigned_ciphertext");
    verify(&in_signed_response(&ciphertext(CBC))).unwrap();
    // A changed ciphertext is noticed before it is decrypted.
    let message = in_signed_response(&ciphertext(CBC));
    let value = message.rfind("<xenc:CipherValue>").unwrap() + "<xenc:CipherValue>".len();
    let mut changed = message.clone();
    changed.replace_range(value..value + 4, "AAAA");
    assert_eq!(refusal(&changed), "saml_signature_wrong");
}

#[test]
fn what_is_not_signed_inside_is_refused() {
    let unsigned = encrypted(&response().assertion(), own_keys().certificate(), GCM, OAEP);
    assert_eq!(refusal(&response().around(&unsigned)), "saml_encrypted_unsigned");
    // A signed response covers the ciphertext, and claims are read below a signed node only.
    assert_eq!(refusal(&in_signed_response(&unsigned)), "saml_encrypted_unsigned");
    let forged = stranger().sign(&response().assertion(), "_assertion", &SignatureStyle::default());
    let forged = encrypted(&forged, own_keys().certificate(), GCM, OAEP);
    assert_eq!(refusal(&response().around(&forged)), "saml_signature_wrong");
}

#[test]
fn garbage_and_ciphertexts_for_others_have_one_answer() {
    let signed = provider().sign(&response().assertion(), "_assertion", &SignatureStyle::default());
    let own = own_keys().certificate();
    let message = response().around(&ciphertext(GCM));
    let mut changed = message.clone();
    let value = message.rfind("<xenc:CipherValue>").unwrap() + "<xenc:CipherValue>".len();
    changed.replace_range(value..value + 4, "AAAA");
    let mut key_changed = message.clone();
    let value = message.find("<xenc:CipherValue>").unwrap() + "<xenc:CipherValue>".len();
    key_changed.replace_range(value..value + 4, "AAAA");
    let cases = [
        (
            "for somebody else",
            response().around(&encrypted(&signed, stranger().keys.certificate(), GCM, OAEP)),
        ),
        ("a changed ciphertext", changed),
        ("a changed key", key_changed),
        ("no XML inside", response().around(&encrypted("garbage", own, GCM, OAEP))),
        ("nothing inside", response().around(&encrypted(" ", own, GCM, OAEP))),
        (
            "two assertions inside",
            response().around(&encrypted(&format!("{signed}{signed}"), own, GCM, OAEP)),
        ),
        (
            "a comment inside",
            response().around(&encrypted(&signed.replacen("ada@", "ada<!---->@", 1), own, GCM, OAEP)),
        ),
        (
            "a document type inside",
            response().around(&encrypted(&format!("<!DOCTYPE x>{signed}"), own, GCM, OAEP)),
        ),
        (
            "another encryption inside",
            response().around(&encrypted(&ciphertext(GCM), own, GCM, OAEP)),
        ),
    ];
    for (name, message) in &cases {
        assert_eq!(refusal(message), "saml_undecryptable", "{name}");
    }
}

#[test]
fn only_listed_algorithms_and_forms_are_decrypted() {
    let message = response().around(&ciphertext(GCM));
    let cases: [(&str, String, &str); 8] = [
        (
            "triple DES",
            with(&message, GCM, "http://www.w3.org/2001/04/xmlenc#tripledes-cbc"),
            "saml_encryption_algorithm",
        ),
        (
            "RSA with PKCS #1 v1.5",
            with(&message, OAEP, "http://www.w3.org/2001/04/xmlenc#rsa-1_5"),
            "saml_encryption_algorithm",
        ),
        (
            "AES key wrap",
            with(&message, OAEP, "http://www.w3.org/2001/04/xmlenc#kw-aes128"),
            "saml_encryption_algorithm",
        ),
        (
            "a ciphertext in a file",
            {
                let begin = message.rfind("<xenc:CipherData>").unwrap();
                let end = message.rfind("</xenc:CipherData>").unwrap();
                format!(
                    r#"{}<xenc:CipherData><xenc:CipherReference URI="Cargo.toml"/>{}"#,
                    &message[..begin],
                    &message[end..]
                )
            },
            "saml_encryption_form",
        ),
        (
            "a derived key",
            with(
                &message,
                "<xenc:EncryptedKey>",
                r#"<xenc11:DerivedKey xmlns:xenc11="http://www.w3.org/2009/xmlenc11#"/><xenc:EncryptedKey>"#,
            ),
            "saml_encryption_form",
        ),
        (
            "two keys",
            {
                let begin = message.find("<xenc:EncryptedKey>").unwrap();
                let end = message.find("</xenc:EncryptedKey>").unwrap() + "</xenc:EncryptedKey>".len();
                let key = message[begin..end].to_owned();
                with(&message, &key, &format!("{key}{key}"))
            },
            "saml_encryption_form",
        ),
        (
            "two encrypted assertions",
            response().around(&format!("{}{}", ciphertext(GCM), ciphertext(GCM))),
            "saml_several_assertions",
        ),
        (
            "one that is encrypted and one that is not",
            response().around(&format!(
                "{}{}",
                ciphertext(GCM),
                provider().sign(&response().assertion(), "_assertion", &SignatureStyle::default())
            )),
            "saml_several_assertions",
        ),
    ];
    for (name, message, expected) in &cases {
        assert_eq!(refusal(message), *expected, "{name}");
    }
    // The key beside the data, as some providers place it.
    let begin = message.find("<xenc:EncryptedKey>").unwrap();
    let end = message.find("</xenc:EncryptedKey>").unwrap() + "</xenc:EncryptedKey>".len();
    let key = message[begin..end].to_owned();
    let beside = with(
        &message,
        &key,
        r##"<ds:RetrievalMethod Type="http://www.w3.org/2001/04/xmlenc#EncryptedKey" URI="#_key"/>"##,
    );
    let key = key.replacen(
        "<xenc:EncryptedKey>",
        r#"<xenc:EncryptedKey xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" Id="_key">"#,
        1,
    );
    let beside = with(&beside, "</xenc:EncryptedData>", &format!("</xenc:EncryptedData>{key}"));
    verify(&beside).unwrap();
    assert_eq!(
        refusal(&with(&beside, r##"URI="#_key""##, r##"URI="#_response""##)),
        "saml_encryption_form"
    );
}

#[test]
fn encryption_is_a_setting() {
    let plain = ResponseJob {
        encryption: EncryptionDemand::Required,
        ..job(&response().with_signed_assertion(provider()))
    };
    assert_eq!(verify_response(&plain).unwrap_err(), SamlFault::NotEncrypted);
    let message = response().around(&ciphertext(GCM));
    let mut required = ResponseJob {
        encryption: EncryptionDemand::Required,
        ..job(&message)
    };
    verify_response(&required).unwrap();
    required.decryption_key = None;
    assert_eq!(verify_response(&required).unwrap_err(), SamlFault::NoDecryptionKey);
    required.decryption_key = Some(stranger().keys.private_pem().as_str().to_owned());
    assert_eq!(verify_response(&required).unwrap_err(), SamlFault::Undecryptable);
}
