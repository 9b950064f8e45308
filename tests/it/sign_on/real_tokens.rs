//! What real OpenID providers sent is read and judged as they meant it; the same at another time or for somebody else is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use durward::base::clock::UnixMillis;
use durward::decide::external::KeySet;
use durward::fetch::FetchSchemes;
use durward::sign_on::oidc::{IdToken, IdTokenRules, LogInValue, LogoutToken, ProviderMetadata, SentSecrets, TokenAnswer, UserInfo};
use durward::sign_on::{PersonRules, SignOnFault, SignedOnPerson};
use serde_json::{Value, json};

use super::samples::RealSample;

/// Name, person, whether the ID token has groups, and how log-outs are told: by session, by person, or not.
const TOKENS: [(&str, &str, &str); 4] = [
    ("oidc-provider-rs256", "ann", "session"),
    ("oidc-provider-es256", "ann", "person"),
    ("oidc-provider-eddsa", "ann", "session"),
    ("lemonldap-openid", "dwho", ""),
];

impl RealSample {
    fn issuer(&self) -> &str {
        self.sample["discovery"]["issuer"].as_str().unwrap()
    }

    fn keys(&self) -> KeySet {
        KeySet::parse(self.sample["jwks"].to_string().as_bytes()).unwrap()
    }

    fn id_token(&self, client_id: &str, nonce: &LogInValue, now: UnixMillis) -> Result<IdToken, SignOnFault> {
        let answer = TokenAnswer::parse(200, self.sample["answer"].to_string().as_bytes(), &SentSecrets::default()).unwrap();
        let rules = IdTokenRules {
            issuer: self.issuer(),
            client_id,
            nonce,
            max_age: None,
            acr_values: &[],
            algorithms: &[],
        };
        IdToken::verify(&answer, &self.keys(), &rules, now)
    }

    fn person(&self) -> SignedOnPerson {
        let token = self.id_token(self.text("client_id"), &nonce(&self.sample), self.now).unwrap();
        let userinfo = UserInfo::parse(self.sample["userinfo"].to_string().as_bytes(), token.subject()).unwrap();
        let rules = PersonRules {
            subject: "sub".to_owned(),
            email: "email".to_owned(),
            name: "name".to_owned(),
            roles: None,
            claims: vec!["groups".to_owned()],
        };
        token.person(Some(&userinfo), &rules).unwrap()
    }
}

fn nonce(sample: &Value) -> LogInValue {
    let bytes = URL_SAFE_NO_PAD.decode(sample["nonce"].as_str().unwrap()).unwrap();
    LogInValue::from_bytes(bytes.try_into().unwrap())
}

#[test]
fn real_providers_say_where_everything_is() {
    for (name, ..) in TOKENS {
        let tokens = RealSample::of(name);
        let discovery = tokens.sample["discovery"].to_string();
        let metadata = ProviderMetadata::parse(discovery.as_bytes(), tokens.issuer(), FetchSchemes::Https);
        let metadata = metadata.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert!(
            metadata.userinfo_endpoint.is_some() && metadata.end_session_endpoint.is_some(),
            "{name}"
        );
        let announces = |member: &str| tokens.sample["discovery"][member] == json!(true);
        assert_eq!(metadata.back_channel_log_out, announces("backchannel_logout_supported"), "{name}");
        assert_eq!(
            metadata.announces_iss,
            announces("authorization_response_iss_parameter_supported"),
            "{name}"
        );
        let other = format!("{}x", tokens.issuer());
        let other = ProviderMetadata::parse(discovery.as_bytes(), &other, FetchSchemes::Https).unwrap_err();
        assert_eq!(other.label(), "metadata_issuer", "{name}");
    }
}

#[test]
fn real_id_tokens_prove_who_signed_on() {
    for (name, subject, log_out) in TOKENS {
        let tokens = RealSample::of(name);
        let person = tokens.person();
        assert_eq!(person.subject, subject, "{name}");
        assert_eq!(person.email.as_deref(), tokens.sample["userinfo"]["email"].as_str(), "{name}");
        assert_eq!(person.claims.len(), 1, "{name}: groups");
        assert_eq!(person.session_id.is_some(), log_out == "session", "{name}");
    }
}

#[test]
fn real_id_tokens_prove_nothing_to_others_or_later() {
    for (name, ..) in TOKENS {
        let tokens = RealSample::of(name);
        let own = nonce(&tokens.sample);
        let client = tokens.text("client_id");
        let label = |result: Result<IdToken, SignOnFault>| result.unwrap_err().label();
        assert_eq!(label(tokens.id_token("other", &own, tokens.now)), "token_audience", "{name}");
        let other = LogInValue::from_bytes([8; 32]);
        assert_eq!(label(tokens.id_token(client, &other, tokens.now)), "wrong_nonce", "{name}");
        let later = UnixMillis(tokens.now.0 + 8 * 86_400_000);
        assert_eq!(label(tokens.id_token(client, &own, later)), "token_expired", "{name}");
    }
}

#[test]
fn real_logout_tokens_name_a_session_or_a_person() {
    for (name, subject, log_out) in TOKENS {
        let tokens = RealSample::of(name);
        let Some(token) = tokens.sample["logout_token"].as_str() else {
            assert_eq!(log_out, "", "{name}");
            continue;
        };
        let verify = |token: &str, now| LogoutToken::verify(token, &tokens.keys(), tokens.issuer(), tokens.text("client_id"), now);
        let told = verify(token, tokens.now).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(told.subject.as_deref(), Some(subject), "{name}");
        let session = tokens.person().session_id;
        assert_eq!(told.session_id, session.filter(|_| log_out == "session"), "{name}");

        let id_token = tokens.sample["answer"]["id_token"].as_str().unwrap();
        assert!(verify(id_token, tokens.now).is_err(), "{name}: an ID token ends nothing");
    }
}
