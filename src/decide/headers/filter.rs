//! Filters fields: a role for each field of a request, or a refusal; and the fields of responses and trailers that
//! may pass.

use crate::base::denial::Denial;
use crate::decide::route::{Route, Trailers};
use crate::wire::fields::{Field, Fields, MAX_FIELDS};
use crate::wire::framing::list;
use crate::wire::head::RequestHead;

use super::table::{HeaderKind, NameMatch};
use super::{HeaderPolicy, OddNames, Role, Screened, TrailersAsked};

/// Most options in all `Connection` fields together. Real ones have one to three. Each unknown option is compared
/// with every field, so without a bound one head could cause 400,000 comparisons.
const MAX_CONNECTION_OPTIONS: usize = 32;

pub(super) fn screen(policy: &HeaderPolicy, head: &RequestHead) -> Result<Screened, Denial> {
    let mut screened = Screened {
        roles: [Role::Dropped; MAX_FIELDS],
        trailers: TrailersAsked::No,
        odd_dropped: 0,
    };
    if head.fields.len() > MAX_FIELDS {
        return Err(Denial::HeadTooLarge);
    }
    let mut connection = false;
    for (field, role) in head.fields.iter().zip(&mut screened.roles) {
        *role = match policy.table.find(field.name) {
            NameMatch::Unknown => Role::Plain,
            NameMatch::Odd if policy.odd_names == OddNames::Forwarded => Role::Plain,
            NameMatch::Odd | NameMatch::Masked if policy.odd_names == OddNames::Refused => return Err(Denial::MalformedRequest),
            NameMatch::Odd | NameMatch::Masked => {
                screened.odd_dropped += 1;
                Role::Dropped
            }
            NameMatch::Disguised => return Err(Denial::ForgedHeader),
            NameMatch::Known(kind) => {
                match kind {
                    HeaderKind::Connection => connection = true,
                    HeaderKind::Expect => check_expectation(field)?,
                    HeaderKind::Te if list(field.value).any(|t| t.eq_ignore_ascii_case(b"trailers")) => {
                        screened.trailers = TrailersAsked::Yes
                    }
                    _ => {}
                }
                kind.role()
            }
        };
    }
    if connection {
        drop_nominated(policy, head, &mut screened)?;
    }
    Ok(screened)
}

/// Only `100-continue` is an expectation that can be met. Lists and variants of it are used to bring servers out of
/// step.
fn check_expectation(field: Field<'_>) -> Result<(), Denial> {
    if field.value.eq_ignore_ascii_case(b"100-continue") {
        Ok(())
    } else {
        Err(Denial::ExpectationFailed)
    }
}

/// Drops the fields that a `Connection` field names, since they are for this hop only. Naming a protected field there
/// is an attempt to remove it after it was checked (CVE-2022-1388, CVE-2022-31813).
fn drop_nominated(policy: &HeaderPolicy, head: &RequestHead, screened: &mut Screened) -> Result<(), Denial> {
    let mut options = 0;
    for option in head.fields.all("connection").flat_map(list) {
        options += 1;
        if options > MAX_CONNECTION_OPTIONS {
            return Err(Denial::MalformedRequest);
        }
        match policy.table.find(option) {
            NameMatch::Disguised => return Err(Denial::ForgedHeader),
            NameMatch::Known(kind) if kind.is_protected() => return Err(Denial::ForgedHeader),
            // The field is dropped already, or (`close`) no field.
            NameMatch::Known(kind) if kind.role() == Role::Dropped => {}
            _ if option.eq_ignore_ascii_case(b"close") => {}
            _ => {
                let nominated = head
                    .fields
                    .iter()
                    .zip(&mut screened.roles)
                    .filter(|(field, _)| field.name.eq_ignore_ascii_case(option));
                nominated.for_each(|(_, role)| *role = Role::Dropped);
            }
        }
    }
    Ok(())
}

pub(super) fn filter_response(policy: &HeaderPolicy, fields: &mut Fields, route: &Route) {
    let nominated = nominated(fields);
    fields.retain(|field| {
        let passes = match policy.table.find(field.name) {
            NameMatch::Known(HeaderKind::SetCookie) => !sets_session_cookie(policy, field.value),
            NameMatch::Known(HeaderKind::Trailer) => route.options.trailers == Trailers::Forwarded,
            NameMatch::Known(kind) => kind.may_return(),
            NameMatch::Unknown | NameMatch::Odd | NameMatch::Masked => true,
            NameMatch::Disguised => false,
        };
        passes && !nominated.iter().any(|name| name.eq_ignore_ascii_case(field.name))
    });
}

pub(super) fn filter_trailers(policy: &HeaderPolicy, received: &Fields, out: &mut Fields) {
    let passes = |name| match policy.table.find(name) {
        NameMatch::Unknown => true,
        NameMatch::Odd => policy.odd_names == OddNames::Forwarded,
        NameMatch::Known(_) | NameMatch::Masked | NameMatch::Disguised => false,
    };
    for field in received.iter().filter(|field| passes(field.name)) {
        out.push(field.name, field.value);
    }
}

/// The fields that a `Connection` field of the response names. There are mostly none, and then nothing is allocated:
/// `close` and `keep-alive` speak about the connection and are no fields that would pass.
fn nominated(received: &Fields) -> Vec<Box<[u8]>> {
    let says_nothing_more = |option: &[u8]| option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive");
    received
        .all("connection")
        .flat_map(list)
        .filter(|option| !says_nothing_more(option))
        .map(Box::from)
        .collect()
}

/// Whether a `Set-Cookie` would set a session cookie of the gateway in the browser. A cookie without a name
/// (`=session=x`) comes back as `session=x`, so leading `=` are skipped too.
fn sets_session_cookie(policy: &HeaderPolicy, value: &[u8]) -> bool {
    let skipped = |b: &u8| *b == b'=' || *b <= b' ' || *b == 0x7f;
    let start = value.iter().position(|b| !skipped(b)).unwrap_or(value.len());
    let name = value
        .get(start..)
        .and_then(|rest| rest.split(|b| matches!(b, b'=' | b';')).next())
        .unwrap_or_default();
    policy.is_session_cookie(name.trim_ascii())
}
