//! Asks identity providers, by the same client as key sets are fetched: checked addresses, TLS, deadlines, bounds, no redirect.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::Semaphore;

use crate::base::clock::UnixMillis;
use crate::decide::external::{FetchAddresses, IssuerAlgorithm, KeySet};
use crate::fetch::{ExpectedAnswer, FetchBody, FetchRequest, FetchSchemes, FetchUrl, FetchedAnswer, fetch};
use crate::jwks::KEY_SET_ANSWER;

use super::fault::{ProviderPart, SignOnFault};
use super::oidc::discovery::{MAX_METADATA_LEN, metadata_url};
use super::oidc::token::MAX_TOKEN_ANSWER;
use super::oidc::userinfo::MAX_USERINFO_LEN;
use super::oidc::{ProviderMetadata, SentSecrets, TokenAnswer, TokenRequest, UserInfo};

/// Deadline of what comes from a provider's cache: its configuration and keys.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Deadline of what a provider has to work for: tokens and userinfo. A browser waits as long.
const WORK_TIMEOUT: Duration = Duration::from_secs(10);

/// Most questions at a time, to all providers. Each holds a socket and at most an answer of 1 MiB.
const MAX_CALLS: usize = 64;

/// Most questions at a time to one server, so that one that hangs does not use up the others' room.
const MAX_CALLS_OF_ONE: usize = 16;

/// Look-ups of names at a time, as of key sets.
const MAX_LOOKUPS: usize = 4;

/// Longest SAML metadata. Those of one provider with certificates have about 10 KiB.
const MAX_SAML_METADATA: usize = 1024 * 1024;

const JSON: &[&str] = &["application/json"];

/// How providers are reached, as the operator has configured. The settings of a provider, which a tenant may write, change none of it.
#[derive(Clone)]
pub struct ProviderAccess {
    /// How servers are verified.
    pub tls: Arc<rustls::ClientConfig>,
    pub addresses: FetchAddresses,
    pub schemes: FetchSchemes,
}

impl ProviderAccess {
    /// Providers over HTTPS alone.
    #[must_use]
    pub const fn over_https(tls: Arc<rustls::ClientConfig>, addresses: FetchAddresses) -> Self {
        Self {
            tls,
            addresses,
            schemes: FetchSchemes::Https,
        }
    }
}

impl fmt::Debug for ProviderAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderAccess")
            .field("addresses", &self.addresses)
            .field("schemes", &self.schemes)
            .finish_non_exhaustive()
    }
}

/// The client of all providers.
pub struct ProviderClient {
    lookups: Arc<Semaphore>,
    calls: Mutex<CallCounts>,
}

impl Default for ProviderClient {
    fn default() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            calls: Mutex::default(),
        }
    }
}

impl fmt::Debug for ProviderClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProviderClient(..)")
    }
}

impl ProviderClient {
    /// The configuration of an issuer.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn metadata(&self, issuer: &str, access: &ProviderAccess) -> Result<ProviderMetadata, SignOnFault> {
        Ok(self.dated_metadata(issuer, access).await?.metadata)
    }

    /// The configuration of an issuer, and when it was sent.
    pub(super) async fn dated_metadata(&self, issuer: &str, access: &ProviderAccess) -> Result<DatedMetadata, SignOnFault> {
        let url = metadata_url(issuer, access.schemes)?;
        let answer = self.ask(Question::get(ProviderPart::Discovery, &url), access).await?;
        Ok(DatedMetadata {
            metadata: ProviderMetadata::parse(&answer.content, issuer, access.schemes)?,
            date: answer.date,
        })
    }

    /// The keys of a provider. Those of RSA that name no algorithm are for `unnamed_rsa`.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn keys(
        &self,
        metadata: &ProviderMetadata,
        unnamed_rsa: IssuerAlgorithm,
        access: &ProviderAccess,
    ) -> Result<KeySet, SignOnFault> {
        let answer = self.ask(Question::get(ProviderPart::Keys, &metadata.jwks_uri), access).await?;
        KeySet::parse_with(&answer.content, unnamed_rsa).map_err(SignOnFault::KeySet)
    }

    /// The tokens for a code.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn tokens(
        &self,
        metadata: &ProviderMetadata,
        request: TokenRequest,
        access: &ProviderAccess,
    ) -> Result<TokenAnswer, SignOnFault> {
        self.ask_for_tokens(metadata, request, access, TokenAnswer::parse).await
    }

    /// The tokens for a refresh token.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn refreshed_tokens(
        &self,
        metadata: &ProviderMetadata,
        request: TokenRequest,
        access: &ProviderAccess,
    ) -> Result<TokenAnswer, SignOnFault> {
        self.ask_for_tokens(metadata, request, access, TokenAnswer::parse_refreshed).await
    }

    async fn ask_for_tokens(
        &self,
        metadata: &ProviderMetadata,
        request: TokenRequest,
        access: &ProviderAccess,
        read: impl Fn(u16, &[u8], &SentSecrets) -> Result<TokenAnswer, SignOnFault>,
    ) -> Result<TokenAnswer, SignOnFault> {
        let TokenRequest { form, authorization, sent } = request;
        let question = Question {
            part: ProviderPart::Tokens,
            url: &metadata.token_endpoint,
            body: FetchBody::Form(form),
            authorization,
        };
        let answer = self.ask(question, access).await?;
        read(answer.status, &answer.content, &sent)
    }

    /// What the userinfo endpoint tells about the subject of an ID token.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn userinfo(
        &self,
        metadata: &ProviderMetadata,
        tokens: &TokenAnswer,
        subject: &str,
        access: &ProviderAccess,
    ) -> Result<UserInfo, SignOnFault> {
        let url = metadata.userinfo_endpoint.as_ref();
        let question = Question {
            part: ProviderPart::UserInfo,
            url: url.ok_or(SignOnFault::MetadataMember("userinfo_endpoint"))?,
            body: FetchBody::None,
            authorization: Some(tokens.bearer()?),
        };
        let answer = self.ask(question, access).await?;
        UserInfo::parse(&answer.content, subject)
    }

    /// The SAML metadata at a URL, unread.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub async fn saml_metadata(&self, url: &str, access: &ProviderAccess) -> Result<Bytes, SignOnFault> {
        let url = FetchUrl::parse(url, access.schemes).map_err(SignOnFault::SamlMetadataUrl)?;
        let answer = self.ask(Question::get(ProviderPart::SamlMetadata, &url), access).await?;
        Ok(answer.content)
    }

    async fn ask(&self, question: Question<'_>, access: &ProviderAccess) -> Result<FetchedAnswer, SignOnFault> {
        let _slot = self.take_slot(question.url).ok_or(SignOnFault::Busy)?;
        let part = question.part;
        let request = FetchRequest {
            url: question.url,
            tls: &access.tls,
            addresses: access.addresses,
            body: question.body,
            authorization: question.authorization,
            expected: expected(part),
            timeout: match part {
                ProviderPart::Discovery | ProviderPart::Keys | ProviderPart::SamlMetadata => READ_TIMEOUT,
                ProviderPart::Tokens | ProviderPart::UserInfo => WORK_TIMEOUT,
            },
        };
        fetch(request, &self.lookups).await.map_err(|why| SignOnFault::Fetch(part, why))
    }

    fn take_slot(&self, url: &FetchUrl) -> Option<CallSlot<'_>> {
        let server = url.authority();
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let of_server = calls.by_server.get(&server).copied().unwrap_or(0);
        if calls.all >= MAX_CALLS || of_server >= MAX_CALLS_OF_ONE {
            return None;
        }
        calls.all += 1;
        calls.by_server.insert(server.clone(), of_server + 1);
        drop(calls);
        Some(CallSlot {
            calls: &self.calls,
            server,
        })
    }
}

/// A provider's configuration, and the time by its clock when it was sent, if it says so.
pub(super) struct DatedMetadata {
    pub(super) metadata: ProviderMetadata,
    pub(super) date: Option<UnixMillis>,
}

/// One question to a provider.
struct Question<'a> {
    part: ProviderPart,
    url: &'a FetchUrl,
    body: FetchBody,
    authorization: Option<HeaderValue>,
}

impl<'a> Question<'a> {
    const fn get(part: ProviderPart, url: &'a FetchUrl) -> Self {
        Self {
            part,
            url,
            body: FetchBody::None,
            authorization: None,
        }
    }
}

const fn expected(part: ProviderPart) -> &'static ExpectedAnswer {
    match part {
        ProviderPart::Discovery => &ExpectedAnswer {
            types: JSON,
            statuses: &[200],
            max_len: MAX_METADATA_LEN,
        },
        ProviderPart::Keys => &KEY_SET_ANSWER,
        // An error has a body that says which (RFC 6749, section 5.2).
        ProviderPart::Tokens => &ExpectedAnswer {
            types: JSON,
            statuses: &[200, 400, 401],
            max_len: MAX_TOKEN_ANSWER,
        },
        // A signed answer (`application/jwt`) is not taken.
        ProviderPart::UserInfo => &ExpectedAnswer {
            types: JSON,
            statuses: &[200],
            max_len: MAX_USERINFO_LEN,
        },
        ProviderPart::SamlMetadata => &ExpectedAnswer {
            types: &["application/samlmetadata+xml", "application/xml", "text/xml"],
            statuses: &[200],
            max_len: MAX_SAML_METADATA,
        },
    }
}

/// The questions that are on their way.
#[derive(Default)]
struct CallCounts {
    all: usize,
    /// Only servers that are being asked.
    by_server: HashMap<String, usize>,
}

/// The right to one question. It ends with it, also when who asked does not wait any longer.
struct CallSlot<'a> {
    calls: &'a Mutex<CallCounts>,
    server: String,
}

impl Drop for CallSlot<'_> {
    fn drop(&mut self) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.all = calls.all.saturating_sub(1);
        if let Some(count) = calls.by_server.get_mut(&self.server) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                calls.by_server.remove(&self.server);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_that_hangs_leaves_room_for_the_others() {
        let client = ProviderClient::default();
        let url = |n: usize| FetchUrl::parse(&format!("https://idp{n}.example/"), FetchSchemes::Https).unwrap();
        let mut slots: Vec<CallSlot<'_>> = (0..MAX_CALLS_OF_ONE).map(|_| client.take_slot(&url(0)).unwrap()).collect();
        assert!(client.take_slot(&url(0)).is_none());
        assert!(client.take_slot(&url(1)).is_some());
        slots.pop();
        slots.push(client.take_slot(&url(0)).unwrap());
        let others = MAX_CALLS - MAX_CALLS_OF_ONE;
        slots.extend((0..others).map(|n| client.take_slot(&url(n / MAX_CALLS_OF_ONE + 1)).unwrap()));
        assert!(client.take_slot(&url(99)).is_none(), "all providers together");
        drop(slots);
        let calls = client.calls.lock().unwrap();
        assert_eq!((calls.all, calls.by_server.len()), (0, 0));
    }
}
