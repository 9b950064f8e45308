//! Screening a request's fields: a role for each, or a refusal.

use crate::base::denial::Denial;
use crate::wire::fields::{Field, MAX_FIELDS};
use crate::wire::framing::list;
use crate::wire::head::RequestHead;

use super::table::{Found, Kind};
use super::{HeaderPolicy, OddNames, Role, Screened, TrailersAsked};

/// Most options in all `Connection` fields together. Real ones have one to three; each unknown one
/// is compared with every field, so without a bound one head could ask for 400,000 comparisons.
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
            Found::Unknown => Role::Plain,
            Found::Odd if policy.odd_names == OddNames::Forwarded => Role::Plain,
            Found::Odd | Found::Masked if policy.odd_names == OddNames::Refused => return Err(Denial::MalformedRequest),
            Found::Odd | Found::Masked => {
                screened.odd_dropped += 1;
                Role::Dropped
            }
            Found::Disguised => return Err(Denial::ForgedHeader),
            Found::Known(kind) => {
                match kind {
                    Kind::Connection => connection = true,
                    Kind::Expect => check_expectation(field)?,
                    Kind::Te if list(field.value).any(|t| t.eq_ignore_ascii_case(b"trailers")) => screened.trailers = TrailersAsked::Yes,
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

/// Only `100-continue` is an expectation that can be met; lists and embellishments of it are how
/// servers are brought out of step.
fn check_expectation(field: Field<'_>) -> Result<(), Denial> {
    if field.value.eq_ignore_ascii_case(b"100-continue") {
        Ok(())
    } else {
        Err(Denial::ExpectationFailed)
    }
}

/// Fields named in any `Connection` are of this hop only. A protected one named there is an attempt
/// to have it removed after it was checked (CVE-2022-1388, CVE-2022-31813).
fn drop_nominated(policy: &HeaderPolicy, head: &RequestHead, screened: &mut Screened) -> Result<(), Denial> {
    let mut options = 0;
    for option in head.fields.all("connection").flat_map(list) {
        options += 1;
        if options > MAX_CONNECTION_OPTIONS {
            return Err(Denial::MalformedRequest);
        }
        match policy.table.find(option) {
            Found::Disguised => return Err(Denial::ForgedHeader),
            Found::Known(kind) if kind.is_protected() => return Err(Denial::ForgedHeader),
            // Dropped already, or (`close`) no field at all.
            Found::Known(kind) if kind.role() == Role::Dropped => {}
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
