//! Where TLS ends before a program that speaks plain HTTP. Its port is there before the program is, so that the program can be told
//! its URL, and stays when the program is started anew.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::authority::authority;
use crate::support::wait::PATIENCE;

/// A listener on a free port of this machine. Dropping it ends it with all its connections.
pub(crate) struct Front {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    behind: Arc<AtomicU16>,
    _runtime: mpsc::Sender<()>,
}

impl Front {
    /// Listens with a certificate for these names.
    pub(crate) fn of(names: &[&str]) -> Self {
        Self::start(Some(TlsAcceptor::from(authority().server(names))))
    }

    /// Passes everything on as it is: the program has TLS itself.
    pub(crate) fn passing() -> Self {
        Self::start(None)
    }

    fn start(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let behind = Arc::new(AtomicU16::new(0));
        let port = behind.clone();
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.spawn(accept(listener, acceptor, port));
            let _ = ended.recv();
            runtime.shutdown_timeout(Duration::ZERO);
        });
        Self {
            address,
            behind,
            _runtime: sender,
        }
    }

    /// Leads to this port of this machine from now on.
    pub(crate) fn lead_to(&self, port: u16) {
        self.behind.store(port, Ordering::SeqCst);
    }

    /// Its URL under a name.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("https://{name}:{}", self.address.port())
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, behind: Arc<AtomicU16>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        // A client that gives up is no failure of the server.
        let (acceptor, behind) = (acceptor.clone(), behind.clone());
        tokio::spawn(async move {
            let forwarded = match acceptor {
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(client) => forward(client, &behind).await,
                    Err(error) => Err(error),
                },
                None => forward(stream, &behind).await,
            };
            drop(forwarded);
        });
    }
}

/// Connects to the program when the first bytes are there: browsers open connections that they may need later, and a program that
/// serves one connection at a time would wait for them.
async fn forward(mut client: impl AsyncRead + AsyncWrite + Unpin, behind: &AtomicU16) -> io::Result<()> {
    let mut first = vec![0; 16 * 1024];
    let length = tokio::time::timeout(PATIENCE, client.read(&mut first)).await??;
    if length == 0 {
        return Ok(());
    }
    let mut program = TcpStream::connect((Ipv4Addr::LOCALHOST, behind.load(Ordering::SeqCst))).await?;
    program.write_all(&first[..length]).await?;
    copy_bidirectional(&mut client, &mut program).await.map(drop)
}
