//! `durward serve`: starts the parts of a gateway, runs until a signal, and stops the parts in order.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Exit, Failure};
use super::output::Printer;
use crate::audit::action::Actor;
use crate::config::error::ProblemSeverity;
use crate::config::{self, Problems, Purpose, RenderStyle};
use crate::snapshot::LogFormat;
use crate::telemetry::diagnostics::{Diagnostics, DiagnosticsFormat};

mod chores;
mod confinement;
mod identity;
mod metrics;

mod process;
mod reload;
mod seeding;
mod store;

pub(crate) use process::Process;
use seeding::load_while_seeding;
pub(crate) use store::permit_new_store;

/// Longest time for writing the last diagnostics and access lines when the process ends.
const FLUSH_TIME: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessLines {
    Stdout,
    /// Standard error: standard output belongs to the demo.
    Stderr,
}

/// A gateway that serves, with its runtime and threads.
pub(crate) struct ServingGateway {
    process: Process,
    control: Runtime,
    diagnostics: Diagnostics,
}

pub(crate) fn run(config: &Path, printer: &Printer) -> Result<(), Failure> {
    let running = start(config, AccessLines::Stdout, printer)?;
    running.process.tell();
    running.wait()
}

/// Starts a gateway with this configuration; it serves when this returns.
pub(crate) fn start(config: &Path, lines: AccessLines, printer: &Printer) -> Result<ServingGateway, Failure> {
    let loaded = load_while_seeding(|| config::load(config, Purpose::Serve));
    let loaded = loaded.map_err(|errors| printer.mistakes(config, &errors.problems, RenderStyle::Plain))?;
    let format = match loaded.settings.log.format {
        LogFormat::Json => DiagnosticsFormat::Json,
        LogFormat::Pretty => DiagnosticsFormat::Pretty,
    };
    let diagnostics = Diagnostics::install(format).map_err(failed)?;
    warn(&loaded.warnings);
    let control = control_runtime().map_err(failed)?;
    let started = control.block_on(async {
        survive_long_files()?;
        confinement::check(&loaded).await?;
        Process::start(loaded, &diagnostics.panics(), lines).await
    });
    match started {
        Ok(process) => Ok(ServingGateway {
            process,
            control,
            diagnostics,
        }),
        Err(error) => {
            tracing::error!(%error, "the gateway does not start");
            diagnostics.flush(FLUSH_TIME);
            // In this form standard error is a log of JSON lines, and must not get a line of another form.
            let logged = format == DiagnosticsFormat::Json;
            Err(Failure { logged, ..failed(error) })
        }
    }
}

impl ServingGateway {
    /// Waits for SIGINT or SIGTERM, drains, and ends everything it started.
    pub(crate) fn wait(self) -> Result<(), Failure> {
        let Self {
            process,
            control,
            diagnostics,
        } = self;
        let outcome = control.block_on(async {
            notify(&[sd_notify::NotifyState::Ready]);
            let outcome = until_stopped(&process).await;
            notify(&[sd_notify::NotifyState::Stopping]);
            process.stop().await;
            outcome
        });
        diagnostics.flush(FLUSH_TIME);
        outcome
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

/// Logs warnings of the configuration, one line for each.
fn warn(warnings: &Problems) {
    for diagnosis in warnings.iter() {
        let problem = diagnosis.problem;
        let place = format!("{}:{}:{}", diagnosis.file.display(), diagnosis.line, diagnosis.column);
        let help = problem.help.as_deref().unwrap_or_default();
        match problem.weight {
            ProblemSeverity::Note => tracing::info!(place, help, "the configuration: {}", problem.message),
            ProblemSeverity::Warning | ProblemSeverity::Error => tracing::warn!(place, help, "the configuration: {}", problem.message),
        }
    }
}

/// The runtime of everything that is not a request. It has two threads, so that one that computes (a password hash, a large
/// reload) does not delay a look-up.
///
/// # Errors
/// When its threads cannot be started.
fn control_runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("durward-control")
        .enable_all()
        .build()
}

/// Where the size of files is limited, the kernel sends SIGXFSZ to a process that writes beyond the limit, which ends it. With
/// a handler for that signal the write fails instead, and the store and the log can handle that.
fn survive_long_files() -> io::Result<()> {
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// Waits for SIGTERM or SIGINT; SIGHUP reloads.
async fn until_stopped(process: &Process) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(failed);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                // The reload itself reports its outcome; a bad file changes nothing.
                let _ = process.reload(Actor::Signal).await;
            }
        }
    }
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

/// Shared by everything that counts panics.
type Panics = Arc<std::sync::atomic::AtomicU64>;
