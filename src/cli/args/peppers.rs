//! Options of `durward peppers`.

use clap::Subcommand;

/// Peppers.
#[derive(Debug, Subcommand)]
pub(crate) enum PepperCommand {
    /// Let accounts that log in be found under the first pepper, so that none depends on an older one.
    Move,
    /// Drop a pepper that nothing in force depends on: gateways need it no more.
    Drop {
        /// Its mark, which `durward peppers` shows.
        mark: String,
    },
}
