//! `durward serve`.

use std::path::Path;

use super::failure::{Exit, Failure};

pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    Err(Failure::new(
        Exit::Configuration,
        format!("{} cannot be served by this build", config.display()),
    ))
}
