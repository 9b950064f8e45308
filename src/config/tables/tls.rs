//! TLS material: certificates of listeners, and what the gateway shows and trusts towards upstreams.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use zeroize::Zeroizing;

use crate::base::clock::{Clock as _, SystemClock};
use crate::config::Purpose;
use crate::config::declare::{absent, path, table};
use crate::config::reader::shorten;
use crate::config::secret::Reference;
use crate::config::source::{Located, Span};
use crate::snapshot::CertificateSet;

use super::listeners::CertificateTable;
use super::{Builder, pem};

table! {
    /// Certificates of servers are always verified. Those of a store are read at the start: new ones need a restart.
    pub struct ClientTlsTable = "`[tls]` of a service, `[store.tls]`, `[store.sentinel_tls]`" {
        /// PEM file of the only authorities trusted for these servers.
        ca: Option<Located<String>> = absent("the system's authorities"), path();
        /// PEM chain the gateway presents; together with `client_key`.
        client_cert: Option<Located<String>> = absent("none"), path();
        /// Its key.
        client_key: Option<Located<Reference>> = absent("none");
        /// The name the servers' certificates must have. Needed where sentinels or a cluster announce addresses that are
        /// not in the certificates.
        server_name: Option<Located<String>> = absent("the host that is connected to");
    }
}

/// A certificate that ends within this time is worth a warning: authorities renew at 30 days, so at
/// 7 renewal has failed.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// A certificate's two files as read.
struct PemPair {
    cert: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl Builder<'_> {
    /// The certificates of one listener.
    pub(super) fn certificate_set(&self, written: &[CertificateTable]) -> CertificateSet {
        CertificateSet {
            entries: written.iter().filter_map(|c| self.certificate(c)).collect(),
        }
    }

    fn certificate(&self, written: &CertificateTable) -> Option<(Vec<String>, Arc<CertifiedKey>)> {
        let pem = self.certificate_files(written)?;
        let chain = self.chain(&pem.cert, &written.cert);
        let (_, key) = self.private_key(&pem.key, &written.key)?;
        let chain = chain?;
        let names = self.certificate_names(written, chain.first()?);
        let certified = CertifiedKey::new(chain, key);
        self.check_pair_of(&certified, &written.key)?;
        Some((names, Arc::new(certified)))
    }

    /// Whether a private key belongs to its certificate.
    fn check_pair_of(&self, certified: &CertifiedKey, key: &Located<Reference>) -> Option<()> {
        let (message, help) = match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => return Some(()),
            Err(rustls::Error::InconsistentKeys(_)) => (
                "the private key does not belong to its certificate",
                "name the two that were made together; the server's own certificate comes first in its file",
            ),
            Err(_) => (
                "the certificate that this private key is for cannot be read",
                "the first certificate of the file must be X.509 version 3",
            ),
        };
        self.report.error(&key.at, message, Some(help.to_owned()));
        None
    }

    /// Both files, or a new self-signed pair where that is asked for and neither is there. A running
    /// gateway had its files: a reload makes none.
    fn certificate_files(&self, written: &CertificateTable) -> Option<PemPair> {
        if let (false, Reference::File(key)) = (
            written.insecure_self_signed.is_empty() || matches!(self.purpose, Purpose::Reload(_)),
            &written.key.value,
        ) {
            let (cert, key) = (self.resolve(&written.cert.value), self.resolve(key));
            if self.is_absent(&cert) && self.is_absent(&key) {
                return self.self_signed(written, cert, key);
            }
        }
        let cert = self.read_file(&written.cert, "the certificate");
        let key = self.read_secret(&written.key, "the private key");
        Some(PemPair { cert: cert?, key: key? })
    }

    fn self_signed(&self, written: &CertificateTable, cert: PathBuf, key: PathBuf) -> Option<PemPair> {
        let names: Vec<String> = written.insecure_self_signed.iter().map(|n| n.value.clone()).collect();
        let Ok(made) = rcgen::generate_simple_self_signed(names) else {
            self.report.error(
                &written.cert.at,
                "no certificate can be made for these names",
                Some("write DNS names or IP addresses".to_owned()),
            );
            return None;
        };
        let pair = PemPair {
            cert: Zeroizing::new(made.cert.pem().into_bytes()),
            key: Zeroizing::new(made.signing_key.serialize_pem().into_bytes()),
        };
        self.will_create(key, pair.key.clone(), &written.key.at);
        self.will_create(cert, pair.cert.clone(), &written.cert.at);
        Some(pair)
    }

    fn chain(&self, bytes: &[u8], from: &Located<String>) -> Option<Vec<CertificateDer<'static>>> {
        match pem::certificates(bytes) {
            Ok(chain) => Some(chain),
            Err(flaw) => {
                let message = format!("`{}` is not a PEM file with certificates: {}", shorten(&from.value), flaw.what);
                self.report.error(&from.at, message, Some(flaw.help.to_owned()));
                None
            }
        }
    }

    fn private_key(&self, bytes: &[u8], from: &Located<Reference>) -> Option<(PrivateKeyDer<'static>, Arc<dyn SigningKey>)> {
        match pem::private_key(bytes) {
            Ok(key) => Some(key),
            Err(flaw) => {
                self.report.error(&from.at, flaw.what, Some(flaw.help.to_owned()));
                None
            }
        }
    }

    /// The names a certificate is used for, lower case; looks at its dates on the way.
    fn certificate_names(&self, written: &CertificateTable, certificate: &CertificateDer<'_>) -> Vec<String> {
        let parsed = webpki::EndEntityCert::try_from(certificate);
        let Ok(parsed) = parsed else {
            self.report
                .error(&written.cert.at, "the certificate cannot be read: it is not X.509 version 3", None);
            return Vec::new();
        };
        self.check_dates(&parsed, &written.cert.at);
        let contained: Vec<String> = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
        if written.names.is_empty() {
            return contained;
        }
        for name in &written.names {
            let lower = name.value.to_ascii_lowercase();
            if !contained.iter().any(|c| covers(c, &lower)) {
                self.report.warning(
                    &name.at,
                    format!("the certificate is not for `{}`: clients will refuse it", shorten(&name.value)),
                    Some(if contained.is_empty() {
                        "it names nothing".to_owned()
                    } else {
                        format!("it is for {}", contained.join(", "))
                    }),
                );
            }
        }
        written.names.iter().map(|n| n.value.to_ascii_lowercase()).collect()
    }

    fn check_dates(&self, certificate: &webpki::EndEntityCert<'_>, at: &Span) {
        let now = u64::try_from(SystemClock.now().wall.secs()).unwrap_or(0);
        match dates(certificate, now) {
            Some(webpki::Error::CertExpired { .. }) => {
                self.report.warning(
                    at,
                    "the certificate has expired: clients will refuse it",
                    Some("renew it; it reloads by itself".to_owned()),
                );
            }
            Some(webpki::Error::CertNotValidYet { .. }) => {
                self.report.warning(
                    at,
                    "the certificate is not valid yet: clients will refuse it",
                    Some("is the clock right?".to_owned()),
                );
            }
            _ if matches!(dates(certificate, now + SOON.as_secs()), Some(webpki::Error::CertExpired { .. })) => {
                self.report.warning(
                    at,
                    "the certificate expires within 7 days",
                    Some("renew it; it reloads by itself".to_owned()),
                );
            }
            _ => {}
        }
    }

    pub(super) fn upstream_tls(&self, written: Option<&ClientTlsTable>, at: &Span) -> Option<Arc<rustls::ClientConfig>> {
        let (mut config, _) = self.client_tls(written, at)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(Arc::new(config))
    }

    /// TLS towards servers of ours, and a digest of what it was made from.
    pub(super) fn client_tls(&self, written: Option<&ClientTlsTable>, at: &Span) -> Option<(rustls::ClientConfig, [u8; 32])> {
        let (roots, mut digests) = self.authorities(written.and_then(|tls| tls.ca.as_ref()), at)?;
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots);
        let identity = written.map(|tls| (tls.client_cert.as_ref(), tls.client_key.as_ref()));
        let config = match identity.unwrap_or_default() {
            (Some(cert), Some(key)) => {
                let (cert_pem, key_pem) = (
                    self.read_file(cert, "the client certificate")?,
                    self.read_secret(key, "the client key")?,
                );
                digests.extend_from_slice(&Self::digest(&cert_pem));
                digests.extend_from_slice(&Self::digest(&key_pem));
                let chain = self.chain(&cert_pem, cert)?;
                let (key_der, signing) = self.private_key(&key_pem, key)?;
                self.check_pair_of(&CertifiedKey::new(chain.clone(), signing), key)?;
                // What could be wrong was looked at; an error of the library is not formatted beside a secret.
                let Ok(config) = builder.with_client_auth_cert(chain, key_der) else {
                    self.report
                        .error(&key.at, "the private key cannot be used with its certificate", None);
                    return None;
                };
                config
            }
            (Some(one), None) => return self.half_identity(&one.at, "client_key"),
            (None, Some(one)) => return self.half_identity(&one.at, "client_cert"),
            (None, None) => builder.with_no_client_auth(),
        };
        Some((config, Self::digest(&digests)))
    }

    fn half_identity<T>(&self, at: &Span, missing: &str) -> Option<T> {
        self.report.error(
            at,
            format!("`{missing}` is missing"),
            Some("`client_cert` and `client_key` come together".to_owned()),
        );
        None
    }

    /// Trusted authorities, and digests of what they were read from.
    pub(super) fn authorities(&self, ca: Option<&Located<String>>, at: &Span) -> Option<(Arc<rustls::RootCertStore>, Vec<u8>)> {
        let Some(ca) = ca else {
            let roots = self.system_roots();
            if roots.is_empty() {
                self.report.error(
                    at,
                    "the system has no certificate authorities to verify this server with",
                    Some("install ca-certificates, or name a PEM file with `tls.ca`".to_owned()),
                );
                return None;
            }
            // A reload does not tell one set of the system's from another.
            return Some((roots, Vec::new()));
        };
        let mut roots = rustls::RootCertStore::empty();
        let pem = self.read_file(ca, "the authorities' file")?;
        for certificate in self.chain(&pem, ca)? {
            if roots.add(certificate).is_err() {
                self.report.error(
                    &ca.at,
                    "a certificate in this file cannot be an authority",
                    Some("each must be a complete X.509 version 3 certificate".to_owned()),
                );
                return None;
            }
        }
        Some((Arc::new(roots), Self::digest(&pem).to_vec()))
    }

    /// The system's authorities. They are read once, since a thousand services may be verified with them.
    pub(super) fn system_roots(&self) -> Arc<rustls::RootCertStore> {
        let read = || {
            let mut roots = rustls::RootCertStore::empty();
            for der in self.environment.system_authorities() {
                // Systems ship a few certificates no verifier takes; they are not ours to judge.
                let _ = roots.add(CertificateDer::from(der));
            }
            Arc::new(roots)
        };
        Arc::clone(self.system_roots.get_or_init(read))
    }
}

/// What verifying against no authority says about a certificate's dates: they are judged first.
fn dates(certificate: &webpki::EndEntityCert<'_>, at: u64) -> Option<webpki::Error> {
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    certificate
        .verify_for_usage(algorithms, &[], &[], time, webpki::KeyUsage::server_auth(), None, None)
        .err()
}

/// Whether a name in a certificate stands for `name`, itself maybe a wildcard.
fn covers(contained: &str, name: &str) -> bool {
    contained == name
        || contained
            .strip_prefix("*.")
            .zip(name.split_once('.'))
            .is_some_and(|(suffix, (_, rest))| suffix == rest)
}
