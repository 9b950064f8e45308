//! What the header tests share: surfaces, a policy, and ways a request is sent on.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::clock::UnixMillis;
use crate::base::ids::{Subject, TenantId};
use crate::base::principal::{Facts, TokenClaims, TokenMemo};
use crate::base::scope::Mode;
use crate::decide::method::Method;
use crate::decide::samples;
use crate::decide::surface::{Carrier, KeyOrigin};
use crate::decide::token::ClaimHeader;
use crate::wire::head::Version;

use super::*;

const SESSIONS: usize = 2;

fn surfaces() -> Vec<Surface> {
    let mut rules = samples::token_rules(&[7; 32], "dashboard");
    rules.claim_headers = vec![
        ClaimHeader {
            claim: "role".into(),
            header: "X-Auth-Role".into(),
        },
        ClaimHeader {
            claim: "tx".into(),
            header: "X-Transaction-Id".into(),
        },
    ];
    vec![
        samples::api_key(
            "keys",
            &[Carrier::BEARER, Carrier::Header("x-api-token".into())],
            "t_",
            "l_",
            KeyOrigin::Generated,
        ),
        samples::key_pair("pairs"),
        samples::session(
            "sessions",
            &[Carrier::Cookie("__Host-session".into()), Carrier::Cookie("portal".into())],
            rules,
            "accounts",
        ),
    ]
}

fn policy() -> HeaderPolicy {
    HeaderPolicy::new(IdentityNames::default(), &surfaces())
}

fn head(fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead {
        target: b"/x".to_vec(),
        ..RequestHead::default()
    };
    head.fields.push(b"Host", b"api.test");
    for (name, value) in fields {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    head
}

fn screen(fields: &[(&str, &str)]) -> Result<Vec<Role>, Denial> {
    let head = head(fields);
    policy().screen(&head).map(|screened| screened.roles[1..=fields.len()].to_vec())
}

/// How a request is sent on.
struct Way {
    principal: Option<(Principal, usize)>,
    origin: ClientOrigin,
    peer: &'static str,
    credentials: CredentialForwarding,
    trailers: Trailers,
}

impl Way {
    /// Without a principal, from an untrusted peer.
    fn public() -> Self {
        let peer = "192.0.2.1";
        Self {
            principal: None,
            origin: ClientOrigin {
                client: peer.parse().unwrap(),
                trusted: false,
            },
            peer,
            credentials: CredentialForwarding::Removed,
            trailers: Trailers::Dropped,
        }
    }

    fn through_proxy(client: &str) -> Self {
        Self {
            origin: ClientOrigin {
                client: client.parse().unwrap(),
                trusted: true,
            },
            peer: "10.0.0.1",
            ..Self::public()
        }
    }

    fn admitted(principal: Principal, surface: usize) -> Self {
        Self {
            principal: Some((principal, surface)),
            ..Self::public()
        }
    }

    fn send(&self, fields: &[(&str, &str)]) -> Result<Vec<String>, Denial> {
        self.send_by(&policy(), fields)
    }

    fn send_by(&self, policy: &HeaderPolicy, fields: &[(&str, &str)]) -> Result<Vec<String>, Denial> {
        let (surfaces, head) = (surfaces(), head(fields));
        let screened = policy.screen(&head)?;
        let target = RequestTarget::parse(&head, Method::Get)?;
        let facts = OutgoingHead {
            principal: self.principal.as_ref().map(|(p, s)| (p, &surfaces[*s])),
            origin: self.origin,
            peer: self.peer.parse::<IpAddr>().unwrap(),
            scheme: UriScheme::Https,
            request_id: "req-1",
            target: &target,
            credentials: self.credentials,
            trailers: self.trailers,
        };
        let mut out = Vec::new();
        policy.write_outgoing(&head, &screened, &facts, &mut out)?;
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.ends_with("\r\n") && !text.replace("\r\n", "").contains(['\r', '\n']));
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// What is sent on of the received fields alone.
    fn passes(&self, fields: &[(&str, &str)]) -> Vec<String> {
        let ours = ["X-Request-Id: ", "X-Forwarded-"];
        let sent = self.send(fields).unwrap();
        sent.into_iter()
            .filter(|line| !ours.iter().any(|name| line.starts_with(name)))
            .collect()
    }
}

fn principal() -> Principal {
    let mut facts = samples::facts("keys", "key-1", "acme");
    facts.credential.mode = Some(Mode::Live);
    facts.credential.scopes = samples::scopes(&["orders:read", "orders:write"]);
    facts.credential.subject = Some(Subject::parse("user-1").unwrap());
    Principal::new(Arc::new(facts), None)
}

const IDENTITY: [&str; 8] = [
    "X-Tenant-Id",
    "X-Scopes",
    "X-Auth-Surface",
    "X-Auth-Mode",
    "X-Auth-Subject",
    "X-Auth-Credential-Id",
    "X-Auth-Role",
    "X-Transaction-Id",
];

mod filtering;
mod sending;
