//! SAML metadata that are handed over, or fetched once: what they say of the settings.

use std::fmt;

use serde_json::{Map, Value};

use crate::sign_on::http::ProviderAccess;
use crate::sign_on::saml::metadata::{SamlBinding, SamlEndpoint};
use crate::sign_on::saml::verifier::{VerifierAnswer, VerifierJob};

use super::ProviderManagement;
use super::error::ManagementError;

/// What SAML metadata say of the settings, and what their administrator must know.
#[derive(Default)]
pub(super) struct ReadMetadata {
    pub(super) settings: Map<String, Value>,
    pub(super) warnings: Vec<String>,
}

impl ProviderManagement<'_> {
    /// What SAML metadata say of the settings. A confined process reads them, as it reads everything that providers send.
    pub(super) async fn read_metadata(&self, text: Option<&str>, url: Option<&str>) -> Result<ReadMetadata, ManagementError> {
        let document = match (text, url) {
            (None, None) => return Ok(ReadMetadata::default()),
            (Some(text), None) => text.to_owned(),
            (None, Some(url)) => self.fetch_metadata(url).await?,
            (Some(_), Some(_)) => {
                return Err(ManagementError::request(
                    "metadata",
                    "metadata are given as a text or as an address, not as both",
                ));
            }
        };
        let unusable = |why: &dyn fmt::Display| ManagementError::request("metadata", format!("the metadata cannot be used: {why}"));
        let answer = self.verifier.ask(&VerifierJob::Metadata { document }).await;
        let VerifierAnswer::Metadata(metadata) = answer.map_err(|fault| unusable(&fault))? else {
            return Err(unusable(&"they were not read"));
        };
        let now = self.clock.now().wall;
        let warnings = metadata.judge(now).map_err(|fault| unusable(&fault))?;
        let address = |binding: SamlBinding, endpoints: &[SamlEndpoint]| {
            let endpoint = endpoints.iter().find(|endpoint| endpoint.binding == binding);
            endpoint.map(|endpoint| Value::from(endpoint.url.as_str()))
        };
        // What has expired verifies nothing, and would take the room of what follows.
        let certificates = metadata.certificates.iter().filter(|certificate| certificate.not_after >= now.0);
        let mut saml = Map::new();
        saml.insert("entity_id".into(), metadata.entity_id.as_str().into());
        saml.insert(
            "certificates".into(),
            certificates.map(|certificate| Value::from(certificate.der.as_str())).collect(),
        );
        // Answers go by the binding by which requests go, so the address for answers is that of this binding.
        let of_binding = |binding| metadata.logout.iter().find(|endpoint| endpoint.binding == binding);
        let log_out = of_binding(SamlBinding::Redirect).or_else(|| of_binding(SamlBinding::Post));
        let log_out_answers = log_out.and_then(|endpoint| endpoint.response_url.as_deref()).map(Value::from);
        for (name, url) in [
            ("sso_redirect_url", address(SamlBinding::Redirect, &metadata.sign_on)),
            ("sso_post_url", address(SamlBinding::Post, &metadata.sign_on)),
            ("slo_url", address(SamlBinding::Redirect, &metadata.logout)),
            ("slo_post_url", address(SamlBinding::Post, &metadata.logout)),
            ("slo_response_url", log_out_answers),
        ] {
            // What the metadata do not name any more is removed.
            saml.insert(name.into(), url.unwrap_or(Value::Null));
        }
        if metadata.wants_signed_requests {
            saml.insert("sign_requests".into(), true.into());
        }
        let protocol = Map::from_iter([("saml".to_owned(), Value::Object(saml))]);
        Ok(ReadMetadata {
            settings: Map::from_iter([("protocol".to_owned(), Value::Object(protocol))]),
            warnings: warnings.0,
        })
    }

    /// Fetches metadata as the gateway fetches everything of providers: from an address that `[sign_on]` permits.
    async fn fetch_metadata(&self, url: &str) -> Result<String, ManagementError> {
        let refused = |why: String| ManagementError::request("metadata_url", why);
        let settings = self
            .snapshot
            .sign_on
            .as_ref()
            .ok_or_else(|| refused("without `[sign_on]` in the configuration nothing is fetched: give a file".into()))?;
        let access = ProviderAccess::over_https(settings.tls.clone(), settings.addresses);
        let fetched = self.client.saml_metadata(url, &access).await;
        let bytes = fetched.map_err(|fault| refused(self.words_of(&fault)))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| refused("the metadata are no UTF-8".into()))
    }
}
