//! Clients that go away at any moment never leave their answer, or their identity, to somebody else (docs/threats.md F12).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::Site;
use crate::support::upstream::Upstream;

use super::{head, scale, text};

/// Clients at a time.
const CLIENTS: u64 = 8;

/// A small generator (xorshift, Marsaglia 2003): the seed is printed, so a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn no_answer_and_no_forwarded_request_carries_another_tenants_identity() {
    let requests = scale("DURWARD_TEST_DISCONNECTS", 4_000);
    let tenants = scale("DURWARD_TEST_TENANTS", 40);
    let seed = scale("DURWARD_TEST_SEED", 0x0D0C_5EED);
    eprintln!("seed {seed}, {requests} requests, {tenants} tenants");
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let keys: Vec<(String, String)> = (0..tenants)
        .map(|n| {
            let tenant = format!("tenant-{n}");
            gateway.json(&["tenants", "create", &tenant]);
            let made = gateway.create_key("api", &tenant, &["--mode", "live", "--scope", "orders:read"]);
            (tenant, text(&made, "key"))
        })
        .collect();
    let (answered, abandoned) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..CLIENTS {
            let (keys, gateway, answered, abandoned) = (&keys, &gateway, &answered, &abandoned);
            scope.spawn(move || {
                let mut dice = Dice(seed ^ (worker + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                for number in 0..requests / CLIENTS {
                    let (tenant, key) = &keys[usize::try_from(dice.roll(keys.len() as u64)).unwrap()];
                    let mark = format!("{worker}-{number}");
                    if one(gateway, &mut dice, tenant, key, &mark) {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        abandoned.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (answered, abandoned) = (answered.into_inner(), abandoned.into_inner());
    eprintln!("{answered} answered, {abandoned} abandoned, {} arrived", upstream.count());
    assert!(answered > 0 && abandoned > 0);
    assert_arrived(&upstream, &keys);
}

/// One connection, one to three requests, given up at a random point. True when all were answered.
fn one(gateway: &Gateway, dice: &mut Dice, tenant: &str, key: &str, mark: &str) -> bool {
    let mut client = Client::connect(gateway.address("plain"));
    let authorization = format!("Bearer {key}");
    let target = format!("/v1/orders/{mark}?tenant={tenant}");
    let body = "x".repeat(usize::try_from(dice.roll(2_000)).unwrap());
    let mut request = head(
        "POST",
        &target,
        &[("Authorization", &authorization), ("Content-Length", &body.len().to_string())],
    );
    request.extend_from_slice(body.as_bytes());
    for _ in 0..=dice.roll(3) {
        if dice.roll(3) == 0 {
            let cut = usize::try_from(dice.roll(request.len() as u64)).unwrap();
            client.send(&request[..cut]);
            return false;
        }
        client.send(&request);
        if dice.roll(4) == 0 {
            return false;
        }
        let response = client.final_response_to("POST").expect("an answer");
        assert_eq!(response.status, 200, "{response:?}");
        let echoed = response.json();
        let fields: BTreeMap<String, String> = echoed["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| (f[0].as_str().unwrap().to_ascii_lowercase(), f[1].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(fields["x-tenant-id"], tenant, "somebody else's identity");
        assert_eq!(echoed["target"], target.as_str(), "somebody else's answer");
        assert_eq!(echoed["body_len"], body.len() as u64);
    }
    true
}

/// Every request that arrived says the same tenant in its target, which the client wrote, and in
/// its header, which the gateway wrote.
fn assert_arrived(upstream: &Upstream, keys: &[(String, String)]) {
    let arrived = upstream.requests();
    assert!(!arrived.is_empty());
    for request in &arrived {
        let tenant = request.target.rsplit_once("tenant=").expect("a target of ours").1;
        assert_eq!(request.all("x-tenant-id"), [tenant], "{}", request.target);
        assert!(keys.iter().any(|(known, _)| known == tenant));
    }
    assert_eq!(upstream.broken(), Vec::<String>::new());
}
