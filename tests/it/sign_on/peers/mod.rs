//! The identity providers themselves work: people log in at each with a browser, and a client that is not durward is told who they
//! are. What fails here is a provider or how it is started; the tests of durward need not be looked at.

mod openid;
mod saml;

use crate::support::identity_providers::{Front, authority};
use crate::support::raw::{Client, Response};
use crate::support::upstream::{Recorded, Upstream};
use crate::support::wait::{PATIENCE, until};

/// Seconds since 1970.
fn seconds() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// One request to a provider, as a client's server makes it.
fn ask(front: &Front, host: &str, head: &str, body: &str) -> Response {
    let mut client = Client::connect_tls(front.address, authority().certificate_der(), host, &[]).unwrap();
    let port = front.address.port();
    let fields = format!("Host: {host}:{port}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    let (line, more) = head.split_once("\r\n").unwrap_or((head, ""));
    client.send(format!("{line} HTTP/1.1\r\n{fields}{more}\r\n{body}").as_bytes());
    let method = head.split(' ').next().unwrap_or_default();
    client.final_response_to(method).expect("an answer")
}

/// The text of an answer that must be a success.
fn read(front: &Front, host: &str, path: &str) -> String {
    let answer = ask(front, host, &format!("GET {path}"), "");
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200, "{path}: {text}");
    text
}

/// An application under a name: it records what browsers and providers send it.
struct Application {
    service: Upstream,
    front: Front,
}

impl Application {
    const HOST: &str = "app.example";

    fn start() -> Self {
        let service = Upstream::echoing();
        let front = Front::of(&[Self::HOST]);
        front.lead_to(service.address.port());
        Self { service, front }
    }

    fn url(&self, path: &str) -> String {
        self.front.url(Self::HOST) + path
    }

    /// The first request to this path; it is waited for.
    fn request(&self, path: &str) -> Recorded {
        until(path, PATIENCE, || {
            let requests = self.service.requests();
            let mut of_path = requests
                .into_iter()
                .filter(|request| request.complete && request.target.split('?').next() == Some(path));
            of_path.next()
        })
    }
}

/// The parameters of a query or a form.
fn parameters(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// A parameter that must be there.
fn parameter(text: &str, name: &str) -> String {
    let value = parameters(text).into_iter().find(|(known, _)| known == name);
    value.unwrap_or_else(|| panic!("{name} is not in {text}")).1
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        bytes.push(match (first, more) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digits = [*high, *low];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            _ => *first,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// Percent-encodes everything that is not unreserved.
pub(super) fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A query or a form of these.
fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}
