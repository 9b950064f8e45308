//! The rules about headers: what is refused, dropped and set, in both directions.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::denial::Denial;
use crate::base::principal::Principal;
use crate::wire::fields::{Fields, MAX_FIELDS};
use crate::wire::head::RequestHead;

use super::peer::ClientOrigin;
use super::route::{CredentialForwarding, Route, Trailers};
use super::surface::Surface;
use super::target::RequestTarget;

mod filter;
mod outgoing;
mod table;

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

impl IdentityNames {
    pub fn all(&self) -> impl Iterator<Item = &str> {
        [
            &self.tenant,
            &self.scopes,
            &self.surface,
            &self.mode,
            &self.subject,
            &self.credential_id,
        ]
        .into_iter()
        .map(String::as_str)
    }
}

/// The role of a request field. It is found once for each field and takes one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// Always dropped: hop-by-hop, identity, override and forwarding headers, other spellings of these, and odd names
    /// if [`OddNames::Dropped`] applies.
    Dropped,
    /// Carries a credential on some surface: dropped unless the route forwards credentials.
    Credential,
    /// `Cookie`: joined, and the gateway's own session cookies taken out.
    Cookie,
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `traceparent`, `tracestate`: count only from a trusted peer.
    Forwarding,
}

/// The roles of a head's fields.
#[derive(Debug)]
pub struct Screened {
    pub roles: [Role; MAX_FIELDS],
    /// Whether the client said `TE: trailers`.
    pub trailers: TrailersAsked,
    /// How many fields are dropped for their odd names.
    pub odd_dropped: u32,
}

impl Screened {
    /// For a request that the gateway itself makes for a client: no field of the client's request passes.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            roles: [Role::Dropped; MAX_FIELDS],
            trailers: TrailersAsked::No,
            odd_dropped: 0,
        }
    }
}

/// Whether a client takes trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailersAsked {
    /// It said nothing of them.
    No,
    /// It said `TE: trailers`.
    Yes,
}

/// The facts that the outgoing head needs besides the received head.
#[derive(Debug)]
pub struct OutgoingHead<'a> {
    /// Who was admitted, with the surface; `None` on public routes: identity headers are absent.
    pub principal: Option<(&'a Principal, &'a Surface)>,
    pub origin: ClientOrigin,
    /// The address the connection came from.
    pub peer: IpAddr,
    /// Whether the client's connection was TLS.
    pub scheme: UriScheme,
    pub request_id: &'a str,
    pub target: &'a RequestTarget<'a>,
    pub credentials: CredentialForwarding,
    /// Whether `TE: trailers` passes.
    pub trailers: Trailers,
}

/// The URI scheme of the client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriScheme {
    Http,
    Https,
}

/// What happens to a field whose name has characters other than letters, digits and `-`, and does not look like a
/// name that has a meaning here. Services fold such characters into each other (`access_key`, `a.b`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OddNames {
    #[default]
    Forwarded,
    /// The request is 400.
    Refused,
    /// The field is dropped, and counted in access line and metrics.
    Dropped,
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Every rule about headers, built at load time.
#[derive(Debug)]
pub struct HeaderPolicy {
    /// Names of the identity headers.
    pub names: IdentityNames,
    /// The number of these rules, unique within the process.
    number: u64,
    table: table::NameTable,
    session_cookies: Vec<Box<[u8]>>,
    odd_names: OddNames,
}

impl HeaderPolicy {
    /// Builds the table for these surfaces. `names` and every claim header of a surface are
    /// reserved on every route, public ones included.
    #[must_use]
    pub fn new(names: IdentityNames, surfaces: &[Surface]) -> Self {
        let table = table::NameTable::new(&names, surfaces);
        let cookies = surfaces.iter().flat_map(table::session_cookies);
        let session_cookies = cookies.map(|name| name.as_bytes().into()).collect();
        Self {
            names,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            table,
            session_cookies,
            odd_names: OddNames::default(),
        }
    }

    /// The same rules with this treatment of odd names.
    #[must_use]
    pub fn with_odd_names(self, odd_names: OddNames) -> Self {
        Self { odd_names, ..self }
    }

    /// Finds the role of each field, and refuses disguised and contradictory fields.
    ///
    /// # Errors
    /// [`Denial::ForgedHeader`] for a protected name in disguise (`X_Tenant_Id`) or named in `Connection`;
    /// [`Denial::ExpectationFailed`]; [`Denial::MalformedRequest`] for an absurd `Connection`, and for an odd name if
    /// these are refused; [`Denial::HeadTooLarge`] for more than [`MAX_FIELDS`] fields.
    pub fn screen(&self, head: &RequestHead) -> Result<Screened, Denial> {
        filter::screen(self, head)
    }

    /// Appends the outgoing fields to `out` as `Name: value\r\n`, without `Host` and framing.
    /// `screened` is what [`Self::screen`] gave for this head.
    ///
    /// Identity fields are there exactly once, or not at all where the principal has no such
    /// property. `TE: trailers` may be among the fields, and then `Connection: TE` is too.
    ///
    /// # Errors
    /// [`Denial::CorruptRecord`] if a value of the principal may not stand in a header, or record and
    /// tenant differ; [`Denial::Internal`] if the request id may not. `out` is then not to be sent.
    pub fn write_outgoing(
        &self,
        head: &RequestHead,
        screened: &Screened,
        facts: &OutgoingHead<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Denial> {
        outgoing::write(self, head, screened, facts, out)
    }

    /// Keeps the fields of a response that may reach the client. It drops hop-by-hop, framing, identity and internal
    /// fields (`X-Request-Id` and `Date` are written anew), and cookies with the name of a session cookie of the
    /// gateway.
    pub fn filter_response(&self, fields: &mut Fields, route: &Route) {
        filter::filter_response(self, fields, route);
    }

    /// Keeps the trailers that may be forwarded: names without a meaning for the gateway, for framing, for routing or
    /// for caches.
    pub fn filter_trailers(&self, received: &Fields, out: &mut Fields) {
        filter::filter_trailers(self, received, out);
    }

    /// Whether a cookie of this name carries a credential on some surface.
    fn is_session_cookie(&self, name: &[u8]) -> bool {
        self.session_cookies.iter().any(|cookie| **cookie == *name)
    }
}

#[cfg(test)]
mod tests;
