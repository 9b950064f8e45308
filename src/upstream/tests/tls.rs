//! Upstreams over TLS: whose certificate is believed, ours if asked for one, and how a body may end.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A certificate authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        (vec![certificate.der().clone()], der.into())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

fn client(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn server(authority: &Authority) -> ServerConfig {
    let (chain, key) = authority.issue("orders.internal");
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

fn tls_pool(port: u16, name: &'static str, config: ClientConfig) -> Rc<UpstreamPool> {
    let mut spec = spec(&[port]);
    spec.endpoints[0].server_name = Some(name.try_into().unwrap());
    spec.tls = Some(Arc::new(config));
    pool_of(spec)
}

async fn accept(peer: &Peer, config: &Arc<ServerConfig>) -> std::io::Result<Talk<tokio_rustls::server::TlsStream<TcpStream>>> {
    let stream = TlsAcceptor::from(Arc::clone(config)).accept(peer.accept().await.stream).await?;
    Ok(Talk { stream })
}

#[test]
fn upstream_with_the_right_name_is_used_again_and_again() {
    run(async {
        let (authority, peer) = (Authority::new(), Peer::listen().await);
        let config = Arc::new(server(&authority));
        let pool = tls_pool(peer.port, "orders.internal", client(authority.roots()));
        let serve = async {
            let mut talk = accept(&peer, &config).await.unwrap();
            for _ in 0..3 {
                talk.answer(OK).await;
            }
            talk
        };
        let fetch_all = async {
            for _ in 0..3 {
                assert_eq!(fetch(&pool).await.unwrap().1, "ok");
            }
        };
        both(serve, fetch_all).await;
        assert_eq!((pool.counters().connects.value(), pool.counters().reuses.value()), (1, 2));
    });
}

#[test]
fn wrong_name_or_unknown_authority_is_unreachable() {
    run(async {
        let (authority, peer) = (Authority::new(), Peer::listen().await);
        let config = Arc::new(server(&authority));
        for pool in [
            tls_pool(peer.port, "other.internal", client(authority.roots())),
            tls_pool(peer.port, "orders.internal", client(Authority::new().roots())),
        ] {
            let serve = async {
                loop {
                    assert!(accept(&peer, &config).await.is_err(), "the handshake must not succeed");
                }
            };
            let error = tokio::select! {
                error = async { fetch(&pool).await.unwrap_err() } => error,
                () = serve => panic!(),
            };
            assert!(matches!(error, UpstreamError::Unreachable), "{error:?}");
        }
    });
}

#[test]
fn client_certificate_is_shown_when_configured_and_its_absence_is_refused() {
    run(async {
        let (authority, peer) = (Authority::new(), Peer::listen().await);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), Arc::clone(&provider))
            .build()
            .unwrap();
        let (chain, key) = authority.issue("orders.internal");
        let config = Arc::new(
            ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain, key)
                .unwrap(),
        );
        let (chain, key) = authority.issue("gateway.internal");
        let ours = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(authority.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        let pool = tls_pool(peer.port, "orders.internal", ours);
        let serve = async { accept(&peer, &config).await.unwrap().answer(OK).await };
        let (_, answer) = both(serve, fetch(&pool)).await;
        assert_eq!(answer.unwrap().1, "ok");

        let pool = tls_pool(peer.port, "orders.internal", client(authority.roots()));
        let serve = async {
            loop {
                assert!(accept(&peer, &config).await.is_err());
            }
        };
        tokio::select! {
            result = fetch(&pool) => assert!(result.is_err()),
            () = serve => {}
        }
    });
}

#[test]
fn body_until_close_needs_a_close_notify() {
    run(async {
        let (authority, peer) = (Authority::new(), Peer::listen().await);
        let config = Arc::new(server(&authority));
        for clean in [true, false] {
            let pool = tls_pool(peer.port, "orders.internal", client(authority.roots()));
            let serve = async {
                let mut talk = accept(&peer, &config).await.unwrap();
                talk.answer("HTTP/1.1 200 OK\r\n\r\nall?").await;
                if clean {
                    talk.stream.shutdown().await.unwrap();
                }
            };
            let read = async {
                match send(&pool, get(), NoBody).await {
                    Ok(mut answer) => collect(&mut answer.body).await.map_err(|(error, _)| error),
                    // The end was there with the answer.
                    Err(error) => {
                        assert!(matches!(error, UpstreamError::Invalid), "{error:?}");
                        Err(BodyError::Aborted)
                    }
                }
            };
            let ((), result) = both(serve, read).await;
            match result {
                Ok((data, _)) => assert!(clean && data == b"all?"),
                Err(error) => assert!(!clean && error == BodyError::Aborted),
            }
        }
    });
}

#[test]
fn large_upload_over_tls_arrives_whole() {
    run(async {
        let (authority, peer) = (Authority::new(), Peer::listen().await);
        let config = Arc::new(server(&authority));
        let pool = tls_pool(peer.port, "orders.internal", client(authority.roots()));
        let size: usize = 1 << 20;
        let serve = async {
            let mut talk = accept(&peer, &config).await.unwrap();
            talk.read_head().await;
            let mut body = vec![0; size];
            talk.stream.read_exact(&mut body).await.unwrap();
            assert!(body.iter().all(|b| *b == b'z'));
            talk.write(OK).await;
            talk
        };
        let body = Flood {
            left: size,
            taken: Rc::default(),
        };
        let upload = async {
            let mut answer = send(&pool, request(Method::Put, Framing::Length(size as u64)), body).await.unwrap();
            collect(&mut answer.body).await.unwrap();
        };
        both(serve, upload).await;
        assert_eq!(pool.counters().idle.value(), 1);
    });
}
