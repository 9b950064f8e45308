//! `durward keys …`.

use std::io;

use clap::{Args, Subcommand};

use crate::admin::keys::{CreateKey, CreatedKey, KeyList, KeyMade, KeyView, RevealedSecret};
use crate::admin::receipts::Confirmation;
use crate::admin::rotate::{ReplacedKey, RotateKey, RotatedKey};

use super::args::{KeyArgs, Page, RoleArgs, WaitArgs};
use super::client::OperatorClient;
use super::client::path_id;
use super::failure::Failure;
use super::import::{self, ImportArgs};
use super::output::{self, Form, Printer};
use super::wait::{self, ChangeRequest};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key or a key pair; its secret is shown only now.
    Create(CreateArgs),
    /// List keys with their prefix and their last four characters, never with a secret.
    List {
        /// Only those of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Only those of this surface.
        #[arg(long, value_name = "NAME")]
        surface: Option<String>,
        /// Only keys in force that are found with this pepper; `durward peppers` shows its mark.
        #[arg(long, value_name = "MARK")]
        pepper: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Show the key with this id.
    Show {
        /// The id of the key.
        id: String,
    },
    /// Show the secret that a service signs its webhooks with; of other keys only the hash is stored.
    Reveal {
        /// The id of the key.
        id: String,
    },
    /// Disable a key until it is enabled again.
    Disable {
        /// The id of the key.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Enable a key that was disabled.
    Enable {
        /// The id of the key.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Revoke a key for ever; with `--wait`, show which gateways refuse it already (for a leaked key).
    Revoke {
        /// The id of the key.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Make a new key like this one, and end this one after a grace.
    Rotate {
        /// The id of the key.
        id: String,
        /// How long the old key still works: 45s, 90m, 12h, 30d, 2w, or 0.
        #[arg(long, value_name = "TIME", default_value = "1h")]
        grace: String,
        /// When the new key ends: 30d, or 2027-01-31T00:00:00Z. Without it, when the old key would have ended.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Import keys of which only the SHA-256 hashes are known.
    Import(ImportArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CreateArgs {
    /// The surface it is for.
    #[arg(long, value_name = "NAME")]
    pub(crate) surface: String,
    /// The tenant that it belongs to.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: String,
    #[command(flatten)]
    pub(crate) roles: RoleArgs,
    /// The id of the parent; when the parent ends, the key ends too.
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<String>,
    /// What it is used for.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// The answer to a rotation with `--json`: the new credential, and what it replaces.
#[derive(serde::Serialize)]
struct RotatedAnswer<'a> {
    #[serde(flatten)]
    credential: &'a KeyMade,
    replaces: &'a ReplacedKey,
}

/// The answer to `revoke --wait` with `--json`, as docs/operations.md has it. The gateways are added to it.
#[derive(serde::Serialize)]
struct RevokedAnswer<'a> {
    id: &'a str,
    /// `null` when the change was made and the record could not be read.
    revoked_at: Option<&'a str>,
}

pub(crate) fn run(client: &OperatorClient, command: &KeyCommand, printer: &Printer) -> Result<(), Failure> {
    match command {
        KeyCommand::Create(args) => create(client, args, printer),
        KeyCommand::List {
            tenant,
            surface,
            pepper,
            page,
        } => {
            let filters = [
                ("tenant", tenant.as_deref()),
                ("surface", surface.as_deref()),
                ("pepper", pepper.as_deref()),
            ];
            let list: KeyList = client.get(&format!("/v1/keys?{}", page.query(&filters)?))?;
            printer.print(&list, |out| list_table(out, &list))?;
            printer.more(list.next.as_deref());
            Ok(())
        }
        KeyCommand::Reveal { id } => {
            let revealed: RevealedSecret = client.get(&format!("/v1/keys/{}/secret", path_id(id)?))?;
            printer.print(&revealed, |out| writeln!(out, "{}", revealed.secret))
        }
        KeyCommand::Show { id } => {
            let key: KeyView = client.get(&format!("/v1/keys/{}", path_id(id)?))?;
            printer.print(&key, |out| output::key(out, &key))
        }
        KeyCommand::Disable { id, wait } => change(client, printer, wait, id, "disable"),
        KeyCommand::Enable { id, wait } => change(client, printer, wait, id, "enable"),
        KeyCommand::Revoke { id, wait } => revoke(client, printer, wait, id),
        KeyCommand::Rotate { id, grace, expires, wait } => {
            let request = RotateKey {
                grace: Some(grace.clone()),
                expires: expires.clone(),
            };
            rotate(client, printer, wait, id, &request)
        }
        KeyCommand::Import(args) => import::run(client, args, printer),
    }
}

fn create(client: &OperatorClient, args: &CreateArgs, printer: &Printer) -> Result<(), Failure> {
    let request = CreateKey {
        surface: args.surface.clone(),
        tenant: args.tenant.clone(),
        mode: args.key.mode.clone(),
        scopes: args.key.scopes.clone(),
        roles: args.roles.roles.clone(),
        parent: args.parent.clone(),
        subject: args.key.subject.clone(),
        expires: args.key.expires.clone(),
        name: args.key.name.clone(),
        description: args.description.clone(),
    };
    let made: CreatedKey = client.post("/v1/keys", &request)?;
    printer.warn(&made.warnings);
    printer.print(&made.credential, |out| output::key_made(out, &made.credential))?;
    shown_once(printer);
    made.doubt.map_or(Ok(()), |doubt| Err(Failure::unconfirmed(doubt)))
}

fn shown_once(printer: &Printer) {
    if printer.form() == Form::Text {
        printer.remark("warning: the key is shown only now; only its hash is stored");
    }
}

fn change(client: &OperatorClient, printer: &Printer, wait: &WaitArgs, id: &str, how: &str) -> Result<(), Failure> {
    let change = ChangeRequest {
        client,
        wait,
        printer,
        path: format!("/v1/keys/{}/{how}", path_id(id)?),
        id,
    };
    change.make(&(), |out, key: &KeyView| output::key(out, key))
}

fn revoke(client: &OperatorClient, printer: &Printer, wait: &WaitArgs, id: &str) -> Result<(), Failure> {
    let Some(millis) = wait.millis()? else {
        return change(client, printer, wait, id, "revoke");
    };
    let change = ChangeRequest {
        client,
        wait,
        printer,
        path: format!("/v1/keys/{}/revoke", path_id(id)?),
        id,
    };
    let waited: Confirmation<KeyView> = change.ask(millis, &())?;
    let key = waited.result.as_ref();
    let answer = RevokedAnswer {
        id,
        revoked_at: key.and_then(|key| key.revoked_at.as_deref()),
    };
    wait::print(printer, &waited, &answer, |out| match key {
        Some(key) => output::key(out, key),
        None => Ok(()),
    })
}

fn rotate(client: &OperatorClient, printer: &Printer, wait: &WaitArgs, id: &str, request: &RotateKey) -> Result<(), Failure> {
    let change = ChangeRequest {
        client,
        wait,
        printer,
        path: format!("/v1/keys/{}/rotate", path_id(id)?),
        id,
    };
    let waited: Confirmation<RotatedKey> = match wait.millis()? {
        Some(millis) => change.ask(millis, request)?,
        None => {
            let done: RotatedKey = client.post(&change.path, request)?;
            show_rotated(&done, printer, |answer, out| printer.print(answer, out))?;
            return done.doubt.map_or(Ok(()), |doubt| Err(Failure::unconfirmed(doubt)));
        }
    };
    let Some(done) = &waited.result else {
        return wait::judge(&waited);
    };
    show_rotated(done, printer, |answer, out| wait::print(printer, &waited, answer, out))
}

/// Prints a rotation by `print`. If `print` fails to confirm the change, the secret was shown before.
fn show_rotated<'d>(
    done: &'d RotatedKey,
    printer: &Printer,
    print: impl FnOnce(&RotatedAnswer<'d>, &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    printer.warn(&done.warnings);
    let answer = RotatedAnswer {
        credential: &done.credential,
        replaces: &done.replaces,
    };
    let printed = print(&answer, &mut |out| {
        output::key_made(out, &done.credential)?;
        let end = done.replaces.expires_at.as_deref().unwrap_or("never");
        output::fields(out, &[("replaces", &done.replaces.id), ("which ends", end)])
    });
    shown_once(printer);
    printed
}

fn list_table(out: &mut dyn io::Write, list: &KeyList) -> io::Result<()> {
    let rows = list.keys.iter().map(|k| {
        [
            k.id.clone(),
            k.state.clone(),
            format!("{}…{}", k.prefix, k.last4),
            k.surface.clone(),
            k.tenant.clone(),
            k.mode.clone().unwrap_or_default(),
            k.scopes.join(" "),
            k.expires_at.clone().unwrap_or_default(),
            k.name.clone().unwrap_or_default(),
        ]
    });
    let head = ["ID", "STATE", "KEY", "SURFACE", "TENANT", "MODE", "SCOPES", "EXPIRES", "NAME"];
    output::table(out, head, &rows.collect::<Vec<_>>())
}
