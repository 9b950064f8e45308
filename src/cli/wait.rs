//! `--wait`: makes a change, prints which gateways have applied it, and fails if not every one has.

use std::io::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::receipts::{NotRuledOut, Told, Waited};

use super::args::WaitArgs;
use super::client::Client;
use super::failure::Failure;
use super::output::Printer;

/// One gateway in the contract's answer: these members and no others.
#[derive(Serialize)]
pub(crate) struct Gateway<'a> {
    id: &'a str,
    confirmed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_by: Option<&'a str>,
}

impl<'a> Gateway<'a> {
    fn of(told: &'a Told) -> Self {
        Self {
            id: &told.id,
            confirmed: told.confirmed,
            ms: told.ms,
            stopped_by: told.stopped_by.as_deref(),
        }
    }
}

/// A command's usual answer with its gateways; `null` when they are not known.
#[derive(Serialize)]
struct WithGateways<'a, A> {
    #[serde(flatten)]
    answer: &'a A,
    gateways: Option<Vec<Gateway<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_ruled_out: Option<&'a NotRuledOut>,
}

pub(crate) fn gateways(told: Option<&[Told]>) -> Option<Vec<Gateway<'_>>> {
    told.map(|all| all.iter().map(Gateway::of).collect())
}

/// The contract's answer of a change that could not be read again.
#[derive(Serialize)]
struct Unread<'a> {
    id: &'a str,
}

/// One change by an operator.
pub(crate) struct Change<'c> {
    pub(crate) client: &'c Client,
    pub(crate) wait: &'c WaitArgs,
    pub(crate) printer: &'c Printer,
    /// Path of the operation.
    pub(crate) path: String,
    /// The id given on the command line.
    pub(crate) id: &'c str,
}

impl Change<'_> {
    /// Makes the change. Without `--wait` prints its usual answer; with it the answer and the gateways,
    /// and fails unless every one has confirmed.
    pub(crate) fn make<T: Serialize + DeserializeOwned>(
        &self,
        body: &impl Serialize,
        show: impl Fn(&mut dyn Write, &T) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let Some(millis) = self.wait.millis()? else {
            let done: T = self.client.post(&self.path, body)?;
            return self.printer.print(&done, |out| show(out, &done));
        };
        let waited: Waited<T> = self.ask(millis, body)?;
        match &waited.result {
            Some(done) => print(self.printer, &waited, done, |out| show(out, done)),
            None => print(self.printer, &waited, &Unread { id: self.id }, |_| Ok(())),
        }
    }

    /// Makes the change and waits.
    pub(crate) fn ask<T: DeserializeOwned>(&self, millis: u64, body: &impl Serialize) -> Result<Waited<T>, Failure> {
        self.client.post(&format!("{}?wait={millis}", self.path), body)
    }
}

/// Prints an answer with its gateways, and fails unless everything is confirmed.
pub(crate) fn print<T>(
    printer: &Printer,
    waited: &Waited<T>,
    answer: &impl Serialize,
    show: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let value = WithGateways {
        answer,
        gateways: gateways(waited.gateways.as_deref()),
        not_ruled_out: waited.not_ruled_out.as_ref(),
    };
    printer.print(&value, |out| {
        show(out)?;
        table(out, waited.gateways.as_deref())
    })?;
    judge(waited)
}

/// Fails unless everything is confirmed; says what is known and what is not.
pub(crate) fn judge<T>(waited: &Waited<T>) -> Result<(), Failure> {
    doubts(waited).map_or(Ok(()), |words| Err(Failure::unconfirmed(words)))
}

/// What is known and what is not, unless everything is confirmed.
pub(crate) fn doubts<T>(waited: &Waited<T>) -> Option<String> {
    if waited.confirmed {
        return None;
    }
    let mut words = waited.doubts.clone();
    words.extend(
        waited
            .not_ruled_out
            .as_ref()
            .map(|unnamed| format!("the change was made; {unnamed}")),
    );
    let all = waited.gateways.as_deref().unwrap_or_default();
    let open: Vec<&Told> = all.iter().filter(|told| !told.confirmed).collect();
    if let Some(last) = open.iter().filter_map(|told| told.stopped_by.as_deref()).max() {
        words.push(format!(
            "the change was made; {} of {} gateways have confirmed it, the others must have stopped by {last}, whatever they hear",
            all.len() - open.len(),
            all.len()
        ));
    }
    Some(words.join("; "))
}

/// Gateways for people.
pub(crate) fn table(out: &mut dyn Write, told: Option<&[Told]>) -> io::Result<()> {
    let Some(told) = told else {
        return writeln!(out, "\nwhich gateways have applied it is not known");
    };
    writeln!(out)?;
    let rows = told.iter().map(|told| {
        let said = match (told.confirmed, told.ms) {
            (true, ms) => format!("confirmed after {} ms", ms.unwrap_or(0)),
            (false, _) => {
                let heard = told
                    .heard_ms_ago
                    .map_or_else(|| "not registered".to_owned(), |ms| format!("last heard {} ms ago", ms));
                let by = told.stopped_by.as_deref().unwrap_or("an unknown time");
                format!("NOT confirmed ({heard}); must have stopped by {by}")
            }
        };
        [told.id.clone(), said]
    });
    super::output::table(out, ["GATEWAY", "RECEIPT"], &rows.collect::<Vec<_>>())
}
