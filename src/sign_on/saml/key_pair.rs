//! Our own key of one provider: it signs what we send and decrypts assertions that were encrypted for us.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, PKCS_RSA_SHA256};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::base::clock::UnixMillis;

use super::fault::SamlFault;

/// Years for which our certificate is in force. Providers take the key from it and look at little else.
const YEARS: i16 = 10;

/// An RSA key with a certificate that we sign ourselves. It has no `Debug`, so that the key reaches no log.
pub struct SpKeyPair {
    private: Zeroizing<Vec<u8>>,
    certificate: CertificateDer<'static>,
}

impl SpKeyPair {
    /// Makes a key of 3072 bits. It takes about a second of a core.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate(now: UnixMillis) -> Result<Self, SamlFault> {
        let failed = || SamlFault::VerifierFailed("no key can be made".to_owned());
        let pair = RsaPair::generate(KeySize::Rsa3072).map_err(|_| failed())?;
        let private: Pkcs8V1Der<'static> = pair.as_der().map_err(|_| failed())?;
        let private = Zeroizing::new(private.as_ref().to_vec());
        let certificate = self_signed(&private, now).ok_or_else(failed)?;
        Ok(Self { private, certificate })
    }

    /// A key that was made before.
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

fn self_signed(private: &[u8], now: UnixMillis) -> Option<CertificateDer<'static>> {
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(private), &PKCS_RSA_SHA256).ok()?;
    let today = jiff::Timestamp::from_millisecond(now.0)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let day = |year: i16| {
        // The 28th stands in every month of every year.
        let day = u8::try_from(today.day().min(28)).ok()?;
        Some(rcgen::date_time_ymd(i32::from(year), u8::try_from(today.month()).ok()?, day))
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "durward");
    params.not_before = day(today.year())?;
    params.not_after = day(today.year().checked_add(YEARS)?)?;
    params.self_signed(&pair).ok().map(|made| made.der().clone())
}
