//! Surfaces of a publishable and a secret half.

use crate::config::reader::Section;
use crate::config::source::Located;
use crate::config::written::carrier::{WrittenPrefixes, read_prefixes};
use crate::decide::kinds::{KeyOrigin, KeyPairSurface};

use super::{demand, needs, read_count, read_origin};

/// Two halves, as written.
#[derive(Debug)]
pub struct WrittenKeyPair {
    /// Where they are presented.
    pub halves: WrittenHalves,
    /// How publishable halves begin.
    pub key_prefixes: WrittenPrefixes,
    /// How secret halves begin.
    pub secret_prefixes: WrittenPrefixes,
    /// Which pairs exist.
    pub keys: KeyOrigin,
}

/// Where halves are presented, as written.
#[derive(Debug)]
pub enum WrittenHalves {
    /// In headers.
    Headers {
        /// The publishable half.
        key: Located<String>,
        /// The secret half.
        secret: Located<String>,
    },
    /// In fields of a body, with their longest texts.
    Fields {
        /// The publishable half.
        key: (Located<String>, usize),
        /// The secret half.
        secret: (Located<String>, usize),
    },
}

pub(super) fn read(section: &Section<'_>) -> Option<WrittenKeyPair> {
    let in_body = section.raw("key_field").is_some() || section.raw("secret_field").is_some();
    let in_headers = section.raw("key_header").is_some() || section.raw("secret_header").is_some();
    let places: [&str; 2] = if in_body && !in_headers {
        ["key_field", "secret_field"]
    } else {
        ["key_header", "secret_header"]
    };
    let own = demand::<KeyPairSurface>(section, &[places[0], places[1], "key_prefixes", "secret_prefixes"]);
    let (key_prefixes, secret_prefixes) = (read_prefixes(section, "key_prefixes"), read_prefixes(section, "secret_prefixes"));
    let keys = read_origin(section);
    needs(section, &["key_max"], "key_field");
    needs(section, &["secret_max"], "secret_field");
    if in_body && in_headers {
        let at = ["key_field", "secret_field"].into_iter().find(|n| section.raw(n).is_some());
        section.report().error(
            &section.place_of(at.unwrap_or("key_field")),
            "a pair is presented in headers or in a body, not in both",
            Some("make two surfaces, or remove one pair of names".to_owned()),
        );
        return None;
    }
    let (key, secret) = (section.text(places[0]), section.text(places[1]));
    if !own {
        return None;
    }
    let halves = if in_body {
        WrittenHalves::Fields {
            key: (key?, read_count(section, "key_max")),
            secret: (secret?, read_count(section, "secret_max")),
        }
    } else {
        WrittenHalves::Headers {
            key: key?,
            secret: secret?,
        }
    };
    Some(WrittenKeyPair {
        halves,
        key_prefixes,
        secret_prefixes,
        keys,
    })
}
