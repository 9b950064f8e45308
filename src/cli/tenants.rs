//! `durward tenants …`.

use clap::Subcommand;

use crate::admin::tenants::{CreateTenant, TenantList, TenantView};

use super::args::{Page, WaitArgs};
use super::client::OperatorClient;
use super::client::path_id;
use super::failure::Failure;
use super::output::{self, Printer};
use super::wait::ChangeRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant whose credentials are admitted.
    Create {
        /// Your name for the tenant; services get it in the tenant header.
        id: String,
    },
    /// List tenants in the order of their ids.
    List(Page),
    /// Admit the credentials of a tenant again.
    Enable {
        /// The id of the tenant.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Refuse the credentials of a tenant; with `--wait`, show which gateways refuse them already.
    Disable {
        /// The id of the tenant.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

pub(crate) fn run(client: &OperatorClient, command: &TenantCommand, printer: &Printer) -> Result<(), Failure> {
    let tenant: TenantView = match command {
        TenantCommand::Create { id } => client.post("/v1/tenants", &CreateTenant { id: id.clone() })?,
        TenantCommand::Enable { id, wait } => return switch(client, printer, wait, id, "enable"),
        TenantCommand::Disable { id, wait } => return switch(client, printer, wait, id, "disable"),
        TenantCommand::List(page) => {
            let list: TenantList = client.get(&format!("/v1/tenants?{}", page.query(&[])?))?;
            printer.print(&list, |out| {
                let rows = list.tenants.iter().map(|t| {
                    let state = if t.active { "active" } else { "inactive" };
                    [t.id.clone(), state.to_owned(), t.created_at.clone()]
                });
                output::table(out, ["TENANT", "STATE", "CREATED"], &rows.collect::<Vec<_>>())
            })?;
            printer.more(list.next.as_deref());
            return Ok(());
        }
    };
    printer.print(&tenant, |out| output::tenant(out, &tenant))
}

fn switch(client: &OperatorClient, printer: &Printer, wait: &WaitArgs, id: &str, verb: &str) -> Result<(), Failure> {
    let change = ChangeRequest {
        client,
        wait,
        printer,
        path: format!("/v1/tenants/{}/{verb}", path_id(id)?),
        id,
    };
    change.make(&(), |out, tenant: &TenantView| output::tenant(out, tenant))
}
