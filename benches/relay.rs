//! What `scripts/bench` needs beside the contestants: the floor relay, the service behind, free ports, many keys.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};

/// Tenants that are made on one connection to an operator socket.
const OF_ONE_CONNECTION: u32 = 1_000;

/// The listener's token; connections count from zero.
const LISTENER: Token = Token(usize::MAX - 1);

/// The answer of the service, about as long as a small JSON resource.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 96\r\n\r\n\
    {\"id\":\"txn_123\",\"state\":\"funded\",\"amount\":\"125.00\",\"currency\":\"EUR\",\"parties\":[\"payer\",\"payee\"]}";

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["floor", port, upstream] => relay(local(port)?, local(upstream)?),
        ["upstream", port] => serve(local(port)?),
        ["port"] => free_port(),
        ["keys", socket, count] => make_keys(socket, count),
        ["mint", prefix] => mint(prefix),
        ["tokens", secret, keys, now] => sign_tokens(secret, keys, now),
        _ => Err(io::Error::other(
            "relay floor PORT UPSTREAM | upstream PORT | port | keys SOCKET COUNT | mint PREFIX | tokens SECRET KEYS NOW",
        )),
    }
}

fn local(port: &str) -> io::Result<SocketAddr> {
    let port = port.parse().map_err(io::Error::other)?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

fn free_port() -> io::Result<()> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())
}

/// Makes a key in the form of a gateway's keys, with a pepper that no gateway has.
fn mint(prefix: &str) -> io::Result<()> {
    let pepper = durward::base::fingerprint::Pepper::new(&[9; 32]).ok_or_else(|| io::Error::other("no pepper"))?;
    let key = durward::base::key::GeneratedKey::mint_marked(prefix, 43, &pepper).map_err(|_| io::Error::other("no randomness"))?;
    writeln!(io::stdout(), "{}", key.expose())
}

/// Makes this many tenants, each with one key, through an operator socket, and writes `key tenant id` lines.
fn make_keys(socket: &str, count: &str) -> io::Result<()> {
    let mut operator = UnixStream::connect(socket)?;
    let mut out = io::BufWriter::new(io::stdout());
    for number in 0..count.parse::<u32>().map_err(io::Error::other)? {
        // The gateway closes a connection that lasts long, as one does on a slow machine.
        if number % OF_ONE_CONNECTION == 0 {
            operator = UnixStream::connect(socket)?;
        }
        let tenant = format!("tenant_{number}");
        post(&mut operator, "/v1/tenants", &json!({ "id": tenant }))?;
        let wanted = json!({
            "surface": "api", "tenant": tenant, "mode": "live", "scopes": ["transactions:read", "transactions:write"],
        });
        let made = post(&mut operator, "/v1/keys", &wanted)?;
        let of = |field| made["credential"][field].as_str().ok_or_else(|| io::Error::other(made.to_string()));
        writeln!(out, "{} {tenant} {}", of("key")?, of("id")?)?;
    }
    out.flush()
}

/// For each line that [`make_keys`] wrote, a session below its key, signed with the secret in this file: `token tenant id` lines.
/// `now` is in seconds; a session lives for a day.
fn sign_tokens(secret: &str, keys: &str, now: &str) -> io::Result<()> {
    let secret = std::fs::read(secret)?;
    let now = now.parse::<u64>().map_err(io::Error::other)?;
    let mut out = io::BufWriter::new(io::stdout());
    for line in std::fs::read_to_string(keys)?.lines() {
        let [_, tenant, id] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(io::Error::other("`key tenant id` is expected"));
        };
        let claims = json!({
            "sub": id, "kind": "portal_session", "tid": format!("txn_{tenant}"), "role": "buyer",
            "perms": ["transactions:read", "transactions:write"], "iat": now, "exp": now + 86_400,
        });
        let claims = claims.as_object().ok_or_else(|| io::Error::other("no claims"))?;
        let token = durward::decide::token::mint(secret.trim_ascii(), claims).map_err(io::Error::other)?;
        writeln!(out, "{token} {tenant} {id}")?;
    }
    out.flush()
}

/// Makes one call of the operator API on a persistent connection.
fn post(operator: &mut UnixStream, path: &str, body: &Value) -> io::Result<Value> {
    let body = body.to_string();
    write!(
        operator,
        "POST {path} HTTP/1.1\r\nHost: operator\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = operator.read(&mut buffer)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..n]);
        let Some(end) = memchr::memmem::find(&received, b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "))
            .and_then(|l| l.trim().parse::<usize>().ok())
            .ok_or_else(|| io::Error::other(format!("no length in {head}")))?;
        if received.len() >= end + 4 + length {
            let answer = serde_json::from_slice(&received[end + 4..]).map_err(io::Error::other)?;
            return if head.starts_with("http/1.1 200") {
                Ok(answer)
            } else {
                Err(io::Error::other(format!("{path}: {answer}")))
            };
        }
    }
}

/// The lower bound of a proxy: one thread, one upstream connection for each client connection, two reads and two writes
/// for each request, nothing parsed. A proxy's own cost is what it needs above this.
fn relay(address: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut ends: Vec<Option<TcpStream>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut client, _)) = listener.accept() {
                    let mut service = connect(upstream)?;
                    client.set_nodelay(true)?;
                    let at = ends.len();
                    poll.registry().register(&mut client, Token(at), Interest::READABLE)?;
                    poll.registry().register(&mut service, Token(at + 1), Interest::READABLE)?;
                    ends.extend([Some(client), Some(service)]);
                }
            } else {
                copy(&mut ends, event.token().0, &mut buffer);
            }
        }
    }
}

/// Moves the bytes of one end to its other end, which is its neighbour in the list.
fn copy(ends: &mut [Option<TcpStream>], from: usize, buffer: &mut [u8]) {
    let to = from ^ 1;
    while let Some(source) = &mut ends[from] {
        match source.read(buffer) {
            Ok(0) => {
                ends[from] = None;
                ends[to] = None;
            }
            Ok(n) => {
                if let Some(sink) = &mut ends[to] {
                    // A loopback buffer holds what 64 connections have in flight.
                    let _ = sink.write_all(&buffer[..n]);
                }
                if n < buffer.len() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// The service: answers every request without a body with the same bytes, and sends a body back.
fn serve(address: SocketAddr) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients: Vec<Option<(TcpStream, Vec<u8>)>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut client, _)) = listener.accept() {
                    client.set_nodelay(true)?;
                    poll.registry().register(&mut client, Token(clients.len()), Interest::READABLE)?;
                    clients.push(Some((client, Vec::new())));
                }
            } else {
                let slot = &mut clients[event.token().0];
                if slot.as_mut().is_some_and(|(client, unread)| !answer(client, unread, &mut buffer)) {
                    *slot = None;
                }
            }
        }
    }
}

/// Answers the requests that have arrived; false when the client is gone.
fn answer(client: &mut TcpStream, unread: &mut Vec<u8>, buffer: &mut [u8]) -> bool {
    loop {
        match client.read(buffer) {
            Ok(0) => return false,
            Ok(n) => unread.extend_from_slice(&buffer[..n]),
            Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
        }
        while let Some(end) = memchr::memmem::find(unread, b"\r\n\r\n") {
            let length = if unread.starts_with(b"POST") {
                content_length(&unread[..end])
            } else {
                0
            };
            if unread.len() < end + 4 + length {
                break;
            }
            let rest = unread.split_off(end + 4 + length);
            let request = std::mem::replace(unread, rest);
            let sent = match &request[end + 4..] {
                [] => client.write_all(ANSWER),
                body => {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
                    client.write_all(&[head.as_bytes(), body].concat())
                }
            };
            if sent.is_err() {
                return false;
            }
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(TcpStream::from_std(stream))
}

fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, None) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}
