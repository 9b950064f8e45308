//! One kept connection that sends a request at a time.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longer than any answer of a gateway takes: whoever waits as long has met a gateway that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a connection goes.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Port(u16),
    Socket(String),
}

/// What bytes are sent and received on.
pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// A connection that is opened when it is needed, and again after it was closed.
pub(crate) struct Line {
    address: Address,
    wire: Option<Box<dyn Wire>>,
    received: Vec<u8>,
}

impl Line {
    pub(crate) const fn to(address: Address) -> Self {
        Self {
            address,
            wire: None,
            received: Vec::new(),
        }
    }

    /// Sends a request and reads its answer; answers its status. A kept connection that was closed meanwhile is opened anew.
    ///
    /// # Errors
    /// Nobody listens there, or a new connection broke.
    pub(crate) fn ask(&mut self, request: &str) -> io::Result<u16> {
        if self.wire.is_some() {
            let answer = self.exchange(request);
            if answer.is_ok() {
                return answer;
            }
            self.wire = None;
        }
        self.wire = Some(self.open()?);
        self.exchange(request).inspect_err(|_| self.wire = None)
    }

    fn open(&self) -> io::Result<Box<dyn Wire>> {
        Ok(match &self.address {
            Address::Port(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                let wire = TcpStream::connect_timeout(&address, PATIENCE)?;
                wire.set_nodelay(true)?;
                wire.set_read_timeout(Some(PATIENCE))?;
                Box::new(wire)
            }
            Address::Socket(path) => {
                let wire = UnixStream::connect(path)?;
                wire.set_read_timeout(Some(PATIENCE))?;
                Box::new(wire)
            }
        })
    }

    fn exchange(&mut self, request: &str) -> io::Result<u16> {
        let wire = self.wire.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let (status, closes) = exchange(wire.as_mut(), request, &mut self.received)?;
        if closes {
            self.wire = None;
        }
        Ok(status)
    }
}

/// Sends a request and reads its answer: its status, and whether its connection is closed after it.
///
/// # Errors
/// The connection broke, or what came is no answer.
pub(crate) fn exchange(wire: &mut dyn Wire, request: &str, received: &mut Vec<u8>) -> io::Result<(u16, bool)> {
    wire.write_all(request.as_bytes())?;
    received.clear();
    let mut buffer = [0; 4_096];
    loop {
        let read = wire.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..read]);
        if let Some(answer) = whole(received)? {
            return Ok(answer);
        }
    }
}

/// The status of an answer that has been received whole, and whether its connection is closed after it.
fn whole(received: &[u8]) -> io::Result<Option<(u16, bool)>> {
    let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length: usize = field("content-length:").unwrap_or("0").parse().map_err(io::Error::other)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("an answer without a status"))?;
    Ok((received.len() >= end + 4 + length).then_some((status, field("connection:") == Some("close"))))
}

/// The request of a caller.
pub(crate) fn request_of(key: &str) -> String {
    format!("GET /api/v1/transactions/txn_123 HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {key}\r\n\r\n")
}
