//! TLS and HTTP/2 over real sockets.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use durward::server::tls::CertificateSource;
use durward::server::{self, ServerSetup};
use durward::snapshot::{CertificateSet, Limits, ListenerTransport};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::stub::Stub;
use super::{Bench, PATIENCE, listener, quick};

pub(super) type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// Certificates that can be replaced.
pub(super) struct Certificates(Mutex<Arc<CertificateSet>>);

impl Certificates {
    pub(super) fn made_for(names: &[&str]) -> Self {
        Self(Mutex::new(made_for(names)))
    }
}

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

pub(super) fn secure(limits: Limits) -> (Bench, Arc<Certificates>) {
    let certificates = Arc::new(Certificates::made_for(&["default.test", "b.test"]));
    let setup = ServerSetup {
        listeners: vec![listener(ListenerTransport::Tls)],
        limits,
        certificates: certificates.clone(),
        ticket_keys: None,
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

pub(super) fn client_config(alpn: &[&str]) -> ClientConfig {
    client_config_of(rustls::DEFAULT_VERSIONS, alpn)
}

pub(super) fn client_config_of(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

#[tokio::test]
async fn the_gateway_chooses_the_cheapest_cipher_suite_but_for_clients_that_are_better_at_another() {
    use rustls::CipherSuite as C;
    let (bench, _certificates) = secure(quick());
    let own = aws_lc_rs::default_provider().cipher_suites;
    let shown = |wanted: fn(&C) -> u8| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = own.iter().copied().filter(|suite| wanted(&suite.suite()) < 9).collect();
        provider.cipher_suites.sort_by_key(|suite| wanted(&suite.suite()));
        provider
    };
    let chacha_first = |suite: &C| u8::from(!format!("{suite:?}").contains("CHACHA20"));
    let only_256 = |suite: &C| if format!("{suite:?}").contains("AES_256") { 0 } else { 9 };
    let usual = |_: &C| 0;
    let (tls12, tls13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (version, wanted, suite) in [
        (tls13, shown(usual), C::TLS13_AES_128_GCM_SHA256),
        (tls13, shown(only_256), C::TLS13_AES_256_GCM_SHA384),
        (tls13, shown(chacha_first), C::TLS13_CHACHA20_POLY1305_SHA256),
        (tls12, shown(usual), C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (tls12, shown(only_256), C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (tls12, shown(chacha_first), C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ] {
        let config = ClientConfig::builder_with_provider(Arc::new(wanted))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_no_client_auth();
        let stream = try_connect(bench.address(), "b.test", &Arc::new(config)).await.unwrap();
        let chosen = stream.get_ref().1.negotiated_cipher_suite().map(|chosen| chosen.suite());
        assert_eq!(chosen, Some(suite));
    }
}

pub(super) async fn try_connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, tcp).await
}

pub(super) async fn connect(address: SocketAddr, name: &str, alpn: &[&str]) -> TlsStream<TcpStream> {
    try_connect(address, name, &Arc::new(client_config(alpn))).await.unwrap()
}

/// An HTTP/2 client and the task that drives it, which ends when the connection does.
///
/// The window of a stream fits into the socket's buffers: what nobody reads stalls its stream, never the connection.
pub(super) async fn connect_h2(address: SocketAddr) -> (SendRequest<Body>, tokio::task::JoinHandle<()>) {
    let tls = connect(address, "b.test", &["h2"]).await;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let mut client = http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(65_535);
    let (sender, connection) = client.handshake(TokioIo::new(tls)).await.unwrap();
    let driver = tokio::spawn(async move { _ = connection.await });
    (sender, driver)
}

pub(super) fn get(path: &str) -> http::Request<Body> {
    let request = http::Request::get(format!("https://b.test{path}"));
    request.body(Empty::new().boxed()).unwrap()
}

pub(super) fn post(path: &str, body: impl Into<Bytes>) -> http::Request<Body> {
    let request = http::Request::post(format!("https://b.test{path}"));
    request.body(Full::new(body.into()).boxed()).unwrap()
}

pub(super) async fn text(response: http::Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

pub(super) const GET: &[u8] = b"GET /sni HTTP/1.1\r\nHost: b.test\r\n\r\n";

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
    bench.wait_for("handshakes_timed_out", 2).await;
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
