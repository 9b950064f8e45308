//! From the text of the configuration to [`Settings`] and [`Snapshot`], with every mistake at once.
//!
//! `gateway.toml` and the files of its `upstreams` directory are read key by key against the declarations in [`tables`] (one for
//! each key: type, bounds, default, reason), then checked against each other and built by the same modules. Nothing here runs on
//! the request path.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use crate::snapshot::{Settings, Snapshot};

mod changes;
mod declare;
mod environment;
pub mod error;
pub mod json_schema;
mod reader;
pub mod reload;
mod report;
pub mod schema;
mod secret;
pub mod source;

mod tables;
pub mod units;

pub use changes::ConfigurationKeys;
#[cfg(any(test, feature = "internals"))]
pub use environment::InMemory;
pub use environment::{Disk, Environment, Watch};
pub use error::{ConfigErrors, Problems, RenderStyle};

use declare::DeclaredTable;
use environment::Recording;
use report::ProblemReport;
use source::{SourceFile, SourceFiles, SourceId, Span};
use tables::Builder;
use tables::gateway::GatewayTable;
use tables::upstreams::UpstreamTable;

/// What a configuration is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To see whether it is right. Nothing is written; of files that serving would create, a
    /// warning says so.
    Check,
    /// To serve: files that may be created are.
    Serve,
    /// To replace a running one: a missing file is an error, since the running gateway had it. So is a route that the running
    /// gateway could not serve before its next start.
    Reload(RunningTrail),
}

impl Purpose {
    /// Whether an audit trail tells of what has changed, once this configuration is loaded.
    const fn tells_changes(self, settings: &Settings) -> bool {
        match self {
            Self::Check | Self::Reload(RunningTrail::Absent) => false,
            Self::Serve => settings.audit.is_some(),
            Self::Reload(RunningTrail::Kept) => true,
        }
    }
}

/// Whether the gateway that runs keeps an audit trail. `[audit]` takes effect at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunningTrail {
    Kept,
    Absent,
}

#[derive(Debug)]
pub struct Loaded {
    /// What only a restart changes.
    pub settings: Settings,
    pub snapshot: Snapshot,
    /// What is probably not as it was meant.
    pub warnings: Problems,
    /// What it was read from.
    pub watch: Watch,
    /// What it says at each key, so that a later one can be compared with it. `None` where no audit trail tells of changes.
    pub keys: Option<ConfigurationKeys>,
}

/// Loads a configuration file and everything it refers to.
///
/// # Errors
/// Every mistake that can be found, at once.
pub fn load(path: &Path, purpose: Purpose) -> Result<Loaded, ConfigErrors> {
    load_from(path, purpose, &Disk)
}

/// Loads a configuration from this environment. With [`Purpose::Check`] and the environment `InMemory` it
/// touches nothing outside: the entry for fuzzing.
///
/// # Errors
/// As [`load`].
pub fn load_from(path: &Path, purpose: Purpose, environment: &dyn Environment) -> Result<Loaded, ConfigErrors> {
    let recording = Recording::new(environment);
    let report = ProblemReport::default();
    let gateway_text = read_text(path, &recording, &report, "name another file with `--config`");
    let gateway_text = gateway_text.map(|text| FileText::new(0, path.to_owned(), text));
    let gateway = gateway_text.as_ref().map(Document::parse);
    let upstream_texts = gateway
        .as_ref()
        .map(|gateway| read_upstreams(&upstreams_directory(path, gateway.table.get_ref()), &recording, &report));
    let upstream_texts = upstream_texts.unwrap_or_default();
    // Each text is parsed once: for its settings, and for what it says at each key.
    let upstreams: Vec<Document<'_>> = upstream_texts.iter().map(Document::parse).collect();
    let loaded = {
        let gateway_table: Option<GatewayTable> = gateway.as_ref().and_then(|document| document.read(&report));
        let read = upstreams.iter().filter_map(|document| {
            let table: UpstreamTable = document.read(&report)?;
            Some((document.text.path.as_path(), table))
        });
        let read: Vec<_> = read.collect();
        let all = gateway.iter().chain(&upstreams).map(|document| document.text.text.as_str());
        gateway_table.and_then(|gateway| Builder::new(path, purpose, &recording, &report, all.collect()).build(&gateway, &read))
    };
    let (errors, warnings, masks) = report.into_parts();
    let watch = recording.into_watch();
    let loaded = loaded.filter(|_| errors.is_empty());
    let told = loaded.as_ref().filter(|(settings, _)| purpose.tells_changes(settings));
    let keys = told.map(|_| ConfigurationKeys::of(path, gateway.as_ref(), &upstreams, &watch.with_made_files(environment)));
    drop((gateway, upstreams));
    let mut sources = SourceFiles::default();
    for text in gateway_text.into_iter().chain(upstream_texts) {
        sources.add(SourceFile::new(text.path, text.text));
    }
    for mask in &masks {
        sources.mask(mask);
    }
    match loaded {
        Some((settings, snapshot)) => Ok(Loaded {
            settings,
            snapshot,
            warnings: Problems::new(sources, warnings),
            watch,
            keys,
        }),
        None => Err(ConfigErrors {
            problems: Problems::new(sources, errors),
            watch,
        }),
    }
}

/// One file's text and its number. Sources are numbered in the order they are read.
struct FileText {
    id: SourceId,
    path: PathBuf,
    text: String,
}

impl FileText {
    const fn new(number: usize, path: PathBuf, text: String) -> Self {
        Self {
            id: SourceId(number),
            path,
            text,
        }
    }
}

/// What a file's text says as TOML.
struct Document<'t> {
    text: &'t FileText,
    table: Spanned<DeTable<'t>>,
    /// Where the text is not TOML.
    errors: Vec<toml::de::Error>,
}

impl<'t> Document<'t> {
    fn parse(text: &'t FileText) -> Self {
        let (table, errors) = DeTable::parse_recoverable(&text.text);
        Self { text, table, errors }
    }

    /// Reads every key. `None` when something is so wrong that a part is missing; that is reported.
    fn read<T: DeclaredTable>(&self, report: &ProblemReport) -> Option<T> {
        report_syntax(self.text, &self.errors, report);
        let at = Span::new(self.text.id, &(0..0));
        declare::file(self.table.get_ref(), &at, report)
    }
}

fn read_upstreams(directory: &Path, environment: &dyn Environment, report: &ProblemReport) -> Vec<FileText> {
    let paths = match environment.list_toml(directory) {
        Ok(paths) => paths,
        Err(error) => {
            report.unreadable(
                directory.to_owned(),
                format!("the directory of upstreams cannot be read: {error}"),
                Some("create it, or name another one with `upstreams = \"…\"`".to_owned()),
            );
            return Vec::new();
        }
    };
    let mut texts = Vec::new();
    for path in paths {
        if let Some(text) = read_text(&path, environment, report, "every `*.toml` file of the directory is read") {
            texts.push(FileText::new(texts.len() + 1, path, text));
        }
    }
    texts
}

fn read_text(path: &Path, environment: &dyn Environment, report: &ProblemReport, help: &str) -> Option<String> {
    match environment.read(path) {
        Ok(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => Some(text.to_owned()),
            Err(error) => {
                let message = format!("the file is not UTF-8 (byte {})", error.valid_up_to());
                report.unreadable(path.to_owned(), message, None);
                None
            }
        },
        Err(error) => {
            report.unreadable(path.to_owned(), format!("the file cannot be read: {error}"), Some(help.to_owned()));
            None
        }
    }
}

/// The directory must be known before the file is checked, so that the mistakes in both are
/// reported together.
fn upstreams_directory(path: &Path, gateway: &DeTable<'_>) -> PathBuf {
    let name = gateway.get("upstreams").and_then(|v| v.get_ref().as_str());
    tables::beside(path, name.unwrap_or("upstreams"))
}

fn report_syntax(text: &FileText, errors: &[toml::de::Error], report: &ProblemReport) {
    for error in errors {
        let at = Span::new(text.id, &error.span().unwrap_or(0..0));
        for mask in source::suspects(&text.text, &at) {
            report.mask(&mask);
        }
        report.error(&at, format!("this is not TOML: {}", error.message()), None);
    }
}

#[cfg(test)]
mod tests;
