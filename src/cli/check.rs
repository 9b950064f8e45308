//! `durward check`.

use std::path::Path;

use super::failure::{Exit, Failure};
use super::output::Printer;

pub(crate) fn run(config: &Path, _printer: &Printer) -> Result<(), Failure> {
    Err(Failure::new(
        Exit::Configuration,
        format!("{} cannot be checked by this build", config.display()),
    ))
}
