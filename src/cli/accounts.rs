//! `durward accounts …`.

use std::io;

use serde::Serialize;

use crate::admin::accounts::{AccountList, AccountView, CreateAccount, SetPassword};

use super::args::{AccountArgs, AccountCommand, WaitArgs};
use super::client::Client;
use super::failure::Failure;
use super::keys::{list_query, path_id};
use super::output::{self, Printer};
use super::password;
use super::tenants::more;
use super::wait::Change;

pub(crate) fn run(client: &Client, command: &AccountCommand, printer: &Printer) -> Result<(), Failure> {
    let account: AccountView = match command {
        AccountCommand::Create(args) => client.post("/v1/accounts", &creation(args, printer)?)?,
        AccountCommand::Show { id } => client.get(&format!("/v1/accounts/{}", path_id(id)?))?,
        AccountCommand::Disable { id, wait } => return change((client, wait, printer), id, "disable", &()),
        AccountCommand::Enable { id, wait } => return change((client, wait, printer), id, "enable", &()),
        AccountCommand::Revoke { id, wait } => return change((client, wait, printer), id, "revoke", &()),
        AccountCommand::SetPassword { id, wait } => {
            path_id(id)?;
            let password = password::read(printer)?;
            return change((client, wait, printer), id, "password", &SetPassword { password });
        }
        AccountCommand::List { tenant, surface, page } => {
            let filters = [("tenant", tenant.as_deref()), ("surface", surface.as_deref())];
            let list: AccountList = client.get(&format!("/v1/accounts?{}", list_query(&filters, page)?))?;
            printer.print(&list, |out| table(out, &list))?;
            more(printer, list.next.as_deref());
            return Ok(());
        }
    };
    printer.print(&account, |out| show(out, &account))
}

fn change(with: (&Client, &WaitArgs, &Printer), id: &str, verb: &str, body: &impl Serialize) -> Result<(), Failure> {
    let change = Change {
        path: format!("/v1/accounts/{}/{verb}", path_id(id)?),
        id,
    };
    change.make(with, body, |out, account: &AccountView| show(out, account))
}

/// The password is asked for only where there is an address to log in with.
fn creation(args: &AccountArgs, printer: &Printer) -> Result<CreateAccount, Failure> {
    Ok(CreateAccount {
        surface: args.surface.clone(),
        tenant: args.tenant.clone(),
        password: args.email.as_ref().map(|_| password::read(printer)).transpose()?,
        email: args.email.clone(),
        mode: args.mode.clone(),
        scopes: args.scopes.clone(),
        roles: args.roles.roles.clone(),
        expires: args.expires.clone(),
        name: args.name.clone(),
    })
}

fn table(out: &mut dyn io::Write, list: &AccountList) -> io::Result<()> {
    let rows = list.accounts.iter().map(|account| {
        [
            account.id.clone(),
            account.state.clone(),
            account.email.clone().unwrap_or_default(),
            account.surface.clone(),
            account.tenant.clone(),
            account.scopes.join(" "),
            account.name.clone().unwrap_or_default(),
        ]
    });
    let head = ["ID", "STATE", "EMAIL", "SURFACE", "TENANT", "SCOPES", "NAME"];
    output::table(out, head, &rows.collect::<Vec<_>>())
}

fn show(out: &mut dyn io::Write, account: &AccountView) -> io::Result<()> {
    let (scopes, roles) = (account.scopes.join(" "), account.roles.join(" "));
    output::fields(
        out,
        &[
            ("id", &account.id),
            ("state", &account.state),
            ("email", account.email.as_deref().unwrap_or_default()),
            ("surface", &account.surface),
            ("tenant", &account.tenant),
            ("mode", account.mode.as_deref().unwrap_or_default()),
            ("scopes", &scopes),
            ("roles", &roles),
            ("name", account.name.as_deref().unwrap_or_default()),
            ("created", &account.created_at),
            ("expires", account.expires_at.as_deref().unwrap_or("never")),
            ("sessions since", account.valid_after.as_deref().unwrap_or_default()),
        ],
    )
}
