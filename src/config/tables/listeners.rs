//! `[[listeners]]`: where clients connect, and with which certificates.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::declare::{absent, default, path, required, table};
use crate::config::secret::Reference;
use crate::config::source::Located;
use crate::snapshot::{CertificateSet, ListenerSettings, ListenerTransport};

use super::Builder;

table! {
    /// A socket for clients. With `tls` it speaks HTTP/2 and HTTP/1.1, without it HTTP/1.1 only.
    pub struct ListenerTable = "`[[listeners]]`" {
        /// How logs and metrics call it.
        name: Located<String> = required();
        /// Where it listens. Port 0 lets the system choose.
        address: Located<SocketAddr> = required();
        /// Certificates; makes it a TLS listener (1.2 and 1.3).
        tls: Option<TlsTable> = absent("plain HTTP, on loopback only");
        /// Allows plain HTTP on an address that is not loopback: credentials then cross the network in the clear.
        insecure_plain: bool = default("false");
    }
}

table! {
    /// Certificates reload with the rest of the configuration, without dropping a connection.
    pub struct TlsTable = "`[listeners.tls]`" {
        /// Certificates, chosen by the server name the client asks for; the first one serves clients that name none. Of several for
        /// one name, the one with the cheapest signature that the client takes: ECDSA P-256 or Ed25519 before RSA.
        certificates: Vec<CertificateTable> = required();
    }
}

table! {
    /// A certificate chain with its key.
    pub struct CertificateTable = "`[[listeners.tls.certificates]]`" {
        /// PEM file with the chain, the server's own certificate first.
        cert: Located<String> = required(), path();
        /// PEM private key (PKCS #8, PKCS #1 or SEC 1). It must belong to the certificate.
        key: Located<Reference> = required();
        /// Names it is used for; `*.example.com` stands for one label.
        names: Vec<Located<String>> = absent("the DNS names in the certificate");
        /// For development: when both files are missing, `durward serve` creates a self-signed certificate for these
        /// names.
        insecure_self_signed: Vec<Located<String>> = absent("nothing is created");
    }
}

impl Builder<'_> {
    /// Listener settings, in the order of the configuration.
    pub(super) fn listeners(&self, written: &[ListenerTable]) -> Vec<ListenerSettings> {
        for (i, listener) in written.iter().enumerate() {
            self.check_name(&listener.name, "a listener");
            let earlier = written.iter().take(i);
            for other in earlier {
                if other.name.value == listener.name.value {
                    self.twice(&listener.name, "listener");
                }
                if other.address.value == listener.address.value && listener.address.value.port() != 0 {
                    self.report.error(
                        &listener.address.at,
                        format!("`{}` is the address of another listener already", listener.address.value),
                        None,
                    );
                }
            }
            if listener.tls.is_none() && !listener.insecure_plain && !is_loopback(listener.address.value) {
                self.report.error(
                    &listener.address.at,
                    "a plain listener must be on loopback: credentials would cross the network in the clear",
                    Some("give it `tls`, or say `insecure_plain = true`".to_owned()),
                );
            }
        }
        written
            .iter()
            .map(|listener| ListenerSettings {
                name: listener.name.value.clone(),
                address: listener.address.value,
                transport: match listener.tls {
                    Some(_) => ListenerTransport::Tls,
                    None => ListenerTransport::Plain,
                },
            })
            .collect()
    }

    pub(super) fn listener_certificates(&self, written: &[ListenerTable]) -> Vec<Option<Arc<CertificateSet>>> {
        written
            .iter()
            .map(|listener| {
                let tls = listener.tls.as_ref()?;
                Some(Arc::new(self.certificate_set(&tls.certificates)))
            })
            .collect()
    }
}

pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
