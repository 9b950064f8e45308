//! A secret of each form that masking recognises everywhere.

use std::sync::{Arc, OnceLock};

use durward::audit::mask::Shapes;
use durward::base::ids::SurfaceName;
use durward::base::key::GeneratedKey;
use durward::decide::surface::{ApiKeySurface, Carrier, DEFAULT_RANDOM, KeyOrigin, KeyPrefix, Surface, SurfaceKind};

/// A secret, and the part of it that must never come out.
pub struct PlantedSecret {
    pub text: String,
    pub canary: String,
}

impl PlantedSecret {
    /// Whether the beginning of the secret stands in a text, encoded or not: the fuzzer learns it from comparisons.
    pub fn is_hinted(&self, text: &str) -> bool {
        // From its second character: the first one may be the end of an escape, as in `%24111`.
        let beginning = self.canary.get(1..7).unwrap_or(&self.canary);
        let mut plain = text.replace('+', " ");
        for _ in 0..3 {
            if plain.contains(beginning) || text.contains(beginning) {
                return true;
            }
            plain = decoded(&plain);
        }
        false
    }
}

/// A text without one layer of percent-encoding.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *byte == b'%') {
            Some(octet) => {
                out.push(octet);
                rest = &behind[2..];
            }
            None => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn planted(text: &str, canary: &str) -> PlantedSecret {
    assert!(text.contains(canary));
    PlantedSecret {
        text: text.to_owned(),
        canary: canary.to_owned(),
    }
}

fn api_keys(name: &str, prefixes: &[&str], keys: KeyOrigin) -> Surface {
    let prefixes = prefixes.iter().map(|prefix| KeyPrefix::parse(prefix, None).unwrap());
    Surface {
        name: SurfaceName::parse(name).unwrap(),
        kind: SurfaceKind::ApiKey(ApiKeySurface {
            carriers: vec![Carrier::BEARER],
            prefixes: prefixes.collect(),
            keys,
            random: DEFAULT_RANDOM,
            claim_headers: Vec::new(),
        }),
        mode: None,
    }
}

pub fn shapes() -> &'static Arc<Shapes> {
    static SHAPES: OnceLock<Arc<Shapes>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        Arc::new(Shapes::of(&[
            api_keys("made", &["hlive_", "sk_live_"], KeyOrigin::Generated),
            api_keys("old", &["op"], KeyOrigin::Imported),
        ]))
    })
}

pub fn secrets() -> &'static [PlantedSecret] {
    static SECRETS: OnceLock<Vec<PlantedSecret>> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let minted = GeneratedKey::mint("other_product_").unwrap();
        let known = GeneratedKey::mint("hlive_").unwrap();
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c4n4ryc4n4ryc4n4ryc4n4ry";
        vec![
            planted("x4111-1111-1111-1111x", "4111-1111-1111-1111"),
            planted("x5555555555554444x", "5555555555554444"),
            planted("x3782 822463 10005x", "3782 822463 10005"),
            planted(jwt, "c4n4ryc4n4ryc4n4ryc4n4ry"),
            planted(minted.expose(), minted.expose()),
            planted(known.expose(), known.expose()),
            planted("hlive_c4n4ryc4n4ry", "c4n4ryc4n4ry"),
            planted("sk_live_c4n4ryc4n4ry", "c4n4ryc4n4ry"),
            planted("opc4n4ry/c4n4ry+c4n4ry", "c4n4ry/c4n4ry"),
            planted("Bearer c4n4ry-c4n4ry", "c4n4ry-c4n4ry"),
            planted("Basic YzRuNHJ5OmM0bjRyeQ==", "YzRuNHJ5OmM0bjRyeQ"),
            planted("password=c4n4ryc4n4ry", "c4n4ryc4n4ry"),
            planted("\"client_secret\": \"c4n4ry c4n4ry\"", "c4n4ry c4n4ry"),
            planted("api-key: c4n4ryc4n4ry", "c4n4ryc4n4ry"),
            planted("<password>c4n4ryc4n4ry</password>", "c4n4ryc4n4ry"),
            planted(
                "-----BEGIN PRIVATE KEY-----\nc4n4ryc4n4ryc4n4ry\n-----END PRIVATE KEY-----",
                "c4n4ryc4n4ryc4n4ry",
            ),
        ]
    })
}
