//! What servers may answer, and what becomes of servers that hang, lie, redirect or flood.

use std::future::Future;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const JSON: ExpectedAnswer = ExpectedAnswer {
    types: &["application/json"],
    statuses: &[200, 400],
    max_len: 1024,
};

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

/// A server of one connection: it reads one request and answers with these bytes, which it repeats `times` times.
struct Server {
    address: SocketAddr,
    request: JoinHandle<String>,
}

impl Server {
    async fn start(head: &str, repeated: &'static [u8], times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let head = head.to_owned();
        let request = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 4096];
            while !is_whole(&request) {
                let read = stream.read(&mut part).await.unwrap();
                request.extend_from_slice(&part[..read]);
                if read == 0 {
                    break;
                }
            }
            // A client that has had enough closes.
            let _ = stream.write_all(head.as_bytes()).await;
            for _ in 0..times {
                if stream.write_all(repeated).await.is_err() {
                    break;
                }
            }
            String::from_utf8_lossy(&request).into_owned()
        });
        Self { address, request }
    }

    async fn answering(text: &str) -> Self {
        Self::start(text, b"", 0).await
    }

    fn url(&self) -> FetchUrl {
        FetchUrl::parse(&format!("http://{}/path?a=b", self.address), FetchSchemes::InsecureHttp).unwrap()
    }
}

fn is_whole(request: &[u8]) -> bool {
    // A handshake of TLS.
    if request.first() == Some(&0x16) {
        return true;
    }
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

fn tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(config)
}

async fn ask_with(url: &FetchUrl, body: FetchBody, addresses: FetchAddresses, timeout: Duration) -> Result<FetchedAnswer, FetchFault> {
    let request = FetchRequest {
        url,
        tls: &tls(),
        addresses,
        body,
        authorization: Some(HeaderValue::from_static("Bearer token")),
        expected: &JSON,
        timeout,
    };
    fetch(request, &Arc::new(Semaphore::new(1))).await
}

async fn get(url: &FetchUrl) -> Result<FetchedAnswer, FetchFault> {
    ask_with(url, FetchBody::None, FetchAddresses::InsecureAny, Duration::from_secs(20)).await
}

fn verdict(answer: &str) -> Result<FetchedAnswer, FetchFault> {
    run(async { get(&Server::answering(answer).await.url()).await })
}

#[test]
fn a_get_and_a_form_are_sent_as_they_should_be() {
    run(async {
        let answer = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}";
        let server = Server::answering(answer).await;
        let answered = get(&server.url()).await.unwrap();
        assert_eq!((answered.status, &*answered.content), (200, &b"{}"[..]));
        assert_eq!(answered.date, Some(UnixMillis(784_111_777_000)));
        let request = server.request.await.unwrap().to_ascii_lowercase();
        assert!(request.starts_with("get /path?a=b http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nhost: {}\r\n", server.address)));
        assert!(request.contains("\r\nauthorization: bearer token\r\n") && request.contains("\r\naccept: application/json\r\n"));
        assert!(!request.contains("content-type"));

        let server = Server::answering(&answer.replace("200 OK", "400 Bad Request")).await;
        let form = FetchBody::Form(Zeroizing::new("grant_type=x&code=y".to_owned()));
        let answered = ask_with(&server.url(), form, FetchAddresses::InsecureAny, Duration::from_secs(20)).await;
        assert_eq!(answered.unwrap().status, 400, "an error that says which");
        let request = server.request.await.unwrap();
        assert!(request.starts_with("POST /path?a=b HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("application/x-www-form-urlencoded") && request.ends_with("\r\n\r\ngrant_type=x&code=y"));
    });
}

#[test]
fn b1_redirects_and_other_answers_are_not_taken() {
    let with = |head: &str| verdict(&format!("HTTP/1.1 {head}\r\n\r\n{{}}")).map(|answer| answer.status);
    let json = "Content-Type: application/json\r\nContent-Length: 2";
    let http = Err(FetchFault::Http);
    for (head, expected) in [
        (format!("200 OK\r\n{json}"), Ok(200)),
        (
            format!("302 Found\r\nLocation: https://evil.example/\r\n{json}"),
            Err(FetchFault::Status(302)),
        ),
        (
            format!("307 Temporary Redirect\r\nLocation: /x\r\n{json}"),
            Err(FetchFault::Status(307)),
        ),
        (format!("404 Not Found\r\n{json}"), Err(FetchFault::Status(404))),
        (format!("500 No\r\n{json}"), Err(FetchFault::Status(500))),
        (format!("204 No Content\r\n{json}"), Err(FetchFault::Status(204))),
        ("200 OK\r\nContent-Length: 2".to_owned(), Err(FetchFault::Type(JSON.types))),
        (
            "200 OK\r\nContent-Type: text/html\r\nContent-Length: 2".to_owned(),
            Err(FetchFault::Type(JSON.types)),
        ),
        (
            format!("200 OK\r\nContent-Encoding: gzip\r\n{json}"),
            Err(FetchFault::Type(JSON.types)),
        ),
        (
            "400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 2".to_owned(),
            Err(FetchFault::Status(400)),
        ),
        (
            "200 OK\r\nContent-Type: application/json\r\nContent-Length: 3".to_owned(),
            Err(FetchFault::Body(1024)),
        ),
        (
            "200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3".to_owned(),
            http.clone(),
        ),
        (
            format!("200 OK\r\nTransfer-Encoding: chunked\r\n{json}"),
            Err(FetchFault::Body(1024)),
        ),
    ] {
        let actual = with(&head);
        let is_refused_anyway =
            actual.is_err() && expected.is_err() && head.matches("Length").count() + head.matches("chunked").count() > 1;
        assert!(actual == expected || is_refused_anyway, "{head}: {actual:?}");
    }
    for garbage in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200", "{}"] {
        assert_eq!(verdict(garbage).err(), Some(FetchFault::Http), "{garbage}");
    }
}

#[test]
fn b1_a_hundred_megabytes_are_refused_after_the_first_kilobyte() {
    static PART: [u8; 65_536] = [b'x'; 65_536];
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    run(async {
        for length in ["Content-Length: 104857600\r\n\r\n", "Connection: close\r\n\r\n"] {
            let server = Server::start(&format!("{head}{length}"), &PART, 1_600).await;
            assert_eq!(get(&server.url()).await.err(), Some(FetchFault::Body(1024)));
        }
        let chunk: &'static [u8] = b"8\r\nxxxxxxxx\r\n";
        let server = Server::start(&format!("{head}Transfer-Encoding: chunked\r\n\r\n"), chunk, 1_000_000).await;
        assert_eq!(get(&server.url()).await.err(), Some(FetchFault::Body(1024)));
        // A head without an end.
        let server = Server::start("HTTP/1.1 200 OK\r\n", b"X-Padding: xxxxxxxxxxxxxxxxxxxxxxxx\r\n", 1_000_000).await;
        assert_eq!(get(&server.url()).await.err(), Some(FetchFault::Http));
    });
}

#[test]
fn b1_a_server_that_hangs_is_left_at_the_deadline() {
    let soon = Duration::from_millis(100);
    run(async {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{",
            "HTTP/1.1 200 OK\r\n",
            "",
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = FetchUrl::parse(&format!("http://{}/", listener.local_addr().unwrap()), FetchSchemes::InsecureHttp).unwrap();
            let hanging = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(head.as_bytes()).await.unwrap();
                // Until the client has closed.
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            });
            let answer = ask_with(&url, FetchBody::None, FetchAddresses::InsecureAny, soon).await;
            assert_eq!(answer.err(), Some(FetchFault::Timeout(soon)), "{head}");
            hanging.await.unwrap();
        }
    });
}

#[test]
fn b1_an_address_of_the_operators_network_is_asked_only_if_the_operator_says_so() {
    run(async {
        let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").await;
        let answer = ask_with(&server.url(), FetchBody::None, FetchAddresses::Public, Duration::from_secs(20)).await;
        assert_eq!(answer.err(), Some(FetchFault::PrivateAddress));
        let url = FetchUrl::parse(&format!("http://localhost:{}/", server.address.port()), FetchSchemes::InsecureHttp);
        let answer = ask_with(&url.unwrap(), FetchBody::None, FetchAddresses::Public, Duration::from_secs(20)).await;
        assert_eq!(answer.err(), Some(FetchFault::PrivateAddress), "by its name too");
        assert!(get(&server.url()).await.is_ok(), "nobody had asked before");
    });
}

#[test]
fn no_plain_answer_is_taken_for_one_over_tls() {
    run(async {
        let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
        let mut url = server.url();
        url.scheme = FetchScheme::Https;
        assert!(matches!(get(&url).await, Err(FetchFault::Tls(_))));
    });
}
