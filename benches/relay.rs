//! What `scripts/bench` needs beside the contestants: the floor relay, the service behind, free ports, key hashes.

use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// The listener's token; connections count from zero.
const LISTENER: Token = Token(usize::MAX - 1);

/// What the service answers: about what a small JSON resource weighs.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 96\r\n\r\n\
    {\"id\":\"txn_123\",\"state\":\"funded\",\"amount\":\"125.00\",\"currency\":\"EUR\",\"parties\":[\"payer\",\"payee\"]}";

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["floor", port, upstream] => relay(local(port)?, local(upstream)?),
        ["upstream", port] => serve(local(port)?),
        ["port"] => free_port(),
        ["import", keys] => write_import(keys),
        _ => Err(io::Error::other("relay floor PORT UPSTREAM | upstream PORT | port | import KEYS")),
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

/// Lines of `key number` as import lines: the SHA-256 of each key, one of a hundred tenants.
fn write_import(keys: &str) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout());
    for line in io::BufReader::new(std::fs::File::open(keys)?).lines() {
        let line = line?;
        let (key, number) = line.split_once(' ').ok_or_else(|| io::Error::other("a line without a number"))?;
        let number: u32 = number.parse().map_err(io::Error::other)?;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
        let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        writeln!(
            out,
            r#"{{"surface":"api","tenant":"tenant_{}","mode":"live","sha256":"{hex}","scopes":["transactions:read","transactions:write"]}}"#,
            number % 100
        )?;
    }
    out.flush()
}

/// The floor: one thread, one upstream connection for each client connection, two reads and two
/// writes for each request, nothing parsed. What a proxy costs above this is its own.
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

/// Moves what one end has to its other end, which is its neighbour in the list.
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

/// The service: answers every request head with the same bytes.
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

/// Answers the heads that have arrived; false when the client is gone.
fn answer(client: &mut TcpStream, unread: &mut Vec<u8>, buffer: &mut [u8]) -> bool {
    loop {
        match client.read(buffer) {
            Ok(0) => return false,
            Ok(n) => unread.extend_from_slice(&buffer[..n]),
            Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
        }
        while let Some(end) = memchr::memmem::find(unread, b"\r\n\r\n") {
            unread.drain(..end + 4);
            if client.write_all(ANSWER).is_err() {
                return false;
            }
        }
    }
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
