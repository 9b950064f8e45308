//! `durward drill`: revokes a canary on the real system and reports what every gateway did.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::admin::drill::{BeginDrill, Canary, DrillEnded, EndDrill};
use crate::admin::keys::KeyView;
use crate::admin::receipts::{Confirmation, GatewayReceipt, NotRuledOut};

use super::args::{DEFAULT_WAIT, parse_wait};
use super::client::OperatorClient;
use super::client::path_id;
use super::failure::{Exit, Failure};
use super::output::{self, Printer};
use super::wait::{self, ReceiptJson};
use visits::{DrillTarget, UrlReport};

#[derive(Debug, Clone, Args)]
pub(crate) struct DrillArgs {
    /// The surface of the canary; needed when there is more than one for API keys.
    #[arg(long, value_name = "NAME")]
    pub(crate) surface: Option<String>,
    /// `test` or `live`; needed when the surface has both.
    #[arg(long, value_name = "MODE", value_parser = ["test", "live"])]
    pub(crate) mode: Option<String>,
    /// A scope of the canary, which the addresses need; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// An address that is called (GET) with the canary before and after the revocation; may be given several times.
    #[arg(long = "url", value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Certificates (PEM) that are trusted for https addresses, besides those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// How long to wait for the gateways' confirmations: 500ms, 5s, at most 25s.
    #[arg(long, value_name = "TIME", default_value = DEFAULT_WAIT, value_parser = parse_wait)]
    pub(crate) wait_timeout: Duration,
}

mod visits;

/// What a drill found. No secret is in it.
#[derive(Serialize)]
struct DrillReport<'a> {
    /// Every gateway confirmed, and every address refused and went on refusing.
    passed: bool,
    surface: &'a str,
    tenant: &'a str,
    id: &'a str,
    acknowledged_at: &'a str,
    gateways: Option<Vec<ReceiptJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_ruled_out: Option<&'a NotRuledOut>,
    urls: &'a [UrlReport],
}

pub(crate) fn run(client: &OperatorClient, args: &DrillArgs, printer: &Printer) -> Result<(), Failure> {
    let targets = DrillTarget::parse_all(&args.urls, args.ca.as_deref())?;
    let begin = BeginDrill {
        surface: args.surface.clone(),
        mode: args.mode.clone(),
        scopes: args.scopes.clone(),
    };
    let canary: Canary = client.post("/v1/drill", &begin)?;
    let drilled = drill(client, args, &canary, &targets, printer);
    let ended: Result<DrillEnded, Failure> = client.post("/v1/drill/end", &EndDrill { id: canary.id.clone() });
    if let Err(failure) = &ended {
        printer.remark(&format!(
            "warning: the canary {} was not cleaned up ({failure}); it ends by itself ten minutes after it was made",
            canary.id
        ));
    }
    drilled?;
    ended.map(|_| ())
}

fn drill(client: &OperatorClient, args: &DrillArgs, canary: &Canary, targets: &[DrillTarget], printer: &Printer) -> Result<(), Failure> {
    let path = format!("/v1/keys/{}/revoke?wait={}", path_id(&canary.id)?, args.wait_timeout.as_millis());
    let revoke = {
        let client = client.clone();
        move || client.post::<Confirmation<KeyView>>(&path, &())
    };
    let (waited, urls) = visits::watch(targets, canary, revoke)?;
    let quiet = urls.iter().all(UrlReport::is_refused);
    let report = DrillReport {
        passed: waited.confirmed && quiet,
        surface: &canary.surface,
        tenant: &canary.tenant,
        id: &canary.id,
        acknowledged_at: &waited.acknowledged_at,
        gateways: wait::gateways(waited.gateways.as_deref()),
        not_ruled_out: waited.not_ruled_out.as_ref(),
        urls: &urls,
    };
    printer.print(&report, |out| show(out, &report, waited.gateways.as_deref()))?;
    let open = urls.iter().filter(|url| !url.is_refused()).map(|url| {
        if url.unavailable {
            format!("{} does not admit the canary, but {}", url.url, visits::CANNOT_TELL)
        } else {
            format!("the canary was not seen to be refused at {}", url.url)
        }
    });
    let doubts = wait::doubts(&waited);
    let confirmed = doubts.is_none();
    let words: Vec<String> = doubts.into_iter().chain(open).collect();
    match words.join("; ") {
        _ if words.is_empty() => Ok(()),
        words if confirmed => Err(Failure::new(
            Exit::Unavailable,
            format!("the canary was revoked, and every gateway has confirmed it; {words}"),
        )),
        words => Err(Failure::unconfirmed(words)),
    }
}

fn show(out: &mut dyn Write, report: &DrillReport<'_>, gateways: Option<&[GatewayReceipt]>) -> io::Result<()> {
    output::fields(
        out,
        &[
            ("canary", report.id),
            ("surface", report.surface),
            ("revoked", report.acknowledged_at),
            ("passed", if report.passed { "yes" } else { "NO" }),
        ],
    )?;
    wait::table(out, gateways)?;
    if report.urls.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let millis = |at: Option<u64>, otherwise: &str| at.map_or_else(|| otherwise.to_owned(), |ms| format!("{ms} ms"));
    let rows: Vec<_> = report
        .urls
        .iter()
        .map(|report| {
            [
                report.url.clone(),
                millis(report.last_admission_ms, "none"),
                millis(report.first_refusal_ms, if report.unavailable { "NEVER (503)" } else { "NEVER" }),
                report.requests.to_string(),
                report.failures.to_string(),
            ]
        })
        .collect();
    let head = ["URL", "LAST ADMISSION AFTER", "FIRST REFUSAL AFTER", "REQUESTS", "FAILED"];
    output::table(out, head, &rows)
}
