//! What of a response's fields and of either side's trailers may pass.

use crate::decide::route::{Route, Trailers};
use crate::wire::fields::Fields;
use crate::wire::framing::list;

use super::table::{Found, Kind};
use super::{HeaderPolicy, OddNames};

pub(super) fn filter_returning(policy: &HeaderPolicy, fields: &mut Fields, route: &Route) {
    let nominated = nominated(fields);
    fields.retain(|field| {
        let passes = match policy.table.find(field.name) {
            Found::Known(Kind::SetCookie) => !sets_session_cookie(policy, field.value),
            Found::Known(Kind::Trailer) => route.options.trailers == Trailers::Forwarded,
            Found::Known(kind) => kind.may_return(),
            Found::Unknown | Found::Odd | Found::Masked => true,
            Found::Disguised => false,
        };
        passes && !nominated.iter().any(|name| name.eq_ignore_ascii_case(field.name))
    });
}

pub(super) fn filter_trailers(policy: &HeaderPolicy, received: &Fields, out: &mut Fields) {
    let passes = |name| match policy.table.find(name) {
        Found::Unknown => true,
        Found::Odd => policy.odd_names == OddNames::Forwarded,
        Found::Known(_) | Found::Masked | Found::Disguised => false,
    };
    for field in received.iter().filter(|field| passes(field.name)) {
        out.push(field.name, field.value);
    }
}

/// The fields that some `Connection` of the response names. Mostly none, and then nothing is allocated:
/// `close` and `keep-alive` say something about the connection, and are no fields that would pass.
fn nominated(received: &Fields) -> Vec<Box<[u8]>> {
    let says_nothing_more = |option: &[u8]| option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive");
    received
        .all("connection")
        .flat_map(list)
        .filter(|option| !says_nothing_more(option))
        .map(Box::from)
        .collect()
}

/// Whether a `Set-Cookie` would put one of the gateway's session cookies into the browser. A cookie
/// without a name (`=session=x`) comes back as `session=x`, so leading `=` are skipped too.
fn sets_session_cookie(policy: &HeaderPolicy, value: &[u8]) -> bool {
    let skipped = |b: &u8| *b == b'=' || *b <= b' ' || *b == 0x7f;
    let start = value.iter().position(|b| !skipped(b)).unwrap_or(value.len());
    let name = value
        .get(start..)
        .and_then(|rest| rest.split(|b| matches!(b, b'=' | b';')).next())
        .unwrap_or_default();
    policy.is_session_cookie(name.trim_ascii())
}
