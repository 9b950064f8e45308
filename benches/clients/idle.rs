//! Connections that were answered once and wait: what each of them holds in the proxy.

use std::io::{self, Write};
use std::net::TcpStream;

use rustls::client::Resumption;

use super::http::{Wire, exchange, request_of};
use super::{admitted, tls};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// Of SETTINGS and PING.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Opens connections, asks once on each, writes `ready`, and keeps them open until its input ends.
///
/// # Errors
/// A request was not answered with 200, or a connection was closed meanwhile.
pub(crate) fn run(port: u16, keys: &[String], count: usize, kind: &str) -> io::Result<()> {
    let key = keys.first().ok_or(io::ErrorKind::InvalidInput)?;
    let protocol = if kind == "h2" { "h2" } else { "http/1.1" };
    let config = tls::client(protocol, Resumption::disabled())?;
    let (request, mut received) = (request_of(key), Vec::new());
    let mut open: Vec<(Box<dyn Wire>, TcpStream)> = Vec::with_capacity(count);
    for _ in 0..count {
        if kind == "plain" {
            let mut wire = tls::connect_plain(port)?;
            admitted(exchange(&mut wire, &request, &mut received)?.0)?;
            let tcp = wire.try_clone()?;
            open.push((Box::new(wire), tcp));
        } else {
            let mut wire = tls::connect(port, &config)?;
            if kind == "h2" {
                ask_h2(&mut wire, key)?;
            } else {
                admitted(exchange(&mut wire, &request, &mut received)?.0)?;
            }
            let tcp = wire.sock.try_clone()?;
            open.push((Box::new(wire), tcp));
        }
    }
    writeln!(io::stdout(), "ready")?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let closed = open.iter().filter(|(_, tcp)| is_closed(tcp)).count();
    if closed == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{closed} of {count} connections were closed while they waited"
        )))
    }
}

/// A ticket that nobody has read is no end.
fn is_closed(tcp: &TcpStream) -> bool {
    let peeked = tcp.set_nonblocking(true).and_then(|()| tcp.peek(&mut [0]));
    match peeked {
        Ok(read) => read == 0,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    }
}

/// One request on a new connection: its settings and those of the proxy are exchanged, and its answer is read to the end.
fn ask_h2(wire: &mut dyn Wire, key: &str) -> io::Result<()> {
    // `:method GET` and `:scheme https` of the static table, then literal fields that no table keeps.
    let mut fields = vec![0x82, 0x87];
    field(&mut fields, &[0x04], "/api/v1/transactions/txn_123")?;
    field(&mut fields, &[0x01], "api.example.com")?;
    field(&mut fields, &[0x0f, 0x08], &format!("Bearer {key}"))?;
    let mut opening = PREFACE.to_vec();
    opening.extend(frame(SETTINGS, 0, 0, &[])?);
    opening.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields)?);
    wire.write_all(&opening)?;
    let (mut is_set, mut has_ended) = (false, false);
    while !(is_set && has_ended) {
        let mut head = [0; 9];
        wire.read_exact(&mut head)?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(0)];
        wire.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                wire.write_all(&frame(SETTINGS, ACK, 0, &[])?)?;
                is_set = true;
            }
            PING if flags & ACK == 0 => wire.write_all(&frame(PING, ACK, 0, &payload)?)?,
            HEADERS | DATA => {
                if kind == HEADERS && !is_200(&payload) {
                    return Err(io::Error::other("answered over HTTP/2 with something else than 200"));
                }
                has_ended = flags & END_STREAM != 0;
            }
            SETTINGS | PING | WINDOW_UPDATE => {}
            other => return Err(io::Error::other(format!("a frame of type {other} came"))),
        }
    }
    Ok(())
}

/// Whether a block of fields begins with the `:status 200` of the static table, behind changes of the table's size.
fn is_200(block: &[u8]) -> bool {
    let mut rest = block;
    while let [first, after @ ..] = rest {
        if first & 0xe0 != 0x20 {
            break;
        }
        let more = if first & 0x1f == 0x1f {
            after.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1
        } else {
            0
        };
        rest = after.get(more..).unwrap_or_default();
    }
    rest.first() == Some(&0x88)
}

fn field(block: &mut Vec<u8>, name: &[u8], value: &str) -> io::Result<()> {
    block.extend_from_slice(name);
    let length = u8::try_from(value.len()).ok().filter(|length| *length < 127);
    block.push(length.ok_or_else(|| io::Error::other("a field is too long"))?);
    block.extend_from_slice(value.as_bytes());
    Ok(())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    Ok(frame)
}
