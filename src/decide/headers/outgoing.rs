//! The head that goes upstream: the received fields without those that may not pass, then the fields that only the
//! gateway may set.

use std::net::IpAddr;

use crate::base::denial::Denial;
use crate::base::ids::is_valid_id;
use crate::base::percent::{push_encoded, push_encoded_words};
use crate::base::principal::{ClaimValue, Principal};
use crate::base::scope::is_scope;
use crate::base::text::push_address;
use crate::decide::peer::{MAX_HOPS, hops};
use crate::decide::route::{CredentialForwarding, Trailers};
use crate::decide::surface::Surface;
use crate::wire::fields::{Field, Fields};
use crate::wire::head::RequestHead;

use super::{HeaderPolicy, OutgoingHead, Role, Screened, TrailersAsked, UriScheme};

/// Room for the added fields, so that the buffer grows at most once: six identity fields, an id and three forwarding
/// fields, with names of about 20 bytes and values of about 40.
const ADDED: usize = 1024;

pub(super) fn write(
    policy: &HeaderPolicy,
    head: &RequestHead,
    screened: &Screened,
    facts: &OutgoingHead<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Denial> {
    out.reserve(head.fields.byte_len() + head.fields.len() * 4 + ADDED);
    let mut cookies = false;
    for ((field, line), role) in head.fields.lines().zip(&screened.roles) {
        let passes = match role {
            Role::Plain => true,
            Role::Credential => facts.credentials == CredentialForwarding::Forwarded,
            Role::Forwarding => facts.origin.trusted && is_trace(field),
            Role::Cookie => {
                cookies = true;
                false
            }
            Role::Dropped => false,
        };
        match line {
            Some(line) if passes => out.extend_from_slice(line),
            None if passes => push(out, field.name, field.value),
            _ => {}
        }
    }
    if cookies {
        write_cookies(policy, &head.fields, screened, facts.credentials, out);
    }
    if facts.trailers == Trailers::Forwarded && screened.trailers == TrailersAsked::Yes {
        push(out, b"TE", b"trailers");
        // A sender of TE must name it as a connection option (RFC 9110, section 10.1.4).
        push(out, b"Connection", b"TE");
    }
    if let Some((principal, surface)) = facts.principal {
        write_identity(policy, principal, surface, out)?;
    }
    push_id(out, "X-Request-Id", facts.request_id).map_err(|_| Denial::Internal)?;
    write_origin(&head.fields, facts, out);
    Ok(())
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field whose value is one identifier. A value that is none is an error: no request goes out without a
/// header that it should have.
fn push_id(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), Denial> {
    if !is_valid_id(value) {
        return Err(Denial::CorruptRecord);
    }
    push(out, name.as_bytes(), value.as_bytes());
    Ok(())
}

/// Appends a field whose value is any text, encoded.
fn push_text(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    push_encoded(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field with scopes, separated by single spaces; no field if there are none.
fn push_scopes(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), Denial> {
    if value.is_empty() {
        return Ok(());
    }
    if !value.split(' ').all(is_scope) {
        return Err(Denial::CorruptRecord);
    }
    push(out, name.as_bytes(), value.as_bytes());
    Ok(())
}

/// Appends the identity headers. Lines that depend on facts alone, or on a token and the facts it hangs on, are written once and
/// copied afterwards.
fn write_identity(policy: &HeaderPolicy, principal: &Principal, surface: &Surface, out: &mut Vec<u8>) -> Result<(), Denial> {
    let facts = &principal.facts;
    if let Some(token) = &principal.token {
        if token.memo.append(policy.number, &facts.lines, out) {
            return Ok(());
        }
        let start = out.len();
        write_identity_anew(policy, principal, surface, out)?;
        token.memo.keep(policy.number, &facts.lines, out.get(start..).unwrap_or_default());
        return Ok(());
    }
    if facts.credential.surface != surface.name {
        return write_identity_anew(policy, principal, surface, out);
    }
    if let Some(lines) = facts.lines.written_by(policy.number) {
        out.extend_from_slice(lines);
        return Ok(());
    }
    let start = out.len();
    write_identity_anew(policy, principal, surface, out)?;
    facts.lines.keep(policy.number, out.get(start..).unwrap_or_default());
    Ok(())
}

/// Writes each identity header once, or not at all if the principal has no such property.
fn write_identity_anew(policy: &HeaderPolicy, principal: &Principal, surface: &Surface, out: &mut Vec<u8>) -> Result<(), Denial> {
    let (names, credential, tenant) = (&policy.names, &principal.facts.credential, &principal.facts.tenant.id);
    if credential.tenant != *tenant {
        return Err(Denial::CorruptRecord);
    }
    push_id(out, &names.tenant, tenant.as_str())?;
    push_scopes(out, &names.scopes, principal.scopes().joined())?;
    push_id(out, &names.surface, surface.name.as_str())?;
    if let Some(mode) = credential.mode {
        push_id(out, &names.mode, mode.as_str())?;
    }
    if let Some(subject) = principal.subject() {
        push_text(out, &names.subject, subject.as_str());
    }
    // A token of another issuer has no record of its own, and the tenant is written already.
    if !credential.is_of_tenant() {
        push_id(out, &names.credential_id, credential.id.as_str())?;
    }
    if surface.takes_tokens() {
        let claim_headers = surface.claim_headers();
        let values = principal.token.as_ref().map_or(&[][..], |token| &token.headers);
        if values.len() != claim_headers.len() {
            return Err(Denial::CorruptRecord);
        }
        for (claim, value) in claim_headers.iter().zip(values) {
            let Some(value) = value else { continue };
            if !is_header_text(value) {
                return Err(Denial::CorruptRecord);
            }
            push(out, claim.header.as_bytes(), value.as_bytes());
        }
        return Ok(());
    }
    for claim_header in surface.claim_headers() {
        // An empty list is treated like an absent claim.
        let value = credential
            .claim(&claim_header.claim)
            .map(ClaimValue::joined)
            .filter(|value| !value.is_empty());
        let Some(value) = value else { continue };
        if !is_header_text(&value) {
            return Err(Denial::CorruptRecord);
        }
        // The value is encoded like a claim of a token, so that a service decodes both alike.
        out.extend_from_slice(claim_header.header.as_bytes());
        out.extend_from_slice(b": ");
        push_encoded_words(out, &value);
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// Visible ASCII and inner spaces: the form of a claim that becomes a header. It is checked again where it is
/// written, since a line end here would be a header of somebody else.
fn is_header_text(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b' '..=b'~')) && !text.starts_with(' ') && !text.ends_with(' ')
}

/// Writes all cookies in one field (HTTP/2 splits them, RFC 9113, section 8.2.3), without the session cookies of the
/// gateway unless the route forwards credentials.
fn write_cookies(policy: &HeaderPolicy, fields: &Fields, screened: &Screened, credentials: CredentialForwarding, out: &mut Vec<u8>) {
    let lines = fields.iter().zip(&screened.roles).filter(|(_, role)| **role == Role::Cookie);
    let mut written = false;
    for pair in lines
        .flat_map(|(field, _)| field.value.split(|b| *b == b';'))
        .map(<[u8]>::trim_ascii)
    {
        let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if pair.is_empty() || (credentials == CredentialForwarding::Removed && policy.is_session_cookie(name)) {
            continue;
        }
        out.extend_from_slice(if written { b"; " } else { b"Cookie: " });
        out.extend_from_slice(pair);
        written = true;
    }
    if written {
        out.extend_from_slice(b"\r\n");
    }
}

fn is_trace(field: Field<'_>) -> bool {
    field.is("traceparent") || field.is("tracestate")
}

/// Writes where the request came from: rebuilt from the socket, or continued if the peer is trusted.
fn write_origin(fields: &Fields, facts: &OutgoingHead<'_>, out: &mut Vec<u8>) {
    write_forwarded_for(fields, facts, out);
    let scheme: &[u8] = match facts.origin.scheme(fields, facts.scheme) {
        UriScheme::Http => b"http",
        UriScheme::Https => b"https",
    };
    push(out, b"X-Forwarded-Proto", scheme);
    let host = facts.origin.authority(fields, &facts.target.authority);
    push(out, b"X-Forwarded-Host", host.as_bytes());
}

/// `X-Forwarded-For` from the client to the peer. Of the list of a trusted peer only the part that trusted proxies
/// wrote is continued. What an untrusted client wrote left of its own address is dropped, so that a service that
/// reads the first entry reads the client too.
fn write_forwarded_for(fields: &Fields, facts: &OutgoingHead<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if facts.origin.trusted && facts.origin.client != facts.peer.to_canonical() {
        write_hops(fields, facts.origin.client, out);
    }
    push_address(out, facts.peer.to_canonical());
    out.extend_from_slice(b"\r\n");
}

/// The hops of the chain of a trusted proxy, from the client on, each followed by a comma.
fn write_hops(fields: &Fields, client: IpAddr, out: &mut Vec<u8>) {
    let mut chain: [Option<IpAddr>; MAX_HOPS] = [None; MAX_HOPS];
    for (slot, hop) in chain.iter_mut().zip(hops(fields)) {
        *slot = hop;
        if hop.is_none_or(|hop| hop == client) {
            break;
        }
    }
    for hop in chain.iter().rev().flatten() {
        push_address(out, *hop);
        out.extend_from_slice(b", ");
    }
}
