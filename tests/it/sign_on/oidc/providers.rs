//! Log-ins over the network: what is fetched, how often, and what becomes of a provider that does not answer or changes its keys.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durward::base::clock::{BootMillis, ManualClock, Now, UnixMillis};
use durward::decide::external::FetchAddresses;
use durward::fetch::FetchSchemes;
use durward::sign_on::oidc::{Callback, LogInValues, OidcClient};
use durward::sign_on::{FindingLevel, OidcLogIn, OidcProviders, ProviderAccess, ProviderClient, SignedOnPerson, probe_oidc};
use serde_json::{Value, json};

use super::flow::{NOW, client, person_rules};
use super::provider::{CLIENT_ID, find, pairs_of};
use crate::support::issuer::{Signer, jwks};

/// An answer by path, and how often each path was asked.
#[derive(Default)]
struct Pages {
    answers: HashMap<&'static str, String>,
    asked: HashMap<String, usize>,
}

/// A provider on loopback.
struct Server {
    address: SocketAddr,
    pages: Arc<Mutex<Pages>>,
}

fn answer(status: &str, json: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            pages: Arc::default(),
        };
        let pages = Arc::clone(&server.pages);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that gives up is no failure of the server.
                drop(serve(stream, &pages));
            }
        });
        let issuer = server.issuer();
        let metadata = json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"), "userinfo_endpoint": format!("{issuer}/userinfo"),
        });
        server.publish("/.well-known/openid-configuration", &metadata);
        server
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    fn publish(&self, path: &'static str, json: &Value) {
        self.answer_with(path, &answer("200 OK", &json.to_string()));
    }

    fn answer_with(&self, path: &'static str, text: &str) {
        self.pages.lock().unwrap().answers.insert(path, text.to_owned());
    }

    fn publish_keys(&self, signer: &Signer) {
        self.answer_with("/keys", &answer("200 OK", &jwks(&[signer])));
    }

    fn asked(&self, path: &str) -> usize {
        self.pages.lock().unwrap().asked.get(path).copied().unwrap_or(0)
    }
}

fn serve(mut stream: TcpStream, pages: &Mutex<Pages>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    // All of it: a connection that is closed with bytes unread is reset.
    while !is_whole(&request) {
        let read = stream.read(&mut part)?;
        request.extend_from_slice(&part[..read]);
        if read == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = {
        let mut pages = pages.lock().unwrap();
        *pages.asked.entry(path.clone()).or_default() += 1;
        pages.answers.get(path.as_str()).cloned()
    };
    stream.write_all(answer.unwrap_or_else(|| self::answer("404 Not Found", "{}")).as_bytes())
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

/// A gateway's side: its clock and what it knows.
struct House {
    server: Server,
    signer: Signer,
    clock: Arc<ManualClock>,
    providers: OidcProviders,
    client: OidcClient,
    access: ProviderAccess,
}

impl House {
    fn open() -> Self {
        let server = Server::start();
        let signer = Signer::es256("key-1");
        server.publish_keys(&signer);
        let clock = Arc::new(ManualClock::new(Now {
            wall: UnixMillis(NOW * 1000),
            boot: BootMillis(1_000_000),
        }));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Self {
            client: client(&server.issuer()),
            providers: OidcProviders::new(clock.clone()),
            access: ProviderAccess {
                tls: Arc::new(tls),
                addresses: FetchAddresses::InsecureAny,
                schemes: FetchSchemes::InsecureHttp,
            },
            server,
            signer,
            clock,
        }
    }

    /// A log-in whose ID token this key signs.
    async fn log_in(&self, signer: &Signer) -> Result<SignedOnPerson, String> {
        let values = LogInValues::random().unwrap();
        let log_in = OidcLogIn {
            client: &self.client,
            redirect_uri: "https://app.example/cb",
            values: &values,
            access: &self.access,
        };
        let url = self.providers.begin(log_in, None).await.map_err(|fault| fault.to_string())?;
        let query = pairs_of(url.split_once('?').unwrap().1);
        let id_token = signer.token(&json!({
            "iss": self.client.issuer, "aud": CLIENT_ID, "sub": "alice-1", "iat": NOW, "exp": NOW + 3600, "nonce": find(&query, "nonce"),
        }));
        self.server.publish(
            "/token",
            &json!({ "token_type": "Bearer", "access_token": "access", "id_token": id_token }),
        );
        let callback = format!("code=c&state={}", find(&query, "state").unwrap());
        let callback = Callback::parse(callback.as_bytes()).unwrap();
        let finished = match self.providers.accept(log_in, callback).await {
            Ok(accepted) => self.providers.finish(log_in, accepted, &person_rules()).await,
            Err(fault) => Err(fault),
        };
        finished.map(|finished| finished.person).map_err(|fault| fault.to_string())
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        // Only the age of what is known is meant.
        self.clock.step_wall(UnixMillis(NOW * 1000));
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

const CONFIGURATION: &str = "/.well-known/openid-configuration";

#[test]
fn configuration_and_keys_are_fetched_once_and_again_when_they_are_old() {
    run(async {
        let house = House::open();
        for _ in 0..3 {
            assert_eq!(house.log_in(&house.signer).await.unwrap().subject, "alice-1");
        }
        assert_eq!(
            (
                house.server.asked(CONFIGURATION),
                house.server.asked("/keys"),
                house.server.asked("/token")
            ),
            (1, 1, 3)
        );
        house.pass(30);
        house.log_in(&house.signer).await.unwrap();
        assert_eq!(
            (house.server.asked(CONFIGURATION), house.server.asked("/keys")),
            (1, 2),
            "a withdrawn key ends within the bound"
        );
        house.pass(600);
        house.log_in(&house.signer).await.unwrap();
        assert_eq!((house.server.asked(CONFIGURATION), house.server.asked("/keys")), (2, 3));
    });
}

#[test]
fn a_new_key_is_fetched_at_once_and_strangers_cause_no_storm() {
    run(async {
        let house = House::open();
        house.log_in(&house.signer).await.unwrap();
        let newer = Signer::es256("key-2");
        house.server.publish_keys(&newer);
        house.log_in(&newer).await.unwrap();
        assert_eq!(house.server.asked("/keys"), 2);
        assert!(house.log_in(&house.signer).await.unwrap_err().contains("`kid`"), "a withdrawn key");
        let stranger = Signer::es256("key-3");
        let token = stranger.token(&json!({}));
        for _ in 0..10 {
            let verdict = house.providers.logout_token(&house.client, &token, &house.access).await;
            assert_eq!(verdict.err().map(|fault| fault.label()), Some("token"));
        }
        assert_eq!(house.server.asked("/keys"), 2);
        house.pass(31);
        for _ in 0..10 {
            assert!(house.providers.logout_token(&house.client, &token, &house.access).await.is_err());
        }
        assert_eq!(house.server.asked("/keys"), 4, "once for their age, and once for the unknown key");
    });
}

#[test]
fn userinfo_is_asked_with_the_access_token_if_it_is_wanted() {
    run(async {
        let mut house = House::open();
        house.client.userinfo = true;
        house.server.publish("/userinfo", &json!({ "sub": "alice-1", "name": "Alice" }));
        assert_eq!(house.log_in(&house.signer).await.unwrap().name.as_deref(), Some("Alice"));
        house.server.publish("/userinfo", &json!({ "sub": "bob-2", "name": "Bob" }));
        assert!(house.log_in(&house.signer).await.unwrap_err().contains("another person"));
        house.server.answer_with(
            "/userinfo",
            "HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nContent-Length: 2\r\n\r\n{}",
        );
        assert!(house.log_in(&house.signer).await.unwrap_err().contains("Content-Type"));
    });
}

#[test]
fn what_is_wrong_with_a_provider_is_told_in_words_and_asked_for_once() {
    run(async {
        for (path, text, words) in [
            (
                CONFIGURATION,
                answer("404 Not Found", "{}"),
                "openid-configuration`): it answered 404",
            ),
            (
                CONFIGURATION,
                "HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\n\r\n".to_owned(),
                "it answered 302; redirects",
            ),
            (CONFIGURATION, answer("200 OK", "{"), "is not one JSON object"),
            (
                CONFIGURATION,
                answer("200 OK", "{\"issuer\":\"https://other.example\"}"),
                "is of the issuer `https://other.example`",
            ),
            (CONFIGURATION, "SSH-2.0\r\n".to_owned(), "its answer is not HTTP/1.1"),
            ("/keys", answer("200 OK", "{\"keys\":[]}"), "no key is published"),
            (
                "/keys",
                answer("200 OK", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}"),
                "private or a symmetric key",
            ),
            (
                "/keys",
                answer("200 OK", &format!("\"{}\"", "x".repeat(70_000))),
                "larger than 64 KiB",
            ),
        ] {
            let house = House::open();
            house.server.answer_with(path, &text);
            let fault = house.log_in(&house.signer).await.unwrap_err();
            assert!(fault.contains(words), "{path}: {fault}");
            let asked = house.server.asked(path);
            assert!(house.log_in(&house.signer).await.unwrap_err().contains(words));
            assert_eq!(house.server.asked(path), asked, "{path}: not again at once");
        }
        let house = House::open();
        house.server.answer_with(CONFIGURATION, &answer("500 No", "{}"));
        assert!(house.log_in(&house.signer).await.is_err());
        house.server.publish(
            CONFIGURATION,
            &json!({
                "issuer": house.client.issuer, "authorization_endpoint": format!("{}/a", house.client.issuer),
                "token_endpoint": format!("{}/token", house.client.issuer), "jwks_uri": format!("{}/keys", house.client.issuer),
            }),
        );
        house.pass(2);
        assert!(house.log_in(&house.signer).await.is_ok(), "again after a moment");
    });
}

#[test]
fn many_who_begin_at_a_time_wait_for_one_fetch() {
    run(async {
        let house = House::open();
        let values = LogInValues::random().unwrap();
        let log_in = OidcLogIn {
            client: &house.client,
            redirect_uri: "https://app.example/cb",
            values: &values,
            access: &house.access,
        };
        let begun = futures_util::future::join_all((0..50).map(|_| house.providers.begin(log_in, None))).await;
        assert!(begun.iter().all(Result::is_ok));
        assert_eq!(house.server.asked(CONFIGURATION), 1);
    });
}

/// The findings above `Good`, with their words.
async fn probe(house: &House) -> Vec<(&'static str, String)> {
    let now = Now {
        wall: UnixMillis(NOW * 1000),
        boot: BootMillis(0),
    };
    let findings = probe_oidc(
        &ProviderClient::default(),
        &house.client,
        "https://app.example/cb",
        &house.access,
        now,
        &|fault| fault.to_string(),
    )
    .await;
    let bad = findings.into_iter().filter(|finding| finding.level > FindingLevel::Good);
    bad.map(|finding| (finding.label, finding.words)).collect()
}

/// A provider with which nothing is wrong.
fn sound() -> House {
    let house = House::open();
    let issuer = &house.client.issuer;
    house.server.publish(
        CONFIGURATION,
        &json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/a"), "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"), "end_session_endpoint": format!("{issuer}/bye"), "backchannel_logout_supported": true,
        }),
    );
    house
        .server
        .answer_with("/token", &answer("400 Bad Request", r#"{"error":"invalid_grant"}"#));
    house
}

#[test]
fn a_test_says_what_is_wrong_with_each_of_many_providers() {
    let keys = |keys: &str| answer("200 OK", keys);
    run(async {
        assert_eq!(probe(&sound()).await, [], "a sound provider");
        for (path, text, label, words) in [
            (CONFIGURATION, answer("404 Not Found", "{}"), "provider_unreachable", "404"),
            (
                CONFIGURATION,
                answer("200 OK", "<html>"),
                "metadata_form",
                "is the issuer's URL right?",
            ),
            (
                CONFIGURATION,
                answer("200 OK", r#"{"issuer":"https://i.example"}"#),
                "metadata_issuer",
                "https://i.example",
            ),
            ("/keys", keys(r#"{"keys":[]}"#), "token", "no key is published"),
            (
                "/keys",
                keys(r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#),
                "keys_left_out",
                "too weak",
            ),
            (
                "/keys",
                answer("500 No", "{}"),
                "provider_unreachable",
                "`jwks_uri`): it answered 500",
            ),
            (
                "/token",
                answer("401 Unauthorized", r#"{"error":"invalid_client","error_description":"expired"}"#),
                "client_refused",
                "expired",
            ),
            (
                "/token",
                answer("404 Not Found", "{}"),
                "provider_unreachable",
                "its token endpoint: it answered 404",
            ),
            (
                "/token",
                answer("400 Bad Request", r#"{"error":"invalid_request"}"#),
                "client_unknown",
                "`invalid_request`",
            ),
            (
                "/token",
                answer("200 OK", r#"{"token_type":"Bearer","access_token":"a","id_token":"b"}"#),
                "tokens_for_nobody",
                "made up",
            ),
        ] {
            let house = sound();
            house.server.answer_with(path, &text);
            let found = probe(&house).await;
            assert!(
                found.iter().any(|(own, text)| *own == label && text.contains(words)),
                "{label}: {found:?}"
            );
        }
        let mut house = sound();
        house.client.userinfo = true;
        house.client.algorithms = vec!["RS256".into()];
        let labels: Vec<&str> = probe(&house).await.iter().map(|(label, _)| *label).collect();
        assert_eq!(labels, ["metadata_member", "no_key_of_algorithms"]);
        house.client.algorithms = vec!["RS256".into(), "ES256".into()];
        assert_eq!(probe(&house).await.len(), 1);
        let plain = probe(&House::open()).await;
        let labels: Vec<&str> = plain.iter().map(|(label, _)| *label).collect();
        assert_eq!(labels, ["no_back_channel_log_out", "no_end_session", "provider_unreachable"]);
    });
}

#[test]
fn a_clock_that_is_wrong_by_an_hour_is_told_before_anybody_signs_on() {
    run(async {
        // 2027-01-15T08:00:00Z is the time of the tests.
        for (date, words) in [
            ("Fri, 15 Jan 2027 09:00:00 GMT", Some("60 min ahead")),
            ("Fri, 15 Jan 2027 07:00:00 GMT", Some("60 min ago")),
            ("Fri, 15 Jan 2027 08:00:20 GMT", None),
            ("yesterday", None),
        ] {
            let house = sound();
            let text = house.server.pages.lock().unwrap().answers[CONFIGURATION].clone();
            house
                .server
                .answer_with(CONFIGURATION, &text.replacen("\r\n", &format!("\r\nDate: {date}\r\n"), 1));
            let found = probe(&house).await;
            match words {
                None => assert_eq!(found, [], "{date}"),
                Some(words) => assert!(found[0].0 == "clock" && found[0].1.contains(words), "{date}: {found:?}"),
            }
        }
    });
}
