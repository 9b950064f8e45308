//! What a connection becomes after a 101: a tunnel to the service, for WebSocket frames and nothing else.

use std::time::Duration;

use crate::upstream::Upgraded;
use crate::wire::fields::Fields;
use crate::wire::websocket::Extensions;

/// The service's end of a tunnel, and what it may be used for.
pub struct Tunnel {
    /// The connection to the service.
    pub upstream: Upgraded,
    /// How long nothing may pass either way, or one side may take nothing.
    pub idle_timeout: Duration,
    /// What the handshake agreed on.
    pub extensions: Extensions,
}

impl Tunnel {
    pub(super) fn new(upstream: Upgraded, idle_timeout: Duration, answered: &Fields) -> Self {
        let agreed = answered.all("sec-websocket-extensions").any(|value| !value.is_empty());
        Self {
            upstream,
            idle_timeout,
            extensions: if agreed { Extensions::Agreed } else { Extensions::None },
        }
    }
}
