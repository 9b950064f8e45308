//! One fetch of a key set.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::decide::external::keys::MAX_SET_LEN;
use crate::decide::external::{KeySet, KeySetError, KeyUrl};
use crate::fetch::{ExpectedAnswer, FetchBody, FetchFault, FetchRequest, FetchScheme, FetchUrl};

/// Deadline of a fetch. An issuer's file comes from a cache within milliseconds; a slower answer is not worth waiting for.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server of keys answers.
pub const KEY_SET_ANSWER: ExpectedAnswer = ExpectedAnswer {
    types: &["application/jwk-set+json", "application/json"],
    statuses: &[200],
    max_len: MAX_SET_LEN,
};

/// Why a fetch brought no keys. It names no contents, so nothing that the issuer sent gets into logs.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Fetch(#[from] FetchFault),
    #[error("{0}")]
    Set(#[from] KeySetError),
}

/// Fetches and reads a key set; ends within [`FETCH_TIMEOUT`].
pub(super) async fn fetch(url: &KeyUrl, lookups: &Arc<Semaphore>) -> Result<KeySet, FetchError> {
    let place = FetchUrl {
        scheme: FetchScheme::Https,
        host: url.host.clone(),
        port: url.port,
        target: url.target.clone(),
    };
    let request = FetchRequest {
        url: &place,
        tls: &url.tls,
        addresses: url.addresses,
        body: FetchBody::None,
        authorization: None,
        expected: &KEY_SET_ANSWER,
        timeout: FETCH_TIMEOUT,
    };
    let answer = crate::fetch::fetch(request, lookups).await?;
    Ok(KeySet::parse_with(&answer.content, url.unnamed_rsa)?)
}
