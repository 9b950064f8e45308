//! `durward demo`: the shipped configuration, a sample upstream, credentials, and calls to paste.

use std::path::Path;

pub(crate) mod escrow;
mod script;
mod site;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::output::Printer;
use super::serve::{self, Lines};
use escrow::Escrow;
use script::Script;
use site::Site;

/// Runs until SIGINT or SIGTERM. What it made is removed last, after everything that uses it ended.
pub(crate) fn run(printer: &Printer) -> Result<(), Failure> {
    let here = std::env::current_dir().unwrap_or_default();
    let (site, socket) = Site::prepare(&here)?;
    for remark in &site.remarks {
        printer.remark(&format!("note: {remark}"));
    }
    let failed = |error| Failure::new(Exit::Failed, format!("the sample upstream cannot be started: {error}"));
    let escrow = Escrow::start(socket).map_err(failed)?;
    // The demo's log of a start is for people, and so is its failure.
    let running = serve::start(&site.config(), Lines::Stderr, printer).map_err(|failure| Failure { told: false, ..failure })?;
    let script = Script::make(&site, &Client::new(site.socket(), Path::new(&site.config())))?;
    printer.print(&script, |out| script.write(out))?;
    let ended = running.wait();
    drop(escrow);
    drop(site);
    ended
}
