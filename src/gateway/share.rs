//! Whom a request counts against, of those who share places in flight and connections.

use std::net::IpAddr;

use crate::decide::authorize::Permit;
use crate::upstream::holders::Caller;

/// Whose share of places and connections a request counts against.
pub(super) fn caller(client: IpAddr, permit: &Permit) -> Caller {
    let caller = Caller::at(client);
    let Some(principal) = permit.principal() else {
        return caller;
    };
    let record = &principal.facts.credential;
    let mark = record.fingerprint.slot_bits();
    match &principal.token {
        // Tokens that hang on a tenant share its record; their subjects tell them apart.
        Some(token) if record.is_of_tenant() => caller.with(mark ^ mix(token.subject.as_str())),
        _ => caller.with(mark),
    }
}

/// 64 bits of a text (FNV-1a). Whoever signs the text could make two collide, and would only make them share.
fn mix(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
