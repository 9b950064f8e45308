//! One request for each connection, as fast as the proxy answers: what a handshake costs.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use durward::base::clock::instant;
use rustls::HandshakeKind;
use rustls::client::Resumption;

use super::http::exchange;
use super::{admitted, tls};

/// Connections at a time.
const LINES: usize = 16;

/// Tickets that a client keeps.
const TICKETS: usize = 32;

/// Connects, asks and leaves for so long. Writes how many requests were answered, and on how many connections the handshake was
/// resumed.
///
/// # Errors
/// A request was not answered with 200.
pub(crate) fn run(port: u16, keys: &[String], lasts: Duration, resumes: bool) -> io::Result<()> {
    let start = instant();
    let done: io::Result<Vec<Done>> = std::thread::scope(|scope| {
        let callers: Vec<_> = keys
            .iter()
            .take(LINES)
            .map(|key| scope.spawn(move || ask(port, key, start, lasts, resumes)))
            .collect();
        let joined = callers.into_iter().map(|caller| caller.join());
        joined
            .map(|done| done.unwrap_or_else(|_| Err(io::Error::other("a caller ended"))))
            .collect()
    });
    let done = done?;
    let (requests, resumed) = done
        .iter()
        .fold((0, 0), |(all, resumed), caller| (all + caller.requests, resumed + caller.resumed));
    writeln!(io::stdout(), "{requests} {resumed}")
}

#[derive(Default)]
struct Done {
    requests: u64,
    resumed: u64,
}

fn ask(port: u16, key: &str, start: Instant, lasts: Duration, resumes: bool) -> io::Result<Done> {
    let request = format!(
        "GET /api/v1/transactions/txn_123 HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    let resumption = if resumes {
        Resumption::in_memory_sessions(TICKETS)
    } else {
        Resumption::disabled()
    };
    let config = tls::client("http/1.1", resumption)?;
    let (mut done, mut received) = (Done::default(), Vec::new());
    while start.elapsed() < lasts {
        let mut stream = tls::connect(port, &config)?;
        let (status, _) = exchange(&mut stream, &request, &mut received)?;
        admitted(status)?;
        done.requests += 1;
        done.resumed += u64::from(stream.conn.handshake_kind() == Some(HandshakeKind::Resumed));
        // The proxy closes first, so that no port of the client has to wait. How it says so is its own affair.
        let _ = stream.read_to_end(&mut received);
    }
    Ok(done)
}
