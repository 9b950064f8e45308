//! One log-in, from the browser's first step to the person, with every change that an attacker or a provider could make on the way.

use std::time::Duration;

use durward::base::clock::UnixMillis;
use durward::decide::external::KeySet;
use durward::sign_on::oidc::{Callback, ClientAuthentication, IdToken, IdTokenRules, LogInValues, OidcClient, TokenAnswer, UserInfo};
use durward::sign_on::{PersonRules, SignOnFault, SignedOnPerson};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::provider::{ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, Pairs, Provider, find, pairs_of};
use crate::support::issuer::{Signer, base64url};

pub(super) const ISSUER: &str = "https://idp.example/tenant";
pub(super) const REDIRECT: &str = "https://app.example/v1/auth/sso/callback?x=1";
/// In seconds.
pub(super) const NOW: i64 = 1_800_000_000;

/// One change to a log-in that is otherwise right. Texts may name values of this log-in, `{nonce}`, and of another browser's log-in at
/// the same provider, `{other.code}`, `{other.state}`, `{other.nonce}`. `null` takes a member out.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// Of the provider's configuration.
    Metadata(&'static str),
    /// Of the URL, on the way to the provider. An empty value takes the parameter out.
    Url(&'static str, &'static str),
    /// Of the callback. An empty value takes the parameter out.
    Callback(&'static str, &'static str),
    /// Appended to the callback's query.
    CallbackEnd(&'static str),
    /// Of the ID token's claims.
    Claims(&'static str),
    /// Of the ID token's header.
    Header(&'static str),
    /// Who signs the ID token.
    Signed(By),
    /// The ID token as a whole.
    Token(&'static str),
    /// Of the token endpoint's answer.
    Answer(&'static str),
    /// The token endpoint's answer as a whole.
    AnswerText(u16, &'static str),
    /// Userinfo is asked, and answers this.
    UserInfo(&'static str),
    /// Seconds by which our clock is ahead.
    Clock(i64),
    /// `max_age` in seconds.
    MaxAge(u64),
    /// `acr_values`.
    Acr(&'static str),
    /// `id_token_algs`.
    Algorithm(&'static str),
    /// The client authenticates with another secret.
    Secret(&'static str),
    /// The client authenticates in the form.
    SecretPost,
    /// The provider does not know PKCE.
    NoPkce,
    /// The callback comes a second time.
    Twice,
}

#[derive(Clone, Copy)]
pub(super) enum By {
    /// A key that is not published, under the published name.
    Stranger,
    /// The client secret, with HS256.
    Secret,
    /// The public key as a secret, with HS256.
    PublicKey,
    Nobody,
}

use Change::{
    Acr, Algorithm, Answer, AnswerText, CallbackEnd, Claims, Clock, Header, MaxAge, Metadata, NoPkce, Secret, SecretPost, Signed, Token,
    Twice, Url,
};

pub(super) fn person_rules() -> PersonRules {
    PersonRules {
        subject: "sub".into(),
        email: "email".into(),
        name: "name".into(),
        roles: None,
        claims: Vec::new(),
    }
}

pub(super) fn client(issuer: &str) -> OidcClient {
    OidcClient {
        issuer: issuer.to_owned(),
        client_id: CLIENT_ID.to_owned(),
        authentication: ClientAuthentication::SecretBasic(Zeroizing::new(CLIENT_SECRET.to_owned())),
        scopes: vec!["openid".into(), "email".into()],
        prompt: None,
        max_age: None,
        acr_values: Vec::new(),
        userinfo: false,
        refresh_tokens: false,
        algorithms: Vec::new(),
    }
}

/// Sets the members of one object in another; `null` takes a member out.
pub(super) fn merge(into: &mut Value, changes: &str) {
    let changes: Value = serde_json::from_str(changes).unwrap();
    let members = into.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
}

fn set(pairs: &mut Pairs, name: &str, value: &str) {
    pairs.retain(|(own, _)| own != name);
    if !value.is_empty() {
        pairs.push((name.to_owned(), value.to_owned()));
    }
}

fn written(pairs: &Pairs) -> String {
    let mut out = Vec::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(b'&');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        durward::base::percent::push_query(&mut out, value);
    }
    String::from_utf8(out).unwrap()
}

/// The label of a fault; of faults of a token's form or signature, with what it is.
pub(super) fn label(fault: &SignOnFault) -> String {
    assert!(!fault.to_string().contains("s\u{e9}cret") && !fault.to_string().contains(ACCESS_TOKEN));
    match fault {
        SignOnFault::Token(fault) => format!("token {}", fault.label()),
        other => other.label().to_owned(),
    }
}

pub(super) struct Flow<'c> {
    changes: &'c [Change],
    provider: Provider,
    client: OidcClient,
    values: LogInValues,
    others: [(&'static str, String); 4],
}

/// Logs in with these changes.
pub(super) fn log_in(changes: &[Change]) -> Result<SignedOnPerson, String> {
    let mut provider = Provider::new(ISSUER);
    let (values, other) = (LogInValues::random().unwrap(), LogInValues::random().unwrap());
    let right = Provider::read(&provider.metadata_json(), ISSUER).unwrap();
    // Another browser began a log-in of its own, and has its callback.
    let url = client(ISSUER).authorization_url(&right, REDIRECT, &other, None);
    let callback = provider.authorize(&pairs_of(url.split_once('?').unwrap().1));
    let others = [
        ("{nonce}", values.nonce.text()),
        ("{other.code}", find(&callback, "code").unwrap().to_owned()),
        ("{other.state}", other.state.text()),
        ("{other.nonce}", other.nonce.text()),
    ];
    let mut flow = Flow {
        changes,
        provider,
        client: client(ISSUER),
        values,
        others,
    };
    flow.configure();
    flow.run().map_err(|fault| label(&fault))
}

impl Flow<'_> {
    fn text(&self, text: &str) -> String {
        self.others
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    fn configure(&mut self) {
        for change in self.changes {
            match change {
                MaxAge(seconds) => self.client.max_age = Some(Duration::from_secs(*seconds)),
                Acr(acr) => self.client.acr_values = vec!["urn:silver".into(), (*acr).to_owned()],
                Algorithm(name) => self.client.algorithms = vec![(*name).to_owned()],
                Secret(secret) => {
                    self.client.authentication = ClientAuthentication::SecretBasic(Zeroizing::new((*secret).to_owned()));
                }
                SecretPost => {
                    self.client.authentication = ClientAuthentication::SecretPost(Zeroizing::new(CLIENT_SECRET.to_owned()));
                }
                NoPkce => self.provider.knows_pkce = false,
                _ => {}
            }
        }
    }

    fn run(&mut self) -> Result<SignedOnPerson, SignOnFault> {
        let mut json = self.provider.metadata_json();
        for change in self.changes {
            if let Metadata(changes) = change {
                merge(&mut json, changes);
            }
        }
        let metadata = Provider::read(&json, ISSUER)?;
        let url = self.client.authorization_url(&metadata, REDIRECT, &self.values, None);
        let mut query = pairs_of(url.split_once('?').unwrap().1);
        for change in self.changes {
            if let Url(name, value) = change {
                set(&mut query, name, &self.text(value));
            }
        }
        let mut callback = self.provider.authorize(&query);
        let mut end = "";
        for change in self.changes {
            match change {
                Change::Callback(name, value) => set(&mut callback, name, &self.text(value)),
                CallbackEnd(text) => end = text,
                _ => {}
            }
        }
        let callback = format!("{}{}", written(&callback), self.text(end));
        let person = self.finish(&metadata, &callback);
        if self.changes.iter().any(|change| matches!(change, Twice)) {
            assert!(person.is_ok());
            return self.finish(&metadata, &callback);
        }
        person
    }

    fn finish(&mut self, metadata: &durward::sign_on::oidc::ProviderMetadata, callback: &str) -> Result<SignedOnPerson, SignOnFault> {
        let ahead: i64 = self
            .changes
            .iter()
            .map(|change| if let Clock(seconds) = change { *seconds } else { 0 })
            .sum();
        let now = UnixMillis((NOW + ahead) * 1000);
        let code = Callback::parse(callback.as_bytes())?.code(&self.values.state, metadata)?;
        let request = self.client.token_request(metadata, REDIRECT, &code, &self.values.verifier, now)?;
        let (status, answer) = self.answer(&request);
        let answer = TokenAnswer::parse(status, answer.as_bytes(), &request.sent)?;
        let keys = KeySet::parse(self.provider.keys().as_bytes()).unwrap();
        let rules = IdTokenRules::of(&self.client, &self.values.nonce);
        let id_token = IdToken::verify(&answer, &keys, &rules, now)?;
        let asked = self
            .changes
            .iter()
            .find_map(|change| if let Change::UserInfo(json) = change { Some(*json) } else { None });
        let userinfo = asked.map(|json| UserInfo::parse(json.as_bytes(), id_token.subject())).transpose()?;
        id_token.person(userinfo.as_ref(), &person_rules())
    }

    fn answer(&mut self, request: &durward::sign_on::oidc::TokenRequest) -> (u16, String) {
        let nonce = match self.provider.redeem(request) {
            Ok(nonce) => nonce,
            Err((status, error)) => return (status, error.to_string()),
        };
        let mut claims = json!({
            "iss": ISSUER, "sub": "alice-1", "aud": CLIENT_ID, "iat": NOW - 1, "exp": NOW + 300, "nonce": nonce,
            "sid": "session-7", "email": "alice@acme.example", "auth_time": NOW - 30,
        });
        let mut header = self.provider.signer.header();
        let mut by = None;
        let mut whole = None;
        for change in self.changes {
            match change {
                Claims(changes) => merge(&mut claims, &self.text(changes)),
                Header(changes) => merge(&mut header, changes),
                Signed(who) => by = Some(*who),
                Token(text) => whole = Some((*text).to_owned()),
                _ => {}
            }
        }
        let (header, claims) = (header.to_string(), claims.to_string());
        let id_token = whole.unwrap_or_else(|| self.sign(by, &header, &claims));
        let mut answer = json!({ "token_type": "Bearer", "access_token": ACCESS_TOKEN, "id_token": id_token, "expires_in": 60 });
        for change in self.changes {
            match change {
                Answer(changes) => merge(&mut answer, changes),
                AnswerText(status, text) => return (*status, (*text).to_owned()),
                _ => {}
            }
        }
        (200, answer.to_string())
    }

    fn sign(&self, by: Option<By>, header: &str, claims: &str) -> String {
        let hmac = |secret: &[u8]| {
            let header = r#"{"alg":"HS256","typ":"JWT"}"#;
            let signed = format!("{}.{}", base64url(header), base64url(claims));
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
            format!("{signed}.{}", base64url(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
        };
        match by {
            None => self.provider.signer.token_of(header, claims),
            Some(By::Stranger) => Signer::es256("key-1").token_of(header, claims),
            Some(By::Secret) => hmac(CLIENT_SECRET.as_bytes()),
            Some(By::PublicKey) => hmac(self.provider.keys().as_bytes()),
            Some(By::Nobody) => format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(claims)),
        }
    }
}
