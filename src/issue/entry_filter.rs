//! The filters with which a tenant asks for its entries of the audit trail: parameters of the query.

use crate::audit::fields::parse_millis;
use crate::audit::query::StatusFilter;
use crate::audit::tenants::TenantFilter;
use crate::base::denial::{Denial, FieldErrors};
use crate::base::ids::{CredentialId, is_valid_id};
use crate::decide::method::Method;

use super::page::PageRequest;

/// The parameters, besides those of every list.
pub const FILTERS: [&str; 8] = ["since", "until", "request_id", "credential", "route", "status", "denial", "method"];

/// Reads the query of a route with `serve = "audit"`. `unknown` is the message for unknown parameters.
///
/// # Errors
/// [`FieldErrors`] by parameter: unknown, malformed and repeated ones.
pub fn parse(query: Option<&str>, unknown: Option<&str>) -> Result<(PageRequest, TenantFilter), FieldErrors> {
    let page = PageRequest::parse_filtered(query, unknown, &FILTERS)?;
    let mut filter = TenantFilter::default();
    let mut errors = FieldErrors::default();
    for (name, value) in &page.filters {
        if read(name, value, &mut filter).is_none() {
            errors.push(name, message(name));
        }
    }
    if errors.is_empty() { Ok((page, filter)) } else { Err(errors) }
}

/// Reads one parameter; `None`: it is malformed.
fn read(name: &str, value: &str, filter: &mut TenantFilter) -> Option<()> {
    let valid = |is_valid: bool| is_valid.then(|| Some(value.to_owned()));
    match name {
        "since" => filter.since = Some(parse_millis(value)?),
        "until" => filter.until = Some(parse_millis(value)?),
        "status" => filter.status = Some(StatusFilter::parse(value)?),
        "request_id" => filter.request = valid(is_valid_id(value))?,
        "credential" => filter.credential = valid(CredentialId::parse(value).is_ok())?,
        "route" => filter.route = valid(!value.chars().any(char::is_control))?,
        "denial" => filter.denial = valid(Denial::of_label(value).is_some())?,
        "method" => filter.method = valid(Method::parse(value.as_bytes()).is_ok())?,
        _ => return None,
    }
    Some(())
}

fn message(name: &str) -> &'static str {
    match name {
        "since" => "The since field must be a date and time such as 2027-01-31T00:00:00Z.",
        "until" => "The until field must be a date and time such as 2027-01-31T00:00:00Z.",
        "request_id" => "The request id field is not valid.",
        "credential" => "The credential field is not valid.",
        "status" => "The status field must be a status such as 404, or a class such as 4xx.",
        "denial" => "The selected denial is invalid.",
        "method" => "The selected method is invalid.",
        _ => "The route field is not valid.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_is_read() {
        let query = "since=2027-01-01T00:00:00Z&until=2027-01-02T01:00:00%2B01:00&request_id=r-1&credential=key_1&route=main/1\
                     &status=4xx&denial=insufficient_scope&method=GET&limit=5&after=x";
        let (page, filter) = parse(Some(query), None).unwrap();
        assert_eq!((page.limit, page.after.as_deref()), (5, Some("x")));
        let expected = TenantFilter {
            since: Some(1_798_761_600_000),
            until: Some(1_798_848_000_000),
            request: Some("r-1".into()),
            credential: Some("key_1".into()),
            route: Some("main/1".into()),
            status: Some(StatusFilter::Class(4)),
            denial: Some("insufficient_scope".into()),
            method: Some("GET".into()),
            mode: None,
        };
        assert_eq!(filter, expected);
        assert_eq!(parse(None, None).unwrap().1, TenantFilter::default());
        assert_eq!(parse(Some("status=404"), None).unwrap().1.status, Some(StatusFilter::Exact(404)));
    }

    #[test]
    fn what_is_unknown_malformed_or_there_twice_is_named() {
        for (query, field) in [
            ("tenant=acme", "tenant"),
            ("client=127.0.0.1", "client"),
            ("kind=operator", "kind"),
            ("seq=1", "seq"),
            ("since=yesterday", "since"),
            ("since=2027-01-01", "since"),
            ("until=", "until"),
            ("until=1798761600", "until"),
            ("request_id=a%20b", "request_id"),
            ("credential=%0A", "credential"),
            ("route=%00", "route"),
            ("status=9xx", "status"),
            ("status=xx", "status"),
            ("status=4x", "status"),
            ("status=%2B404", "status"),
            ("status=99", "status"),
            ("denial=nothing", "denial"),
            ("method=get", "method"),
            ("method=TRACE", "method"),
            ("status=404&status=404", "status"),
        ] {
            let errors = parse(Some(query), None).unwrap_err();
            let fields: Vec<&str> = errors.iter().map(|(field, _)| field).collect();
            assert_eq!(fields, [field], "{query}");
        }
    }
}
