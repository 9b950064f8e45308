//! `durward peppers …`.

use std::io;

use clap::Subcommand;

use crate::admin::peppers::{MovedAccounts, PepperUses, PepperView};

use super::client::OperatorClient;
use super::client::path_id;
use super::failure::{Exit, Failure};
use super::output::{self, Printer};

#[derive(Debug, Subcommand)]
pub(crate) enum PepperCommand {
    /// Move accounts that log in to the first pepper, so that none depends on an older one.
    Move,
    /// Drop a pepper on which no credential in force depends; gateways do not need it any more.
    Drop {
        /// The mark of the pepper, which `durward peppers` shows.
        mark: String,
    },
}

pub(crate) fn run(client: &OperatorClient, command: Option<&PepperCommand>, printer: &Printer) -> Result<(), Failure> {
    let uses: PepperUses = match command {
        None => client.get("/v1/peppers")?,
        Some(PepperCommand::Drop { mark }) => client.post(&format!("/v1/peppers/{}/drop", path_id(mark)?), &())?,
        Some(PepperCommand::Move) => return move_all(client, printer),
    };
    printer.print(&uses, |out| table(out, &uses))
}

/// Repeats the call until every account was looked at.
fn move_all(client: &OperatorClient, printer: &Printer) -> Result<(), Failure> {
    let mut all = MovedAccounts::default();
    loop {
        let after = all.next.take();
        let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let part: MovedAccounts = client.post(&format!("/v1/peppers/move{query}"), &())?;
        all.moved += part.moved;
        all.resealed += part.resealed;
        all.taken.extend(part.taken);
        all.next = part.next;
        if all.next.is_none() {
            break;
        }
    }
    printer.print(&all, |out| {
        writeln!(out, "{} accounts moved to the first pepper", all.moved)?;
        if all.resealed > 0 {
            writeln!(
                out,
                "secrets of {} identity providers are sealed under the first pepper",
                all.resealed
            )?;
        }
        let mut taken = all.taken.iter();
        taken.try_for_each(|id| writeln!(out, "{id} stays: another account has its address"))
    })?;
    if all.taken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        "some accounts could not move: revoke one of each two that have the same address",
    ))
}

fn table(out: &mut dyn io::Write, uses: &PepperUses) -> io::Result<()> {
    let rows = uses.peppers.iter().map(|view| {
        [
            view.mark.clone(),
            view.credentials.to_string(),
            view.accounts.to_string(),
            view.providers.to_string(),
            ends(view),
            when(view),
        ]
    });
    let heads = ["PEPPER", "KEYS", "ACCOUNTS", "PROVIDERS", "LAST ONE ENDS", "CAN BE DROPPED"];
    output::table(out, heads, &rows.collect::<Vec<_>>())?;
    if uses.unlisted > 0 {
        writeln!(
            out,
            "{} credentials in force are under a pepper that the store does not list: nobody finds them",
            uses.unlisted
        )?;
    }
    Ok(())
}

fn ends(view: &PepperView) -> String {
    match &view.latest_expiry {
        _ if view.lasting > 0 => "never".into(),
        Some(end) => end.clone(),
        None => "-".into(),
    }
}

fn when(view: &PepperView) -> String {
    let mark = &view.mark;
    match view.droppable.as_deref() {
        _ if view.leaving => format!("it is being dropped; if nobody is at it, repeat: durward peppers drop {mark}"),
        _ if view.first => "no: new credentials are made under it".into(),
        Some("now") => format!("now: durward peppers drop {mark}"),
        Some(end) => format!("at {end}, or when they are rotated: durward keys list --pepper {mark}"),
        None if view.credentials == 0 && view.providers == 0 => "when the accounts are moved: durward peppers move".into(),
        None if view.credentials == 0 => "when accounts and providers' secrets are moved: durward peppers move".into(),
        None if view.accounts + view.providers == 0 => {
            format!("when {} keys are rotated: durward keys list --pepper {mark}", view.credentials)
        }
        None => format!(
            "when {} keys are rotated (durward keys list --pepper {mark}) and the rest moved (durward peppers move)",
            view.credentials
        ),
    }
}
