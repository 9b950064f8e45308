//! `durward keys …`.

use std::io;

use crate::admin::keys::{CreateKey, Created, KeyList, KeyMade, KeyView, Revealed};
use crate::admin::receipts::Waited;
use crate::admin::rotate::{Replaced, RotateKey, Rotated};
use crate::base::ids::is_valid_id;
use crate::base::percent;

use super::args::{CreateArgs, KeyCommand, Page, WaitArgs};
use super::client::Client;
use super::failure::{Exit, Failure};
use super::output::{self, Form, Printer};
use super::tenants::more;
use super::wait::{self, Change};

/// The contract's answer to a rotation: the new credential, and what it replaces.
#[derive(serde::Serialize)]
struct RotatedAnswer<'a> {
    #[serde(flatten)]
    credential: &'a KeyMade,
    replaces: &'a Replaced,
}

/// The contract's answer to `revoke --wait`; the gateways are added to it.
#[derive(serde::Serialize)]
struct RevokedAnswer<'a> {
    id: &'a str,
    /// `null` when the change was made and the record could not be read.
    revoked_at: Option<&'a str>,
}

pub(crate) fn run(client: &Client, command: &KeyCommand, printer: &Printer) -> Result<(), Failure> {
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
            let list: KeyList = client.get(&format!("/v1/keys?{}", list_query(&filters, page)?))?;
            printer.print(&list, |out| list_table(out, &list))?;
            more(printer, list.next.as_deref());
            Ok(())
        }
        KeyCommand::Reveal { id } => {
            let revealed: Revealed = client.get(&format!("/v1/keys/{}/secret", path_id(id)?))?;
            printer.print(&revealed, |out| writeln!(out, "{}", revealed.secret))
        }
        KeyCommand::Show { id } => {
            let key: KeyView = client.get(&format!("/v1/keys/{}", path_id(id)?))?;
            printer.print(&key, |out| output::key(out, &key))
        }
        KeyCommand::Disable { id, wait } => change((client, wait, printer), id, "disable"),
        KeyCommand::Enable { id, wait } => change((client, wait, printer), id, "enable"),
        KeyCommand::Revoke { id, wait } => revoke((client, wait, printer), id),
        KeyCommand::Rotate { id, grace, expires, wait } => {
            let request = RotateKey {
                grace: Some(grace.clone()),
                expires: expires.clone(),
            };
            rotate((client, wait, printer), id, &request)
        }
        KeyCommand::Import(args) => super::import::run(client, args, printer),
    }
}

fn create(client: &Client, args: &CreateArgs, printer: &Printer) -> Result<(), Failure> {
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
    let made: Created = client.post("/v1/keys", &request)?;
    printer.warn(&made.warnings);
    printer.print(&made.credential, |out| output::key_made(out, &made.credential))?;
    shown_once(printer);
    made.doubt.map_or(Ok(()), |doubt| Err(Failure::unconfirmed(doubt)))
}

fn shown_once(printer: &Printer) {
    if printer.form() == Form::Text {
        printer.remark("warning: this is the only time the key is shown; only its hash is kept");
    }
}

fn change(with: (&Client, &WaitArgs, &Printer), id: &str, how: &str) -> Result<(), Failure> {
    let change = Change {
        path: format!("/v1/keys/{}/{how}", path_id(id)?),
        id,
    };
    change.make(with, &(), |out, key: &KeyView| output::key(out, key))
}

fn revoke(with: (&Client, &WaitArgs, &Printer), id: &str) -> Result<(), Failure> {
    let (client, wait, printer) = with;
    let Some(millis) = wait.millis()? else {
        return change(with, id, "revoke");
    };
    let change = Change {
        path: format!("/v1/keys/{}/revoke", path_id(id)?),
        id,
    };
    let waited: Waited<KeyView> = change.ask(client, millis, &())?;
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

fn rotate((client, wait, printer): (&Client, &WaitArgs, &Printer), id: &str, request: &RotateKey) -> Result<(), Failure> {
    let change = Change {
        path: format!("/v1/keys/{}/rotate", path_id(id)?),
        id,
    };
    let waited: Waited<Rotated> = match wait.millis()? {
        Some(millis) => change.ask(client, millis, request)?,
        None => {
            let done: Rotated = client.post(&change.path, request)?;
            show_rotated(&done, printer, |answer, out| printer.print(answer, out))?;
            return done.doubt.map_or(Ok(()), |doubt| Err(Failure::unconfirmed(doubt)));
        }
    };
    let Some(done) = &waited.result else {
        return wait::judge(&waited);
    };
    show_rotated(done, printer, |answer, out| wait::print(printer, &waited, answer, out))
}

/// Prints a rotation by `print`; a failure of that to confirm comes after what was shown once.
fn show_rotated<'d>(
    done: &'d Rotated,
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

/// An id as part of a path: nothing in it can lead elsewhere.
pub(crate) fn path_id(id: &str) -> Result<&str, Failure> {
    if is_valid_id(id) && id != "." && id != ".." {
        return Ok(id);
    }
    Err(Failure::new(
        Exit::Usage,
        "an id has 1 to 128 characters of A-Z a-z 0-9 . _ : -; `list` shows them",
    ))
}

/// The query of a list.
pub(crate) fn list_query(filters: &[(&str, Option<&str>)], page: &Page) -> Result<String, Failure> {
    let mut query = format!("limit={}", page.limit);
    for (name, value) in filters.iter().copied().chain([("after", page.after.as_deref())]) {
        match value {
            // Any text; everything else that lists are filtered by is an id.
            Some(value) if name == "subject" => {
                let mut encoded = Vec::new();
                percent::push_query(&mut encoded, value);
                query.push_str(&format!("&{name}={}", String::from_utf8_lossy(&encoded)));
            }
            Some(value) => query.push_str(&format!("&{name}={}", path_id(value)?)),
            None => {}
        }
    }
    Ok(query)
}
