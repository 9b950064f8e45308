//! Header hygiene: what is refused, what is dropped, what is set, in both directions (hardening 1.2).

use std::net::IpAddr;

use crate::base::denial::Denial;
use crate::base::principal::Principal;
use crate::wire::fields::{Fields, MAX_FIELDS};
use crate::wire::head::RequestHead;

use super::peer::Origin;
use super::route::{CredentialForwarding, Route, Trailers};
use super::surface::Surface;
use super::target::RequestTarget;

/// Names of the identity headers as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityNames {
    /// `X-Tenant-Id`
    pub tenant: String,
    /// `X-Scopes`
    pub scopes: String,
    /// `X-Auth-Surface`
    pub surface: String,
    /// `X-Auth-Mode`
    pub mode: String,
    /// `X-Auth-Subject`
    pub subject: String,
    /// `X-Auth-Credential-Id`
    pub credential_id: String,
}

impl Default for IdentityNames {
    fn default() -> Self {
        Self {
            tenant: "X-Tenant-Id".into(),
            scopes: "X-Scopes".into(),
            surface: "X-Auth-Surface".into(),
            mode: "X-Auth-Mode".into(),
            subject: "X-Auth-Subject".into(),
            credential_id: "X-Auth-Credential-Id".into(),
        }
    }
}

/// What a request field is to us. One byte for each field, found once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Forwarded as it is.
    Plain,
    /// Dropped always: hop-by-hop, identity, override and forwarding headers, names with `_` or `.`.
    Dropped,
    /// Carries a credential on some surface: dropped unless the route forwards credentials.
    Credential,
    /// `Cookie`: joined, and the gateway's own session cookies taken out.
    Cookie,
    /// `X-Request-Id`, `traceparent`, `tracestate`, `X-Forwarded-*`, `Forwarded`: count only from a trusted peer.
    Forwarding,
}

/// The roles of a head's fields.
#[derive(Debug)]
pub struct Screened {
    /// One for each field.
    pub roles: [Role; MAX_FIELDS],
}

/// What the outgoing head needs besides the received one.
#[derive(Debug)]
pub struct OutgoingHead<'a> {
    /// Who was admitted, with the surface; `None` on public routes: identity headers are absent.
    pub principal: Option<(&'a Principal, &'a Surface)>,
    /// The client.
    pub origin: Origin,
    /// The address the connection came from.
    pub peer: IpAddr,
    /// Whether the client's connection was TLS.
    pub scheme: Scheme,
    /// The request's id.
    pub request_id: &'a str,
    /// The target.
    pub target: &'a RequestTarget<'a>,
    /// Whether credentials pass.
    pub credentials: CredentialForwarding,
    /// Whether `TE: trailers` passes.
    pub trailers: Trailers,
}

/// How the client's request arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

/// Every rule about headers, built at load time.
#[derive(Debug)]
pub struct HeaderPolicy {
    /// Names of the identity headers.
    pub names: IdentityNames,
}

impl HeaderPolicy {
    /// Builds the table for these surfaces. `names` and every claim header of a surface are
    /// reserved on every route, public ones included.
    #[must_use]
    pub fn new(names: IdentityNames, surfaces: &[Surface]) -> Self {
        let _ = surfaces;
        Self { names }
    }

    /// Finds each field's role, and refuses what is disguised or self-contradictory.
    ///
    /// # Errors
    /// [`Denial::ForgedHeader`], [`Denial::ExpectationFailed`].
    pub fn screen(&self, head: &RequestHead) -> Result<Screened, Denial> {
        let _ = head;
        Err(Denial::ForgedHeader)
    }

    /// Appends the outgoing fields to `out` as `Name: value\r\n`, without `Host`, framing and `Connection`.
    pub fn write_outgoing(&self, head: &RequestHead, screened: &Screened, facts: &OutgoingHead<'_>, out: &mut Vec<u8>) {
        let _ = (head, screened, facts, out);
    }

    /// Copies the response fields that may reach the client into `out`: no hop-by-hop, framing,
    /// identity or gateway-internal ones, no cookie that is one of the gateway's session cookies.
    pub fn filter_returning(&self, received: &Fields, route: &Route, out: &mut Fields) {
        let _ = (received, route, out);
    }

    /// Keeps of a trailer section what may be forwarded.
    pub fn filter_trailers(&self, received: &Fields, out: &mut Fields) {
        let _ = (received, out);
    }
}
