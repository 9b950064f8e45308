//! The authorization request: where the browser is sent, and the random values that tie what comes back to it.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::base::fingerprint::sha256;
use crate::base::percent::push_query;
use crate::decide::external::IssuerAlgorithm;
use crate::sign_on::fault::SignOnFault;

use super::client_key::ClientKey;
use super::discovery::ProviderMetadata;

/// What is configured about this gateway as a client of one provider.
#[derive(Debug)]
pub struct OidcClient {
    /// The exact issuer.
    pub issuer: String,
    pub client_id: String,
    pub authentication: ClientAuthentication,
    /// Asked for; `openid` always is.
    pub scopes: Vec<String>,
    pub prompt: Option<String>,
    /// Longest time since the person logged in at the provider; then the ID token must have `auth_time`.
    pub max_age: Option<Duration>,
    /// Ways to log in, one of which the ID token must name in `acr`; none: any way.
    pub acr_values: Vec<String>,
    /// Whether the userinfo endpoint is asked for claims.
    pub userinfo: bool,
    /// Whether refresh tokens are wanted, and used when sessions are renewed.
    pub refresh_tokens: bool,
    /// The only algorithms of ID tokens that are taken; none: each that a key of the provider has.
    pub algorithms: Vec<String>,
}

/// How this gateway proves to the token endpoint that it is the client.
pub enum ClientAuthentication {
    SecretBasic(Zeroizing<String>),
    SecretPost(Zeroizing<String>),
    PrivateKeyJwt(ClientKey),
}

impl ClientAuthentication {
    /// Its name in the registry of OAuth.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::SecretBasic(_) => "client_secret_basic",
            Self::SecretPost(_) => "client_secret_post",
            Self::PrivateKeyJwt(_) => "private_key_jwt",
        }
    }
}

impl fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A random value of one log-in: 256 bits, in URLs and tokens 43 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogInValue([u8; 32]);

impl LogInValue {
    /// A new value.
    ///
    /// # Errors
    /// [`SignOnFault::NoRandomness`].
    pub fn random() -> Result<Self, SignOnFault> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| SignOnFault::NoRandomness)?;
        Ok(Self(bytes))
    }

    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The value as it travels.
    #[must_use]
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Whether a text is this value, in constant time.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.text().as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// The `S256` challenge of a PKCE verifier (RFC 7636, section 4.2).
    #[must_use]
    pub fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(sha256(self.text().as_bytes()))
    }
}

impl fmt::Debug for LogInValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogInValue(..)")
    }
}

/// The values of one log-in. Only the browser that began it has them, in its sealed cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogInValues {
    /// Ties the callback to the browser.
    pub state: LogInValue,
    /// Ties the ID token to the log-in.
    pub nonce: LogInValue,
    /// Ties the code to the log-in: the PKCE verifier (RFC 7636).
    pub verifier: LogInValue,
}

impl LogInValues {
    /// New values.
    ///
    /// # Errors
    /// [`SignOnFault::NoRandomness`].
    pub fn random() -> Result<Self, SignOnFault> {
        Ok(Self {
            state: LogInValue::random()?,
            nonce: LogInValue::random()?,
            verifier: LogInValue::random()?,
        })
    }
}

/// The scope of refresh tokens (OpenID Connect Core 1.0, section 11).
pub const OFFLINE_ACCESS: &str = "offline_access";

/// The parameters that we append. An endpoint whose own query has one of them, or one that would replace them, is not used.
pub(super) const PARAMETERS: [&str; 17] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "prompt",
    "max_age",
    "acr_values",
    "login_hint",
    "request",
    "request_uri",
    "registration",
    "access_type",
];

impl OidcClient {
    /// The URL to which the browser is sent. `login_hint` is what the person has typed, so that the provider need not ask again.
    #[must_use]
    pub fn authorization_url(
        &self,
        metadata: &ProviderMetadata,
        redirect_uri: &str,
        log_in: &LogInValues,
        login_hint: Option<&str>,
    ) -> String {
        let mut query = QueryWriter::new(&metadata.authorization_endpoint.to_string());
        query.push("response_type", "code");
        // It is the default of `code`, which a few servers want to hear.
        if metadata.names_query_mode {
            query.push("response_mode", "query");
        }
        query.push("client_id", &self.client_id);
        query.push("redirect_uri", redirect_uri);
        query.push("scope", &self.scope());
        query.push("state", &log_in.state.text());
        query.push("nonce", &log_in.nonce.text());
        query.push("code_challenge", &log_in.verifier.challenge());
        query.push("code_challenge_method", "S256");
        if let Some(prompt) = &self.prompt {
            query.push("prompt", prompt);
        }
        if let Some(age) = self.max_age {
            query.push("max_age", &age.as_secs().to_string());
        }
        if !self.acr_values.is_empty() {
            query.push("acr_values", &self.acr_values.join(" "));
        }
        if let Some(hint) = login_hint {
            query.push("login_hint", hint);
        }
        // Google has no such scope and wants this instead. Others ignore a parameter that they do not know (RFC 6749, section 3.1).
        if self.refresh_tokens && !self.asks_for_offline_access() {
            query.push("access_type", "offline");
        }
        query.finish()
    }

    /// The algorithm of RSA keys that name none.
    #[must_use]
    pub fn unnamed_rsa(&self) -> IssuerAlgorithm {
        let mut named = self.algorithms.iter().filter_map(|name| IssuerAlgorithm::of_rsa(name));
        named.next().unwrap_or(IssuerAlgorithm::Rs256)
    }

    /// Whether the scope is asked for that most providers give refresh tokens for (OpenID Connect Core 1.0, section 11).
    #[must_use]
    pub fn asks_for_offline_access(&self) -> bool {
        self.scopes.iter().any(|scope| scope == OFFLINE_ACCESS)
    }

    fn scope(&self) -> String {
        let others = self.scopes.iter().map(String::as_str).filter(|scope| *scope != "openid");
        std::iter::once("openid").chain(others).collect::<Vec<_>>().join(" ")
    }
}

/// Appends parameters to a URL, whose own query stays (RFC 6749, section 3.1).
pub(super) struct QueryWriter {
    url: Vec<u8>,
    separator: u8,
}

impl QueryWriter {
    pub(super) fn new(url: &str) -> Self {
        let separator = if url.contains('?') { b'&' } else { b'?' };
        Self {
            url: url.as_bytes().to_vec(),
            separator,
        }
    }

    pub(super) fn push(&mut self, name: &str, value: &str) {
        self.url.push(self.separator);
        self.url.extend_from_slice(name.as_bytes());
        self.url.push(b'=');
        push_query(&mut self.url, value);
        self.separator = b'&';
    }

    pub(super) fn finish(self) -> String {
        // Only whole texts and ASCII were appended.
        String::from_utf8(self.url).unwrap_or_default()
    }
}
