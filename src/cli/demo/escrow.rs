//! The sample upstream: an escrow service that answers with what it was sent.

use std::net::SocketAddr;

use crate::cli::failure::{Exit, Failure};

pub(crate) fn run(listen: SocketAddr) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, format!("nothing listens on {listen}")))
}
