//! The public side over real sockets, with a stand-in for the gateway.

mod h1;
mod h2;
mod limits;
mod stub;
mod tickets;
mod tls;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use durward::base::clock;
use durward::server::{self, RunningServer, ServerSetup};
use durward::snapshot::{Limits, ListenerSettings, ListenerTransport};

use self::stub::{NoCertificates, Stub};

/// A test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with its stand-in.
struct Bench {
    stub: Stub,
    running: RunningServer,
}

/// Limits short enough to be waited for.
fn quick() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(300),
        keep_alive: Duration::from_millis(300),
        body_idle: Duration::from_millis(300),
        handshake_timeout: Duration::from_millis(300),
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::from_secs(5),
        ..Limits::default()
    }
}

fn plain(limits: Limits) -> Bench {
    let stub = Stub::default();
    let setup = ServerSetup {
        listeners: vec![listener(ListenerTransport::Plain)],
        limits,
        certificates: std::sync::Arc::new(NoCertificates),
        ticket_keys: None,
    };
    Bench {
        running: server::start(setup, vec![stub.factory()]).unwrap(),
        stub,
    }
}

fn listener(transport: ListenerTransport) -> ListenerSettings {
    ListenerSettings {
        name: "public".into(),
        address: "127.0.0.1:0".parse().unwrap(),
        transport,
    }
}

impl Bench {
    fn address(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    fn count(&self, name: &str) -> u64 {
        let of = |figures: Vec<(&'static str, u64)>| figures.into_iter().find(|(n, _)| *n == name).map(|(_, value)| value);
        let workers: u64 = self.running.counters().iter().filter_map(|c| of(c.figures())).sum();
        workers + of(self.running.accept_counters().figures()).unwrap_or(0)
    }

    /// Waits until a figure has this value.
    async fn wait_for(&self, name: &str, value: u64) {
        let deadline = clock::instant() + PATIENCE;
        while self.count(name) != value {
            assert!(clock::instant() < deadline, "{name} is {} and not {value}", self.count(name));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A blocking raw client.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.write_all(bytes.as_ref()).unwrap();
        self
    }

    fn finish_sending(&mut self) -> &mut Self {
        self.0.shutdown(Shutdown::Write).unwrap();
        self
    }

    /// Reads until `end` has come.
    fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            let n = self
                .0
                .read(&mut byte)
                .unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&text)));
            assert_eq!(n, 1, "closed after {:?}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    /// Reads an answer with a declared length.
    fn answer(&mut self) -> (u16, String, String) {
        let head = self.read_until("\r\n\r\n");
        let status = head[9..12].parse().unwrap();
        let length = field(&head, "content-length").map_or(0, |v| v.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, head, String::from_utf8(body).unwrap())
    }

    /// Reads to the end, which must be an orderly one.
    fn rest(&mut self) -> String {
        self.try_rest().unwrap()
    }

    fn try_rest(&mut self) -> io::Result<String> {
        let mut text = String::new();
        self.0.read_to_string(&mut text).map(|_| text)
    }

    /// How long the other side keeps the connection open.
    fn time_to_close(&mut self) -> Duration {
        let start: Instant = clock::instant();
        let _ = self.try_rest();
        clock::instant().duration_since(start)
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}
