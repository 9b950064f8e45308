//! Surfaces of HTTP Basic.

use crate::config::reader::Section;
use crate::config::written::carrier::{WrittenPrefixes, read_prefixes};
use crate::decide::kinds::{BasicSurface, CredentialKind, KeyOrigin};

use super::{demand, missing, read_origin};

/// HTTP Basic, as written.
#[derive(Debug)]
pub struct WrittenBasic {
    /// How keys begin.
    pub key_prefixes: WrittenPrefixes,
    /// How secrets begin; `None`: the password is empty.
    pub secret_prefixes: Option<WrittenPrefixes>,
    /// Which keys exist.
    pub keys: KeyOrigin,
}

pub(super) fn read(section: &Section<'_>) -> Option<WrittenBasic> {
    let own = demand::<BasicSurface>(section, &["key_prefixes"]);
    let empty = section.choice("password").value == "empty";
    match (empty, section.raw("secret_prefixes").is_some()) {
        (true, true) => {
            section.report().error(
                &section.place_of("secret_prefixes"),
                "`secret_prefixes` has no effect with `password = \"empty\"`",
                Some("leave it out, or leave `password` out: then the password is the secret half of a pair".to_owned()),
            );
            return None;
        }
        (false, false) => {
            missing(section, "secret_prefixes", BasicSurface::WORD);
            return None;
        }
        (true, false) | (false, true) => {}
    }
    let written = WrittenBasic {
        key_prefixes: read_prefixes(section, "key_prefixes"),
        secret_prefixes: (!empty).then(|| read_prefixes(section, "secret_prefixes")),
        keys: read_origin(section),
    };
    own.then_some(written)
}
