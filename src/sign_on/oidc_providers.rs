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
use super::oidc::{Callback, IdToken, IdTokenRules, LogInValues, LogoutToken, OidcClient, ProviderMetadata, TokenAnswer, log_out_url};
use super::person::{PersonRules, SignedOnPerson};

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
    known: Cache<String, Arc<Mutex<KnownProvider>>>,
}

impl fmt::Debug for OidcProviders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OidcProviders(..)")
    }
}

/// What is known about one issuer, and since when. It is locked while it is fetched, so that all who need it wait for one fetch.
#[derive(Default)]
struct KnownProvider {
    metadata: Option<(Arc<ProviderMetadata>, BootMillis)>,
    keys: Option<(Arc<KeySet>, BootMillis)>,
    unknown_key_at: Option<BootMillis>,
    fault: Option<(SignOnFault, BootMillis)>,
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

impl OidcProviders {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            client: ProviderClient::default(),
            clock,
            known: Cache::new(MAX_KNOWN),
        }
    }

    /// The client, for questions that no log-in asks.
    #[must_use]
    pub const fn client(&self) -> &ProviderClient {
        &self.client
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

    /// The person that a callback proves. The log-in must have been used up before: a code is sent to the provider once.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn finish(&self, log_in: OidcLogIn<'_>, callback: Callback, rules: &PersonRules) -> Result<SignedOnPerson, SignOnFault> {
        let OidcLogIn {
            client, values, access, ..
        } = log_in;
        let metadata = self.metadata(client, access).await?;
        let code = callback.code(&values.state, &metadata)?;
        let request = client.token_request(&metadata, log_in.redirect_uri, &code, &values.verifier, self.clock.now().wall)?;
        let tokens = self.client.tokens(&metadata, request, access).await?;
        let id_token = self.id_token(log_in, &metadata, &tokens).await?;
        let userinfo = if client.userinfo {
            Some(self.client.userinfo(&metadata, &tokens, id_token.subject(), access).await?)
        } else {
            None
        };
        id_token.person(userinfo.as_ref(), rules)
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
        Ok(log_out_url(&metadata, &client.client_id, return_to, None))
    }

    /// The configuration of a client's issuer.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn metadata(&self, client: &OidcClient, access: &ProviderAccess) -> Result<Arc<ProviderMetadata>, SignOnFault> {
        let known = self.known(client);
        let mut known = known.lock().await;
        let now = self.clock.now().boot;
        if let Some((metadata, at)) = &known.metadata
            && now.since(*at) < METADATA_AGE
        {
            return Ok(Arc::clone(metadata));
        }
        known.check_fault(now)?;
        let fetched = self.client.metadata(&client.issuer, access).await;
        let metadata = Arc::new(known.note(fetched, self.clock.now().boot)?);
        known.metadata = Some((Arc::clone(&metadata), now));
        Ok(metadata)
    }

    /// What `verify` says with the provider's keys; said once more with newer keys if none of them is the token's.
    async fn with_keys<T>(
        &self,
        client: &OidcClient,
        metadata: &ProviderMetadata,
        access: &ProviderAccess,
        verify: impl Fn(&KeySet) -> Result<T, SignOnFault>,
    ) -> Result<T, SignOnFault> {
        let known = self.known(client);
        let keys = self.keys(&known, client, metadata, access, |known, now| {
            known.keys.as_ref().is_none_or(|(_, at)| now.since(*at) >= KEYS_AGE)
        });
        let keys = keys.await?;
        let verdict = verify(&keys);
        if !matches!(verdict, Err(SignOnFault::Token(TokenFault::UnknownKey))) {
            return verdict;
        }
        let newer = self.keys(&known, client, metadata, access, |known, now| {
            let is_old = known.keys.as_ref().is_none_or(|(have, _)| Arc::ptr_eq(have, &keys));
            let may_ask = known.unknown_key_at.is_none_or(|at| now.since(at) >= UNKNOWN_KEY_PAUSE);
            if is_old && may_ask {
                known.unknown_key_at = Some(now);
            }
            is_old && may_ask
        });
        verify(&*newer.await?)
    }

    /// The keys of a provider; fetched if `is_due` says so.
    async fn keys(
        &self,
        known: &Mutex<KnownProvider>,
        client: &OidcClient,
        metadata: &ProviderMetadata,
        access: &ProviderAccess,
        is_due: impl FnOnce(&mut KnownProvider, BootMillis) -> bool,
    ) -> Result<Arc<KeySet>, SignOnFault> {
        let mut known = known.lock().await;
        let now = self.clock.now().boot;
        let due = is_due(&mut known, now);
        if let Some((keys, _)) = &known.keys
            && !due
        {
            return Ok(Arc::clone(keys));
        }
        known.check_fault(now)?;
        let fetched = self.client.keys(metadata, client.unnamed_rsa(), access).await;
        let keys = Arc::new(known.note(fetched, self.clock.now().boot)?);
        known.keys = Some((Arc::clone(&keys), now));
        Ok(keys)
    }

    fn known(&self, client: &OidcClient) -> Arc<Mutex<KnownProvider>> {
        // The keys depend on both.
        let key = format!("{}\0{}", client.issuer, client.unnamed_rsa().as_str());
        self.known.get_with(key, Arc::default)
    }
}

impl KnownProvider {
    /// The failure of a moment ago, if there was one.
    fn check_fault(&self, now: BootMillis) -> Result<(), SignOnFault> {
        match &self.fault {
            Some((fault, at)) if now.since(*at) < FAULT_AGE => Err(fault.clone()),
            _ => Ok(()),
        }
    }

    fn note<T>(&mut self, result: Result<T, SignOnFault>, now: BootMillis) -> Result<T, SignOnFault> {
        self.fault = result.as_ref().err().map(|fault| (fault.clone(), now));
        result
    }
}
