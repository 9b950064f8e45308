//! Listeners, the operator's side and trusted proxies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::base::ids::is_valid_id;
use crate::config::reader::shorten;
use crate::config::source::Located;
use crate::config::written::{WrittenGateway, WrittenListener};
use crate::decide::peer::PeerPolicy;
use crate::snapshot::{AdminSettings, CertificateSet, ListenerSettings, Transport};

use super::Builder;

/// Longest path of a Unix socket: `sun_path` has 108 bytes, and the gateway may add a suffix while it
/// replaces a stale one.
const MAX_SOCKET_PATH: usize = 100;

impl Builder<'_> {
    /// Listener settings, in the order of the configuration.
    pub(super) fn listeners(&self, written: &[WrittenListener]) -> Vec<ListenerSettings> {
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
            if listener.certificates.is_none() && !listener.insecure_plain && !is_loopback(listener.address.value) {
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
                transport: match listener.certificates {
                    Some(_) => Transport::Tls,
                    None => Transport::Plain,
                },
            })
            .collect()
    }

    /// Certificates by listener.
    pub(super) fn listener_certificates(&self, written: &[WrittenListener]) -> Vec<Option<Arc<CertificateSet>>> {
        written
            .iter()
            .map(|listener| {
                let certificates = listener.certificates.as_ref()?;
                Some(Arc::new(self.certificate_set(certificates)))
            })
            .collect()
    }

    /// The operator's side.
    pub(super) fn admin(&self, gateway: &WrittenGateway) -> Option<AdminSettings> {
        let socket = self.resolve(&gateway.socket.value);
        if gateway.socket.value.is_empty() || socket.as_os_str().len() > MAX_SOCKET_PATH {
            self.report.error(
                &gateway.socket.at,
                format!("the path of the operator socket must have 1 to {MAX_SOCKET_PATH} bytes"),
                Some(format!("it is `{}`; the kernel takes 108", socket.display())),
            );
            return None;
        }
        if let Some(probes) = &gateway.probes {
            if !gateway.insecure_probes && !is_loopback(probes.value) {
                self.report.error(
                    &probes.at,
                    "probes must be on loopback: figures would be readable by everybody",
                    Some("say `insecure_probes = true` if the network is closed".to_owned()),
                );
            }
            let taken = gateway
                .listeners
                .iter()
                .any(|l| l.address.value == probes.value && probes.value.port() != 0);
            if taken {
                self.report
                    .error(&probes.at, format!("`{}` is the address of a listener already", probes.value), None);
            }
        }
        Some(AdminSettings {
            socket,
            probes: gateway.probes.as_ref().map(|p| p.value),
        })
    }

    /// Trusted proxies.
    pub(super) fn peers(&self, gateway: &WrittenGateway) -> PeerPolicy {
        let trusted = gateway.trusted.iter().filter_map(|text| {
            let network = text
                .value
                .parse::<IpNet>()
                .ok()
                .or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from));
            let Some(network) = network else {
                self.report.error(
                    &text.at,
                    format!("`{}` is not an address or a network", shorten(&text.value)),
                    Some("for example \"10.0.0.0/8\", \"192.0.2.7\" or \"2001:db8::/32\"".to_owned()),
                );
                return None;
            };
            if network.prefix_len() == 0 && !gateway.insecure_trust_everyone {
                self.report.error(
                    &text.at,
                    "every address would be trusted: any client could claim any address",
                    Some("name your proxies' networks, or say `insecure_trust_everyone = true`".to_owned()),
                );
            }
            if network.trunc() != network {
                let message = format!("`{}` has bits outside its mask and means `{}`", text.value, network.trunc());
                self.report.warning(&text.at, message, None);
            }
            Some(network.trunc())
        });
        PeerPolicy {
            trusted: trusted.collect(),
        }
    }

    /// Reports a name that could not go into logs, metrics and headers as it is.
    pub(super) fn check_name(&self, name: &Located<String>, what: &str) -> bool {
        let valid = is_valid_id(&name.value);
        if !valid {
            self.report.error(
                &name.at,
                format!("`{}` cannot be the name of {what}", shorten(&name.value)),
                Some("1 to 128 of A-Z a-z 0-9 . _ : -".to_owned()),
            );
        }
        valid
    }

    /// Reports a name that is taken.
    pub(super) fn twice(&self, name: &Located<String>, what: &str) {
        self.report
            .error(&name.at, format!("there is a {what} `{}` already", shorten(&name.value)), None);
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
