//! The header names that have a meaning for the gateway: one table, built when the configuration is loaded, and asked
//! once for each field.

use std::collections::BTreeMap;

use crate::base::text::{is_ordinary, is_same_ordinary};
use crate::decide::surface::{Carrier, Surface};

use super::{IdentityNames, Role};

/// The meaning of a header name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderKind {
    /// Identifies the caller. Only the gateway may set it.
    Identity,
    /// `Host`, `Content-Length`, `Transfer-Encoding`: written again for each hop.
    Framing,
    /// `Connection`: names further hop-by-hop fields.
    Connection,
    /// Of this hop only (RFC 9110, section 7.6.1).
    HopByHop,
    /// `TE`: for this hop only. `trailers` may be sent again on the next hop.
    Te,
    /// `Trailer`: announces fields that may be dropped.
    Trailer,
    /// `Expect`: the gateway itself meets it.
    Expect,
    /// Carries a credential on some surface.
    Credential,
    /// `Cookie`.
    Cookie,
    /// `Set-Cookie`.
    SetCookie,
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `traceparent`, `tracestate`: count from trusted peers.
    Forwarding(Forwarding),
    /// Another way to claim an address, a path or a connection; never forwarded.
    Sender,
    /// `X-Request-Id`: ours in both directions.
    RequestId,
    /// Would make a framework behind the gateway see another method, path or user; never forwarded.
    Override,
    /// Signals between the gateway's own parts, and to web servers in front of it; dropped in both directions.
    Internal,
    /// `Date`: written by whoever sends the response.
    Date,
    /// Ordinary in a head, but meaningless or dangerous in a trailer (RFC 9110, section 6.5.1).
    HeadOnly,
}

/// The fields that a trusted proxy may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forwarding {
    For,
    Proto,
    Host,
    Trace,
}

impl HeaderKind {
    /// The role of a request field of this kind.
    pub(super) const fn role(self) -> Role {
        match self {
            Self::Credential => Role::Credential,
            Self::Cookie => Role::Cookie,
            Self::Forwarding(_) => Role::Forwarding,
            Self::HeadOnly | Self::Date | Self::SetCookie => Role::Plain,
            _ => Role::Dropped,
        }
    }

    /// Whether a disguise of this name, or its mention in `Connection`, is an attack.
    pub(super) const fn is_protected(self) -> bool {
        !matches!(
            self,
            Self::Connection | Self::HopByHop | Self::Te | Self::Trailer | Self::Override | Self::Internal | Self::HeadOnly | Self::Date
        )
    }

    /// The meaning of another spelling of this name, if the name is not protected.
    fn masked(self) -> NameMatch {
        match self.role() {
            Role::Plain => NameMatch::Odd,
            _ => NameMatch::Masked,
        }
    }

    /// Whether a response field may reach the client.
    pub(super) const fn may_return(self) -> bool {
        !matches!(
            self,
            Self::Identity | Self::Framing | Self::Connection | Self::HopByHop | Self::Te | Self::RequestId | Self::Internal | Self::Date
        )
    }
}

/// Names with the same meaning in every configuration.
const FIXED: &[(HeaderKind, &[&str])] = &[
    (HeaderKind::Framing, &["host", "content-length", "transfer-encoding"]),
    (HeaderKind::Connection, &["connection"]),
    (HeaderKind::HopByHop, &["keep-alive", "upgrade", "http2-settings"]),
    (HeaderKind::Te, &["te"]),
    (HeaderKind::Trailer, &["trailer"]),
    (HeaderKind::Expect, &["expect"]),
    (HeaderKind::Credential, &["authorization"]),
    (HeaderKind::Cookie, &["cookie"]),
    (HeaderKind::SetCookie, &["set-cookie"]),
    (HeaderKind::Forwarding(Forwarding::For), &["x-forwarded-for"]),
    (HeaderKind::Forwarding(Forwarding::Proto), &["x-forwarded-proto"]),
    (HeaderKind::Forwarding(Forwarding::Host), &["x-forwarded-host"]),
    (HeaderKind::Forwarding(Forwarding::Trace), &["traceparent", "tracestate"]),
    (
        HeaderKind::Sender,
        &[
            // Addresses of the client, by the names that proxies, content networks and load balancers use.
            "forwarded",
            "x-forwarded",
            "x-real-ip",
            "true-client-ip",
            "x-client-ip",
            "client-ip",
            "x-cluster-client-ip",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "fastly-client-ip",
            "x-originating-ip",
            "x-remote-ip",
            "x-remote-addr",
            "x-proxyuser-ip",
            "wl-proxy-client-ip",
            "x-host",
            "x-scheme",
            // Client certificates, as TLS terminators send them (RFC 9440, section 2.4, demands their removal).
            "client-cert",
            "client-cert-chain",
            "ssl-client-cert",
            "x-ssl-client-cert",
            "x-client-cert",
            // The user, as CGI and its successors name it.
            "remote-user",
            "x-remote-user",
        ],
    ),
    (HeaderKind::RequestId, &["x-request-id"]),
    (
        HeaderKind::Override,
        &[
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x-rewrite-url",
            // httpoxy: CGI turns it into HTTP_PROXY.
            "proxy",
        ],
    ),
    (HeaderKind::Date, &["date"]),
    (
        HeaderKind::HeadOnly,
        &[
            "age",
            "cache-control",
            "content-encoding",
            "content-location",
            "content-range",
            "content-type",
            "expires",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "if-range",
            "if-unmodified-since",
            "location",
            "max-forwards",
            "origin",
            "pragma",
            "range",
            "referer",
            "retry-after",
            "sec-fetch-site",
            "vary",
            "warning",
            "www-authenticate",
        ],
    ),
];

const PREFIXES: &[(HeaderKind, &str)] = &[
    (HeaderKind::Sender, "x-forwarded-"),
    (HeaderKind::Override, "x-original-"),
    (HeaderKind::Override, "x-rewrite-"),
    // Next.js takes these for signals of its own middleware (CVE-2025-29927).
    (HeaderKind::Override, "x-middleware-"),
    (HeaderKind::Internal, "x-gateway-"),
    (HeaderKind::Internal, "x-durward-"),
    (HeaderKind::Internal, "x-accel-"),
    (HeaderKind::HopByHop, "proxy-"),
];

/// One name of the table.
#[derive(Debug)]
struct NameEntry {
    /// Lower case, with `-` for everything but letters and digits.
    normal: Box<[u8]>,
    /// The exact name in lower case. It differs from `normal` for configured names with `_` or `.`.
    literal: Box<[u8]>,
    kind: HeaderKind,
}

/// Finds the meaning of a name: open addressing over the normal forms, without allocation. A name in the table takes
/// two or three comparisons, others mostly none.
#[derive(Debug)]
pub(super) struct NameTable {
    entries: Vec<NameEntry>,
    /// Index of an entry plus one; 0 is empty. The length is a power of two, and at most a quarter is filled.
    slots: Vec<u16>,
}

/// The result of looking a received name up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameMatch {
    Known(HeaderKind),
    /// The name is not in the table, and harmless.
    Unknown,
    /// The name is not in the table, and has characters that some service folds into others (`_`, `.`, …).
    Odd,
    /// Another spelling (`_` or `.` for `-`) of a name that is dropped but not protected.
    Masked,
    /// Another spelling of a protected name.
    Disguised,
}

/// Names up to this length are brought into their normal form without an allocation: nearly all of them.
const SHORT: usize = 64;

impl NameTable {
    /// The fixed names, the identity names and every name that a surface mentions. If a name has two meanings, the
    /// identity wins, then the credential, so neither is ever forwarded by accident.
    pub(super) fn new(names: &IdentityNames, surfaces: &[Surface]) -> Self {
        let mut kinds: BTreeMap<Vec<u8>, HeaderKind> = BTreeMap::new();
        for (kind, fixed) in FIXED {
            kinds.extend(fixed.iter().map(|name| (name.as_bytes().to_vec(), *kind)));
        }
        let lower = |name: &str| name.to_ascii_lowercase().into_bytes();
        kinds.extend(
            surfaces
                .iter()
                .flat_map(credential_headers)
                .map(|name| (lower(name), HeaderKind::Credential)),
        );
        kinds.extend(
            surfaces
                .iter()
                .flat_map(claim_headers)
                .map(|name| (lower(name), HeaderKind::Identity)),
        );
        kinds.extend(names.all().map(|name| (lower(name), HeaderKind::Identity)));
        let entries: Vec<NameEntry> = kinds
            .into_iter()
            .map(|(literal, kind)| NameEntry {
                normal: literal.iter().map(|b| normal(*b)).collect(),
                literal: literal.into(),
                kind,
            })
            .collect();
        let mut slots = vec![0_u16; (entries.len() * 4).next_power_of_two()];
        let mask = slots.len() - 1;
        for (index, entry) in (1_u16..).zip(&entries) {
            let mut at = hash(&entry.normal) & mask;
            while slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = index;
            }
        }
        Self { entries, slots }
    }

    /// Looks a received name up.
    pub(super) fn find(&self, name: &[u8]) -> NameMatch {
        if is_ordinary(name) {
            return self.probe_ordinary(name);
        }
        let (mut short, long);
        let normal: &[u8] = if name.len() <= SHORT {
            short = [0; SHORT];
            for (to, from) in short.iter_mut().zip(name) {
                *to = normal(*from);
            }
            short.get(..name.len()).unwrap_or_default()
        } else {
            long = name.iter().map(|b| normal(*b)).collect::<Vec<u8>>();
            &long
        };
        match self.probe(name, normal) {
            NameMatch::Unknown => match prefixed(normal) {
                Some(kind) if kind.is_protected() => NameMatch::Disguised,
                Some(kind) => kind.masked(),
                None => NameMatch::Odd,
            },
            found => found,
        }
    }

    /// Looks an ordinary name up, which is its own normal form except for its case.
    fn probe_ordinary(&self, name: &[u8]) -> NameMatch {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash(name) & mask;
        let mut found = NameMatch::Unknown;
        while let Some(entry) = self
            .slots
            .get(at)
            .and_then(|slot| self.entries.get(usize::from(*slot).wrapping_sub(1)))
        {
            if is_same_ordinary(&entry.normal, name) {
                if entry.literal == entry.normal {
                    return NameMatch::Known(entry.kind);
                }
                if entry.kind.is_protected() {
                    found = NameMatch::Disguised;
                }
            }
            at = (at + 1) & mask;
        }
        match found {
            NameMatch::Unknown => prefixed(name).map_or(NameMatch::Unknown, NameMatch::Known),
            found => found,
        }
    }

    /// Looks a name up by its normal form.
    fn probe(&self, name: &[u8], normal: &[u8]) -> NameMatch {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash(normal) & mask;
        let mut found = NameMatch::Unknown;
        while let Some(entry) = self
            .slots
            .get(at)
            .and_then(|slot| self.entries.get(usize::from(*slot).wrapping_sub(1)))
        {
            if entry.literal.eq_ignore_ascii_case(name) {
                return NameMatch::Known(entry.kind);
            }
            if entry.normal.eq_ignore_ascii_case(normal) {
                found = match found {
                    NameMatch::Disguised => found,
                    _ if entry.kind.is_protected() => NameMatch::Disguised,
                    _ => entry.kind.masked(),
                };
            }
            at = (at + 1) & mask;
        }
        found
    }
}

/// The family that a name belongs to, if any.
fn prefixed(name: &[u8]) -> Option<HeaderKind> {
    if !matches!(name, [b'x' | b'X', b'-', ..] | [b'p' | b'P', ..]) {
        return None;
    }
    PREFIXES
        .iter()
        .find(|(_, prefix)| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        })
        .map(|(kind, _)| *kind)
}

/// Letters in lower case, digits unchanged, everything else `-`: what CGI, WSGI and their successors make of a name
/// before it becomes a variable.
const fn normal(b: u8) -> u8 {
    if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' }
}

/// Mixes length, beginning and end of a name without its case. Only speed depends on the quality of this hash: the
/// names in the table are the operator's, and a received name is only compared.
fn hash(name: &[u8]) -> usize {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            (Some(first), Some(last)) => (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last))),
            _ => (
                u64::from(name.first().copied().unwrap_or(0)),
                u64::from(name.last().copied().unwrap_or(0)),
            ),
        },
    };
    // The odd constants are fractions of the golden ratio and of pi, as multiplicative hashing takes them.
    let mixed = (first | FOLD).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (last | FOLD).wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(29)
        ^ name.len() as u64;
    usize::try_from(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).unwrap_or(0)
}

/// Headers in which a surface finds credentials. `Authorization` is in the table anyway.
fn credential_headers(surface: &Surface) -> Vec<&str> {
    surface.kind.carry().headers().collect()
}

/// Headers that the claims of a surface become.
fn claim_headers(surface: &Surface) -> Vec<&str> {
    surface.claim_headers().iter().map(|claim| claim.header.as_str()).collect()
}

/// Cookies in which a surface finds credentials.
pub(super) fn session_cookies(surface: &Surface) -> Vec<&str> {
    surface.kind.carry().carriers().iter().filter_map(Carrier::cookie).collect()
}
