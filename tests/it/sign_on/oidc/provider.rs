//! A provider of OpenID Connect without a network: it takes the URL that a browser brings, gives a code, and gives tokens for it
//! only to who began the log-in.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use durward::base::percent;
use durward::fetch::FetchSchemes;
use durward::sign_on::SignOnFault;
use durward::sign_on::oidc::{ProviderMetadata, TokenRequest};
use serde_json::{Value, json};

use crate::support::issuer::{Signer, base64url, jwks};

pub(super) const CLIENT_ID: &str = "durward:acme";
pub(super) const CLIENT_SECRET: &str = "s\u{e9}cret + 100% & more";
pub(super) const ACCESS_TOKEN: &str = "access-token-of-alice";

/// Names and values of a query or a form.
pub(super) type Pairs = Vec<(String, String)>;

/// What was granted when a code was given.
struct Grant {
    redirect_uri: String,
    challenge: Option<String>,
    nonce: Option<String>,
    is_used: bool,
}

pub(super) struct Provider {
    pub(super) issuer: String,
    pub(super) signer: Signer,
    /// Whether it compares the PKCE verifier; a provider of before 2015 does not.
    pub(super) knows_pkce: bool,
    grants: HashMap<String, Grant>,
}

pub(super) fn pairs_of(text: &str) -> Pairs {
    let decoded = |text: &str| percent::decode(&text.replace('+', " ")).unwrap();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (decoded(name), decoded(value))
        })
        .collect()
}

pub(super) fn find<'p>(pairs: &'p [(String, String)], name: &str) -> Option<&'p str> {
    let mut values = pairs.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let first = values.next();
    assert_eq!(values.next(), None, "`{name}` twice");
    first
}

impl Provider {
    pub(super) fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            signer: Signer::es256("key-1"),
            knows_pkce: true,
            grants: HashMap::new(),
        }
    }

    pub(super) fn metadata_json(&self) -> Value {
        let issuer = self.issuer.trim_end_matches('/');
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": format!("{issuer}/authorize?p=policy"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "end_session_endpoint": format!("{issuer}/logout"),
            "response_types_supported": ["code", "id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "authorization_response_iss_parameter_supported": true,
        })
    }

    pub(super) fn read(json: &Value, issuer: &str) -> Result<ProviderMetadata, SignOnFault> {
        ProviderMetadata::parse(json.to_string().as_bytes(), issuer, FetchSchemes::Https)
    }

    pub(super) fn keys(&self) -> String {
        jwks(&[&self.signer])
    }

    /// The callback that the browser is sent to.
    pub(super) fn authorize(&mut self, query: &[(String, String)]) -> Pairs {
        let get = |name: &str| find(query, name).map(str::to_owned);
        assert_eq!(get("response_type").as_deref(), Some("code"));
        assert_eq!(get("client_id").as_deref(), Some(CLIENT_ID));
        assert!(get("scope").unwrap().split(' ').any(|scope| scope == "openid"));
        let challenge = get("code_challenge").map(|challenge| {
            let method = get("code_challenge_method").unwrap_or_else(|| "plain".to_owned());
            format!("{method} {challenge}")
        });
        let code = format!("code-{}-{}", self.grants.len(), self.issuer.len());
        let grant = Grant {
            redirect_uri: get("redirect_uri").unwrap(),
            challenge,
            nonce: get("nonce"),
            is_used: false,
        };
        self.grants.insert(code.clone(), grant);
        let pairs = [("code", Some(code)), ("state", get("state")), ("iss", Some(self.issuer.clone()))];
        let session = ("session_state".to_owned(), "a+b/c=".to_owned());
        pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .chain([session])
            .collect()
    }

    /// The nonce of a grant if the client may have its tokens, or the answer with the error.
    pub(super) fn redeem(&mut self, request: &TokenRequest) -> Result<Option<String>, (u16, Value)> {
        let form = pairs_of(&request.form);
        let refuse = |status, error: &str| Err((status, json!({ "error": error, "error_description": "as it must be" })));
        let expected = format!(
            "Basic {}",
            STANDARD.encode("durward%3Aacme:s%C3%A9cret%20%2B%20100%25%20%26%20more")
        );
        let is_basic = request.authorization.as_ref().is_some_and(|value| *value == expected);
        let is_post = find(&form, "client_secret") == Some(CLIENT_SECRET) && find(&form, "client_id") == Some(CLIENT_ID);
        if !is_basic && !is_post {
            return refuse(401, "invalid_client");
        }
        assert_eq!(find(&form, "grant_type"), Some("authorization_code"));
        let verifier = find(&form, "code_verifier").expect("the verifier is never left out").to_owned();
        let Some(grant) = find(&form, "code").and_then(|code| self.grants.get_mut(code)) else {
            return refuse(400, "invalid_grant");
        };
        let fits = match grant.challenge.as_deref().map(|challenge| challenge.split_once(' ').unwrap()) {
            Some(("S256", challenge)) => base64url(digest(&SHA256, verifier.as_bytes())) == challenge,
            Some((_, challenge)) => verifier == challenge,
            // RFC 9700, section 4.8.2: a verifier without a challenge is an attack.
            None => false,
        };
        let is_same_url = find(&form, "redirect_uri") == Some(&grant.redirect_uri);
        if grant.is_used || !is_same_url || self.knows_pkce && !fits {
            return refuse(400, "invalid_grant");
        }
        grant.is_used = true;
        Ok(grant.nonce.clone())
    }
}
