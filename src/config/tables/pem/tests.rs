//! Keys as people paste them, whole and broken.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// PKCS #8 of a new key, and the key alone as PKCS #1 or SEC 1 has it.
fn keys() -> [(&'static str, Vec<u8>); 4] {
    let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let sec1: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = ec.private_key().as_der().unwrap();
    let pkcs8 = ec.to_pkcs8v1().unwrap();
    // Version, algorithm and the head of the octet string of a PKCS #8 with an RSA key of this length.
    let pkcs1 = rsa.as_ref()[26..].to_vec();
    [
        ("PRIVATE KEY", rsa.as_ref().to_vec()),
        ("RSA PRIVATE KEY", pkcs1),
        ("PRIVATE KEY", pkcs8.as_ref().to_vec()),
        ("EC PRIVATE KEY", sec1.as_ref().to_vec()),
    ]
}

/// With lines of 64 characters that `between` separates.
fn written(label: &str, der: &[u8], between: &str) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!(
        "-----BEGIN {label}-----{between}{}{between}-----END {label}-----",
        lines.join(between)
    )
}

fn what(text: &str) -> &'static str {
    private_key(text.as_bytes()).map_or_else(|flaw| flaw.what, |_| "taken")
}

#[test]
fn a_key_is_taken_however_its_lines_were_joined() {
    for (label, der) in keys() {
        for between in ["\n", "\r\n", "\\n", "\\r\\n", " ", "", "\t", "\n\n", "\\n\n"] {
            let pem = written(label, &der, between);
            let (key, _) = private_key(pem.as_bytes()).unwrap_or_else(|flaw| panic!("{label} {between:?} {flaw:?}"));
            assert_eq!(key.secret_der(), der, "{label} {between:?}");
            for around in [
                format!("\"{pem}\""),
                format!("'{pem}\\n'"),
                format!("\u{feff}{pem}\n"),
                format!("Bag Attributes\n{pem}"),
                format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{pem}"),
            ] {
                assert_eq!(what(&around), "taken", "{label} {between:?}");
            }
        }
    }
}

/// Texts that are no key, and what is told of each.
fn mistakes(label: &str, der: &[u8]) -> Vec<(String, &'static str)> {
    let pem = written(label, der, "\n");
    let body = STANDARD.encode(der);
    vec![
        (
            written("ENCRYPTED PRIVATE KEY", der, "\n"),
            "the private key is encrypted, which is not supported",
        ),
        (
            written("RSA PRIVATE KEY", der, "\n").replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"),
            "the private key is encrypted, which is not supported",
        ),
        (
            written("OPENSSH PRIVATE KEY", der, "\n"),
            "the private key is in OpenSSH's own format",
        ),
        (
            written("DSA PRIVATE KEY", der, "\n"),
            "the private key is DSA, which no client accepts any more",
        ),
        (written("CERTIFICATE", der, "\n"), "it holds a certificate and no private key"),
        (written("PUBLIC KEY", der, "\n"), "it holds a public key, not the private one"),
        (body.clone(), "the private key is base64 without its -----BEGIN and -----END lines"),
        (
            STANDARD.encode(&pem),
            "the private key is base64 without its -----BEGIN and -----END lines",
        ),
        (
            "hunter2".to_owned(),
            "this is not a PEM private key: there is no -----BEGIN line in it",
        ),
        (
            pem.replace("-----END", "----END"),
            "the private key has no -----END line: it was cut off",
        ),
        (
            pem.replacen("KEY-----", "KEY----", 1),
            "the private key's -----BEGIN line is broken",
        ),
        (
            pem.replacen("PRIVATE KEY-----", &format!("{}-----", &body[..20]), 1),
            "the private key's -----BEGIN line is broken",
        ),
        (
            pem.replace("END PRIVATE", "END RSA PRIVATE"),
            "the private key's -----END line does not name what its -----BEGIN line names",
        ),
        (
            pem.replacen("MII", "M\\tII", 1),
            "the private key has characters that are not base64",
        ),
        (
            pem.replacen("MII", "M\\\\nII", 1),
            "the private key has characters that are not base64",
        ),
        (pem.replacen("MII", "M-II", 1), "the private key has characters that are not base64"),
        // 999 bytes need no padding, which would be whole again with a character less.
        (
            written(label, der.get(..100).unwrap(), "\n"),
            "the private key is damaged, or of a kind that cannot be used",
        ),
        (
            format!("{}{pem}", &pem[..200]),
            "the private key has no -----END line: it was cut off",
        ),
        (String::new(), "this is not a PEM private key: there is no -----BEGIN line in it"),
    ]
}

#[test]
fn what_is_no_key_is_named_and_nothing_of_it_is_guessed() {
    let [(label, der), ..] = keys();
    for (text, told) in mistakes(label, &der) {
        assert_eq!(what(&text), told);
    }
    // Whether what is left is whole base64 depends on the length of the key.
    for cut in ["MI", "M=I"] {
        assert_ne!(what(&written(label, &der, "\n").replacen("MII", cut, 1)), "taken");
    }
}

#[test]
fn bytes_that_are_no_text_are_named() {
    let [(label, der), ..] = keys();
    let pem = written(label, &der, "\n");
    for (bytes, told) in [
        (der.clone(), "the private key is binary (DER), not PEM"),
        (
            pem.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "the private key is not text",
        ),
        (
            [0xff, 0xfe]
                .into_iter()
                .chain(pem.encode_utf16().flat_map(u16::to_le_bytes))
                .collect(),
            "the private key is in UTF-16, not UTF-8",
        ),
    ] {
        assert_eq!(private_key(&bytes).map_or_else(|flaw| flaw.what, |_| "taken"), told);
    }
}

#[test]
fn certificates_are_all_taken_and_a_key_in_their_place_is_not() {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    for text in [
        pem.clone(),
        format!("{key}{pem}"),
        pem.replace('\n', "\\n"),
        pem.replace("\r\n", " ").replace('\n', " "),
        format!("# ours\n{pem}"),
    ] {
        assert_eq!(certificates(text.as_bytes()).unwrap(), [made.cert.der().clone()], "{text}");
    }
    assert_eq!(certificates(format!("{pem}{pem}").as_bytes()).unwrap().len(), 2);
    for text in [key.clone(), key.replace('\n', "\\n"), "x".to_owned(), String::new()] {
        assert_eq!(certificates(text.as_bytes()).unwrap_err().what, "it holds no certificate");
    }
    assert!(certificates(&pem.as_bytes()[..100]).unwrap_err().what.contains("cut off"));
    assert!(certificates(made.cert.der()).unwrap_err().what.contains("DER"));
}
