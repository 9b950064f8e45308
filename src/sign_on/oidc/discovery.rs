//! A provider's configuration (OpenID Connect Discovery 1.0, RFC 8414): where its endpoints are and what it announces.

use crate::decide::token::json::{JsonObject, JsonValue};
use crate::fetch::{FetchSchemes, FetchUrl};
use crate::sign_on::fault::{ProviderText, SignOnFault};

use super::form::FormPairs;
use super::request::{OFFLINE_ACCESS, PARAMETERS};

/// Longest configuration. Those of large providers have 2 to 8 KiB.
pub const MAX_METADATA_LEN: usize = 64 * 1024;

/// Algorithms of ID tokens that are verified here.
const ALGORITHMS: [&str; 10] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519",
];

/// What a provider announces, as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderMetadata {
    /// Exactly the configured issuer.
    pub issuer: String,
    pub authorization_endpoint: FetchUrl,
    pub token_endpoint: FetchUrl,
    pub jwks_uri: FetchUrl,
    pub userinfo_endpoint: Option<FetchUrl>,
    pub end_session_endpoint: Option<FetchUrl>,
    /// Whether its callbacks have `iss` (RFC 9207). Then they must have it.
    pub announces_iss: bool,
    /// Whether it names `query` among its response modes.
    pub(super) names_query_mode: bool,
    /// How clients may authenticate at its token endpoint.
    pub authentication_methods: Vec<String>,
    /// Whether it announces back-channel logout.
    pub back_channel_log_out: bool,
    /// Whether it names the scope of refresh tokens among its scopes; `None` if it names no scopes.
    pub names_offline_access: Option<bool>,
    /// Whether it names refresh tokens among what it gives tokens for; `None` if it names none.
    pub names_refresh_tokens: Option<bool>,
}

/// Where the configuration of an issuer is.
///
/// # Errors
/// [`SignOnFault`] for an issuer that is none.
pub fn metadata_url(issuer: &str, schemes: FetchSchemes) -> Result<FetchUrl, SignOnFault> {
    if issuer.contains(['?', '#']) {
        return Err(SignOnFault::IssuerQuery);
    }
    let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    FetchUrl::parse(&url, schemes).map_err(SignOnFault::IssuerUrl)
}

impl ProviderMetadata {
    /// Reads the configuration of this issuer.
    ///
    /// # Errors
    /// [`SignOnFault`] with the member that is wrong.
    pub fn parse(json: &[u8], issuer: &str, schemes: FetchSchemes) -> Result<Self, SignOnFault> {
        let members = JsonObject::parse(json).map_err(SignOnFault::MetadataForm)?;
        let named = text(&members, "issuer")?.ok_or(SignOnFault::MetadataMember("issuer"))?;
        // Exactly: otherwise one provider could speak for another (Discovery 1.0, section 4.3).
        if named != issuer {
            return Err(SignOnFault::MetadataIssuer(ProviderText::of(named)));
        }
        check_support(&members)?;
        let endpoint = |name: &'static str| {
            let Some(written) = text(&members, name)? else { return Ok(None) };
            let url = FetchUrl::parse(written, schemes).map_err(|why| SignOnFault::MetadataUrl(name, why))?;
            Ok(Some(url))
        };
        let required = |name: &'static str| endpoint(name)?.ok_or(SignOnFault::MetadataMember(name));
        let authorization_endpoint = required("authorization_endpoint")?;
        check_parameters(&authorization_endpoint, "authorization_endpoint")?;
        let end_session_endpoint = endpoint("end_session_endpoint")?;
        if let Some(url) = &end_session_endpoint {
            check_parameters(url, "end_session_endpoint")?;
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            authorization_endpoint,
            token_endpoint: required("token_endpoint")?,
            jwks_uri: required("jwks_uri")?,
            userinfo_endpoint: endpoint("userinfo_endpoint")?,
            end_session_endpoint,
            announces_iss: flag(&members, "authorization_response_iss_parameter_supported")?,
            names_query_mode: list(&members, "response_modes_supported")?.is_some_and(|modes| modes.contains(&"query")),
            authentication_methods: match list(&members, "token_endpoint_auth_methods_supported")? {
                Some(methods) => methods.into_iter().take(MAX_NAMES).map(str::to_owned).collect(),
                None => vec!["client_secret_basic".to_owned()],
            },
            back_channel_log_out: flag(&members, "backchannel_logout_supported")?,
            names_offline_access: announced(&members, "scopes_supported", OFFLINE_ACCESS),
            names_refresh_tokens: announced(&members, "grant_types_supported", "refresh_token"),
        })
    }
}

/// Most methods of authentication that are kept.
const MAX_NAMES: usize = 16;

/// What is left out of the configuration counts as supported: the requests show it.
fn check_support(members: &JsonObject<'_>) -> Result<(), SignOnFault> {
    for (name, wanted, lacks) in [
        (
            "response_types_supported",
            &["code"][..],
            "the authorization code flow (`response_types_supported`)",
        ),
        (
            "code_challenge_methods_supported",
            &["S256"],
            "PKCE with S256 (`code_challenge_methods_supported`)",
        ),
        (
            "id_token_signing_alg_values_supported",
            &ALGORITHMS,
            "ID tokens signed with RS256, PS256, ES256, EdDSA or one of their like (`id_token_signing_alg_values_supported`)",
        ),
    ] {
        if list(members, name)?.is_some_and(|named| !named.iter().any(|item| wanted.contains(item))) {
            return Err(SignOnFault::MetadataLacks(lacks));
        }
    }
    Ok(())
}

/// An endpoint may have a query of its own, and no parameter that would stand there twice.
fn check_parameters(url: &FetchUrl, name: &'static str) -> Result<(), SignOnFault> {
    let Some((_, query)) = url.target.split_once('?') else {
        return Ok(());
    };
    let fault = SignOnFault::MetadataParameter(name);
    let Ok(pairs) = FormPairs::parse(query.as_bytes(), query.len()) else {
        return Err(fault);
    };
    let log_out = super::log_out::PARAMETERS;
    if PARAMETERS.iter().chain(&log_out).any(|own| pairs.has(own)) {
        return Err(fault);
    }
    Ok(())
}

/// A text; `null` counts as missing.
fn text<'m>(members: &'m JsonObject<'_>, name: &'static str) -> Result<Option<&'m str>, SignOnFault> {
    match members.find(name) {
        None | Some(JsonValue::Null) => Ok(None),
        Some(JsonValue::Text(text)) => Ok(Some(text)),
        Some(_) => Err(SignOnFault::MetadataMember(name)),
    }
}

fn flag(members: &JsonObject<'_>, name: &'static str) -> Result<bool, SignOnFault> {
    match members.find(name) {
        None | Some(JsonValue::Null) => Ok(false),
        Some(JsonValue::Bool(flag)) => Ok(*flag),
        Some(_) => Err(SignOnFault::MetadataMember(name)),
    }
}

/// Whether a list that no log-in needs has this word. In another form than a list it says nothing, and is no reason to refuse.
fn announced(members: &JsonObject<'_>, name: &'static str, word: &str) -> Option<bool> {
    let words = list(members, name).ok().flatten()?;
    Some(words.contains(&word))
}

fn list<'m>(members: &'m JsonObject<'_>, name: &'static str) -> Result<Option<Vec<&'m str>>, SignOnFault> {
    match members.find(name) {
        None | Some(JsonValue::Null) => Ok(None),
        Some(JsonValue::List(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(JsonValue::text).collect();
            texts.map(Some).ok_or(SignOnFault::MetadataMember(name))
        }
        Some(_) => Err(SignOnFault::MetadataMember(name)),
    }
}
