//! HTTP/2 over TLS: the same answers, many streams on one connection, bodies both ways, a clean end.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::Site;
use crate::support::upstream::Upstream;

use super::{head, text};

pub(crate) type Sender = h2::client::SendRequest<Bytes>;

pub(crate) fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

pub(crate) async fn connect(gateway: &Gateway, site: &Site) -> Sender {
    let mut roots = RootCertStore::empty();
    roots.add(site.root.clone().into()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(gateway.address("tls")).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let (sender, connection) = h2::client::handshake(tls).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &Sender, method: Method, path: &str, key: &str, body: Option<Bytes>) -> (u16, Vec<u8>) {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("authorization", format!("Bearer {key}"))
        .body(())
        .unwrap();
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, mut stream) = ready.send_request(request, body.is_none()).unwrap();
    if let Some(body) = body {
        stream.send_data(body, true).unwrap();
    }
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    let mut received = Vec::new();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        received.extend_from_slice(&chunk);
    }
    (status, received)
}

#[test]
fn both_protocols_are_offered_and_give_the_same_answers() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let key = text(
        &gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]),
        "key",
    );

    let mut h1 = Client::connect_tls(gateway.address("tls"), &site.root, "localhost", &["http/1.1"]).unwrap();
    assert_eq!(h1.protocol().as_deref(), Some("http/1.1"));
    h1.send(&head("GET", "/v1/orders/1", &[("Authorization", &format!("Bearer {key}"))]));
    assert_eq!(h1.response().map(|r| r.status), Some(200));

    on_a_runtime(async {
        let sender = connect(&gateway, &site).await;
        let (status, body) = ask(&sender, Method::GET, "/v1/orders/1", &key, None).await;
        assert_eq!(status, 200, "{}", body.escape_ascii());
        assert_eq!(ask(&sender, Method::GET, "/v1/orders/1", "nonsense", None).await.0, 401);
        assert_eq!(ask(&sender, Method::GET, "/v1/payments/1", &key, None).await.0, 403);
        assert_eq!(ask(&sender, Method::GET, "/nothing", &key, None).await.0, 404);
        let body = Bytes::from(vec![b'b'; 300_000]);
        let (status, echoed) = ask(&sender, Method::POST, "/v1/orders/2", &key, Some(body)).await;
        assert_eq!(status, 200);
        let echoed: serde_json::Value = serde_json::from_slice(&echoed).unwrap();
        assert_eq!(echoed["body_len"], 300_000);
    });
    let seen = upstream.requests();
    assert!(
        seen.iter().all(|r| r.all("x-tenant-id") == ["acme"] && r.all("host").len() == 1),
        "{seen:?}"
    );
}

#[test]
fn many_streams_on_one_connection_are_answered_each_with_its_own() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    on_a_runtime(async {
        let sender = connect(&gateway, &site).await;
        let mut running = tokio::task::JoinSet::new();
        for n in 0..80 {
            let sender = sender.clone();
            running.spawn(async move { (n, ask(&sender, Method::GET, &format!("/public/{n}"), "x", None).await) });
        }
        while let Some(done) = running.join_next().await {
            let (n, (status, body)) = done.unwrap();
            let echoed: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status, echoed["target"].as_str()), (200, Some(format!("/public/{n}").as_str())));
        }
    });
    assert_eq!(upstream.count(), 80);
}

#[test]
fn crumbs_of_a_cookie_are_one_cookie_upstream() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let mut client = Client::connect_tls(gateway.address("tls"), &site.root, "localhost", &["h2"]).unwrap();
    let mut request = crate::support::frames::Request::get(b"/public/c", b"localhost");
    for crumb in [b"a=1".as_slice(), b"b=2", b"c=3"] {
        request.push(b"cookie", crumb);
    }
    let outcome = crate::support::frames::exchange(&mut client, &request);
    assert!(matches!(outcome, crate::support::frames::Outcome::Answer(200, _)), "{outcome:?}");
    assert_eq!(upstream.requests()[0].all("cookie"), ["a=1; b=2; c=3"]);
}

#[test]
fn a_field_as_large_as_may_be_comes_in_several_frames_and_one_above_is_refused() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    on_a_runtime(async {
        let sender = connect(&gateway, &site).await;
        let large = |n: usize| "x".repeat(n - "authorization".len() - "Bearer ".len());
        // A public route reads no credential, so only the size of the field decides.
        let (most, more) = (large(17 * 1024), large(17 * 1024 + 1));
        assert_eq!(ask(&sender, Method::GET, "/public/1", &most, None).await.0, 200);
        assert_eq!(ask(&sender, Method::GET, "/public/1", &more, None).await.0, 431);
        assert_eq!(
            ask(&sender, Method::GET, "/public/1", "x", None).await.0,
            200,
            "the connection goes on"
        );
    });
}
