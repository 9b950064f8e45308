//! `durward roles …`.

use std::io;

use crate::admin::roles::{CreateRole, RoleDeleted, RoleList, RoleView, SetRole};

use super::args::RoleCommand;
use super::client::Client;
use super::failure::Failure;
use super::keys::path_id;
use super::output::{self, Printer};
use super::wait::Change;

pub(crate) fn run(client: &Client, command: &RoleCommand, printer: &Printer) -> Result<(), Failure> {
    let role: RoleView = match command {
        RoleCommand::Create {
            tenant,
            name,
            description,
            scopes,
        } => {
            let request = CreateRole {
                tenant: tenant.clone(),
                name: name.clone(),
                description: description.clone(),
                scopes: scopes.clone(),
            };
            client.post("/v1/roles", &request)?
        }
        RoleCommand::Show { id } => client.get(&format!("/v1/roles/{}", path_id(id)?))?,
        RoleCommand::Set {
            id,
            name,
            description,
            scopes,
            no_scopes,
            wait,
        } => {
            let request = SetRole {
                name: name.clone(),
                description: description.clone(),
                scopes: (*no_scopes || !scopes.is_empty()).then(|| scopes.clone()),
            };
            let change = Change {
                path: format!("/v1/roles/{}", path_id(id)?),
                id,
            };
            return change.make((client, wait, printer), &request, |out, role: &RoleView| show(out, role));
        }
        RoleCommand::Delete { id, wait } => {
            let change = Change {
                path: format!("/v1/roles/{}/delete", path_id(id)?),
                id,
            };
            return change.make((client, wait, printer), &(), |out, role: &RoleDeleted| {
                writeln!(out, "role {} is deleted", role.id)
            });
        }
        RoleCommand::List { tenant } => {
            let query = match tenant {
                Some(tenant) => format!("?tenant={}", path_id(tenant)?),
                None => String::new(),
            };
            let list: RoleList = client.get(&format!("/v1/roles{query}"))?;
            return printer.print(&list, |out| table(out, &list));
        }
    };
    printer.print(&role, |out| show(out, &role))
}

fn table(out: &mut dyn io::Write, list: &RoleList) -> io::Result<()> {
    let rows = list.roles.iter().map(|role| {
        [
            role.id.clone(),
            role.name.clone(),
            role.tenant.clone().unwrap_or_else(|| "every tenant".into()),
            role.scopes.join(" "),
        ]
    });
    output::table(out, ["ID", "NAME", "TENANT", "SCOPES"], &rows.collect::<Vec<_>>())
}

fn show(out: &mut dyn io::Write, role: &RoleView) -> io::Result<()> {
    let scopes = role.scopes.join(" ");
    output::fields(
        out,
        &[
            ("id", &role.id),
            ("name", &role.name),
            ("description", role.description.as_deref().unwrap_or_default()),
            ("tenant", role.tenant.as_deref().unwrap_or("every tenant")),
            ("scopes", &scopes),
            ("created", role.created_at.as_deref().unwrap_or_default()),
        ],
    )
}
