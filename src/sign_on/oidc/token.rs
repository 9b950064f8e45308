//! The token request: a code or a refresh token is exchanged for tokens, by a client that proves who it is (RFC 6749, sections
//! 4.1.3 and 6; RFC 7523).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::base::clock::UnixMillis;
use crate::base::percent::push_query;
use crate::decide::token::json::{JsonObject, JsonValue};
use crate::sign_on::fault::{ProviderText, SignOnFault};
use crate::sign_on::refresh_token::RefreshToken;

use super::callback::AuthorizationCode;
use super::discovery::ProviderMetadata;
use super::request::{ClientAuthentication, LogInValue, OidcClient};

/// Longest answer of a token endpoint: two tokens with two hundred groups each.
pub const MAX_TOKEN_ANSWER: usize = 128 * 1024;

/// Longest access token that is sent to a userinfo endpoint: what a head takes.
const MAX_ACCESS_TOKEN: usize = 16 * 1024;

/// Longest client id and secret.
const MAX_CLIENT_TEXT: usize = 1024;

/// What is sent to the token endpoint. It holds secrets.
pub struct TokenRequest {
    /// The form.
    pub form: Zeroizing<String>,
    /// The value of `Authorization`.
    pub authorization: Option<HeaderValue>,
    pub sent: SentSecrets,
}

/// The secrets that a token request has sent, so that a provider that repeats one in its answer does not write it into a log.
#[derive(Default)]
pub struct SentSecrets(Vec<Zeroizing<String>>);

/// Shortest secret that is looked for, in bytes. Anything shorter stands in ordinary words too.
const SHORTEST_SECRET: usize = 4;

impl SentSecrets {
    fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST_SECRET {
            self.0.push(Zeroizing::new(secret.to_owned()));
        }
    }

    /// A provider's words without these secrets. A part of one that is repeated is not noticed.
    fn mask(&self, words: &str) -> ProviderText {
        let mut shown = words.to_owned();
        for secret in self.0.iter().filter(|secret| words.contains(secret.as_str())) {
            shown = shown.replace(secret.as_str(), "***");
        }
        ProviderText::of(&shown)
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenRequest(..)")
    }
}

impl OidcClient {
    /// The request that exchanges the code of a log-in. It always carries the PKCE verifier, and `redirect_uri` is that of the
    /// authorization request.
    ///
    /// # Errors
    /// [`SignOnFault`] if the client's secret or key cannot be used.
    pub fn token_request(
        &self,
        metadata: &ProviderMetadata,
        redirect_uri: &str,
        code: &AuthorizationCode,
        verifier: &LogInValue,
        now: UnixMillis,
    ) -> Result<TokenRequest, SignOnFault> {
        let verifier = Zeroizing::new(verifier.text());
        let mut form = FormWriter::default();
        form.push("grant_type", "authorization_code");
        form.push_secret("code", code.expose());
        form.push("redirect_uri", redirect_uri);
        form.push_secret("code_verifier", &verifier);
        self.authenticated(form, metadata, now)
    }

    /// The request that asks whether a sign-on goes on (RFC 6749, section 6). No scope is named: that of the sign-on is meant.
    ///
    /// # Errors
    /// [`SignOnFault`] if the client's secret or key cannot be used.
    pub fn refresh_request(&self, metadata: &ProviderMetadata, token: &RefreshToken, now: UnixMillis) -> Result<TokenRequest, SignOnFault> {
        let mut form = FormWriter::default();
        form.push("grant_type", "refresh_token");
        form.push_secret("refresh_token", token.expose());
        self.authenticated(form, metadata, now)
    }

    /// The request with the proof of who this client is.
    fn authenticated(&self, mut form: FormWriter, metadata: &ProviderMetadata, now: UnixMillis) -> Result<TokenRequest, SignOnFault> {
        let is_text = |text: &str| (1..=MAX_CLIENT_TEXT).contains(&text.len());
        if !is_text(&self.client_id) {
            return Err(SignOnFault::ClientText);
        }
        let mut authorization = None;
        match &self.authentication {
            ClientAuthentication::SecretBasic(secret) | ClientAuthentication::SecretPost(secret) if !is_text(secret) => {
                return Err(SignOnFault::ClientText);
            }
            ClientAuthentication::SecretBasic(secret) => {
                let value = basic(&self.client_id, secret)?;
                form.sent.add(value.to_str().unwrap_or_default().trim_start_matches("Basic "));
                form.sent.add(secret);
                authorization = Some(value);
            }
            ClientAuthentication::SecretPost(secret) => {
                form.push("client_id", &self.client_id);
                form.push_secret("client_secret", secret);
            }
            ClientAuthentication::PrivateKeyJwt(key) => {
                form.push("client_id", &self.client_id);
                form.push("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                // Each provider has a key pair of its own here, so an assertion for one is worth nothing at another.
                let assertion = key.assertion(&self.client_id, &metadata.token_endpoint.to_string(), now)?;
                form.push_secret("client_assertion", &assertion);
            }
        }
        let (form, sent) = form.finish();
        Ok(TokenRequest { form, authorization, sent })
    }
}

/// `Basic` of the client's id and secret, each in the encoding of forms first (RFC 6749, section 2.3.1).
fn basic(client_id: &str, secret: &str) -> Result<HeaderValue, SignOnFault> {
    let mut pair = Zeroizing::new(Vec::with_capacity(3 * (client_id.len() + secret.len()) + 1));
    push_query(&mut pair, client_id);
    pair.push(b':');
    push_query(&mut pair, secret);
    let mut text = Zeroizing::new(String::with_capacity(6 + pair.len().div_ceil(3) * 4));
    text.push_str("Basic ");
    STANDARD.encode_string(&*pair, &mut text);
    let mut value = HeaderValue::from_str(&text).map_err(|_| SignOnFault::ClientText)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Writes a form.
#[derive(Default)]
struct FormWriter {
    form: Zeroizing<Vec<u8>>,
    sent: SentSecrets,
}

impl FormWriter {
    fn push(&mut self, name: &str, value: &str) {
        // Growing would leave copies of secrets behind.
        let mut longer = Zeroizing::new(Vec::with_capacity(self.form.len() + name.len() + 3 * value.len() + 2));
        longer.extend_from_slice(&self.form);
        if !longer.is_empty() {
            longer.push(b'&');
        }
        longer.extend_from_slice(name.as_bytes());
        longer.push(b'=');
        push_query(&mut longer, value);
        self.form = longer;
    }

    fn push_secret(&mut self, name: &str, value: &str) {
        self.push(name, value);
        self.sent.add(value);
    }

    fn finish(self) -> (Zeroizing<String>, SentSecrets) {
        // Only ASCII was pushed.
        let form = Zeroizing::new(std::str::from_utf8(&self.form).unwrap_or_default().to_owned());
        (form, self.sent)
    }
}

/// The tokens of an answer. Secrets until they are verified, and after.
pub struct TokenAnswer {
    id_token: Option<Zeroizing<String>>,
    access_token: Option<Zeroizing<String>>,
    /// A text that can be none counts as no refresh token.
    refresh_token: Option<RefreshToken>,
}

impl fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenAnswer(..)")
    }
}

impl TokenAnswer {
    /// Reads the answer to a code, with this status. What the request has sent is in no error.
    ///
    /// # Errors
    /// [`SignOnFault`]: the error that the provider names, or what is wrong with the answer.
    pub fn parse(status: u16, json: &[u8], sent: &SentSecrets) -> Result<Self, SignOnFault> {
        let answer = Self::read(status, json, sent, |error, why| match error {
            "invalid_grant" => Some(SignOnFault::CodeRefused(why.clone())),
            _ => None,
        })?;
        if answer.id_token.is_none() {
            return Err(SignOnFault::TokenAnswerMember("id_token"));
        }
        Ok(answer)
    }

    /// Reads the answer to a refresh token, with this status. An ID token need not be there (OpenID Connect Core 1.0,
    /// section 12.2).
    ///
    /// # Errors
    /// As [`parse`](Self::parse); [`SignOnFault::RefreshRefused`] if the provider says that the sign-on is over, or that the person
    /// must come again.
    pub fn parse_refreshed(status: u16, json: &[u8], sent: &SentSecrets) -> Result<Self, SignOnFault> {
        Self::read(status, json, sent, |error, why| match error {
            // The last three are errors of the authorization endpoint (OpenID Connect Core 1.0, section 3.1.2.6). Entra ID has them
            // here too, when a policy wants to see the person.
            "invalid_grant" | "interaction_required" | "login_required" | "consent_required" => {
                Some(SignOnFault::RefreshRefused(why.clone()))
            }
            _ => None,
        })
    }

    fn read(
        status: u16,
        json: &[u8],
        sent: &SentSecrets,
        refused: impl Fn(&str, &ProviderText) -> Option<SignOnFault>,
    ) -> Result<Self, SignOnFault> {
        let members = JsonObject::parse(json).map_err(SignOnFault::TokenAnswerForm)?;
        let text = |name: &'static str| match members.find(name) {
            None | Some(JsonValue::Null) => Ok(None),
            Some(JsonValue::Text(text)) => Ok(Some(&**text)),
            Some(_) => Err(SignOnFault::TokenAnswerMember(name)),
        };
        if status != 200 || members.find("error").is_some() {
            let error = text("error")?.ok_or(SignOnFault::TokenAnswerMember("error"))?;
            let description = sent.mask(text("error_description")?.unwrap_or("it says no more"));
            if let Some(fault) = refused(error, &description) {
                return Err(fault);
            }
            return Err(match error {
                "invalid_client" | "unauthorized_client" => SignOnFault::ClientRefused(description),
                other => SignOnFault::TokensRefused(sent.mask(other), description),
            });
        }
        let is_bearer = |token_type: &str| token_type.eq_ignore_ascii_case("bearer");
        if !text("token_type")?.is_some_and(is_bearer) {
            return Err(SignOnFault::TokenAnswerMember("token_type"));
        }
        let access_token = text("access_token")?.ok_or(SignOnFault::TokenAnswerMember("access_token"))?;
        Ok(Self {
            id_token: text("id_token")?.map(|token| Zeroizing::new(token.to_owned())),
            access_token: Some(Zeroizing::new(access_token.to_owned())),
            refresh_token: text("refresh_token")?.and_then(RefreshToken::parse),
        })
    }

    /// The ID token, before it is verified.
    pub(super) fn id_token(&self) -> Option<&str> {
        self.id_token.as_ref().map(|token| token.as_str())
    }

    #[must_use]
    pub const fn has_id_token(&self) -> bool {
        self.id_token.is_some()
    }

    #[must_use]
    pub const fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    pub(super) fn access_token(&self) -> Option<&str> {
        self.access_token.as_ref().map(|token| token.as_str())
    }

    /// The value of `Authorization` for the userinfo endpoint.
    ///
    /// # Errors
    /// [`SignOnFault::TokenAnswerMember`] if the access token cannot stand in a header.
    pub fn bearer(&self) -> Result<HeaderValue, SignOnFault> {
        let fault = SignOnFault::TokenAnswerMember("access_token");
        let token = self.access_token().filter(|token| (1..=MAX_ACCESS_TOKEN).contains(&token.len()));
        let token = token
            .filter(|token| token.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or(fault.clone())?;
        let text = Zeroizing::new(format!("Bearer {token}"));
        let mut value = HeaderValue::from_str(&text).map_err(|_| fault)?;
        value.set_sensitive(true);
        Ok(value)
    }
}
