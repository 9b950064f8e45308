//! `durward tenants …`.

use clap::Subcommand;

use crate::admin::tenants::{CreateTenant, TenantList, TenantView};

use super::args::{Page, WaitArgs};
use super::client::{Client, path_id};
use super::failure::Failure;
use super::output::{self, Printer};
use super::wait::Change;

/// Tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make an active tenant.
    Create {
        /// Your word for it; becomes the tenant header.
        id: String,
    },
    /// List tenants.
    List(Page),
    /// Admit a tenant's credentials.
    Enable {
        /// The tenant.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Refuse a tenant's credentials; `--wait` shows on which gateways they are refused.
    Disable {
        /// The tenant.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
}

pub(crate) fn run(client: &Client, command: &TenantCommand, printer: &Printer) -> Result<(), Failure> {
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

fn switch(client: &Client, printer: &Printer, wait: &WaitArgs, id: &str, verb: &str) -> Result<(), Failure> {
    let change = Change {
        client,
        wait,
        printer,
        path: format!("/v1/tenants/{}/{verb}", path_id(id)?),
        id,
    };
    change.make(&(), |out, tenant: &TenantView| output::tenant(out, tenant))
}
