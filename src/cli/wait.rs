//! `--wait`: makes a change, prints which gateways have applied it, and fails unless all of them have.

use std::io::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::receipts::{Confirmation, GatewayReceipt, NotRuledOut};

use super::args::WaitArgs;
use super::client::OperatorClient;
use super::failure::Failure;
use super::output::Printer;

/// One gateway in the answer with `--json`, as docs/operations.md has it: these members and no others.
#[derive(Serialize)]
pub(crate) struct ReceiptJson<'a> {
    id: &'a str,
    confirmed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_by: Option<&'a str>,
}

impl<'a> ReceiptJson<'a> {
    fn of(receipt: &'a GatewayReceipt) -> Self {
        Self {
            id: &receipt.id,
            confirmed: receipt.confirmed,
            ms: receipt.ms,
            stopped_by: receipt.stopped_by.as_deref(),
        }
    }
}

/// A command's usual answer with its gateways; `null` when they are not known.
#[derive(Serialize)]
struct WithGateways<'a, A> {
    #[serde(flatten)]
    answer: &'a A,
    gateways: Option<Vec<ReceiptJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_ruled_out: Option<&'a NotRuledOut>,
}

pub(crate) fn gateways(receipts: Option<&[GatewayReceipt]>) -> Option<Vec<ReceiptJson<'_>>> {
    receipts.map(|all| all.iter().map(ReceiptJson::of).collect())
}

/// The answer with `--json` to a change whose record could not be read again.
#[derive(Serialize)]
struct Unread<'a> {
    id: &'a str,
}

/// One change by an operator.
pub(crate) struct ChangeRequest<'c> {
    pub(crate) client: &'c OperatorClient,
    pub(crate) wait: &'c WaitArgs,
    pub(crate) printer: &'c Printer,
    pub(crate) path: String,
    /// The id given on the command line.
    pub(crate) id: &'c str,
}

impl ChangeRequest<'_> {
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
        let waited: Confirmation<T> = self.ask(millis, body)?;
        match &waited.result {
            Some(done) => print(self.printer, &waited, done, |out| show(out, done)),
            None => print(self.printer, &waited, &Unread { id: self.id }, |_| Ok(())),
        }
    }

    /// Makes the change and waits.
    pub(crate) fn ask<T: DeserializeOwned>(&self, millis: u64, body: &impl Serialize) -> Result<Confirmation<T>, Failure> {
        self.client.post(&format!("{}?wait={millis}", self.path), body)
    }
}

/// Prints an answer with its gateways, and fails unless everything is confirmed.
pub(crate) fn print<T>(
    printer: &Printer,
    waited: &Confirmation<T>,
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

/// Fails unless everything is confirmed; the message says what is known and what is not.
pub(crate) fn judge<T>(waited: &Confirmation<T>) -> Result<(), Failure> {
    doubts(waited).map_or(Ok(()), |words| Err(Failure::unconfirmed(words)))
}

/// What is known and what is not, unless everything is confirmed.
pub(crate) fn doubts<T>(waited: &Confirmation<T>) -> Option<String> {
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
    let open: Vec<&GatewayReceipt> = all.iter().filter(|receipt| !receipt.confirmed).collect();
    if let Some(last) = open.iter().filter_map(|receipt| receipt.stopped_by.as_deref()).max() {
        words.push(format!(
            "the change was made; {} of {} gateways have confirmed it, the others must have stopped by {last}, whatever they hear",
            all.len() - open.len(),
            all.len()
        ));
    }
    Some(words.join("; "))
}

pub(crate) fn table(out: &mut dyn Write, receipts: Option<&[GatewayReceipt]>) -> io::Result<()> {
    let Some(receipts) = receipts else {
        return writeln!(out, "\nit is not known which gateways have applied the change");
    };
    writeln!(out)?;
    let rows = receipts.iter().map(|receipt| {
        let state = match (receipt.confirmed, receipt.ms) {
            (true, ms) => format!("confirmed after {} ms", ms.unwrap_or(0)),
            (false, _) => {
                let contact = receipt
                    .heard_ms_ago
                    .map_or_else(|| "not registered".to_owned(), |ms| format!("last heard {} ms ago", ms));
                let by = receipt.stopped_by.as_deref().unwrap_or("an unknown time");
                format!("NOT confirmed ({contact}); must have stopped by {by}")
            }
        };
        [receipt.id.clone(), state]
    });
    super::output::table(out, ["GATEWAY", "RECEIPT"], &rows.collect::<Vec<_>>())
}
