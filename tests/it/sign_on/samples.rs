//! What real providers sent, kept for the tests of pure code. `DURWARD_BLESS=1 cargo test --test it sign_on` writes the files anew;
//! everything in them was made by keys of such a run, and the private keys among them protect nothing.

use std::path::{Path, PathBuf};

use durward::base::clock::UnixMillis;
use serde_json::Value;

/// Every file, by its name without `.json`.
const NAMES: [&str; 13] = [
    "oidc-provider-rs256",
    "oidc-provider-es256",
    "oidc-provider-eddsa",
    "lemonldap-openid",
    "pysaml2-assertion-signed",
    "pysaml2-response-signed",
    "pysaml2-encrypted",
    "pysaml2-unsolicited",
    "pysaml2-log-out",
    "pysaml2-sha1",
    "pysaml2-triple-des",
    "lemonldap-saml",
    "lemonldap-saml-encrypted",
];

fn path(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sign_on/samples");
    folder.join(format!("{name}.json"))
}

/// Writes a sample if samples are to be written.
pub(super) fn keep(name: &str, sample: &Value) {
    assert!(NAMES.contains(&name), "{name} is not among the names of samples");
    if std::env::var_os("DURWARD_BLESS").is_some() {
        let text = serde_json::to_string_pretty(sample).unwrap();
        std::fs::write(path(name), text + "\n").unwrap();
    }
}

fn read(name: &str) -> Value {
    let text = std::fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&text).unwrap()
}

/// A sample, and the time by which it is judged.
pub(super) struct RealSample {
    pub(super) sample: Value,
    pub(super) now: UnixMillis,
}

impl RealSample {
    pub(super) fn of(name: &str) -> Self {
        let sample = read(name);
        let made_at = i64::try_from(sample["made_at"].as_u64().unwrap()).unwrap();
        Self {
            sample,
            now: UnixMillis(made_at * 1000),
        }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.sample[name].as_str().unwrap_or_else(|| panic!("no {name}"))
    }
}

#[test]
fn samples_are_whole() {
    let of_openid = ["discovery", "jwks", "client_id", "nonce", "code", "answer", "userinfo"];
    let of_saml = [
        "idp_metadata",
        "sp_metadata",
        "sp_entity_id",
        "acs_url",
        "slo_url",
        "sp_key",
        "sp_certificate",
        "message",
    ];
    for name in NAMES {
        let sample = read(name);
        assert!(sample["made_at"].as_u64().is_some(), "{name}: when it was made");
        let members: &[&str] = if sample["discovery"].is_null() { &of_saml } else { &of_openid };
        for member in members {
            assert!(!sample[*member].is_null(), "{name} has no {member}");
        }
    }
}
