//! The J rows of docs/threats.md that are about the form, the key and the signature, each for RS256, ES256 and EdDSA.

use serde_json::{Value, json};

use super::rows::{INVALID, each, good, header_with, signers, with};
use super::{rules, verdict};
use crate::support::issuer::{Signer, base64url, jwks};

#[test]
fn j1_no_signature_is_no_token() {
    each(|signer, verdict| {
        for alg in ["none", "None", "nOnE", "NONE", ""] {
            let header = base64url(header_with(signer, "alg", json!(alg)));
            let payload = base64url(good().to_string());
            let signature = base64url(signer.sign(format!("{header}.{payload}").as_bytes()));
            for token in [
                format!("{header}.{payload}."),
                format!("{header}.{payload}"),
                format!("{header}.{payload}.{signature}"),
            ] {
                assert_eq!(verdict(&token), Err(INVALID), "{alg}");
            }
        }
        for header in [
            json!({ "kid": signer.kid }),
            json!({ "alg": null, "kid": signer.kid }),
            json!({ "alg": ["RS256"], "kid": signer.kid }),
        ] {
            assert_eq!(
                verdict(&signer.token_of(&header.to_string(), &good().to_string())),
                Err(INVALID),
                "{header}"
            );
        }
    });
}

#[test]
fn j2_a_public_key_is_no_shared_secret() {
    each(|signer, verdict| {
        let jwk = signer.jwk();
        let public = jwk["n"].as_str().or(jwk["x"].as_str()).unwrap();
        for secret in [public.to_owned(), format!("{public}\n"), jwk.to_string(), jwk.to_string() + "\n"] {
            for alg in ["HS256", signer.algorithm] {
                let header = base64url(header_with(signer, "alg", json!(alg)));
                let signed = format!("{header}.{}", base64url(good().to_string()));
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
                let token = format!("{signed}.{}", base64url(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
                assert_eq!(verdict(&token), Err(INVALID));
            }
        }
    });
}

#[test]
fn j3_the_algorithm_is_the_keys_and_not_the_tokens() {
    each(|signer, verdict| {
        for alg in [
            "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES256K", "EdDSA", "Ed25519",
        ] {
            let token = signer.token_of(&header_with(signer, "alg", json!(alg)), &good().to_string());
            let expected = if alg == signer.algorithm { Ok(()) } else { Err(INVALID) };
            assert_eq!(verdict(&token), expected, "{alg} with a key for {}", signer.algorithm);
        }
    });
}

#[test]
fn j4_a_token_of_another_use_is_refused() {
    let signer = Signer::es256("ec");
    let mut rules = rules(&jwks(&[&signer]));
    let typed = |typ: Value| signer.token_of(&header_with(&signer, "typ", typ), &good().to_string());
    for (typ, expected) in [
        (json!("JWT"), Ok(())),
        (json!("jwt"), Ok(())),
        (json!("JOSE"), Ok(())),
        (json!("at+jwt"), Ok(())),
        (json!("application/at+jwt"), Ok(())),
        (json!("application/AT+JWT"), Ok(())),
        (json!(""), Err(INVALID)),
        (json!("logout+jwt"), Err(INVALID)),
        (json!("secevent+jwt"), Err(INVALID)),
        (json!("application/application/jwt"), Err(INVALID)),
        (json!(1), Err(INVALID)),
        (json!("dpop+jwt"), Err(INVALID)),
    ] {
        assert_eq!(verdict(&rules, &typed(typ.clone())).map(drop), expected, "{typ}");
    }
    let untyped = json!({ "alg": signer.algorithm, "kid": signer.kid }).to_string();
    assert_eq!(verdict(&rules, &signer.token_of(&untyped, &good().to_string())).map(drop), Ok(()));
    rules.issuers[0].token_type = Some("at+jwt".into());
    assert_eq!(
        verdict(&rules, &signer.token_of(&untyped, &good().to_string())).map(drop),
        Err(INVALID)
    );
    rules.issuers[0].required = vec![("token_use".into(), "access".into())];
    let of = |typ: &str, claims: &Value| {
        verdict(
            &rules,
            &signer.token_of(&header_with(&signer, "typ", json!(typ)), &claims.to_string()),
        )
        .map(drop)
    };
    assert_eq!(of("at+jwt", &with("token_use", json!("access"))), Ok(()));
    assert_eq!(of("application/AT+JWT", &with("token_use", json!("access"))), Ok(()));
    assert_eq!(of("JWT", &with("token_use", json!("access"))), Err(INVALID));
    assert_eq!(
        of("at+jwt", &with("token_use", json!("id"))),
        Err(INVALID),
        "an ID token is no access token"
    );
    assert_eq!(of("at+jwt", &with("token_use", json!(["access"]))), Err(INVALID));
    assert_eq!(of("at+jwt", &good()), Err(INVALID));
}

#[test]
fn j5_a_key_is_found_by_its_exact_name_or_not_at_all() {
    each(|signer, verdict| {
        let of = |kid: Value| verdict(&signer.token_of(&header_with(signer, "kid", kid), &good().to_string()));
        for kid in ["", "unknown", "../../dev/null", "' OR 1=1--", "\n", "RSA", " ec"] {
            assert_eq!(of(json!(kid)), Err(INVALID), "{kid:?}");
        }
        for kid in [json!(1), json!(null), json!([signer.kid]), json!({}), json!("k".repeat(64 * 1024))] {
            assert_eq!(of(kid), Err(INVALID));
        }
        let twice = format!(
            "{{\"alg\":\"{}\",\"kid\":\"{}\",\"kid\":\"{}\"}}",
            signer.algorithm, signer.kid, signer.kid
        );
        assert_eq!(verdict(&signer.token_of(&twice, &good().to_string())), Err(INVALID));
        let unnamed = format!("{{\"alg\":\"{}\"}}", signer.algorithm);
        assert_eq!(
            verdict(&signer.token_of(&unnamed, &good().to_string())),
            Ok(()),
            "the only key of its algorithm"
        );
        for other in signers().iter().filter(|other| other.algorithm != signer.algorithm) {
            assert_eq!(of(json!(other.kid)), Err(INVALID), "another key's name");
        }
    });
}

#[test]
fn j6_keys_and_places_of_keys_in_a_token_are_not_looked_at() {
    each(|signer, verdict| {
        let attacker = Signer::es256(&signer.kid);
        for (member, value) in [
            ("jwk", attacker.jwk()),
            ("jku", json!("http://127.0.0.1:1/jwks.json")),
            ("x5u", json!("http://127.0.0.1:1/cert.pem")),
            ("x5c", json!(["MIIB"])),
        ] {
            let header = header_with(signer, member, value.clone());
            assert_eq!(
                verdict(&signer.token_of(&header, &good().to_string())),
                Ok(()),
                "{member} is nothing"
            );
            let mut forged: Value = serde_json::from_str(&header).unwrap();
            forged["alg"] = json!("ES256");
            assert_eq!(
                verdict(&attacker.token_of(&forged.to_string(), &good().to_string())),
                Err(INVALID),
                "{member}"
            );
        }
    });
}

#[test]
fn j7_extensions_that_must_be_understood_are_refused() {
    each(|signer, verdict| {
        for (member, value) in [
            ("crit", json!(["x"])),
            ("crit", json!([])),
            ("crit", json!(["exp"])),
            ("b64", json!(false)),
            ("b64", json!(true)),
            ("zip", json!("DEF")),
            ("enc", json!("A256GCM")),
        ] {
            let header = header_with(signer, member, value);
            assert_eq!(verdict(&signer.token_of(&header, &good().to_string())), Err(INVALID), "{member}");
        }
        let signed = format!("{}.{}", base64url(signer.header().to_string()), base64url(good().to_string()));
        let detached = format!(
            "{}..{}",
            base64url(signer.header().to_string()),
            base64url(signer.sign(signed.as_bytes()))
        );
        assert_eq!(verdict(&detached), Err(INVALID));
    });
}

#[test]
fn j10_repeated_members_are_refused_in_any_spelling() {
    each(|signer, verdict| {
        let payload = good().to_string();
        for extra in [
            "\"tenant\":\"other\"",
            "\"exp\":9999999999",
            "\"\\u0065xp\":9999999999",
            "\"x\":{\"a\":1,\"a\":2}",
        ] {
            let doubled = payload.replacen('{', &format!("{{{extra},"), 1);
            assert_eq!(
                verdict(&signer.token_of(&signer.header().to_string(), &doubled)),
                Err(INVALID),
                "{extra}"
            );
        }
        let header = signer
            .header()
            .to_string()
            .replacen('{', &format!("{{\"alg\":\"{}\",", signer.algorithm), 1);
        assert_eq!(verdict(&signer.token_of(&header, &payload)), Err(INVALID));
    });
}

#[test]
fn j11_the_payload_is_one_object_of_bounded_size() {
    each(|signer, verdict| {
        let header = signer.header().to_string();
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000));
        for payload in ["[]", "\"text\"", "1", "null", "", "{", "{}{}", &format!("[{}]", good()), &deep] {
            assert_eq!(verdict(&signer.token_of(&header, payload)), Err(INVALID), "{payload:.40}");
        }
        let large = with("note", json!("x".repeat(1 << 20)));
        assert_eq!(verdict(&signer.token(&large)), Err(INVALID));
        assert_eq!(verdict(&signer.token(&with("note", json!("x".repeat(500))))), Ok(()));
    });
}

#[test]
fn j12_the_form_is_three_parts_of_strict_base64url() {
    each(|signer, verdict| {
        let token = signer.token(&good());
        let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            panic!()
        };
        for bad in [
            String::new(),
            header.to_owned(),
            format!("{header}.{payload}"),
            format!("{header}.{payload}."),
            format!("{token}."),
            format!("{token}.x"),
            format!("{token}.x.y"),
            format!(".{token}"),
            format!("{token} "),
            format!(" {token}"),
            format!("{token}="),
            format!("{header}=.{payload}.{signature}"),
            format!("{header}.{payload}\n.{signature}"),
            format!("{header}.{payload}.{}+", &signature[..signature.len() - 1]),
            format!("{header}.{payload}.{}/", &signature[..signature.len() - 1]),
            format!("{header}.{payload}.{}", &signature[..signature.len() - 1]),
            format!("{header}.{payload}.A{signature}"),
        ] {
            assert_eq!(verdict(&bad), Err(INVALID), "{bad:.40}");
        }
        // Non-zero bits after the last whole byte: another text for the same signature.
        let last = signature.chars().last().unwrap();
        let unused = signature.len() % 4;
        if unused != 0 {
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
            assert_eq!(
                verdict(&format!("{header}.{payload}.{}{next}", &signature[..signature.len() - 1])),
                Err(INVALID)
            );
        }
        assert_eq!(verdict(&token), Ok(()));
    });
}

#[test]
fn j13_signatures_of_zeros_and_of_other_keys_and_texts_are_refused() {
    each(|signer, verdict| {
        let signed = format!("{}.{}", base64url(signer.header().to_string()), base64url(good().to_string()));
        for length in [0, 1, 32, 63, 64, 65, 70, 72, 256, 257] {
            for byte in [0, 1, 0xff] {
                assert_eq!(verdict(&format!("{signed}.{}", base64url(vec![byte; length]))), Err(INVALID));
            }
        }
        let other = Signer::of_algorithm(&signer.kid, signer.algorithm);
        assert_eq!(verdict(&other.token(&good())), Err(INVALID), "another key under the same name");
        let mut changed = signer.sign(signed.as_bytes());
        changed[7] ^= 1;
        assert_eq!(verdict(&format!("{signed}.{}", base64url(changed))), Err(INVALID));
        let swapped = format!(
            "{}.{}",
            base64url(signer.header().to_string()),
            base64url(with("tenant", json!("other")).to_string())
        );
        assert_eq!(
            verdict(&format!("{swapped}.{}", base64url(signer.sign(signed.as_bytes())))),
            Err(INVALID)
        );
    });
}

#[test]
fn j18_an_encrypted_token_is_refused() {
    each(|_, verdict| {
        let header = base64url(json!({ "alg": "RSA-OAEP", "enc": "A256GCM", "zip": "DEF" }).to_string());
        assert_eq!(verdict(&format!("{header}.AAAA.BBBB.CCCC.DDDD")), Err(INVALID));
    });
}
