//! TLS and HTTP/2 over real sockets.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use durward::base::denial::Denial;
use durward::server::tls::CertificateSource;
use durward::server::{self, Setup};
use durward::snapshot::{CertificateSet, Limits, Transport};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::stub::{Event, Stub};
use super::{Bench, PATIENCE, listener, quick};

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// Certificates that can be replaced.
struct Certificates(Mutex<Arc<CertificateSet>>);

impl CertificateSource for Certificates {
    fn certificates(&self, _: usize) -> Option<Arc<CertificateSet>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

fn made_for(names: &[&str]) -> Arc<CertificateSet> {
    let entry = |name: &&str| {
        let made = rcgen::generate_simple_self_signed([(*name).to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let signing = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let certified = rustls::sign::CertifiedKey::new(vec![made.cert.der().clone()], signing);
        (vec![(*name).to_owned()], Arc::new(certified))
    };
    Arc::new(CertificateSet {
        entries: names.iter().map(entry).collect(),
    })
}

fn secure(limits: Limits) -> (Bench, Arc<Certificates>) {
    let certificates = Arc::new(Certificates(Mutex::new(made_for(&["default.test", "b.test"]))));
    let setup = Setup {
        listeners: vec![listener(Transport::Tls)],
        limits,
        certificates: certificates.clone(),
    };
    let stub = Stub::default();
    let running = server::start(setup, vec![stub.factory()]).unwrap();
    (Bench { stub, running }, certificates)
}

/// Believes everybody: what is tested is what the server sends.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client_config(alpn: &[&str]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

async fn try_connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, tcp).await
}

async fn connect(address: SocketAddr, name: &str, alpn: &[&str]) -> TlsStream<TcpStream> {
    try_connect(address, name, &Arc::new(client_config(alpn))).await.unwrap()
}

/// An HTTP/2 client and the task that drives it, which ends when the connection does.
async fn connect_h2(address: SocketAddr) -> (SendRequest<Body>, tokio::task::JoinHandle<()>) {
    let tls = connect(address, "b.test", &["h2"]).await;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    let driver = tokio::spawn(async move { _ = connection.await });
    (sender, driver)
}

fn get(path: &str) -> http::Request<Body> {
    let request = http::Request::get(format!("https://b.test{path}"));
    request.body(Empty::new().boxed()).unwrap()
}

fn post(path: &str, body: impl Into<Bytes>) -> http::Request<Body> {
    let request = http::Request::post(format!("https://b.test{path}"));
    request.body(Full::new(body.into()).boxed()).unwrap()
}

async fn text(response: http::Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

const GET: &[u8] = b"GET /sni HTTP/1.1\r\nHost: b.test\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_shown_its_certificate_and_an_unknown_one_the_default() {
    let (bench, certificates) = secure(quick());
    let set = certificates.certificates(0).unwrap();
    for (name, entry) in [("b.test", 1), ("default.test", 0), ("unknown.test", 0)] {
        let mut tls = connect(bench.address(), name, &["http/1.1"]).await;
        let shown = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_eq!(shown, set.entries[entry].1.cert[0], "{name}");
        tls.write_all(GET).await.unwrap();
        let mut answer = vec![0; 1024];
        let n = tls.read(&mut answer).await.unwrap();
        assert!(answer[..n].ends_with(name.as_bytes()), "the name reaches the service");
    }
    assert_eq!(bench.count("handshakes"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_at_once_and_open_connections_stay() {
    let (bench, certificates) = secure(Limits {
        keep_alive: PATIENCE,
        ..quick()
    });
    let (mut sender, _driver) = connect_h2(bench.address()).await;
    assert_eq!(text(sender.send_request(get("/hello")).await.unwrap()).await, "hello");
    let fresh = made_for(&["b.test"]);
    *certificates.0.lock().unwrap() = Arc::clone(&fresh);
    let tls = connect(bench.address(), "b.test", &["h2"]).await;
    assert_eq!(tls.get_ref().1.peer_certificates().unwrap()[0], fresh.entries[0].1.cert[0]);
    assert_eq!(text(sender.send_request(get("/hello")).await.unwrap()).await, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returning_client_resumes_its_session() {
    let (bench, certificates) = secure(quick());
    let config = Arc::new(client_config(&["http/1.1"]));
    for (round, kind) in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]
        .into_iter()
        .enumerate()
    {
        let mut tls = try_connect(bench.address(), "b.test", &config).await.unwrap();
        // The ticket comes with the first answer.
        tls.write_all(GET).await.unwrap();
        assert!(tls.read(&mut [0; 1024]).await.unwrap() > 0);
        let found = tls.get_ref().1.handshake_kind().unwrap();
        // A hello retry is a full handshake too.
        assert_eq!(
            found == rustls::HandshakeKind::Resumed,
            kind == rustls::HandshakeKind::Resumed,
            "{round}"
        );
        *certificates.0.lock().unwrap() = made_for(&["b.test"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_is_not_spoken_fails_the_handshake_and_none_means_http_1() {
    let (bench, _) = secure(quick());
    let spdy = Arc::new(client_config(&["spdy/3"]));
    assert!(try_connect(bench.address(), "b.test", &spdy).await.is_err());
    bench.wait_for("handshakes_failed", 1).await;
    let mut tls = connect(bench.address(), "b.test", &[]).await;
    tls.write_all(GET).await.unwrap();
    let mut answer = [0; 8];
    tls.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let (bench, _) = secure(quick());
    let mut silent = super::Client::connect(bench.address());
    let mut partial = super::Client::connect(bench.address());
    partial.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
    assert_eq!((silent.rest(), partial.rest()), (String::new(), String::new()));
    assert_eq!(bench.count("handshakes_timed_out"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_do_not_keep_others_from_shaking_hands() {
    let (bench, _) = secure(Limits {
        handshakes: 1,
        handshake_timeout: PATIENCE,
        ..quick()
    });
    let _silent: Vec<_> = (0..20).map(|_| super::Client::connect(bench.address())).collect();
    bench.wait_for("open", 20).await;
    soon(connect(bench.address(), "b.test", &["h2"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_requests_are_answered_with_bodies_both_ways() {
    let (bench, _) = secure(quick());
    let (sender, _driver) = connect_h2(bench.address()).await;
    let response = sender.clone().send_request(get("/hello")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-length"]),
        (200, &"5".parse().unwrap())
    );
    assert!(response.headers().contains_key("date"));
    assert_eq!(text(response).await, "hello");
    assert_eq!(
        text(sender.clone().send_request(post("/count", vec![b'x'; 300_000])).await.unwrap()).await,
        "300000"
    );
    let echoed = text(sender.clone().send_request(post("/echo", vec![b'x'; 300_000])).await.unwrap()).await;
    assert_eq!(echoed.len(), 300_000);
    let response = sender.clone().send_request(get("/trailers")).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().map(|t| &t["x-sum"]), Some(&"7".parse().unwrap()));
    assert_eq!(bench.count("h2_requests"), 4);
    bench.stub.wait_for(&Event::Finished(300_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_cookie_crumbs_arrive_one_by_one_and_count() {
    let (bench, _) = secure(quick());
    let (sender, _driver) = connect_h2(bench.address()).await;
    let with_crumbs = |n: usize| {
        let mut request = get("/crumbs");
        for _ in 0..n {
            request.headers_mut().append("cookie", "a=1".parse().unwrap());
        }
        request
    };
    assert_eq!(text(sender.clone().send_request(with_crumbs(3)).await.unwrap()).await, "3");
    let refused = sender.clone().send_request(with_crumbs(101)).await.unwrap();
    assert_eq!(refused.status().as_u16(), 431);
    assert!(bench.stub.saw(&Event::Refused(Denial::HeadTooLarge)));
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_connect_is_refused() {
    let (bench, _) = secure(quick());
    let (mut sender, _driver) = connect_h2(bench.address()).await;
    let request = http::Request::connect("b.test:443").body(Empty::new().boxed()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status().as_u16(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_h2_answer_that_breaks_off_is_reset() {
    let (bench, _) = secure(quick());
    let (mut sender, _driver) = connect_h2(bench.address()).await;
    for path in ["/break", "/short", "/long"] {
        // The reset may overtake the head.
        let whole = async { sender.send_request(get(path)).await?.into_body().collect().await };
        assert!(whole.await.is_err(), "{path}");
    }
    bench.stub.wait_for(&Event::Aborted).await;
    assert_eq!(text(sender.send_request(get("/hello")).await.unwrap()).await, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_stream_only() {
    let (bench, _) = secure(quick());
    let (mut sender, _driver) = connect_h2(bench.address()).await;
    assert!(sender.send_request(get("/panic")).await.is_err());
    assert_eq!(text(sender.send_request(get("/hello")).await.unwrap()).await, "hello");
    bench.wait_for("panics", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_h2_stream_cancels_its_request() {
    let (bench, _) = secure(quick());
    let (mut sender, _driver) = connect_h2(bench.address()).await;
    let waiting = tokio::spawn(sender.send_request(get("/wait")));
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    waiting.abort();
    bench.stub.wait_for(&Event::Cancelled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_requests_over_the_share_are_refused() {
    let (bench, _) = secure(Limits { requests: 1, ..quick() });
    let (sender, _driver) = connect_h2(bench.address()).await;
    let waiting = tokio::spawn(sender.clone().send_request(get("/wait")));
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    assert_eq!(sender.clone().send_request(get("/hello")).await.unwrap().status().as_u16(), 503);
    bench.stub.open_gate();
    assert_eq!(text(waiting.await.unwrap().unwrap()).await, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_h2_connection_ends_when_idle_or_worn() {
    let (bench, _) = secure(quick());
    let (mut sender, driver) = connect_h2(bench.address()).await;
    text(sender.send_request(get("/hello")).await.unwrap()).await;
    soon(driver).await.unwrap();
    let (bench, _) = secure(Limits {
        requests_per_connection: 1,
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let (mut sender, driver) = connect_h2(bench.address()).await;
    assert_eq!(text(sender.send_request(get("/hello")).await.unwrap()).await, "hello");
    soon(driver).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_h2_client_that_says_nothing_is_cut_off() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    for sent in [b"".as_slice(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut tls = connect(bench.address(), "b.test", &["h2"]).await;
        tls.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        _ = soon(tls.read_to_end(&mut rest)).await;
    }
    assert_eq!(bench.count("timed_out"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_h2_header_block_that_does_not_end_is_cut_off() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let mut tls = connect(bench.address(), "b.test", &["h2"]).await;
    tls.write_all(PREFACE).await.unwrap();
    tls.write_all(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]).await.unwrap();
    let mut rest = Vec::new();
    _ = soon(tls.read_to_end(&mut rest)).await;
    assert_eq!(bench.count("timed_out"), 1);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// `GET https:/// /hello`-like head from the static table: GET, https, "/".
fn headers(stream: u8) -> Vec<u8> {
    vec![0, 0, 3, 1, 5, 0, 0, 0, stream, 0x82, 0x87, 0x84]
}

/// Whether a GOAWAY with this error code is among the frames.
fn said_goodbye(mut frames: &[u8], code: u32) -> bool {
    while frames.len() >= 9 {
        let length = usize::from(frames[0]) << 16 | usize::from(frames[1]) << 8 | usize::from(frames[2]);
        let (kind, payload) = (frames[3], frames.get(9..9 + length).unwrap_or_default());
        if kind == 7 && payload.get(4..8) == Some(&code.to_be_bytes()) {
            return true;
        }
        frames = frames.get(9 + length..).unwrap_or_default();
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection_with_a_reason() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let (mut reader, mut writer) = tokio::io::split(connect(bench.address(), "b.test", &["h2"]).await);
    let flood = tokio::spawn(async move {
        _ = writer.write_all(PREFACE).await;
        for round in 0..10_000_u32 {
            let stream = (round * 2 + 1).to_be_bytes();
            let mut bytes = headers(0);
            bytes[5..9].copy_from_slice(&stream);
            bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
            bytes.extend_from_slice(&stream);
            bytes.extend_from_slice(&8_u32.to_be_bytes());
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
            // Each in a record of its own, so that the streams are accepted before they are reset.
            tokio::task::yield_now().await;
        }
    });
    let mut received = Vec::new();
    _ = soon(reader.read_to_end(&mut received)).await;
    assert!(said_goodbye(&received, 0x0b), "no ENHANCE_YOUR_CALM");
    assert!(bench.stub.events().len() < 1_000, "{} events", bench.stub.events().len());
    flood.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_control_frames_ends_the_connection() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let mut tls = connect(bench.address(), "b.test", &["h2"]).await;
    tls.write_all(PREFACE).await.unwrap();
    let priority = [0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
    _ = tls.write_all(&priority.repeat(2_000)).await;
    let mut rest = Vec::new();
    _ = soon(tls.read_to_end(&mut rest)).await;
    assert_eq!(bench.count("h2_abuse"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_client_does_not_take_its_answer_is_reset() {
    let (bench, _) = secure(quick());
    let (sender, _driver) = connect_h2(bench.address()).await;
    // The client's window fills, since nobody reads the body.
    let response = sender.clone().send_request(get("/endless")).await.unwrap();
    bench.stub.wait_for(&Event::Aborted).await;
    assert_eq!(bench.count("stalled_writes"), 1);
    let mut body = response.into_body();
    let broke = async { while !matches!(body.frame().await, Some(Err(_)) | None) {} };
    soon(broke).await;
    assert_eq!(text(sender.clone().send_request(get("/hello")).await.unwrap()).await, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_says_goaway_and_lets_streams_finish() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let (sender, driver) = connect_h2(bench.address()).await;
    let (_idle, idle_driver) = connect_h2(bench.address()).await;
    let waiting = tokio::spawn(sender.clone().send_request(get("/wait")));
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    let stub = bench.stub.clone();
    let draining = tokio::spawn(bench.running.drain());
    soon(idle_driver).await.unwrap();
    stub.open_gate();
    assert_eq!(text(waiting.await.unwrap().unwrap()).await, "done");
    soon(driver).await.unwrap();
    let report = soon(draining).await.unwrap();
    assert_eq!((report.aborted, report.lost_workers), (0, 0));
}
