//! The opening handshake of the WebSocket protocol (RFC 6455, section 4), read so strictly that no other request
//! passes for it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::wire::fields::Fields;
use crate::wire::framing::{Framing, list};
use crate::wire::head::{RequestHead, ResponseHead, Version};

use super::headers::{Role, Screened};

/// The text that a key is hashed with (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The only version (RFC 6455, section 4.1).
const VERSION: &[u8] = b"13";

/// Bytes of a decoded `Sec-WebSocket-Key`.
const KEY_LEN: usize = 16;

/// A correct handshake, with the value that `Sec-WebSocket-Accept` must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    accept: [u8; 28],
}

impl Handshake {
    /// Reads the handshake of a request; `None` for a request that is not one in every respect: GET over HTTP/1.1
    /// without a body (`Content-Length: 0` says that there is none), exactly one `Upgrade: websocket` with
    /// `Connection: upgrade`, version 13, and one key of 16 bytes; `Connection` names neither version nor key.
    /// `screened` belongs to this head.
    #[must_use]
    pub fn of(head: &RequestHead, screened: &Screened) -> Option<Self> {
        let fields = &head.fields;
        let plain = head.method == b"GET" && head.version == Version::Http11 && matches!(head.framing, Framing::None | Framing::Length(0));
        if !plain || !names_websocket(fields) || one(fields, "sec-websocket-version") != Some(VERSION) {
            return None;
        }
        let key = one(fields, "sec-websocket-key")?;
        let goes_upstream = |name| {
            let mut roles = fields.iter().zip(&screened.roles);
            roles.any(|(field, role)| field.is(name) && *role == Role::Plain)
        };
        if !goes_upstream("sec-websocket-key") || !goes_upstream("sec-websocket-version") {
            return None;
        }
        if STANDARD.decode(key).ok()?.len() != KEY_LEN {
            return None;
        }
        Some(Self { accept: accept_of(key)? })
    }

    /// Whether a response is a 101 that answers this handshake (RFC 6455, section 4.2.2), and nothing more.
    #[must_use]
    pub fn is_met_by(&self, head: &ResponseHead) -> bool {
        let fields = &head.fields;
        // A 101 has no body (RFC 9112, section 6.3). One that declares a body is not taken for an upgrade.
        let bodiless = fields.all("transfer-encoding").next().is_none() && fields.all("content-length").all(|length| length == b"0");
        head.status == 101 && bodiless && names_websocket(fields) && one(fields, "sec-websocket-accept") == Some(&self.accept[..])
    }
}

fn names_websocket(fields: &Fields) -> bool {
    let upgrades = fields
        .all("connection")
        .flat_map(list)
        .any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    upgrades && one(fields, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
}

/// The value of a field that occurs exactly once.
fn one<'f>(fields: &'f Fields, name: &str) -> Option<&'f [u8]> {
    fields.one(name).ok().flatten()
}

fn accept_of(key: &[u8]) -> Option<[u8; 28]> {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    STANDARD.encode(hash.as_ref()).into_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::headers::{HeaderPolicy, IdentityNames};

    const KEY: (&str, &str) = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    const VERSION: (&str, &str) = ("Sec-WebSocket-Version", "13");
    const UPGRADE: (&str, &str) = ("Upgrade", "websocket");
    const CONNECTION: (&str, &str) = ("Connection", "Upgrade");

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn request(pairs: &[(&str, &str)]) -> RequestHead {
        RequestHead {
            method: b"GET".to_vec(),
            target: b"/".to_vec(),
            fields: fields(pairs),
            ..RequestHead::default()
        }
    }

    fn read(head: &RequestHead) -> Option<Handshake> {
        let policy = HeaderPolicy::new(IdentityNames::default(), &[]);
        Handshake::of(head, &policy.screen(head).unwrap())
    }

    #[test]
    fn the_handshake_of_the_rfc_is_read_and_its_accept_is_known() {
        let handshake = read(&request(&[KEY, VERSION, UPGRADE, ("Connection", "keep-alive, upgrade")])).unwrap();
        assert_eq!(&handshake.accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn s8_anything_else_is_no_handshake() {
        let good = || request(&[KEY, VERSION, UPGRADE, CONNECTION]);
        assert!(read(&good()).is_some());
        let others: [&[(&str, &str)]; 14] = [
            &[VERSION, UPGRADE, CONNECTION],
            &[KEY, UPGRADE, CONNECTION],
            &[KEY, VERSION, CONNECTION],
            &[KEY, VERSION, UPGRADE],
            &[KEY, ("Sec-WebSocket-Version", "8"), UPGRADE, CONNECTION],
            &[KEY, ("Sec-WebSocket-Version", "13, 8"), UPGRADE, CONNECTION],
            &[KEY, VERSION, ("Upgrade", "h2c"), CONNECTION],
            &[KEY, VERSION, ("Upgrade", "websocket, h2c"), CONNECTION],
            &[KEY, VERSION, UPGRADE, UPGRADE, CONNECTION],
            &[KEY, KEY, VERSION, UPGRADE, CONNECTION],
            &[KEY, VERSION, VERSION, UPGRADE, CONNECTION],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZQ=="), VERSION, UPGRADE, CONNECTION],
            &[("Sec-WebSocket-Key", "not base64 at all"), VERSION, UPGRADE, CONNECTION],
            &[KEY, VERSION, UPGRADE, ("Connection", "upgrade, sec-websocket-key")],
        ];
        for pairs in others {
            assert_eq!(read(&request(pairs)), None, "{pairs:?}");
        }
        for method in ["POST", "HEAD", "get"] {
            let mut head = good();
            head.method = method.into();
            assert_eq!(read(&head), None, "{method}");
        }
        assert!(
            read(&RequestHead {
                framing: Framing::Length(0),
                ..good()
            })
            .is_some()
        );
        for framing in [Framing::Length(1), Framing::Chunked] {
            assert_eq!(read(&RequestHead { framing, ..good() }), None, "{framing:?}");
        }
        for version in [Version::Http10, Version::Http2] {
            assert_eq!(read(&RequestHead { version, ..good() }), None, "{version:?}");
        }
    }

    #[test]
    fn s8_only_a_101_with_the_right_accept_meets_it() {
        let handshake = read(&request(&[KEY, VERSION, UPGRADE, CONNECTION])).unwrap();
        let accept = ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let met = |status, pairs: &[(&str, &str)]| {
            handshake.is_met_by(&ResponseHead {
                status,
                fields: fields(pairs),
                ..ResponseHead::default()
            })
        };
        assert!(met(101, &[UPGRADE, CONNECTION, accept]));
        assert!(!met(200, &[UPGRADE, CONNECTION, accept]));
        let others: [&[(&str, &str)]; 8] = [
            &[UPGRADE, CONNECTION],
            &[UPGRADE, accept],
            &[CONNECTION, accept],
            &[UPGRADE, CONNECTION, ("Sec-WebSocket-Accept", "x3pPLMBiTxaQ9kYGzzhZRbK+xOo=")],
            &[UPGRADE, CONNECTION, accept, accept],
            &[("Upgrade", "h2c"), CONNECTION, accept],
            &[UPGRADE, CONNECTION, accept, ("Content-Length", "5")],
            &[UPGRADE, CONNECTION, accept, ("Transfer-Encoding", "chunked")],
        ];
        for pairs in others {
            assert!(!met(101, pairs), "{pairs:?}");
        }
    }
}
