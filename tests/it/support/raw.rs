//! A client that writes exactly the bytes it is given and reads answers by a strict parser of its own.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::wait::PATIENCE;

/// A connection to the gateway.
pub(crate) struct Client {
    stream: Stream,
    read: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    /// Status code.
    pub(crate) status: u16,
    /// Fields as received, names lower case.
    pub(crate) fields: Vec<(String, String)>,
    /// The body, chunks put together.
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub(crate) complete: bool,
}

impl Response {
    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body.escape_ascii()))
    }
}

impl Client {
    /// Connects without TLS.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self {
            stream: Stream::Plain(tcp(address)),
            read: Vec::new(),
        }
    }

    /// Connects without TLS; `None` if nobody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        set_patience(&stream);
        Some(Self {
            stream: Stream::Plain(stream),
            read: Vec::new(),
        })
    }

    /// Connects without TLS from a certain address of this machine, with little room for what it does not read.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        Self {
            stream: Stream::Plain(tcp_from(source, address)),
            read: Vec::new(),
        }
    }

    /// Connects with TLS, trusting `root` (DER), offering these protocols.
    pub(crate) fn connect_tls(address: SocketAddr, root: &[u8], name: &str, protocols: &[&str]) -> io::Result<Self> {
        Self::connect_tls_from(Ipv4Addr::LOCALHOST.into(), address, (root, name), protocols)
    }

    /// The same from a certain address of this machine.
    pub(crate) fn connect_tls_from(
        source: IpAddr,
        address: SocketAddr,
        (root, name): (&[u8], &str),
        protocols: &[&str],
    ) -> io::Result<Self> {
        let tcp = if source == IpAddr::from(Ipv4Addr::LOCALHOST) {
            tcp(address)
        } else {
            tcp_from(source, address)
        };
        Self::shake_hands(tcp, name, tls_config(rustls::DEFAULT_VERSIONS, &[root], protocols)?)
    }

    /// Connects with TLS as a client that remembers the sessions of its other connections.
    pub(crate) fn connect_again(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::shake_hands(tcp(address), name, Arc::clone(config))
    }

    fn shake_hands(tcp: TcpStream, name: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self {
            stream: Stream::Tls(Box::new(stream)),
            read: Vec::new(),
        })
    }

    /// Whether the server took a ticket in the place of a full handshake.
    pub(crate) fn was_resumed(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.conn.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// The protocol both agreed on.
    pub(crate) fn protocol(&self) -> Option<String> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.conn.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned()),
        }
    }

    /// Writes these bytes. A connection closed by the other side meanwhile is not an error here:
    /// what was answered tells.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.try_send(bytes);
    }

    /// Writes these bytes.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(s) => s.write_all(bytes),
            Stream::Tls(s) => s.write_all(bytes).and_then(|()| s.flush()),
        }
    }

    /// Reads at most so many bytes and forgets them; how many there were.
    pub(crate) fn read_little(&mut self, most: usize) -> io::Result<usize> {
        let mut bytes = vec![0; most];
        match &mut self.stream {
            Stream::Plain(s) => s.read(&mut bytes),
            Stream::Tls(s) => s.read(&mut bytes),
        }
    }

    /// Ends the sending direction.
    pub(crate) fn finish_sending(&mut self) {
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// How long a read may wait from now on.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.socket().set_read_timeout(Some(patience)).unwrap();
    }

    /// Bytes as they are now: what is buffered, or one read. Empty = the other side closed.
    pub(crate) fn read_some(&mut self) -> io::Result<Vec<u8>> {
        if self.read.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.read))
    }

    /// Reads one answer, interim ones included; `None` if the connection closed before it.
    pub(crate) fn response(&mut self) -> Option<Response> {
        self.response_to("GET")
    }

    /// Reads the final answer to a request of this method.
    pub(crate) fn final_response_to(&mut self, method: &str) -> Option<Response> {
        loop {
            let response = self.response_to(method)?;
            if response.status >= 200 || response.status == 101 {
                return Some(response);
            }
        }
    }

    /// Reads one answer to a request of this method.
    pub(crate) fn response_to(&mut self, method: &str) -> Option<Response> {
        let head_len = loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill().ok()? == 0 {
                assert!(self.read.is_empty(), "half an answer: {}", self.read.escape_ascii());
                return None;
            }
        };
        let head = self.read.drain(..head_len).collect::<Vec<u8>>();
        let mut response = parse_head(&head);
        let no_body = method == "HEAD" || response.status < 200 || matches!(response.status, 204 | 304);
        if no_body {
            response.complete = true;
        } else if let Some(coding) = response.field("transfer-encoding") {
            assert_eq!(coding, "chunked");
            self.read_chunks(&mut response);
        } else if let Some(length) = response.field("content-length") {
            let length: usize = length.parse().unwrap();
            self.read_length(&mut response, length);
        } else {
            while self.fill().unwrap_or(0) > 0 {}
            response.body = std::mem::take(&mut self.read);
            response.complete = true;
        }
        Some(response)
    }

    /// Whether the other side has closed or closes within the patience; drops what it still sends.
    pub(crate) fn closes(&mut self) -> bool {
        loop {
            match self.fill() {
                Ok(0) => return true,
                Ok(_) => self.read.clear(),
                Err(e) => return !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
        }
    }

    fn read_length(&mut self, response: &mut Response, length: usize) {
        while self.read.len() < length {
            if self.fill().unwrap_or(0) == 0 {
                response.body = std::mem::take(&mut self.read);
                return;
            }
        }
        response.body = self.read.drain(..length).collect();
        response.complete = true;
    }

    fn read_chunks(&mut self, response: &mut Response) {
        loop {
            let Some(line) = self.line() else { return };
            let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
            while self.read.len() < size + 2 {
                if self.fill().unwrap_or(0) == 0 {
                    return;
                }
            }
            let chunk: Vec<u8> = self.read.drain(..size).collect();
            response.body.extend_from_slice(&chunk);
            let end: Vec<u8> = self.read.drain(..2).collect();
            assert_eq!(end, b"\r\n", "a chunk's end");
            if size == 0 {
                response.complete = true;
                return;
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).ok();
            }
            if self.fill().unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let n = match &mut self.stream {
            Stream::Plain(s) => s.read(&mut buffer)?,
            Stream::Tls(s) => match s.read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => 0,
                other => other?,
            },
        };
        self.read.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(s) => s,
            Stream::Tls(s) => &s.sock,
        }
    }
}

/// A TLS client that trusts these roots (DER) and offers these protocols.
pub(crate) fn tls_config(
    versions: &[&'static SupportedProtocolVersion],
    trusted: &[&[u8]],
    protocols: &[&str],
) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(root.to_vec().into()).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    set_patience(&stream);
    stream
}

fn set_patience(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
}

fn tcp_from(source: IpAddr, address: SocketAddr) -> TcpStream {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) fn parse_head(head: &[u8]) -> Response {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("status line {status_line:?}"));
    let fields = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("field line {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    Response {
        status,
        fields,
        body: Vec::new(),
        complete: false,
    }
}
