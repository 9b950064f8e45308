//! The OpenID Connect providers that this gateway knows: their configuration and keys, fetched when they are needed and kept for a
//! while; and a log-in from its begin to the person.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::Mutex;

use crate::base::clock::{BootMillis, Clock};
use crate::base::credential::TokenFault;
use crate::decide::external::KeySet;

use super::fault::SignOnFault;
use super::http::{ProviderAccess, ProviderClient};
use super::oidc::{
    AuthorizationCode, Callback, IdToken, IdTokenRules, LogInValues, LogoutToken, OidcClient, ProviderMetadata, TokenAnswer, log_out_url,
};
use super::person::{GivenRoles, PersonRules, SignedOnPerson};
use super::refresh_token::{RefreshToken, SignOnRefresh};

/// Most providers whose configuration is kept. A configuration and its keys have up to 128 KiB, commonly 5.
const MAX_KNOWN: u64 = 1_024;

/// How long a configuration is used.
const METADATA_AGE: Duration = Duration::from_secs(600);

/// How long keys are used: a key that the provider withdraws verifies nothing after this time. It lies within the bound.
const KEYS_AGE: Duration = Duration::from_secs(30);

/// Shortest time between two fetches that tokens with unknown keys cause: strangers can send such tokens.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);

/// How long a failure is told to those who ask next, so that a provider that hangs makes nobody wait in a queue.
const FAULT_AGE: Duration = Duration::from_secs(2);

/// What this gateway knows about providers. All providers of all tenants share it.
pub struct OidcProviders {
    client: ProviderClient,
    clock: Arc<dyn Clock>,
    known: Cache<String, Arc<KnownProvider>>,
}

impl fmt::Debug for OidcProviders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OidcProviders(..)")
    }
}

/// What is known about one issuer. Each part is locked while it is fetched, so that all who need it wait for one fetch.
#[derive(Default)]
struct KnownProvider {
    metadata: Mutex<Known<ProviderMetadata>>,
    keys: Mutex<Known<KeySet>>,
}

/// One part, and when it was asked for; or why there is none.
struct Known<T> {
    value: Option<(Arc<T>, BootMillis)>,
    fault: Option<(SignOnFault, BootMillis)>,
    /// When a token with an unknown key last caused a fetch.
    unknown_key_at: Option<BootMillis>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            value: None,
            fault: None,
            unknown_key_at: None,
        }
    }
}

/// One log-in: of which client, where the provider sends the browser back to, and what the browser has from its begin.
#[derive(Debug, Clone, Copy)]
pub struct OidcLogIn<'a> {
    pub client: &'a OidcClient,
    /// The callback's URL, as it is registered.
    pub redirect_uri: &'a str,
    pub values: &'a LogInValues,
    pub access: &'a ProviderAccess,
}

/// What a callback proves.
#[derive(Debug)]
pub struct FinishedLogIn {
    pub person: SignedOnPerson,
    /// Where the client wants a refresh token, and the provider gave one.
    pub refresh: Option<SignOnRefresh>,
}

/// What a provider says of a sign-on that it goes on with.
#[derive(Debug)]
pub struct RefreshedLogIn {
    /// The refresh token that takes the place of the one that was sent; `None`: that one stays.
    pub token: Option<RefreshToken>,
    /// What the provider's table gives the person now; `None` if roles are not given by the provider. The new refresh token is
    /// to be kept, whatever is wrong with the rest of the answer.
    pub given: Result<Option<GivenRoles>, SignOnFault>,
}

/// A code that belongs to its log-in, and the provider that takes it.
#[derive(Debug)]
pub struct AcceptedCode {
    code: AuthorizationCode,
    metadata: Arc<ProviderMetadata>,
}

impl OidcProviders {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            client: ProviderClient::default(),
            clock,
            known: Cache::new(MAX_KNOWN),
        }
    }

    /// The URL to which the browser is sent to log in.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn begin(&self, log_in: OidcLogIn<'_>, login_hint: Option<&str>) -> Result<String, SignOnFault> {
        let metadata = self.metadata(log_in.client, log_in.access).await?;
        Ok(log_in
            .client
            .authorization_url(&metadata, log_in.redirect_uri, log_in.values, login_hint))
    }

    /// The code of a callback that belongs to this log-in. The provider is asked for nothing but its configuration.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn accept(&self, log_in: OidcLogIn<'_>, callback: Callback) -> Result<AcceptedCode, SignOnFault> {
        let metadata = self.metadata(log_in.client, log_in.access).await?;
        let code = callback.code(&log_in.values.state, &metadata)?;
        Ok(AcceptedCode { code, metadata })
    }

    /// The person that a code proves. The log-in must have been used up before: a code is sent to the provider once.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn finish(&self, log_in: OidcLogIn<'_>, accepted: AcceptedCode, rules: &PersonRules) -> Result<FinishedLogIn, SignOnFault> {
        let OidcLogIn {
            client, values, access, ..
        } = log_in;
        let AcceptedCode { code, metadata } = accepted;
        let request = client.token_request(&metadata, log_in.redirect_uri, &code, &values.verifier, self.clock.now().wall)?;
        let tokens = self.client.tokens(&metadata, request, access).await?;
        let id_token = self.id_token(log_in, &metadata, &tokens).await?;
        let userinfo = if client.userinfo {
            Some(self.client.userinfo(&metadata, &tokens, id_token.subject(), access).await?)
        } else {
            None
        };
        let refresh = tokens.refresh_token().filter(|_| client.refresh_tokens).map(|token| SignOnRefresh {
            token: token.clone(),
            origin: id_token.origin(&values.nonce),
        });
        Ok(FinishedLogIn {
            person: id_token.person(userinfo.as_ref(), rules)?,
            refresh,
        })
    }

    /// Asks the provider whether a sign-on goes on, and what the person has now. The caller has made sure that nobody else sends
    /// this refresh token, and has read `metadata` before.
    ///
    /// # Errors
    /// [`SignOnFault`] if the provider gives no new tokens: [`SignOnFault::RefreshRefused`] if it says that the sign-on is over, any
    /// other one if nothing is known.
    pub async fn refresh(
        &self,
        client: &OidcClient,
        metadata: &ProviderMetadata,
        refresh: &SignOnRefresh,
        rules: &PersonRules,
        access: &ProviderAccess,
    ) -> Result<RefreshedLogIn, SignOnFault> {
        let request = client.refresh_request(metadata, &refresh.token, self.clock.now().wall)?;
        let tokens = self.client.refreshed_tokens(metadata, request, access).await?;
        Ok(RefreshedLogIn {
            token: tokens.refresh_token().cloned(),
            given: self.refreshed_roles(client, metadata, refresh, &tokens, rules, access).await,
        })
    }

    async fn refreshed_roles(
        &self,
        client: &OidcClient,
        metadata: &ProviderMetadata,
        refresh: &SignOnRefresh,
        tokens: &TokenAnswer,
        rules: &PersonRules,
        access: &ProviderAccess,
    ) -> Result<Option<GivenRoles>, SignOnFault> {
        let subject = &refresh.origin.subject;
        if tokens.has_id_token() {
            let verify = |keys: &KeySet| IdToken::verify_refreshed(tokens, keys, client, &refresh.origin, self.clock.now().wall);
            let id_token = self.with_keys(client, metadata, access, verify).await?;
            let userinfo = if client.userinfo {
                Some(self.client.userinfo(metadata, tokens, subject, access).await?)
            } else {
                None
            };
            return id_token.given_roles(userinfo.as_ref(), rules);
        }
        if rules.roles.is_none() {
            return Ok(None);
        }
        if metadata.userinfo_endpoint.is_none() {
            return Err(SignOnFault::NoRefreshedClaims);
        }
        let userinfo = self.client.userinfo(metadata, tokens, subject, access).await?;
        userinfo.given_roles(rules)
    }

    async fn id_token(&self, log_in: OidcLogIn<'_>, metadata: &ProviderMetadata, tokens: &TokenAnswer) -> Result<IdToken, SignOnFault> {
        let rules = IdTokenRules::of(log_in.client, &log_in.values.nonce);
        let verify = |keys: &KeySet| IdToken::verify(tokens, keys, &rules, self.clock.now().wall);
        self.with_keys(log_in.client, metadata, log_in.access, verify).await
    }

    /// What a logout token ends. It is the provider's for this client; that it is used once is for the caller.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn logout_token(&self, client: &OidcClient, token: &str, access: &ProviderAccess) -> Result<LogoutToken, SignOnFault> {
        let metadata = self.metadata(client, access).await?;
        let verify = |keys: &KeySet| LogoutToken::verify(token, keys, &client.issuer, &client.client_id, self.clock.now().wall);
        self.with_keys(client, &metadata, access, verify).await
    }

    /// The URL to which the browser is sent to log out at the provider too; `None` if the provider has none.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn log_out_url(
        &self,
        client: &OidcClient,
        return_to: Option<&str>,
        access: &ProviderAccess,
    ) -> Result<Option<String>, SignOnFault> {
        let metadata = self.metadata(client, access).await?;
        Ok(log_out_url(&metadata, &client.client_id, return_to))
    }

    /// The configuration of a client's issuer.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn metadata(&self, client: &OidcClient, access: &ProviderAccess) -> Result<Arc<ProviderMetadata>, SignOnFault> {
        let known = self.known(client, access);
        let mut known = known.metadata.lock().await;
        let now = self.clock.now().boot;
        if let Some(metadata) = known.younger_than(METADATA_AGE, now) {
            return Ok(metadata);
        }
        known.check_fault(now)?;
        let fetched = self.client.metadata(&client.issuer, access).await;
        known.note(fetched, now, self.clock.now().boot)
    }

    /// What `verify` says with the provider's keys; said once more with newer keys if none of them is the token's.
    async fn with_keys<T>(
        &self,
        client: &OidcClient,
        metadata: &ProviderMetadata,
        access: &ProviderAccess,
        verify: impl Fn(&KeySet) -> Result<T, SignOnFault>,
    ) -> Result<T, SignOnFault> {
        let known = self.known(client, access);
        let keys = {
            let mut known = known.keys.lock().await;
            let now = self.clock.now().boot;
            match known.younger_than(KEYS_AGE, now) {
                Some(keys) => keys,
                None => self.fetch_keys(&mut known, client, metadata, access).await?,
            }
        };
        let verdict = verify(&keys);
        if !matches!(verdict, Err(SignOnFault::Token(TokenFault::UnknownKey))) {
            return verdict;
        }
        let mut known = known.keys.lock().await;
        let now = self.clock.now().boot;
        let newer = match known.younger_than(KEYS_AGE, now) {
            // Somebody else has fetched them meanwhile.
            Some(newer) if !Arc::ptr_eq(&newer, &keys) => newer,
            _ if known.may_ask_for_unknown_key(now) => self.fetch_keys(&mut known, client, metadata, access).await?,
            _ => return verdict,
        };
        drop(known);
        verify(&newer)
    }

    async fn fetch_keys(
        &self,
        known: &mut Known<KeySet>,
        client: &OidcClient,
        metadata: &ProviderMetadata,
        access: &ProviderAccess,
    ) -> Result<Arc<KeySet>, SignOnFault> {
        let now = self.clock.now().boot;
        known.check_fault(now)?;
        let fetched = self.client.keys(metadata, client.unnamed_rsa(), access).await;
        known.note(fetched, now, self.clock.now().boot)
    }

    fn known(&self, client: &OidcClient, access: &ProviderAccess) -> Arc<KnownProvider> {
        // What is known depends on each of these; a reload may have changed the schemes.
        let key = format!("{}\0{}\0{:?}", client.issuer, client.unnamed_rsa().as_str(), access.schemes);
        self.known.get_with(key, Arc::default)
    }
}

impl<T> Known<T> {
    fn younger_than(&self, age: Duration, now: BootMillis) -> Option<Arc<T>> {
        let (value, at) = self.value.as_ref()?;
        (now.since(*at) < age).then(|| Arc::clone(value))
    }

    /// The failure of a moment ago, if there was one.
    fn check_fault(&self, now: BootMillis) -> Result<(), SignOnFault> {
        match &self.fault {
            Some((fault, at)) if now.since(*at) < FAULT_AGE => Err(fault.clone()),
            _ => Ok(()),
        }
    }

    /// True once in [`UNKNOWN_KEY_PAUSE`].
    fn may_ask_for_unknown_key(&mut self, now: BootMillis) -> bool {
        let may = self.unknown_key_at.is_none_or(|at| now.since(at) >= UNKNOWN_KEY_PAUSE);
        if may {
            self.unknown_key_at = Some(now);
        }
        may
    }

    /// Remembers what a fetch brought. Its age counts from when it was asked for.
    fn note(&mut self, result: Result<T, SignOnFault>, asked_at: BootMillis, now: BootMillis) -> Result<Arc<T>, SignOnFault> {
        match result {
            Ok(value) => {
                let value = Arc::new(value);
                self.value = Some((Arc::clone(&value), asked_at));
                self.fault = None;
                Ok(value)
            }
            Err(fault) => {
                self.fault = Some((fault.clone(), now));
                Err(fault)
            }
        }
    }
}
