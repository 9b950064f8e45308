//! `durward accounts …`.

use std::io;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::admin::accounts::{AccountList, AccountView, CreateAccount, SetPassword};

use super::args::{Page, RoleArgs, WaitArgs};
use super::client::OperatorClient;
use super::client::path_id;
use super::failure::Failure;
use super::output::{self, Printer};
use super::password;
use super::wait::ChangeRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Make an account; its password is read from standard input as one line.
    Create(AccountArgs),
    /// List accounts in the order of their ids.
    List {
        /// Only those of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Only those of this surface; needed when there are several surfaces of accounts.
        #[arg(long, value_name = "NAME")]
        surface: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Show the account with this id.
    Show {
        /// The id of the account.
        id: String,
    },
    /// Disable an account and its sessions until it is enabled again.
    Disable {
        /// The id of the account.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Enable an account that was disabled.
    Enable {
        /// The id of the account.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Revoke an account and its sessions for ever.
    Revoke {
        /// The id of the account.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Replace the password of an account by one from standard input, and end its sessions.
    SetPassword {
        /// The id of the account.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AccountArgs {
    /// The tenant that it belongs to.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: String,
    /// The e-mail address; needed where accounts log in.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// The surface; needed when there are several surfaces of accounts.
    #[arg(long, value_name = "NAME")]
    pub(crate) surface: Option<String>,
    /// `test` or `live`, for surfaces with a mode.
    #[arg(long, value_name = "MODE", value_parser = ["test", "live"])]
    pub(crate) mode: Option<String>,
    /// A scope that it has; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    #[command(flatten)]
    pub(crate) roles: RoleArgs,
    /// When it ends: 30d, or 2027-01-31T00:00:00Z. Without it, it lives until revoked.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// A name that helps people to recognise it.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

pub(crate) fn run(client: &OperatorClient, command: &AccountCommand, printer: &Printer) -> Result<(), Failure> {
    let account: AccountView = match command {
        AccountCommand::Create(args) => client.post("/v1/accounts", &creation(args, printer)?)?,
        AccountCommand::Show { id } => client.get(&format!("/v1/accounts/{}", path_id(id)?))?,
        AccountCommand::Disable { id, wait } => return change(client, printer, wait, id, "disable", &()),
        AccountCommand::Enable { id, wait } => return change(client, printer, wait, id, "enable", &()),
        AccountCommand::Revoke { id, wait } => return change(client, printer, wait, id, "revoke", &()),
        AccountCommand::SetPassword { id, wait } => {
            path_id(id)?;
            let password = password::read(printer)?;
            return change(client, printer, wait, id, "password", &SetPassword { password });
        }
        AccountCommand::List { tenant, surface, page } => {
            let filters = [("tenant", tenant.as_deref()), ("surface", surface.as_deref())];
            let list: AccountList = client.get(&format!("/v1/accounts?{}", page.query(&filters)?))?;
            printer.print(&list, |out| table(out, &list))?;
            printer.more(list.next.as_deref());
            return Ok(());
        }
    };
    printer.print(&account, |out| show(out, &account))
}

fn change(client: &OperatorClient, printer: &Printer, wait: &WaitArgs, id: &str, verb: &str, body: &impl Serialize) -> Result<(), Failure> {
    let change = ChangeRequest {
        client,
        wait,
        printer,
        path: format!("/v1/accounts/{}/{verb}", path_id(id)?),
        id,
    };
    change.make(body, |out, account: &AccountView| show(out, account))
}

/// A password is read only for an account with an e-mail address, which logs in.
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
            account.linked_account.clone().unwrap_or_default(),
        ]
    });
    let head = ["ID", "STATE", "EMAIL", "SURFACE", "TENANT", "SCOPES", "NAME", "LINK OF"];
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
            ("link of", account.linked_account.as_deref().unwrap_or_default()),
            ("created", &account.created_at),
            ("expires", account.expires_at.as_deref().unwrap_or("never")),
            ("sessions since", account.valid_after.as_deref().unwrap_or_default()),
        ],
    )
}
