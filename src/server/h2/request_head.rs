//! HTTP/2 request heads in the form that both versions share.
//!
//! The library has already reset the streams of heads that RFC 9113 calls malformed (upper case, connection-specific
//! fields, `TE` other than `trailers`, bad pseudo-fields, contradictory lengths). This file adds the gateway's own
//! limits. Nothing is repaired.

use http::request::Parts;

use super::header_filter::{self, REFUSED};
use crate::base::denial::Denial;
use crate::wire::fields::{Fields, MAX_FIELDS};
use crate::wire::framing::{Framing, parse_length};
use crate::wire::head::{MAX_FIELD, MAX_HEAD, MAX_TARGET, RequestHead, Version};

/// Longest method: as on HTTP/1.
const MAX_METHOD: usize = 24;

/// Whether a body follows the head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyPresence {
    None,
    Follows,
}

/// Fills `head`. Pieces of a cookie stay separate fields, and each counts.
///
/// # Errors
/// The denial to answer with.
pub(super) fn read(parts: &Parts, body: BodyPresence, head: &mut RequestHead) -> Result<(), Denial> {
    head.version = Version::Http2;
    head.keep_alive = true;
    head.method.clear();
    head.method.extend_from_slice(parts.method.as_str().as_bytes());
    head.target.clear();
    head.target
        .extend_from_slice(parts.uri.path_and_query().map_or(b"", |path| path.as_str().as_bytes()));
    head.authority = parts.uri.authority().map(|authority| authority.as_str().into());
    head.fields.clear();
    // What a refusal reads of a head must not be that of another request.
    head.framing = Framing::None;
    if parts.method == http::Method::CONNECT {
        return Err(Denial::MethodNotAllowed);
    }
    // Without `:authority` the library does not report the scheme; `Host` names the authority then (RFC 9113, section
    // 8.3.1).
    let scheme = parts.uri.scheme_str();
    let known = matches!(scheme, Some("http" | "https")) || (scheme.is_none() && head.authority.is_none());
    if head.method.len() > MAX_METHOD || !known {
        return Err(Denial::MalformedRequest);
    }
    if head.target.len() > MAX_TARGET {
        return Err(Denial::TargetTooLong);
    }
    if parts.headers.len() > MAX_FIELDS {
        return Err(Denial::HeadTooLarge);
    }
    for (name, value) in &parts.headers {
        if name.as_str() == REFUSED {
            return Err(header_filter::denial_of(value.as_bytes()));
        }
        if name.as_str().len() + value.len() > MAX_FIELD {
            return Err(Denial::HeadTooLarge);
        }
        head.fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
    let authority = head.authority.as_ref().map_or(0, Vec::len);
    if head.fields.byte_len() + head.target.len() + authority > MAX_HEAD {
        return Err(Denial::HeadTooLarge);
    }
    head.framing = framing(&head.fields, body)?;
    Ok(())
}

fn framing(fields: &Fields, body: BodyPresence) -> Result<Framing, Denial> {
    let declared = match fields.one("content-length") {
        Ok(None) => None,
        Ok(Some(value)) => Some(parse_length(value).ok_or(Denial::MalformedFraming)?),
        Err(_) => return Err(Denial::MalformedFraming),
    };
    match (declared, body) {
        (None, BodyPresence::None) => Ok(Framing::None),
        (None, BodyPresence::Follows) => Ok(Framing::Chunked),
        (Some(length @ 1..), BodyPresence::None) => {
            let _ = length;
            Err(Denial::MalformedFraming)
        }
        (Some(length), _) => Ok(Framing::Length(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method("POST").uri("https://a.test/x?y=1");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn read_parts(parts: &Parts, body: BodyPresence) -> Result<RequestHead, Denial> {
        let mut head = RequestHead::default();
        read(parts, body, &mut head).map(|()| head)
    }

    #[test]
    fn pseudo_fields_and_crumbs_arrive_as_they_were() {
        let head = read_parts(&parts(&[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2")]), BodyPresence::Follows).unwrap();
        assert_eq!(
            (head.method.as_slice(), head.target.as_slice()),
            (b"POST".as_slice(), b"/x?y=1".as_slice())
        );
        assert_eq!(head.authority.as_deref(), Some(b"a.test".as_slice()));
        assert_eq!(head.fields.all("cookie").collect::<Vec<_>>(), [b"a=1", b"b=2"]);
        assert_eq!((head.framing, head.version), (Framing::Chunked, Version::Http2));
    }

    #[test]
    fn the_length_is_believed_when_it_is_one_number_and_fits_the_stream() {
        let of = |fields: &[(&str, &str)], body| read_parts(&parts(fields), body).map(|h| h.framing);
        assert_eq!(of(&[], BodyPresence::None), Ok(Framing::None));
        assert_eq!(of(&[("content-length", "0")], BodyPresence::None), Ok(Framing::Length(0)));
        assert_eq!(of(&[("content-length", "7")], BodyPresence::Follows), Ok(Framing::Length(7)));
        let refused = Err(Denial::MalformedFraming);
        assert_eq!(of(&[("content-length", "7")], BodyPresence::None), refused);
        assert_eq!(of(&[("content-length", "+7")], BodyPresence::Follows), refused);
        assert_eq!(
            of(&[("content-length", "7"), ("content-length", "7")], BodyPresence::Follows),
            refused
        );
    }

    #[test]
    fn limits_are_those_of_http_1() {
        let many: Vec<_> = (0..=MAX_FIELDS).map(|_| ("cookie", "a")).collect();
        assert_eq!(read_parts(&parts(&many), BodyPresence::None).err(), Some(Denial::HeadTooLarge));
        assert!(read_parts(&parts(&many[1..]), BodyPresence::None).is_ok());
        let long = "x".repeat(MAX_FIELD);
        assert_eq!(
            read_parts(&parts(&[("x", &long)]), BodyPresence::None).err(),
            Some(Denial::HeadTooLarge)
        );
        let half = "x".repeat(MAX_FIELD - 10);
        let three = [("x", half.as_str()); 3];
        assert_eq!(read_parts(&parts(&three), BodyPresence::None).err(), Some(Denial::HeadTooLarge));
        let mut far = parts(&[]);
        far.uri = format!("https://a.test/{}", "x".repeat(MAX_TARGET)).parse().unwrap();
        assert_eq!(read_parts(&far, BodyPresence::None).err(), Some(Denial::TargetTooLong));
    }

    #[test]
    fn connect_and_strange_schemes_are_refused() {
        let mut connect = parts(&[]);
        connect.method = http::Method::CONNECT;
        connect.uri = "a.test:443".parse().unwrap();
        assert_eq!(read_parts(&connect, BodyPresence::None).err(), Some(Denial::MethodNotAllowed));
        let mut strange = parts(&[]);
        strange.uri = "ftp://a.test/x".parse().unwrap();
        assert_eq!(read_parts(&strange, BodyPresence::None).err(), Some(Denial::MalformedRequest));
    }
}
