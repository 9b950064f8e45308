//! `durward audit`: reads the trails of gateways, whether they run or not, and never writes to them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::client::OperatorClient;
use super::failure::{Exit, Failure};
use super::output::Printer;

mod asking;
mod erase;
mod evidence;
mod report;

pub(crate) use asking::{tell_cost, tell_slow};

/// Commands about audit trails.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show entries, the newest first.
    Query(Box<asking::QueryArgs>),
    /// Show all entries of a request and its bodies.
    Show(asking::ShowArgs),
    /// Report what one credential did, what ended it, and what was admitted after that. Exit code 0 if the trails show that nothing was,
    /// 1 if something was or it cannot be said.
    Report(report::ReportArgs),
    /// Verify that trails are whole: exit code 0 if they are, 1 if not, with the first bad entry named.
    Verify(evidence::VerifyArgs),
    /// Print the proof that the entries of a request stand in the trail: entry, inclusion proof and signed checkpoint.
    Prove(evidence::ProveArgs),
    /// Remove the bodies of one request from the trail of the running gateway; the entry stays.
    Erase(erase::EraseArgs),
}

pub(crate) fn run(config: &Path, command: &AuditCommand, printer: &Printer) -> Result<(), Failure> {
    match command {
        AuditCommand::Query(args) => asking::query(config, args, printer),
        AuditCommand::Show(args) => asking::show(config, args, printer),
        AuditCommand::Report(args) => report::run(config, args, printer),
        AuditCommand::Verify(args) => evidence::verify(config, args, printer),
        AuditCommand::Prove(args) => evidence::prove(config, args, printer),
        AuditCommand::Erase(args) => erase::run(&OperatorClient::of_config(config)?, args, printer),
    }
}

fn failed(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Failed, message)
}

/// Which trails a command reads.
#[derive(Debug, Clone, Args)]
pub(crate) struct Directories {
    /// The directory of a trail; may be given several times. Without it, that of the configuration.
    #[arg(long = "directory", value_name = "DIRECTORY")]
    given: Vec<PathBuf>,
}

impl Directories {
    /// The directories that were given, or that of the gateway with this configuration.
    pub(crate) fn resolve(&self, config: &Path) -> Result<Vec<PathBuf>, Failure> {
        if self.given.is_empty() {
            return directory_of(config).map(|directory| vec![directory]);
        }
        for directory in &self.given {
            if !directory.is_dir() {
                let message = format!("`{}` is not a directory: give that of a trail", directory.display());
                return Err(Failure::new(Exit::Usage, message));
            }
        }
        // One name for one directory, so that the key beside it is found: `state/audit/` is `state/audit`.
        Ok(self.given.iter().map(|directory| directory.components().collect()).collect())
    }
}

/// The directory of the trail that a configuration names. The rest of the configuration, and its secrets, are not read.
fn directory_of(config: &Path) -> Result<PathBuf, Failure> {
    let wrong = |why: String| Failure::new(Exit::Configuration, why);
    let shown = config.display();
    let text = std::fs::read_to_string(config).map_err(|error| {
        wrong(format!(
            "the configuration {shown} cannot be read ({error}): give the gateway's with --config FILE, or a trail with --directory DIRECTORY"
        ))
    })?;
    let table: toml::Table = text
        .parse()
        .map_err(|_| wrong(format!("{shown} is not TOML: see `durward check`")))?;
    let audit = table.get("audit").ok_or_else(|| {
        wrong(format!(
            "{shown} has no table [audit], so this gateway keeps no trail; for the trail of another one, give --directory DIRECTORY"
        ))
    })?;
    let directory = audit.get("directory").map_or(Some("state/audit"), toml::Value::as_str);
    let directory = directory.ok_or_else(|| wrong(format!("{shown}: audit.directory is not a text")))?;
    let found: PathBuf = config
        .parent()
        .unwrap_or_else(|| Path::new(""))
        .join(directory)
        .components()
        .collect();
    if found.is_dir() {
        Ok(found)
    } else {
        let message = format!("there is no trail in `{}` yet: `durward serve` begins it", found.display());
        Err(Failure::new(Exit::NotFound, message))
    }
}
