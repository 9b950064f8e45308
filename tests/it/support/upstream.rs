//! A service behind the gateway that keeps every byte it was sent, and answers by script.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

/// Bytes kept of each connection and of each body: enough for any hostile case, little enough for
/// streamed gigabytes.
const KEPT: usize = 256 * 1024;

/// A recording upstream on a port of its own.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
}

/// What has arrived.
#[derive(Debug, Default)]
struct Log {
    connections: Vec<Vec<u8>>,
    requests: Vec<Recorded>,
    broken: Vec<String>,
}

/// One request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    /// Which connection it came on.
    pub(crate) connection: usize,
    /// Method.
    pub(crate) method: String,
    /// Request-target.
    pub(crate) target: String,
    /// Fields, names as received.
    pub(crate) fields: Vec<(String, String)>,
    /// The beginning of the body.
    pub(crate) body: Vec<u8>,
    /// The body's length so far.
    pub(crate) body_len: u64,
    /// Trailer lines.
    pub(crate) trailers: Vec<String>,
    /// Whether the body ended as its framing says.
    pub(crate) complete: bool,
}

impl Recorded {
    /// Values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// What an echoing service answers: everything it was sent.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json!({
            "method": self.method,
            "target": self.target,
            "fields": self.fields.iter().map(|(n, v)| json!([n, v])).collect::<Vec<_>>(),
            "body_len": self.body_len,
        })
    }
}

/// When a script is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// As soon as the head is there.
    Head,
    /// After the whole body.
    Body,
}

/// What happens to the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is kept.
    Keep,
    /// It is closed.
    Close,
}

type Script = dyn Fn(&Recorded, &mut TcpStream) -> io::Result<Then> + Send + Sync;

impl Upstream {
    /// Answers each request with 200 and a JSON body that shows what was sent.
    pub(crate) fn echoing() -> Self {
        Self::scripted(When::Body, |request, stream| {
            let body = request.to_json().to_string();
            let body = if request.method == "HEAD" { String::new() } else { body };
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            Ok(Then::Keep)
        })
    }

    /// Answers each request with these bytes.
    pub(crate) fn answering(bytes: &'static str, then: Then) -> Self {
        Self::scripted(When::Body, move |_, stream| {
            stream.write_all(bytes.as_bytes())?;
            Ok(then)
        })
    }

    /// Answers by a script.
    pub(crate) fn scripted(when: When, script: impl Fn(&Recorded, &mut TcpStream) -> io::Result<Then> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let (shared, stopped) = (log.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (log, script) = (shared.clone(), script.clone());
                std::thread::spawn(move || serve(stream, &log, when, &*script));
            }
        });
        Self { address, log, stop }
    }

    /// Requests so far, unfinished ones included.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        lock(&self.log).requests.clone()
    }

    /// How many requests so far.
    pub(crate) fn count(&self) -> usize {
        lock(&self.log).requests.len()
    }

    /// How many connections so far.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.log).connections.len()
    }

    /// Every byte of every connection.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        lock(&self.log).connections.concat()
    }

    /// What arrived and was not HTTP/1.1 by a strict reading.
    pub(crate) fn broken(&self) -> Vec<String> {
        lock(&self.log).broken.clone()
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        let mut log = lock(&self.log);
        log.requests.clear();
        log.broken.clear();
        log.connections.iter_mut().for_each(Vec::clear);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, log: &Mutex<Log>, when: When, script: &Script) {
    let _ = stream.set_nodelay(true);
    let number = {
        let mut log = lock(log);
        log.connections.push(Vec::new());
        log.connections.len() - 1
    };
    let mut tap = Tap {
        stream,
        log,
        number,
        buffer: Vec::new(),
    };
    loop {
        match tap.one(when, script) {
            Ok(Then::Keep) => {}
            Ok(Then::Close) => return,
            Err(e) => {
                if e.kind() == io::ErrorKind::InvalidData {
                    lock(log).broken.push(e.to_string());
                }
                return;
            }
        }
    }
}

/// A connection whose bytes are kept.
struct Tap<'a> {
    stream: TcpStream,
    log: &'a Mutex<Log>,
    number: usize,
    buffer: Vec<u8>,
}

impl Tap<'_> {
    fn one(&mut self, when: When, script: &Script) -> io::Result<Then> {
        let head = self.until(b"\r\n\r\n")?;
        let mut request = parse(&head)?;
        request.connection = self.number;
        let at = {
            let mut log = lock(self.log);
            log.requests.push(request.clone());
            log.requests.len() - 1
        };
        let mut then = Then::Keep;
        if when == When::Head {
            then = script(&request, &mut self.stream)?;
        }
        if then == Then::Keep {
            self.body(&mut request, at)?;
            if when == When::Body {
                then = script(&request, &mut self.stream)?;
            }
        }
        Ok(then)
    }

    fn body(&mut self, request: &mut Recorded, at: usize) -> io::Result<()> {
        let chunked = !request.all("transfer-encoding").is_empty();
        if chunked {
            self.chunks(request, at)?;
        } else if let Some(length) = request.all("content-length").first() {
            let length: u64 = length.parse().map_err(|_| invalid("content-length"))?;
            self.take(length, request, at)?;
        }
        request.complete = true;
        self.note(request, at);
        Ok(())
    }

    fn chunks(&mut self, request: &mut Recorded, at: usize) -> io::Result<()> {
        loop {
            let line = self.until(b"\r\n")?;
            let text = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| invalid("chunk size"))?;
            let size = u64::from_str_radix(text, 16).map_err(|_| invalid("chunk size"))?;
            if size == 0 {
                break;
            }
            self.take(size, request, at)?;
            if self.until(b"\r\n")?.len() != 2 {
                return Err(invalid("chunk end"));
            }
        }
        loop {
            let line = self.until(b"\r\n")?;
            if line.len() == 2 {
                return Ok(());
            }
            request.trailers.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    }

    fn take(&mut self, length: u64, request: &mut Recorded, at: usize) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() {
                self.fill()?;
            }
            let n = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let room = KEPT.saturating_sub(request.body.len()).min(n);
            request.body.extend_from_slice(&self.buffer[..room]);
            self.buffer.drain(..n);
            request.body_len += n as u64;
            left -= n as u64;
            self.note(request, at);
        }
        Ok(())
    }

    fn note(&self, request: &Recorded, at: usize) {
        let mut log = lock(self.log);
        if let Some(slot) = log.requests.get_mut(at).filter(|r| r.connection == request.connection) {
            slot.body_len = request.body_len;
            if slot.body.len() < request.body.len() {
                slot.body.clone_from(&request.body);
            }
            slot.trailers.clone_from(&request.trailers);
            slot.complete = request.complete;
        }
    }

    fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            if self.buffer.len() > KEPT {
                return Err(invalid("no end in sight"));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 64 * 1024];
        let n = self.stream.read(&mut bytes)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut log = lock(self.log);
        let kept = &mut log.connections[self.number];
        kept.extend_from_slice(&bytes[..n.min(KEPT.saturating_sub(kept.len()))]);
        drop(log);
        self.buffer.extend_from_slice(&bytes[..n]);
        Ok(())
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads a request head, more strictly than any server would.
fn parse(head: &[u8]) -> io::Result<Recorded> {
    let text = String::from_utf8_lossy(head);
    if text.replace("\r\n", "").bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7f) {
        return Err(invalid("a control character in the head"));
    }
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = line[..] else {
        return Err(invalid("request line"));
    };
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("field line"))?;
        if name.is_empty()
            || name
                .bytes()
                .any(|b| !(b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)))
        {
            return Err(invalid("field name"));
        }
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(Recorded {
        method: method.to_owned(),
        target: target.to_owned(),
        fields,
        ..Recorded::default()
    })
}
