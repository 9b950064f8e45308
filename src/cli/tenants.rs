//! `durward tenants …`.

use crate::admin::tenants::{CreateTenant, TenantList, TenantView};

use super::args::{TenantCommand, WaitArgs};
use super::client::Client;
use super::failure::Failure;
use super::keys::{list_query, path_id};
use super::output::{self, Printer};
use super::wait::Change;

pub(crate) fn run(client: &Client, command: &TenantCommand, printer: &Printer) -> Result<(), Failure> {
    let tenant: TenantView = match command {
        TenantCommand::Create { id } => client.post("/v1/tenants", &CreateTenant { id: id.clone() })?,
        TenantCommand::Enable { id, wait } => return switch((client, wait, printer), id, "enable"),
        TenantCommand::Disable { id, wait } => return switch((client, wait, printer), id, "disable"),
        TenantCommand::List(page) => {
            let list: TenantList = client.get(&format!("/v1/tenants?{}", list_query(&[], page)?))?;
            printer.print(&list, |out| {
                let rows = list.tenants.iter().map(|t| {
                    let state = if t.active { "active" } else { "inactive" };
                    [t.id.clone(), state.to_owned(), t.created_at.clone()]
                });
                output::table(out, ["TENANT", "STATE", "CREATED"], &rows.collect::<Vec<_>>())
            })?;
            more(printer, list.next.as_deref());
            return Ok(());
        }
    };
    printer.print(&tenant, |out| output::tenant(out, &tenant))
}

fn switch(with: (&Client, &WaitArgs, &Printer), id: &str, verb: &str) -> Result<(), Failure> {
    let change = Change {
        path: format!("/v1/tenants/{}/{verb}", path_id(id)?),
        id,
    };
    change.make(with, &(), |out, tenant: &TenantView| output::tenant(out, tenant))
}

/// Says how to see the rest of a list.
pub(crate) fn more(printer: &Printer, next: Option<&str>) {
    if let Some(next) = next {
        printer.remark(&format!("there may be more: --after {next}"));
    }
}
