//! Our own key of one provider: it signs what we send and decrypts assertions that were encrypted for us.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

/// An RSA key with its certificate. It has no `Debug`, so that the key reaches no log.
pub struct SpKeyPair {
    private: Zeroizing<Vec<u8>>,
    certificate: CertificateDer<'static>,
}

impl SpKeyPair {
    /// The key (PKCS #8 in DER) of the settings of a provider.
    #[must_use]
    pub const fn from_parts(private: Zeroizing<Vec<u8>>, certificate: CertificateDer<'static>) -> Self {
        Self { private, certificate }
    }

    /// The private key, PKCS #8 in DER.
    #[must_use]
    pub fn private_der(&self) -> &[u8] {
        &self.private
    }

    /// The private key in PEM.
    #[must_use]
    pub fn private_pem(&self) -> Zeroizing<String> {
        let text = Zeroizing::new(STANDARD.encode(&*self.private));
        let mut pem = Zeroizing::new("-----BEGIN PRIVATE KEY-----\n".to_owned());
        let mut rest: &str = &text;
        while !rest.is_empty() {
            // RFC 7468, section 2: lines of 64 characters. The text is ASCII.
            let (line, behind) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = behind;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem
    }

    /// The certificate, which metadata show.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}
