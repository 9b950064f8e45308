//! Private keys of identity providers' settings: the key that durward makes for itself as a SAML service provider, and keys that
//! are handed over.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::error::ManagementError;

/// A new key with its certificate.
pub(super) struct ServiceProviderKey {
    /// PKCS #8.
    pub(super) private_key: Zeroizing<Vec<u8>>,
    /// DER in base64.
    pub(super) certificate: String,
}

/// Makes an RSA key, since providers encrypt to RSA keys only, and a certificate of it. The certificate carries the key in our
/// metadata, and nobody judges its time. It takes a second of a core.
pub(super) async fn make_key(name: &str) -> Result<ServiceProviderKey, ManagementError> {
    let name = name.to_owned();
    let made = tokio::task::spawn_blocking(move || make(&name)).await;
    made.ok()
        .and_then(Result::ok)
        .ok_or_else(|| ManagementError::Unavailable("no key could be made".into()))
}

fn make(name: &str) -> Result<ServiceProviderKey, rcgen::Error> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, format!("durward {name}"));
    let certificate = parameters.self_signed(&key)?;
    Ok(ServiceProviderKey {
        private_key: Zeroizing::new(key.serialize_der()),
        certificate: STANDARD.encode(certificate.der()),
    })
}

/// The PKCS #8 key of a PEM text.
pub(super) fn private_key_of(pem: &str) -> Result<Zeroizing<Vec<u8>>, ManagementError> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        ManagementError::request(
            "secrets.private_key",
            "the private key is no PKCS #8 in PEM, which begins with `-----BEGIN PRIVATE KEY-----`; \
             `openssl pkcs8 -topk8 -nodes -in KEY` converts others",
        )
    })?;
    let der = Zeroizing::new(key.secret_pkcs8_der().to_vec());
    KeyPair::try_from(der.as_slice())
        .map_err(|_| ManagementError::request("secrets.private_key", "the private key is of no kind that signs tokens"))?;
    Ok(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_ours_has_its_own_certificate() {
        let made = make("prv_1").unwrap();
        let key = KeyPair::try_from(made.private_key.as_slice()).unwrap();
        let der = STANDARD.decode(&made.certificate).unwrap();
        let public = key.public_key_raw();
        assert!(der.windows(public.len()).any(|window| window == public));
    }

    #[test]
    fn a_private_key_is_pkcs_8_in_pem() {
        let key = KeyPair::generate().unwrap();
        assert_eq!(private_key_of(&key.serialize_pem()).unwrap().as_slice(), key.serialize_der());
        let public = key.public_key_pem();
        for bad in [
            "",
            "canary",
            public.as_str(),
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let error = private_key_of(bad).unwrap_err();
            assert!(matches!(error, ManagementError::Request(_)));
            assert!(!error.to_string().contains("canary"));
        }
    }
}
