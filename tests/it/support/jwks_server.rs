//! An HTTPS server of key sets for tests: what it answers can be changed, and it counts who asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A server on loopback with a certificate of its own.
pub(crate) struct JwksServer {
    pub(crate) address: SocketAddr,
    /// The certificate, PEM.
    pub(crate) certificate: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl JwksServer {
    /// Starts a server that answers with this set.
    pub(crate) fn start(set: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            certificate: made.cert.pem(),
            answer: Arc::default(),
            asked: Arc::default(),
        };
        server.publish(set);
        let (answer, asked, config) = (server.answer.clone(), server.asked.clone(), Arc::new(config));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                asked.fetch_add(1, Ordering::SeqCst);
                let text = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let config = config.clone();
                // A client that gives up is no failure of the server.
                std::thread::spawn(move || drop(serve(stream, config, &text)));
            }
        });
        server
    }

    /// The URL of its set.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/keys", self.address.port())
    }

    /// Answers with this set from now on.
    pub(crate) fn publish(&self, set: &str) {
        self.answer_with(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/jwk-set+json\r\nContent-Length: {}\r\n\r\n{set}",
            set.len()
        ));
    }

    /// Answers with this text from now on.
    pub(crate) fn answer_with(&self, text: &str) {
        text.clone_into(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How many connections were made.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, config: Arc<rustls::ServerConfig>, text: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => head.extend_from_slice(&buffer[..n]),
        }
    }
    stream.write_all(text.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}
