//! Surfaces of one opaque key.

use crate::config::reader::Section;
use crate::config::source::Located;
use crate::config::written::carrier::{Cookies, WrittenPrefixes, read_carriers, read_prefixes};
use crate::decide::kinds::{ApiKeySurface, Carrier, KeyOrigin};

use super::{demand, read_count, read_origin};

/// One opaque key, as written.
#[derive(Debug)]
pub struct WrittenApiKey {
    /// Where.
    pub carriers: Vec<Located<Carrier>>,
    /// How keys begin.
    pub prefixes: WrittenPrefixes,
    /// Which keys exist.
    pub keys: KeyOrigin,
    /// Random characters of new ones.
    pub random: usize,
    /// Claims and header names.
    pub claim_headers: Vec<(Located<String>, Located<String>)>,
}

pub(super) fn read(section: &Section<'_>) -> Option<WrittenApiKey> {
    let own = demand::<ApiKeySurface>(section, &["prefixes"]);
    let keys = read_origin(section);
    let written = WrittenApiKey {
        carriers: read_carriers(section, Cookies::Refused),
        prefixes: read_prefixes(section, "prefixes"),
        keys,
        random: read_count(section, "random"),
        claim_headers: section.pairs("claim_headers"),
    };
    own.then_some(written)
}
