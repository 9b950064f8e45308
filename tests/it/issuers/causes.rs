//! Each cause for which a token of another issuer is refused, by its name.

use durward::base::credential::TokenFault;
use durward::base::ids::TenantId;
use durward::decide::external::{ExternalRules, Tenants};
use serde_json::{Value, json};

use super::rows::{good, header_with, seconds, with, without};
use super::{explained, fault, rules};
use crate::support::issuer::{Signer, base64url, jwks};

/// Rules that ask for all that can be asked, of an issuer of this key and one more.
fn strict(signer: &Signer) -> ExternalRules {
    let mut rules = rules(&jwks(&[signer, &Signer::eddsa("ed")]));
    rules.issuers[0].required = vec![("token_use".into(), "access".into())];
    rules.issuers[0].tenants = Tenants::Claim {
        claim: "tenant".into(),
        allowed: Some(vec![TenantId::parse("acme").unwrap()]),
    };
    rules.max_token = 4096;
    rules
}

/// Claims that meet them.
fn set(mut claims: Value) -> Value {
    claims["token_use"] = json!("access");
    claims
}

#[test]
fn every_cause_of_the_form_and_the_key_is_told_by_its_name() {
    let (signer, other) = (Signer::es256("ec"), Signer::es256("ec"));
    let rules = strict(&signer);
    let claiming = |name: &str, value: Value| signer.token(&set(with(name, value)));
    let headed = |name: &str, value: Value| signer.token_of(&header_with(&signer, name, value), &set(good()).to_string());
    let written = |payload: &str| signer.token_of(&signer.header().to_string(), payload);
    let token = signer.token(&set(good()));
    assert_eq!(fault(&rules, &token), None);
    assert!(explained(&rules, &token, super::NOW).is_ok());
    let doubled = set(good()).to_string().replacen('{', "{\"tenant\":\"other\",", 1);
    for (token, cause) in [
        (claiming("note", json!("x".repeat(4096))), TokenFault::TooLong),
        ("a.b".to_owned(), TokenFault::Form),
        (format!("{token}="), TokenFault::Form),
        (format!("{token}.x"), TokenFault::Form),
        (token[..token.rfind('.').unwrap() + 1].to_owned(), TokenFault::Form),
        (written("[]"), TokenFault::Json),
        (signer.token_of("null", &good().to_string()), TokenFault::Json),
        (
            written(&format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40))),
            TokenFault::TooDeep,
        ),
        (written(&doubled), TokenFault::RepeatedMember),
        (headed("crit", json!(["b64"])), TokenFault::UnsupportedHeader),
        (headed("b64", json!(true)), TokenFault::UnsupportedHeader),
        (headed("zip", json!("DEF")), TokenFault::UnsupportedHeader),
        (headed("alg", json!(null)), TokenFault::MalformedHeader),
        (headed("kid", json!(1)), TokenFault::MalformedHeader),
        (headed("typ", json!(1)), TokenFault::MalformedHeader),
        (headed("typ", json!("logout+jwt")), TokenFault::WrongType),
        (headed("kid", json!("other")), TokenFault::UnknownKey),
        (headed("alg", json!("none")), TokenFault::WrongAlgorithm),
        (headed("alg", json!("HS256")), TokenFault::WrongAlgorithm),
        (headed("alg", json!("RS256")), TokenFault::WrongAlgorithm),
        (headed("kid", json!("ed")), TokenFault::WrongAlgorithm),
        (other.token(&set(good())), TokenFault::BadSignature),
    ] {
        assert_eq!(fault(&rules, &token), Some(cause.label()), "{token:.80}");
    }
}

#[test]
fn every_cause_of_the_claims_is_told_by_its_name() {
    let signer = Signer::es256("ec");
    let mut rules = strict(&signer);
    let claiming = |name: &str, value: Value| signer.token(&set(with(name, value)));
    let lacking = |name: &str| signer.token(&set(without(name)));
    for (token, cause) in [
        (claiming("iss", json!("https://other.test")), TokenFault::UnknownIssuer),
        (lacking("iss"), TokenFault::UnknownIssuer),
        (lacking("exp"), TokenFault::NoExpiry),
        (claiming("exp", json!("9999999999")), TokenFault::MalformedTime),
        (claiming("iat", json!(null)), TokenFault::MalformedTime),
        (claiming("nbf", json!(seconds(6))), TokenFault::NotYetValid),
        (claiming("iat", json!(seconds(6))), TokenFault::IssuedInFuture),
        (lacking("aud"), TokenFault::NoAudience),
        (claiming("aud", json!("other")), TokenFault::WrongAudience),
        (claiming("aud", json!(["payments", 1])), TokenFault::WrongAudience),
        (signer.token(&good()), TokenFault::RequiredClaim),
        (lacking("sub"), TokenFault::NoSubject),
        (claiming("sub", json!("a\u{7}")), TokenFault::MalformedSubject),
        (claiming("sub", json!(7)), TokenFault::MalformedSubject),
        (lacking("tenant"), TokenFault::NoTenant),
        (claiming("tenant", json!("org/repo")), TokenFault::MalformedTenant),
        (claiming("tenant", json!("other")), TokenFault::ForeignTenant),
        (claiming("permissions", json!({})), TokenFault::MalformedScopes),
    ] {
        assert_eq!(fault(&rules, &token), Some(cause.label()), "{token:.80}");
    }
    rules.issuers[0].max_age = Some(std::time::Duration::from_secs(60));
    assert_eq!(fault(&rules, &lacking("iat")), Some(TokenFault::NoIssueTime.label()));
    let many: Vec<Signer> = (0..5).map(|n| Signer::es256(&format!("k{n}"))).collect();
    let rules = super::rules(&jwks(&many.iter().collect::<Vec<_>>()));
    let unnamed = json!({ "alg": "ES256" }).to_string();
    assert_eq!(
        fault(&rules, &many[0].token_of(&unnamed, &good().to_string())),
        Some(TokenFault::AmbiguousKey.label())
    );
}

#[test]
fn the_largest_token_is_taken_and_one_byte_more_is_not() {
    let signer = Signer::eddsa("ed");
    let rules = rules(&jwks(&[&signer]));
    let of_length = |length: usize| {
        // Base64 makes the note's length jump; blanks in the header make up for the rest.
        (0..4)
            .flat_map(|pad| {
                let header = format!("{{{}\"alg\":\"EdDSA\",\"kid\":\"ed\"}}", " ".repeat(pad));
                let fixed = signer.token_of(&header, &with("note", json!("")).to_string()).len();
                let guess = (length - fixed) * 3 / 4;
                (guess.saturating_sub(4)..guess + 4).map(move |n| (header.clone(), n))
            })
            .map(|(header, n)| signer.token_of(&header, &with("note", json!("x".repeat(n))).to_string()))
            .find(|token| token.len() == length)
            .unwrap()
    };
    assert_eq!(fault(&rules, &of_length(16_384)), None);
    assert_eq!(fault(&rules, &of_length(16_385)), Some(TokenFault::TooLong.label()));
    let padded = format!("{}{}", base64url("{}"), "A".repeat(1 << 20));
    assert_eq!(
        fault(&rules, &padded),
        Some(TokenFault::TooLong.label()),
        "before anything is decoded"
    );
}

#[test]
fn what_directories_put_into_tokens_is_taken_however_many_items_it_has() {
    let signer = Signer::rs256("rsa");
    let rules = rules(&jwks(&[&signer]));
    let words = |n: usize, kind: &str| (0..n).map(|i| format!("{kind}-{i}")).collect::<Vec<_>>();
    let groups: Vec<String> = (0..200).map(|i| format!("0b1c2d3e-4f50-6172-8394-{i:012x}")).collect();
    for (name, value) in [
        ("roles", json!(words(65, "role"))),
        ("groups", json!(groups)),
        ("permissions", json!(words(100, "scope"))),
        ("permissions", json!(words(100, "scope").join(" "))),
        ("resource_access", json!({ "account": { "roles": words(300, "r") } })),
    ] {
        assert_eq!(fault(&rules, &signer.token(&with(name, value))), None, "{name}");
    }
    let mut many = good();
    for i in 0..500 {
        many[format!("claim-{i}")] = json!(i);
    }
    assert_eq!(fault(&rules, &signer.token(&many)), None);
}
