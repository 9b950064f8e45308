//! Which key sets and keys are taken, and which are not.

use durward::decide::external::keys::{MAX_KEYS, MAX_SET_LEN};
use durward::decide::external::{IssuerAlgorithm, KeyMiss, KeySet, KeySetError};
use serde_json::{Value, json};

use crate::support::issuer::{Signer, base64url, jwks};

fn parse(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn with(signer: &Signer, member: &str, value: Value) -> Value {
    let mut jwk = signer.jwk();
    jwk[member] = value;
    jwk
}

fn without(signer: &Signer, members: &[&str]) -> Value {
    let mut jwk = signer.jwk();
    for member in members {
        jwk.as_object_mut().unwrap().remove(*member);
    }
    jwk
}

/// Whether a key on its own is used.
fn is_used(jwk: Value) -> bool {
    let set = parse(&[jwk]).unwrap();
    assert_eq!(set.len() + set.ignored().len(), 1);
    set.len() == 1
}

#[test]
fn keys_of_every_algorithm_are_found_by_name_and_algorithm() {
    let signers = Signer::all();
    let set = KeySet::parse(jwks(&signers.iter().collect::<Vec<_>>()).as_bytes()).unwrap();
    assert_eq!((set.len(), set.ignored().len()), (9, 0));
    for signer in &signers {
        let key = set.find(Some(&signer.kid), signer.algorithm).ok().unwrap().next().unwrap();
        assert!(key.verifies(b"text", &signer.sign(b"text")));
        assert!(!key.verifies(b"other", &signer.sign(b"text")));
        assert!(set.find(None, signer.algorithm).is_ok(), "the only one of its algorithm");
        for other in signers.iter().filter(|other| other.kid != signer.kid) {
            assert_eq!(set.find(Some(&signer.kid), other.algorithm).err(), Some(KeyMiss::Unfit));
        }
    }
    assert_eq!(
        set.find(Some("RSA"), "RS256").err(),
        Some(KeyMiss::UnknownKid),
        "names are compared exactly"
    );
    assert_eq!(set.find(None, "HS256").err(), Some(KeyMiss::Unfit));
}

#[test]
fn a_token_that_could_mean_a_few_keys_is_tried_with_each_and_with_no_more() {
    let signers: Vec<Signer> = (0..5).map(|n| Signer::es256(&format!("k{n}"))).collect();
    let set = |n: usize| KeySet::parse(jwks(&signers[..n].iter().collect::<Vec<_>>()).as_bytes()).unwrap();
    let verified = |set: &KeySet, signer: &Signer| {
        let mut keys = set.find(None, "ES256").ok().unwrap();
        keys.any(|key| key.verifies(b"text", &signer.sign(b"text")))
    };
    assert!(signers[..4].iter().all(|signer| verified(&set(4), signer)));
    assert!(!verified(&set(4), &signers[4]), "a key that is not published");
    assert_eq!(set(5).find(None, "ES256").err(), Some(KeyMiss::Ambiguous));
    assert!(set(5).find(Some("k4"), "ES256").is_ok());
    let unnamed = without(&signers[0], &["kid"]);
    assert!(parse(&[unnamed]).unwrap().find(None, "ES256").is_ok());
}

#[test]
fn j3_a_key_says_its_algorithm_or_has_only_one() {
    for signer in Signer::all() {
        assert!(is_used(without(&signer, &["alg", "use"])));
        for alg in ["none", "HS256", "rs256", "", "ES512", "ES256K", "RSA-OAEP", "ECDH-ES"] {
            assert!(!is_used(with(&signer, "alg", json!(alg))), "{} as {alg}", signer.algorithm);
        }
        for other in Signer::all().iter().filter(|other| other.jwk()["crv"] != signer.jwk()["crv"]) {
            assert!(
                !is_used(with(&signer, "alg", json!(other.algorithm))),
                "{} as {}",
                signer.algorithm,
                other.algorithm
            );
        }
    }
    // An RSA key is for one algorithm: what it says, or else what the operator says.
    let rsa = Signer::rs256("rsa");
    let algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    for (own, algorithm) in algorithms.into_iter().zip(IssuerAlgorithm::OF_RSA) {
        let unnamed = json!({ "keys": [without(&rsa, &["alg"])] }).to_string();
        for set in [
            parse(&[with(&rsa, "alg", json!(own))]).unwrap(),
            KeySet::parse_with(unnamed.as_bytes(), algorithm).unwrap(),
        ] {
            for name in algorithms {
                let expected = if name == own { None } else { Some(KeyMiss::Unfit) };
                assert_eq!(set.find(Some("rsa"), name).err(), expected, "{name} by a key for {own}");
            }
        }
    }
    assert!(parse(&[without(&rsa, &["alg"])]).unwrap().find(Some("rsa"), "RS256").is_ok());
    // Both names of Ed25519 mean one algorithm; a key that tells one is for that one.
    let ed = Signer::eddsa("ed");
    let set = parse(&[without(&ed, &["alg"])]).unwrap();
    assert!(set.find(Some("ed"), "EdDSA").is_ok() && set.find(Some("ed"), "Ed25519").is_ok());
    let set = parse(&[with(&ed, "alg", json!("Ed25519"))]).unwrap();
    assert!(set.find(Some("ed"), "Ed25519").is_ok());
    assert_eq!(set.find(Some("ed"), "EdDSA").err(), Some(KeyMiss::Unfit), "one name for each key");
}

#[test]
fn keys_for_other_uses_are_left_out_and_the_rest_is_used() {
    for signer in Signer::all() {
        assert!(!is_used(with(&signer, "use", json!("enc"))));
        assert!(!is_used(with(&signer, "key_ops", json!(["encrypt"]))));
        assert!(is_used(with(&signer, "key_ops", json!(["verify"]))));
        assert!(is_used(with(&signer, "use", json!("jwt-svid"))), "as bundles of SPIFFE have it");
        assert!(is_used(with(&signer, "d", json!(null))), "null is nothing");
        assert!(!is_used(with(&signer, "kty", json!("new"))));
        assert!(!is_used(with(&signer, "kid", json!("k".repeat(129)))));
        assert!(!is_used(with(&signer, "kid", json!(""))));
        assert!(
            is_used(with(&signer, "x5c", json!(["anything"]))),
            "what is not asked for is not looked at"
        );
        let set = parse(&[signer.jwk(), with(&signer, "use", json!("enc"))]).unwrap();
        assert_eq!((set.len(), set.ignored().len()), (1, 1));
    }
}

#[test]
fn j13_weak_and_broken_rsa_keys_are_left_out() {
    use aws_lc_rs::rsa::KeySize;
    let good = Signer::rs256("rsa");
    let modulus = |bytes: usize, last: u8| {
        let mut n = vec![0xc1; bytes];
        n[bytes - 1] = last;
        json!(base64url(n))
    };
    assert!(is_used(with(&good, "n", modulus(256, 0x0f))));
    assert!(is_used(with(&good, "n", modulus(512, 0x0f))));
    assert!(!is_used(with(&good, "n", modulus(128, 0x0f))), "1024 bits");
    assert!(!is_used(with(&good, "n", modulus(255, 0x0f))), "2040 bits");
    assert!(!is_used(with(&good, "n", modulus(513, 0x0f))), "more than 4096 bits");
    assert!(!is_used(with(&good, "n", modulus(256, 0x10))), "even");
    for exponent in [&[1][..], &[3], &[17], &[1, 0, 0], &[0xff, 0xff], &[1, 0, 0, 0, 1], &[]] {
        assert!(!is_used(with(&good, "e", json!(base64url(exponent)))), "{exponent:?}");
    }
    for text in ["", "====", "AQAB=", "not base64!", "AQ AB"] {
        assert!(!is_used(with(&good, "e", json!(text))), "{text}");
        assert!(!is_used(with(&good, "n", json!(text))), "{text}");
    }
    // What the defective library of CVE-2017-15361 makes: powers of 65537 modulo small primes.
    let mut roca = vec![1_u8];
    for _ in 0..128 {
        roca = multiply(&roca, 65_537);
    }
    assert!(roca.len() * 8 > 2048 && roca.len() * 8 < 4096 + 8, "{}", roca.len());
    assert!(!is_used(with(&good, "n", json!(base64url(&roca)))));
    let mut near = roca.clone();
    *near.last_mut().unwrap() ^= 2;
    assert!(is_used(with(&good, "n", json!(base64url(&near)))), "its neighbour is no such key");
    assert!(is_used(Signer::rsa("large", KeySize::Rsa3072).jwk()));
}

/// A big-endian number times a small one.
fn multiply(number: &[u8], by: u32) -> Vec<u8> {
    let mut carry = 0_u64;
    let mut product: Vec<u8> = Vec::new();
    for byte in number.iter().rev() {
        let sum = u64::from(*byte) * u64::from(by) + carry;
        product.push(u8::try_from(sum & 255).unwrap());
        carry = sum >> 8;
    }
    while carry > 0 {
        product.push(u8::try_from(carry & 255).unwrap());
        carry >>= 8;
    }
    product.reverse();
    product
}

#[test]
fn points_that_are_not_on_the_curve_are_left_out() {
    let (ec, ed) = (Signer::es256("ec"), Signer::eddsa("ed"));
    for (member, bytes) in [("x", vec![0; 32]), ("y", vec![0; 32]), ("x", vec![1; 31]), ("y", vec![1; 33])] {
        assert!(!is_used(with(&ec, member, json!(base64url(bytes)))), "{member}");
    }
    assert!(!is_used(with(&ec, "crv", json!("P-384"))) && !is_used(without(&ec, &["y"])));
    for length in [0, 31, 33, 64] {
        assert!(!is_used(with(&ed, "x", json!(base64url(vec![7; length])))), "{length}");
    }
    assert!(!is_used(with(&ed, "crv", json!("X25519"))));
    let small = |first: u8, middle: u8, last: u8| {
        let mut point = vec![middle; 32];
        (point[0], point[31]) = (first, last);
        json!(base64url(point))
    };
    for point in [
        small(0, 0, 0),
        small(1, 0, 0),
        small(1, 0, 0x80),
        small(0xec, 0xff, 0x7f),
        small(0xed, 0xff, 0x7f),
        small(0xee, 0xff, 0xff),
    ] {
        assert!(!is_used(with(&ed, "x", point.clone())), "of small order: {point}");
    }
}

#[test]
fn a_set_with_a_private_or_symmetric_key_is_refused_whole() {
    for signer in Signer::all() {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            let leaked = with(&signer, member, json!("AQAB"));
            assert_eq!(parse(&[signer.jwk(), leaked]).unwrap_err(), KeySetError::Private, "{member}");
        }
    }
    assert_eq!(
        parse(&[json!({ "kty": "oct", "kid": "s", "k": "c2VjcmV0" })]).unwrap_err(),
        KeySetError::Private
    );
    assert_eq!(parse(&[json!({ "kty": "oct" })]).unwrap_err(), KeySetError::Private);
    for twice in [r#"{"kty":"RSA","d":null,"d":"AQAB"}"#, r#"{"kty":"oct","kty":"RSA"}"#] {
        let set = format!("{{\"keys\":[{twice}]}}");
        assert_eq!(KeySet::parse(set.as_bytes()).unwrap_err(), KeySetError::Private, "{twice}");
    }
}

#[test]
fn a_name_of_two_keys_means_both_and_a_key_that_stands_twice_is_one() {
    let (one, two) = (Signer::es256("k"), Signer::es256("k"));
    let set = parse(&[one.jwk(), two.jwk(), one.jwk()]).unwrap();
    assert_eq!((set.len(), set.warning()), (2, None));
    let verified = |signer: &Signer| {
        let mut keys = set.find(Some("k"), "ES256").ok().unwrap();
        keys.any(|key| key.verifies(b"text", &signer.sign(b"text")))
    };
    assert!(verified(&one) && verified(&two) && !verified(&Signer::es256("k")));
    let other_kind = Signer::eddsa("k");
    let set = parse(&[one.jwk(), other_kind.jwk()]).unwrap();
    assert_eq!(set.len(), 2, "the algorithm tells them apart");
    assert_eq!(set.find(Some("k"), "EdDSA").ok().unwrap().count(), 1);
    let many: Vec<Value> = (0..5).map(|_| Signer::es256("k").jwk()).collect();
    assert_eq!(parse(&many).unwrap().find(Some("k"), "ES256").err(), Some(KeyMiss::Ambiguous));
}

#[test]
fn what_is_no_key_is_left_out_by_name_and_the_rest_is_used() {
    let (good, rsa) = (Signer::es256("good"), Signer::rs256("rsa"));
    for (odd, told) in [
        (without(&good, &["kty"]), "`kty` is missing"),
        (with(&good, "kid", json!(1)), "`kid` is not of its type"),
        (with(&good, "key_ops", json!("verify")), "`key_ops` is not of its type"),
        (with(&good, "kty", json!(["EC"])), "`kty` is not of its type"),
        (with(&good, "alg", json!(256)), "`alg` is not of its type"),
        (with(&good, "use", json!({})), "`use` is not of its type"),
        (with(&good, "crv", json!(true)), "`crv` is not of its type"),
        (without(&good, &["x"]), "`x` is missing"),
        (with(&rsa, "e", json!(65_537)), "(rsa): `e` is not of its type"),
        (without(&rsa, &["n"]), "`n` is missing"),
        (with(&rsa, "e", json!("Aw")), "(rsa): it is too weak"),
        (with(&good, "kty", json!("AKP")), "not supported"),
        (with(&good, "kid", json!("a\n\u{1b}[2J\u{202e}")), ""),
        (json!({}), "`kty` is missing"),
        (json!(null), "it is not an object"),
        (json!([]), "it is not an object"),
        (json!([[{}]]), "it is not an object"),
        (json!("text"), "it is not an object"),
        (json!(-1.5), "it is not an object"),
        (json!(true), "it is not an object"),
    ] {
        for keys in [[odd.clone(), good.jwk()], [good.jwk(), odd.clone()]] {
            let set = parse(&keys).unwrap();
            assert!(set.find(Some("good"), "ES256").is_ok(), "{odd}");
            let warning = set.warning().unwrap_or_default();
            assert!(
                warning.contains(told) && warning.is_ascii() && !warning.contains('\u{1b}'),
                "{odd}: {warning}"
            );
        }
    }
    let deep = format!("{{\"keys\":[{}{},{}]}}", "[".repeat(10_000), "]".repeat(10_000), good.jwk());
    assert_eq!(KeySet::parse(deep.as_bytes()).unwrap().len(), 1);
    let twice = format!("{{\"keys\":[{{\"kty\":\"OKP\",\"kty\":\"OKP\"}},{}]}}", good.jwk());
    let set = KeySet::parse(twice.as_bytes()).unwrap();
    assert_eq!(
        (set.len(), set.warning().as_deref()),
        (1, Some("keys[0]: a member stands twice in it"))
    );
    let set = parse(&[with(&rsa, "use", json!("enc")), good.jwk()]).unwrap();
    assert_eq!(
        (set.len(), set.ignored().len(), set.warning()),
        (1, 1, None),
        "a key for encryption is nothing odd"
    );
}

#[test]
fn a_set_is_one_object_of_bounded_size() {
    let key = Signer::eddsa("ed").jwk().to_string();
    for text in [
        String::new(),
        "null".into(),
        "[]".into(),
        format!("[[{key}]]"),
        format!("[{key}]"),
        key.clone(),
        "{}".into(),
        "{\"keys\":{}}".into(),
        "{\"keys\":null}".into(),
        format!("{{\"keys\":[{key}],\"keys\":[]}}"),
        format!("{{\"keys\":[{key}]}} x"),
        format!("{{\"keys\":[{key}"),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), KeySetError::NotASet, "{text:.80}");
    }
    assert!(KeySet::parse(b"{\"keys\":[]}").unwrap().is_empty());
    assert_eq!(KeySet::parse(&vec![b' '; MAX_SET_LEN + 1]).unwrap_err(), KeySetError::TooLong);
    assert_eq!(KeySet::parse(b"{\"keys\":[{\"kty\":\"\xff\"}]}").unwrap_err(), KeySetError::NotASet);
    let many: Vec<Value> = (0..=MAX_KEYS).map(|n| Signer::eddsa(&format!("k{n}")).jwk()).collect();
    let set = parse(&many).unwrap();
    assert_eq!((set.len(), set.ignored().len()), (MAX_KEYS, 1), "the first ones are kept");
    assert!(set.warning().unwrap().contains("beyond the first 64"));
    let odd = parse(&vec![json!({ "kty": "new" }); 1_000]).unwrap();
    assert!(odd.warning().unwrap().ends_with("; and 992 more"));
}
