//! The attacks on a log-in by OpenID Connect, each beside its twin, which is allowed.

use durward::decide::external::KeySet;
use durward::sign_on::oidc::{IdToken, IdTokenRules, LogInValues, SentSecrets, TokenAnswer};

use super::flow::Change::{
    Acr, Algorithm, Answer, AnswerText, Callback, CallbackEnd, Claims, Clock, Header, MaxAge, Metadata, NoPkce, Secret, SecretPost, Signed,
    Token, Twice, Url, UserInfo,
};
use super::flow::{By, Change, ISSUER, NOW, client, log_in, person_rules};
use super::provider::{CLIENT_ID, Provider};
use crate::support::issuer::{Signer, jwks};

struct Row {
    attack: &'static str,
    changes: &'static [Change],
    label: &'static str,
    /// What differs from the attack only in that it is right.
    twin: &'static [Change],
}

const fn row(attack: &'static str, changes: &'static [Change], label: &'static str, twin: &'static [Change]) -> Row {
    Row {
        attack,
        changes,
        label,
        twin,
    }
}

/// A token of nobody: `{"alg":"ES256"}`, `{}` and 64 zero bytes.
const FORGED: &str = "eyJhbGciOiJFUzI1NiJ9.e30.\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const LOG_IN_CSRF: [Row; 6] = [
    row("state absent", &[Callback("state", "")], "no_state", &[]),
    row(
        "state of another browser's log-in (log-in CSRF)",
        &[Callback("state", "{other.state}")],
        "wrong_state",
        &[],
    ),
    row("state made up", &[Callback("state", "AAAA")], "wrong_state", &[]),
    row(
        "state twice",
        &[CallbackEnd("&state={other.state}")],
        "callback_form",
        &[CallbackEnd("&states={other.state}")],
    ),
    row(
        "state twice in another spelling",
        &[CallbackEnd("&%73tate=x")],
        "callback_form",
        &[CallbackEnd("&%73tates=x")],
    ),
    row(
        "code and state of another log-in",
        &[Callback("code", "{other.code}"), Callback("state", "{other.state}")],
        "wrong_state",
        &[],
    ),
];

const MIX_UP: [Row; 4] = [
    row(
        "mix-up: the callback of another provider",
        &[Callback("iss", "https://evil.example")],
        "wrong_callback_issuer",
        &[],
    ),
    row(
        "mix-up: an issuer that is nearly the right one",
        &[Callback("iss", "https://idp.example/tenant/")],
        "wrong_callback_issuer",
        &[],
    ),
    row(
        "mix-up: `iss` taken out",
        &[Callback("iss", "")],
        "no_callback_issuer",
        &[
            Callback("iss", ""),
            Metadata(r#"{"authorization_response_iss_parameter_supported":false}"#),
        ],
    ),
    row(
        "mix-up at a provider that does not announce `iss`",
        &[
            Callback("iss", "https://evil.example"),
            Metadata(r#"{"authorization_response_iss_parameter_supported":null}"#),
        ],
        "wrong_callback_issuer",
        &[Metadata(r#"{"authorization_response_iss_parameter_supported":null}"#)],
    ),
];

const CODES_AND_PKCE: [Row; 10] = [
    row("the callback replayed", &[Twice], "code_refused", &[]),
    row(
        "code of another log-in injected",
        &[Callback("code", "{other.code}")],
        "code_refused",
        &[],
    ),
    row(
        "code injected at a provider without PKCE",
        &[NoPkce, Callback("code", "{other.code}")],
        "wrong_nonce",
        &[NoPkce],
    ),
    row("code made up", &[Callback("code", "code-9")], "code_refused", &[]),
    row("code absent", &[Callback("code", "")], "no_code", &[]),
    row(
        "code twice",
        &[CallbackEnd("&code={other.code}")],
        "callback_form",
        &[CallbackEnd("&codes=1")],
    ),
    row("PKCE left out on the way", &[Url("code_challenge", "")], "code_refused", &[]),
    row(
        "PKCE made plain on the way",
        &[Url("code_challenge_method", "plain")],
        "code_refused",
        &[Url("code_challenge_method", "S256")],
    ),
    row(
        "PKCE challenge of the attacker",
        &[Url("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")],
        "code_refused",
        &[],
    ),
    row(
        "redirect altered on the way",
        &[Url("redirect_uri", "https://evil.example/")],
        "code_refused",
        &[],
    ),
];

const NONCES: [Row; 2] = [
    row("nonce taken out on the way", &[Url("nonce", "")], "no_nonce", &[]),
    row(
        "nonce of another log-in on the way",
        &[Url("nonce", "{other.nonce}")],
        "wrong_nonce",
        &[Url("nonce", "{nonce}")],
    ),
];

const IN_THE_TOKEN: [Row; 40] = [
    row(
        "for another client",
        &[Claims(r#"{"aud":"other"}"#)],
        "token_audience",
        &[Claims(r#"{"aud":"durward:acme"}"#)],
    ),
    row(
        "for another client in a list",
        &[Claims(r#"{"aud":["other"]}"#)],
        "token_audience",
        &[Claims(r#"{"aud":["durward:acme"]}"#)],
    ),
    row("for nobody", &[Claims(r#"{"aud":null}"#)], "token no_audience", &[]),
    row("for an object", &[Claims(r#"{"aud":{"durward:acme":1}}"#)], "token_audience", &[]),
    row(
        "for several, issued to nobody",
        &[Claims(r#"{"aud":["durward:acme","other"]}"#)],
        "token_party",
        &[Claims(r#"{"aud":["durward:acme","other"],"azp":"durward:acme"}"#)],
    ),
    row(
        "issued to another client",
        &[Claims(r#"{"azp":"other"}"#)],
        "token_party",
        &[Claims(r#"{"azp":"durward:acme"}"#)],
    ),
    row(
        "of another issuer",
        &[Claims(r#"{"iss":"https://evil.example"}"#)],
        "token_issuer",
        &[],
    ),
    row(
        "of nearly the issuer",
        &[Claims(r#"{"iss":"https://idp.example/tenant/"}"#)],
        "token_issuer",
        &[],
    ),
    row(
        "of a list of issuers",
        &[Claims(r#"{"iss":["https://idp.example/tenant"]}"#)],
        "token_issuer",
        &[],
    ),
    row("of no issuer", &[Claims(r#"{"iss":null}"#)], "token_issuer", &[]),
    row("unsigned", &[Signed(By::Nobody)], "unsigned", &[]),
    row("unsigned with a signature", &[Header(r#"{"alg":"none"}"#)], "unsigned", &[]),
    row("unsigned in capitals", &[Header(r#"{"alg":"NONE"}"#)], "unsigned", &[]),
    row("signed by a stranger", &[Signed(By::Stranger)], "token bad_signature", &[]),
    row("signed with the client secret", &[Signed(By::Secret)], "token_algorithm", &[]),
    row(
        "signed with the public key as a secret",
        &[Signed(By::PublicKey)],
        "token_algorithm",
        &[],
    ),
    row(
        "of another algorithm",
        &[Header(r#"{"alg":"RS256"}"#)],
        "token_algorithm",
        &[Header(r#"{"alg":"ES256"}"#)],
    ),
    row(
        "of an algorithm that the settings do not want",
        &[Algorithm("RS256")],
        "token_algorithm",
        &[Algorithm("ES256")],
    ),
    row(
        "of an unknown key",
        &[Header(r#"{"kid":"key-2"}"#)],
        "token unknown_key",
        &[Header(r#"{"kid":null}"#)],
    ),
    row(
        "with a key of its own",
        &[Signed(By::Stranger), Header(r#"{"jwk":{"kty":"EC"}}"#)],
        "token bad_signature",
        &[Header(r#"{"jwk":{"kty":"EC"}}"#)],
    ),
    row(
        "with a critical extension",
        &[Header(r#"{"crit":["x"]}"#)],
        "token unsupported_header",
        &[Header(r#"{"x":1}"#)],
    ),
    row(
        "an access token",
        &[Header(r#"{"typ":"at+jwt"}"#)],
        "token wrong_type",
        &[Header(r#"{"typ":"application/jwt"}"#)],
    ),
    row(
        "a logout token",
        &[Header(r#"{"typ":"logout+jwt"}"#)],
        "token wrong_type",
        &[Header(r#"{"typ":null}"#)],
    ),
    row(
        "expired",
        &[Claims(r#"{"exp":1799999940}"#)],
        "token_expired",
        &[Claims(r#"{"exp":1799999941}"#)],
    ),
    row(
        "expired by a clock that is an hour ahead",
        &[Clock(3600)],
        "token_expired",
        &[Clock(59)],
    ),
    row("without an end", &[Claims(r#"{"exp":null}"#)], "token no_expiry", &[]),
    row(
        "with an end that is a text",
        &[Claims(r#"{"exp":"1900000000"}"#)],
        "token malformed_time",
        &[Claims(r#"{"exp":1900000000.5}"#)],
    ),
    row(
        "from the future, by a clock that is an hour behind",
        &[Clock(-3600)],
        "token_future",
        &[Clock(-59)],
    ),
    row(
        "not valid yet",
        &[Claims(r#"{"nbf":1800000061}"#)],
        "token_future",
        &[Claims(r#"{"nbf":1800000060}"#)],
    ),
    row("without its time", &[Claims(r#"{"iat":null}"#)], "token no_issue_time", &[]),
    row(
        "old",
        &[Claims(r#"{"iat":1799999339}"#)],
        "token_old",
        &[Claims(r#"{"iat":1799999340}"#)],
    ),
    row(
        "without nonce",
        &[Claims(r#"{"nonce":null}"#)],
        "no_nonce",
        &[Claims(r#"{"nonce":"{nonce}"}"#)],
    ),
    row(
        "nonce of another log-in",
        &[Claims(r#"{"nonce":"{other.nonce}"}"#)],
        "wrong_nonce",
        &[],
    ),
    row("nonce in a list", &[Claims(r#"{"nonce":["{nonce}"]}"#)], "wrong_nonce", &[]),
    row(
        "with the hash of another access token",
        &[Claims(r#"{"at_hash":"AAAAAAAAAAAAAAAAAAAAAA"}"#)],
        "access_token_hash",
        &[Claims(r#"{"at_hash":"wRifrEbgvyFDg37bNG2Chg"}"#)],
    ),
    row(
        "of a log-in that was too long ago",
        &[MaxAge(60), Clock(91)],
        "auth_time_old",
        &[MaxAge(60), Clock(90)],
    ),
    row(
        "without the time of the log-in",
        &[MaxAge(60), Claims(r#"{"auth_time":null}"#)],
        "no_auth_time",
        &[Claims(r#"{"auth_time":null}"#)],
    ),
    row(
        "of a log-in in the future",
        &[Claims(r#"{"auth_time":1800000061}"#)],
        "token_future",
        &[Claims(r#"{"auth_time":1800000060}"#)],
    ),
    row(
        "of a weak log-in",
        &[Acr("urn:gold"), Claims(r#"{"acr":"urn:bronze"}"#)],
        "wrong_acr",
        &[Acr("urn:gold"), Claims(r#"{"acr":"urn:gold"}"#)],
    ),
    row(
        "of a log-in of no kind",
        &[Acr("urn:gold")],
        "wrong_acr",
        &[Acr("urn:gold"), Claims(r#"{"acr":"urn:silver"}"#)],
    ),
];

const IN_THE_ANSWERS: [Row; 24] = [
    row("no subject", &[Claims(r#"{"sub":null}"#)], "token no_subject", &[]),
    row("an empty subject", &[Claims(r#"{"sub":""}"#)], "subject", &[]),
    row(
        "a number as subject",
        &[Claims(r#"{"sub":1}"#)],
        "subject",
        &[Claims(r#"{"sub":"1"}"#)],
    ),
    row(
        "a subject that ends a key of the store",
        &[Claims("{\"sub\":\"a\\u0000b\"}")],
        "subject",
        &[],
    ),
    row(
        "a session with a control character",
        &[Claims("{\"sid\":\"a\\u0000b\"}")],
        "missing_claim",
        &[Claims(r#"{"sid":null}"#)],
    ),
    row("a token that is none", &[Token("x")], "token malformed_token", &[]),
    row("a token that nobody signed", &[Token(FORGED)], "token bad_signature", &[]),
    row("an encrypted token", &[Token("e30.e30.e30.e30.e30")], "token malformed_token", &[]),
    row("no token", &[Answer(r#"{"id_token":null}"#)], "token_answer_member", &[]),
    row("a token in a list", &[Answer(r#"{"id_token":["x"]}"#)], "token_answer_member", &[]),
    row("no access token", &[Answer(r#"{"access_token":null}"#)], "token_answer_member", &[]),
    row(
        "tokens of another kind",
        &[Answer(r#"{"token_type":"mac"}"#)],
        "token_answer_member",
        &[Answer(r#"{"token_type":"bearer"}"#)],
    ),
    row(
        "an error beside tokens",
        &[Answer(r#"{"error":"invalid_grant"}"#)],
        "code_refused",
        &[Answer(r#"{"warning":"x"}"#)],
    ),
    row("a wrong secret", &[Secret("wrong")], "client_refused", &[SecretPost]),
    row("an empty secret", &[Secret("")], "client_text", &[]),
    row(
        "another error",
        &[AnswerText(400, r#"{"error":"temporarily_unavailable"}"#)],
        "tokens_refused",
        &[],
    ),
    row("an error without a name", &[AnswerText(400, "{}")], "token_answer_member", &[]),
    row("a list", &[AnswerText(200, "[]")], "token_answer_form", &[]),
    row(
        "a member twice",
        &[AnswerText(200, r#"{"id_token":"a","id_token":"b"}"#)],
        "token_answer_form",
        &[],
    ),
    row(
        "userinfo of another person",
        &[UserInfo(r#"{"sub":"bob-2"}"#)],
        "userinfo_subject",
        &[UserInfo(r#"{"sub":"alice-1"}"#)],
    ),
    row("userinfo of nobody", &[UserInfo("{}")], "userinfo_subject", &[]),
    row(
        "userinfo of two",
        &[UserInfo(r#"{"sub":"alice-1","sub":"bob-2"}"#)],
        "userinfo_form",
        &[],
    ),
    row("userinfo that is no object", &[UserInfo(r#"["alice-1"]"#)], "userinfo_form", &[]),
    row(
        "an error of the provider under another state",
        &[Callback("error", "access_denied"), Callback("state", "{other.state}")],
        "wrong_state",
        &[],
    ),
];

fn check(rows: &[Row]) {
    for row in rows {
        assert_eq!(log_in(row.changes).err().as_deref(), Some(row.label), "{}", row.attack);
        let person = log_in(row.twin);
        assert!(person.is_ok(), "the twin of: {}: {person:?}", row.attack);
    }
}

#[test]
fn a_log_in_that_nobody_touched_proves_a_person() {
    let person = log_in(&[]).unwrap();
    assert_eq!(
        (person.subject.as_str(), person.email.as_deref()),
        ("alice-1", Some("alice@acme.example"))
    );
    assert_eq!(person.session_id.as_deref(), Some("session-7"));
    assert_eq!(person.auth_time.map(|time| time.secs()), Some(NOW - 30));
    let person = log_in(&[
        Claims(r#"{"email":null}"#),
        UserInfo(r#"{"sub":"alice-1","email":"a@acme.example","name":"Alice"}"#),
    ])
    .unwrap();
    assert_eq!(
        (person.email.as_deref(), person.name.as_deref()),
        (Some("a@acme.example"), Some("Alice"))
    );
}

#[test]
fn b4_a_callback_of_another_log_in_or_of_none_proves_nobody() {
    check(&LOG_IN_CSRF);
}

#[test]
fn b5_an_id_token_that_is_not_of_this_log_in_proves_nobody() {
    check(&NONCES);
    check(&IN_THE_TOKEN);
}

#[test]
fn b6_a_callback_of_another_provider_proves_nobody() {
    check(&MIX_UP);
}

#[test]
fn b7_a_code_proves_nobody_without_what_began_its_log_in() {
    check(&CODES_AND_PKCE);
}

#[test]
fn what_a_provider_answers_wrong_proves_nobody() {
    check(&IN_THE_ANSWERS);
}

#[test]
fn an_error_of_the_provider_is_told_with_its_own_words() {
    let refused = log_in(&[
        Callback("error", "access_denied"),
        Callback("error_description", "AADSTS50105: not\nassigned"),
    ]);
    assert_eq!(refused.err().as_deref(), Some("provider_refused"));
    for (name, value) in [("code", "a\u{e9}"), ("code", "a\nb"), ("code", &"x".repeat(4097))] {
        let value: &'static str = Box::leak(value.to_owned().into_boxed_str());
        let changes: &'static [Change] = Box::leak(Box::new([Callback(name, value)]));
        assert_eq!(log_in(changes).err().as_deref(), Some("callback_form"), "{value:.20}");
    }
}

/// The hash of `at_hash` is that of the algorithm.
#[test]
fn an_id_token_of_every_algorithm_is_verified_with_its_own_hash() {
    for (signer, at_hash) in Signer::all().iter().map(|signer| {
        let hash = match signer.algorithm {
            "RS256" | "PS256" | "ES256" => &aws_lc_rs::digest::SHA256,
            "RS384" | "PS384" | "ES384" => &aws_lc_rs::digest::SHA384,
            _ => &aws_lc_rs::digest::SHA512,
        };
        let hash = aws_lc_rs::digest::digest(hash, b"access");
        (signer, crate::support::issuer::base64url(&hash.as_ref()[..hash.as_ref().len() / 2]))
    }) {
        let (client, values) = (client(ISSUER), LogInValues::random().unwrap());
        let claims = serde_json::json!({
            "iss": ISSUER, "aud": CLIENT_ID, "sub": "a", "iat": NOW, "exp": NOW + 60, "nonce": values.nonce.text(), "at_hash": at_hash,
        });
        let answer = |access: &str| {
            let json = serde_json::json!({ "token_type": "Bearer", "access_token": access, "id_token": signer.token(&claims) });
            TokenAnswer::parse(200, json.to_string().as_bytes(), &SentSecrets::default()).unwrap()
        };
        let keys = KeySet::parse(jwks(&[signer]).as_bytes()).unwrap();
        let now = durward::base::clock::UnixMillis(NOW * 1000);
        let rules = IdTokenRules::of(&client, &values.nonce);
        let token = IdToken::verify(&answer("access"), &keys, &rules, now);
        assert!(token.unwrap().person(None, &person_rules()).is_ok(), "{}", signer.algorithm);
        let other = IdToken::verify(&answer("other"), &keys, &rules, now);
        assert_eq!(
            other.err().map(|fault| fault.label()),
            Some("access_token_hash"),
            "{}",
            signer.algorithm
        );
        let none = IdToken::verify(&answer("access"), &KeySet::default(), &rules, now);
        assert_eq!(none.err().map(|fault| super::flow::label(&fault)).as_deref(), Some("token no_keys"));
    }
}

#[test]
fn every_log_in_sends_values_of_its_own() {
    let provider = Provider::new(ISSUER);
    let metadata = Provider::read(&provider.metadata_json(), ISSUER).unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50 {
        let values = LogInValues::random().unwrap();
        let url = client(ISSUER).authorization_url(&metadata, "https://app.example/cb", &values, None);
        let query = super::provider::pairs_of(url.split_once('?').unwrap().1);
        for name in ["state", "nonce", "code_challenge"] {
            let value = super::provider::find(&query, name).unwrap().to_owned();
            assert_eq!(value.len(), 43);
            assert!(seen.insert(value), "{name}");
        }
        assert!(!url.contains(&values.verifier.text()), "the verifier never leaves by the browser");
        assert_eq!(super::provider::find(&query, "code_challenge_method"), Some("S256"));
    }
    let debug = format!("{:?}", LogInValues::random().unwrap());
    assert!(debug.len() < 130, "{debug}");
}
