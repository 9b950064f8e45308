//! `durward audit erase`: removes the bodies of one request, through the gateway that keeps them.

use clap::Args;

use crate::admin::record::{BodiesErased, EraseBodies};

use super::super::client::OperatorClient;
use super::super::failure::Failure;
use super::super::output::Printer;

#[derive(Debug, Clone, Args)]
pub(crate) struct EraseArgs {
    /// The request's id, as its entry has it.
    #[arg(long = "request", value_name = "ID")]
    request: String,
}

pub(crate) fn run(client: &OperatorClient, args: &EraseArgs, printer: &Printer) -> Result<(), Failure> {
    let request = EraseBodies {
        request_id: args.request.clone(),
    };
    let done: BodiesErased = client.post("/v1/audit/erase", &request)?;
    printer.print(&done, |out| {
        let (number, noun) = (done.erased, if done.erased == 1 { "body" } else { "bodies" });
        writeln!(out, "removed {number} {noun} of request {}; its entries stay", done.request_id)
    })
}
