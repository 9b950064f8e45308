//! Session tickets over real sockets: which of two servers resumes what the other began.

use std::sync::Arc;

use durward::base::clock::SystemClock;
use durward::base::fingerprint::{Pepper, Peppers};
use durward::server::tls::TicketKeySource;
use durward::server::{self, ServerSetup};
use durward::snapshot::{ListenerSettings, ListenerTransport};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stub::Stub;
use super::tls::{Certificates, GET, client_config, client_config_of, try_connect};
use super::{Bench, listener, quick};

/// A server with one listener of this name, under this pepper if there is one.
fn server(pepper: Option<u8>, name: &str) -> Bench {
    let setup = ServerSetup {
        listeners: vec![ListenerSettings {
            name: name.to_owned(),
            ..listener(ListenerTransport::Tls)
        }],
        limits: quick(),
        certificates: Arc::new(Certificates::made_for(&["default.test", "b.test"])),
        ticket_keys: pepper.map(|byte| TicketKeySource {
            peppers: Peppers::new(vec![Pepper::new(&[byte; 32]).unwrap()]).unwrap(),
            clock: Arc::new(SystemClock),
        }),
    };
    let stub = Stub::default();
    let running = server::start(setup, vec![stub.factory()]).unwrap();
    Bench { stub, running }
}

/// Whether a client with this memory resumes here. It takes the ticket that it gets.
async fn resumes(server: &Bench, name: &str, client: &Arc<ClientConfig>) -> bool {
    let mut tls = try_connect(server.address(), name, client).await.unwrap();
    // The ticket comes with the first answer.
    tls.write_all(GET).await.unwrap();
    assert!(tls.read(&mut [0; 1024]).await.unwrap() > 0);
    tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_at_another_server_of_the_same_pepper_and_listener() {
    let (here, there) = (server(Some(1), "public"), server(Some(1), "public"));
    let client = Arc::new(client_config(&["http/1.1"]));
    assert!(!resumes(&here, "b.test", &client).await);
    assert!(resumes(&there, "b.test", &client).await);
    assert!(resumes(&here, "b.test", &client).await, "and back");
}

#[tokio::test(flavor = "multi_thread")]
async fn d12_no_ticket_is_taken_by_another_listener_pepper_or_server_name() {
    let here = server(Some(1), "public");
    for (pepper, listener) in [(Some(1), "admin"), (Some(2), "public"), (None, "public")] {
        let client = Arc::new(client_config(&["http/1.1"]));
        let other = server(pepper, listener);
        assert!(!resumes(&here, "b.test", &client).await);
        assert!(!resumes(&other, "b.test", &client).await, "{pepper:?} {listener}");
        // The ticket it got there is none here.
        assert!(!resumes(&here, "b.test", &client).await, "{pepper:?} {listener}");
    }
    // A client that offers every ticket to everybody, as an attacker would.
    let mut config = client_config(&["http/1.1"]);
    config.resumption = Resumption::store(Arc::new(OneDrawer::new()));
    let client = Arc::new(config);
    assert!(!resumes(&here, "b.test", &client).await);
    assert!(resumes(&here, "b.test", &client).await);
    assert!(!resumes(&here, "default.test", &client).await, "a ticket is for one server name");
}

/// Whoever got the pepper later could otherwise read what was recorded (docs/decisions/0118).
#[tokio::test(flavor = "multi_thread")]
async fn k12_tls_1_2_resumes_where_it_began_and_nowhere_else() {
    let (here, there) = (server(Some(1), "public"), server(Some(1), "public"));
    let client = Arc::new(client_config_of(&[&rustls::version::TLS12], &["http/1.1"]));
    let mut tls = try_connect(here.address(), "b.test", &client).await.unwrap();
    assert_eq!(tls.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    tls.shutdown().await.unwrap();
    assert!(resumes(&here, "b.test", &client).await);
    assert!(!resumes(&there, "b.test", &client).await);
}

/// Keeps all sessions in one place, whatever server they are of.
#[derive(Debug)]
struct OneDrawer {
    sessions: ClientSessionMemoryCache,
    label: ServerName<'static>,
}

impl OneDrawer {
    fn new() -> Self {
        Self {
            sessions: ClientSessionMemoryCache::new(8),
            label: ServerName::try_from("any.test").unwrap(),
        }
    }
}

impl ClientSessionStore for OneDrawer {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(self.label.clone(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions.kx_hint(&self.label)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions.set_tls12_session(self.label.clone(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions.tls12_session(&self.label)
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.sessions.remove_tls12_session(&self.label);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.sessions.insert_tls13_ticket(self.label.clone(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.sessions.take_tls13_ticket(&self.label)
    }
}
