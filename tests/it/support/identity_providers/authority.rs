//! The authority that the certificates of all test servers are under, and key pairs that sign SAML messages and tokens.

use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// One for the whole run, so that a gateway needs one file of certificates for all providers.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// The authority of this run.
pub(crate) fn authority() -> &'static Authority {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);
    &AUTHORITY
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "an authority for tests");
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate, PEM: what a gateway is told to trust.
    pub(crate) fn certificate(&self) -> String {
        self.0.pem()
    }

    /// Its certificate, DER.
    pub(crate) fn certificate_der(&self) -> &[u8] {
        self.0.der()
    }

    /// What a server of these names serves TLS with.
    pub(super) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .unwrap();
        Arc::new(config)
    }
}

/// An RSA key of 2048 bits with a certificate over itself, as SAML has it.
pub(crate) struct SigningPair {
    /// The private key: PKCS#8, PEM.
    pub(crate) key: String,
    /// The public half, PEM.
    pub(crate) public: String,
    /// The certificate, PEM.
    pub(crate) certificate: String,
}

impl SigningPair {
    /// A new one.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2046, 1, 1);
        Self {
            certificate: parameters.self_signed(&key).unwrap().pem(),
            public: key.public_key_pem(),
            key: key.serialize_pem(),
        }
    }
}
