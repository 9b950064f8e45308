//! Another issuer and the surface that takes its tokens, for tests that need a true signature.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::base::ids::SurfaceName;
use crate::base::principal::TENANT_SURFACE;
use crate::decide::external::{
    ExternalIssuer, ExternalRules, FetchAddresses, IssuerAlgorithm, KeySet, KeyUrl, MAX_EXTERNAL_TOKEN, PublishedKeys, Tenants,
};
use crate::decide::surface::{ExternalSurface, Surface, SurfaceKind};
use crate::decide::token::{ClaimLists, RulesId};

/// Another issuer with one key.
pub(crate) struct Issuer(Ed25519KeyPair);

impl Issuer {
    pub(crate) fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn set(&self) -> KeySet {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "x": x }] });
        KeySet::parse(set.to_string().as_bytes()).unwrap()
    }

    pub(crate) fn published(&self) -> Arc<PublishedKeys> {
        Arc::new(PublishedKeys::of_file(PathBuf::from("keys.json"), self.set()))
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let header = encode(r#"{"alg":"EdDSA","kid":"k","typ":"JWT"}"#);
        let signed = format!("{header}.{}", encode(&claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

/// A surface of these issuers, by name. Its tokens need this audience, and name their tenant in `tenant`.
pub(crate) fn external(issuers: &[(&str, &Arc<PublishedKeys>)], audience: &str) -> Surface {
    let issuer = |(name, keys): &(&str, &Arc<PublishedKeys>)| ExternalIssuer {
        issuer: Some((*name).to_owned()),
        audience: Some(audience.to_owned()),
        audience_claim: "aud".to_owned(),
        token_type: None,
        tenants: Tenants::Claim {
            claim: "tenant".to_owned(),
            allowed: None,
        },
        subject_claim: "sub".to_owned(),
        scopes_claim: "scope".to_owned(),
        scopes: None,
        required: Vec::new(),
        max_age: None,
        keys: Arc::clone(keys),
    };
    let rules = ExternalRules {
        id: RulesId::unique(),
        issuers: issuers.iter().map(issuer).collect(),
        skew: Duration::from_secs(5),
        max_token: MAX_EXTERNAL_TOKEN,
        claim_headers: Vec::new(),
        claim_lists: ClaimLists::Spaces,
    };
    let kind = ExternalSurface {
        carriers: Vec::new(),
        rules: Box::new(rules),
        record_surface: SurfaceName::parse(TENANT_SURFACE).unwrap(),
    };
    super::surface("partner", SurfaceKind::External(kind))
}

/// The keys of an issuer that could not be asked yet.
pub(crate) fn unfetched() -> Arc<PublishedKeys> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(PublishedKeys::of_url(Box::new(KeyUrl {
        host: "issuer.test".to_owned(),
        port: 443,
        target: "/keys".to_owned(),
        tls: Arc::new(tls),
        trust: [0; 32],
        addresses: FetchAddresses::Public,
        unnamed_rsa: IssuerAlgorithm::Rs256,
        refresh: Duration::from_secs(300),
        keep: Duration::from_secs(3_600),
    })))
}
