//! Surfaces of secrets that a service signs with.

use crate::config::reader::Section;
use crate::config::written::carrier::{WrittenPrefixes, read_prefixes};
use crate::decide::kinds::SigningSecretSurface;

use super::demand;

/// Signing secrets, as written.
#[derive(Debug)]
pub struct WrittenSigningSecret {
    /// How they begin.
    pub prefixes: WrittenPrefixes,
}

pub(super) fn read(section: &Section<'_>) -> Option<WrittenSigningSecret> {
    demand::<SigningSecretSurface>(section, &["prefixes"]).then(|| WrittenSigningSecret {
        prefixes: read_prefixes(section, "prefixes"),
    })
}
