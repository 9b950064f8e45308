//! `durward tenants …`.

use crate::admin::api::{CreateTenant, TenantList, TenantView};

use super::args::TenantCommand;
use super::client::Client;
use super::failure::Failure;
use super::keys::{list_query, path_id};
use super::output::{self, Printer};

pub(crate) fn run(client: &Client, command: &TenantCommand, printer: &Printer) -> Result<(), Failure> {
    let tenant: TenantView = match command {
        TenantCommand::Create { id } => client.post("/v1/tenants", &CreateTenant { id: id.clone() })?,
        TenantCommand::Enable { id } => client.post(&format!("/v1/tenants/{}/enable", path_id(id)?), &())?,
        TenantCommand::Disable { id } => client.post(&format!("/v1/tenants/{}/disable", path_id(id)?), &())?,
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

/// Says how to see the rest of a list.
pub(crate) fn more(printer: &Printer, next: Option<&str>) {
    if let Some(next) = next {
        printer.remark(&format!("there may be more: --after {next}"));
    }
}
