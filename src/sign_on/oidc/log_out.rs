//! Logging out at the provider too (OpenID Connect RP-Initiated Logout 1.0).

use super::discovery::ProviderMetadata;
use super::request::QueryWriter;

/// The parameters that we append.
pub(super) const PARAMETERS: [&str; 3] = ["id_token_hint", "post_logout_redirect_uri", "logout_hint"];

/// The URL to which the browser is sent to end the session at the provider; `None` if the provider has no such endpoint. No ID token
/// is sent along: it would stand in histories and logs, so the provider may ask the person to confirm.
#[must_use]
pub fn log_out_url(metadata: &ProviderMetadata, client_id: &str, return_to: Option<&str>) -> Option<String> {
    let mut query = QueryWriter::new(&metadata.end_session_endpoint.as_ref()?.to_string());
    query.push("client_id", client_id);
    if let Some(url) = return_to {
        query.push("post_logout_redirect_uri", url);
    }
    Some(query.finish())
}
