//! An OpenID Connect provider over TLS whose answers a test decides: right ones, wrong ones, and none.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::support::issuer::{Signer, base64url, jwks};

pub(super) const CLIENT: &str = "durward";
pub(super) const SECRET: &str = "canary-client-secret-4711";

/// A provider on loopback with a certificate of its own.
pub(super) struct FakeProvider {
    /// The certificate, PEM.
    pub(super) certificate: String,
    shared: Arc<Shared>,
}

struct Shared {
    issuer: String,
    signer: Signer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What each code is for. A code is taken once.
    grants: HashMap<String, Grant>,
    codes: usize,
    manner: Manner,
    /// Paths that were asked, in order.
    asked: Vec<String>,
    refresh: Refreshing,
}

/// What the provider does with refresh tokens. Each is taken once; one that comes again ends its sign-on (RFC 9700, section 4.14.2).
#[derive(Default)]
struct Refreshing {
    gives: bool,
    /// Claims of the sign-on that each token is for.
    tokens: HashMap<String, Value>,
    used: HashSet<String>,
    /// How many tokens were given.
    given: usize,
    /// How many tokens came a second time.
    reused: usize,
    /// Claims of the ID tokens that come with new tokens, besides those of the sign-on or in their place.
    says: Value,
    without_id_token: bool,
}

/// How the token endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Manner {
    #[default]
    Right,
    /// An error of the server.
    Failing,
    /// A redirect to itself.
    Redirecting,
    /// 2 MB.
    Huge,
    /// Nothing, until the client gives up.
    Hanging,
}

/// What a person has agreed to at the provider.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) nonce: String,
    pub(super) challenge: String,
    pub(super) redirect_uri: String,
    /// Claims besides the usual ones, or in their place; `null` takes one away.
    pub(super) claims: Value,
}

impl FakeProvider {
    pub(super) fn start() -> Self {
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
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            issuer: format!("https://localhost:{}", address.port()),
            signer: Signer::es256("key-1"),
            state: Mutex::default(),
        });
        let (serving, config) = (shared.clone(), Arc::new(config));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, config) = (serving.clone(), config.clone());
                // A client that gives up is no failure of the server.
                std::thread::spawn(move || drop(shared.serve(stream, config)));
            }
        });
        Self {
            certificate: made.cert.pem(),
            shared,
        }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// From now on the token endpoint answers so.
    pub(super) fn behave(&self, manner: Manner) {
        self.shared.state().manner = manner;
    }

    /// From now on sign-ons are given refresh tokens.
    pub(super) fn give_refresh_tokens(&self) {
        self.shared.state().refresh.gives = true;
    }

    /// From now on sign-ons are given none.
    pub(super) fn give_no_refresh_tokens(&self) {
        self.shared.state().refresh.gives = false;
    }

    /// From now on ID tokens for refresh tokens have these claims, besides those of the sign-on or in their place.
    pub(super) fn say_later(&self, claims: &Value) {
        self.shared.state().refresh.says = claims.clone();
    }

    /// From now on no ID token comes for a refresh token.
    pub(super) fn give_no_later_id_token(&self) {
        self.shared.state().refresh.without_id_token = true;
    }

    /// Ends all sessions here without telling anybody: their refresh tokens are not taken any more.
    pub(super) fn end_sessions(&self) {
        self.shared.state().refresh.tokens.clear();
    }

    /// How many refresh tokens were given, and how many came a second time.
    pub(super) fn refreshed(&self) -> [usize; 2] {
        let state = self.shared.state();
        [state.refresh.given, state.refresh.reused]
    }

    /// A code for what a person has agreed to.
    pub(super) fn grant(&self, grant: Grant) -> String {
        let mut state = self.shared.state();
        state.codes += 1;
        let code = format!("canary-code-{}", state.codes);
        state.grants.insert(code.clone(), grant);
        code
    }

    /// How often a path was asked.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.shared.state().asked.iter().filter(|own| *own == path).count()
    }

    /// A logout token with these claims besides the usual ones, or in their place.
    pub(super) fn logout_token(&self, id: &str, claims: &Value) -> String {
        let mut all = json!({
            "iss": self.issuer(), "aud": CLIENT, "iat": now(), "exp": now() + 120, "jti": id,
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        merge(&mut all, claims);
        self.shared.signer.token(&all)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream, config: Arc<rustls::ServerConfig>) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
        let mut stream = rustls::StreamOwned::new(connection, stream);
        let (head, body) = read_request(&mut stream)?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.state().asked.push(path.clone());
        let manner = self.state().manner;
        let (status, body) = match path.as_str() {
            "/.well-known/openid-configuration" => (200, self.configuration().to_string()),
            "/jwks" => (200, jwks(&[&self.signer])),
            "/token" => match manner {
                Manner::Right => self.tokens(&head, &body),
                Manner::Failing => (500, "{}".to_owned()),
                Manner::Redirecting => (307, String::new()),
                Manner::Huge => (200, format!("{{\"x\":\"{}\"}}", "y".repeat(2_000_000))),
                Manner::Hanging => {
                    // Ends when the client does.
                    let _ = stream.read(&mut [0; 1]);
                    return Ok(());
                }
            },
            "/userinfo" => (200, self.userinfo().to_string()),
            _ => (404, "{}".to_owned()),
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nLocation: {}/token\r\nContent-Length: {}\r\n\r\n{body}",
            self.issuer,
            body.len()
        );
        stream.write_all(answer.as_bytes())?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn configuration(&self) -> Value {
        let issuer = &self.issuer;
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "end_session_endpoint": format!("{issuer}/end"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "scopes_supported": ["openid", "email", "profile"],
            "grant_types_supported": ["authorization_code"],
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "authorization_response_iss_parameter_supported": true,
        })
    }

    /// The answer of the token endpoint: as strict as a good provider is.
    fn tokens(&self, head: &str, body: &str) -> (u16, String) {
        let refuse = |error: &str| (400, json!({ "error": error, "error_description": "no" }).to_string());
        let form: HashMap<String, String> = body
            .split('&')
            .filter_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                Some((name.to_owned(), decoded(value)))
            })
            .collect();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{SECRET}")));
        let is_client = head.lines().any(|line| {
            let (name, value) = line.split_once(": ").unwrap_or_default();
            name.eq_ignore_ascii_case("authorization") && decoded(value) == basic
        });
        if !is_client {
            return refuse("invalid_client");
        }
        if field("grant_type") == "refresh_token" {
            return self.refreshed(field("refresh_token"));
        }
        let grant = self.state().grants.remove(field("code"));
        let Some(grant) = grant else {
            return refuse("invalid_grant");
        };
        let challenge = base64url(aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            field("code_verifier").as_bytes(),
        ));
        if field("grant_type") != "authorization_code" || challenge != grant.challenge || field("redirect_uri") != grant.redirect_uri {
            return refuse("invalid_grant");
        }
        let mut claims = json!({
            "iss": self.issuer, "aud": CLIENT, "sub": "ann", "nonce": grant.nonce, "iat": now(), "exp": now() + 300,
            "email": "ann@acme.example", "name": "Ann",
        });
        merge(&mut claims, &grant.claims);
        let mut answer = json!({
            "access_token": "canary-access-token", "token_type": "Bearer", "id_token": self.signer.token(&claims),
        });
        if self.state().refresh.gives {
            answer["refresh_token"] = json!(self.new_refresh_token(claims));
        }
        (200, answer.to_string())
    }

    fn new_refresh_token(&self, claims: Value) -> String {
        let mut state = self.state();
        let refresh = &mut state.refresh;
        refresh.given += 1;
        let token = format!("canary-refresh-token-{}", refresh.given);
        refresh.tokens.insert(token.clone(), claims);
        token
    }

    /// The answer to a refresh token. It takes the place of the one that was sent.
    fn refreshed(&self, token: &str) -> (u16, String) {
        let (mut claims, without_id_token) = {
            let mut state = self.state();
            let refresh = &mut state.refresh;
            if !refresh.used.insert(token.to_owned()) {
                refresh.reused += 1;
                refresh.tokens.clear();
            }
            let Some(mut claims) = refresh.tokens.remove(token) else {
                return (400, json!({ "error": "invalid_grant", "error_description": "no" }).to_string());
            };
            if !refresh.says.is_null() {
                merge(&mut claims, &refresh.says);
            }
            (claims, refresh.without_id_token)
        };
        (claims["iat"], claims["exp"]) = (json!(now()), json!(now() + 300));
        let mut answer = json!({
            "access_token": "canary-access-token", "token_type": "Bearer", "refresh_token": self.new_refresh_token(claims.clone()),
        });
        if !without_id_token {
            answer["id_token"] = json!(self.signer.token(&claims));
        }
        (200, answer.to_string())
    }

    /// Claims of the person whom all refresh tokens are for.
    fn userinfo(&self) -> Value {
        let mut claims = json!({ "sub": "ann" });
        let says = self.state().refresh.says.clone();
        if !says.is_null() {
            merge(&mut claims, &says);
        }
        claims
    }
}

fn read_request(stream: &mut impl Read) -> std::io::Result<(String, String)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.parse().ok())
                .unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
                return Ok((head, body));
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

fn merge(claims: &mut Value, more: &Value) {
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// A percent-encoded text.
pub(super) fn decoded(text: &str) -> String {
    durward::base::percent::decode(&text.replace('+', " ")).unwrap()
}
