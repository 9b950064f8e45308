//! `durward roles …`.

use std::io;

use clap::Subcommand;

use crate::admin::roles::{CreateRole, RoleDeleted, RoleList, RoleView, SetRole};

use super::args::WaitArgs;
use super::client::OperatorClient;
use super::client::path_id;
use super::failure::Failure;
use super::output::{self, Printer};
use super::wait::ChangeRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Make a role of a tenant.
    Create {
        /// The tenant that it belongs to.
        #[arg(long, value_name = "ID")]
        tenant: String,
        /// The name of the role.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What it is used for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// A scope that its holders get; may be given several times.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
    },
    /// List the roles of the configuration and, with a tenant, the roles of the tenant.
    List {
        /// Only those of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Show the role with this id.
    Show {
        /// The id of the role.
        id: String,
    },
    /// Change a role of a tenant; only the given options change.
    Set {
        /// The id of the role.
        id: String,
        /// The new name of the role.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The new description of the role.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Replaces the scopes that its holders get; may be given several times.
        #[arg(long = "scope", value_name = "SCOPE", conflicts_with = "no_scopes")]
        scopes: Vec<String>,
        /// Removes all scopes of the role.
        #[arg(long)]
        no_scopes: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Delete a role of a tenant; its holders lose its scopes.
    Delete {
        /// The id of the role.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

pub(crate) fn run(client: &OperatorClient, command: &RoleCommand, printer: &Printer) -> Result<(), Failure> {
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
            let change = ChangeRequest {
                client,
                wait,
                printer,
                path: format!("/v1/roles/{}", path_id(id)?),
                id,
            };
            return change.make(&request, |out, role: &RoleView| show(out, role));
        }
        RoleCommand::Delete { id, wait } => {
            let change = ChangeRequest {
                client,
                wait,
                printer,
                path: format!("/v1/roles/{}/delete", path_id(id)?),
                id,
            };
            return change.make(&(), |out, role: &RoleDeleted| writeln!(out, "role {} is deleted", role.id));
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
