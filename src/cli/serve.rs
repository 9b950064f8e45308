//! `durward serve`: starts everything, waits for a signal, drains.

use std::path::Path;

use super::failure::{Exit, Failure};

/// Where access lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// Standard output.
    Stdout,
    /// Standard error: standard output belongs to the demo.
    Stderr,
}

/// A gateway that serves, with its runtimes and threads.
#[derive(Debug)]
pub(crate) struct Running {}

pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    start(config, Lines::Stdout)?.wait()
}

/// Starts a gateway with this configuration; it is ready when this returns.
pub(crate) fn start(config: &Path, lines: Lines) -> Result<Running, Failure> {
    let _ = lines;
    Err(Failure::new(
        Exit::Configuration,
        format!("{} cannot be served by this build", config.display()),
    ))
}

impl Running {
    /// Waits for SIGINT or SIGTERM, drains, and ends everything it started.
    pub(crate) fn wait(self) -> Result<(), Failure> {
        Ok(())
    }
}
