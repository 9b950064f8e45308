//! From the text of the configuration to [`Settings`] and [`Snapshot`], with every mistake at once.
//!
//! `gateway.toml` and the files of its `upstreams` directory are read key by key against the declarations in [`tables`] (one for
//! each key: type, bounds, default, reason), then checked against each other and built by the same modules. Nothing here runs on
//! the request path.

use std::path::{Path, PathBuf};

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
    /// To replace a running one: a missing file is an error, since the running gateway had it.
    Reload,
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
    /// What it says at each key, so that a later one can be compared with it.
    pub keys: ConfigurationKeys,
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
    let texts = read_texts(path, &recording, &report);
    let loaded = {
        let gateway: Option<GatewayTable> = texts.gateway.as_ref().and_then(|text| read_file(text, &report));
        let read = |text| read_file::<UpstreamTable>(text, &report);
        let upstreams = texts.upstreams.iter().filter_map(|text| Some((text.path.as_path(), read(text)?)));
        let upstreams: Vec<_> = upstreams.collect();
        let all = texts.gateway.iter().chain(&texts.upstreams).map(|t| t.text.as_str()).collect();
        gateway.and_then(|gateway| Builder::new(path, purpose, &recording, &report, all).build(&gateway, &upstreams))
    };
    let (errors, warnings, masks) = report.into_parts();
    let watch = recording.into_watch();
    let keys = ConfigurationKeys::of(path, texts.gateway.as_ref(), &texts.upstreams, &watch.with_made_files(environment));
    let mut sources = texts.into_sources();
    for mask in &masks {
        sources.mask(mask);
    }
    match loaded {
        Some((settings, snapshot)) if errors.is_empty() => Ok(Loaded {
            settings,
            snapshot,
            warnings: Problems::new(sources, warnings),
            watch,
            keys,
        }),
        _ => Err(ConfigErrors {
            problems: Problems::new(sources, errors),
            watch,
        }),
    }
}

/// One file's text and its number.
struct FileText {
    id: SourceId,
    path: PathBuf,
    text: String,
}

/// The texts of one load. Sources are numbered in the order they are read.
#[derive(Default)]
struct FileTexts {
    gateway: Option<FileText>,
    upstreams: Vec<FileText>,
}

impl FileTexts {
    fn into_sources(self) -> SourceFiles {
        let mut sources = SourceFiles::default();
        for text in self.gateway.into_iter().chain(self.upstreams) {
            sources.add(SourceFile::new(text.path, text.text));
        }
        sources
    }
}

fn read_texts(path: &Path, environment: &dyn Environment, report: &ProblemReport) -> FileTexts {
    let mut texts = FileTexts::default();
    let Some(text) = read_text(path, environment, report, "name another file with `--config`") else {
        return texts;
    };
    let directory = upstreams_directory(path, &text);
    texts.gateway = Some(FileText {
        id: SourceId(0),
        path: path.to_owned(),
        text,
    });
    match environment.list_toml(&directory) {
        Ok(paths) => {
            for path in paths {
                if let Some(text) = read_text(&path, environment, report, "every `*.toml` file of the directory is read") {
                    texts.upstreams.push(FileText {
                        id: SourceId(texts.upstreams.len() + 1),
                        path,
                        text,
                    });
                }
            }
        }
        Err(error) => report.unreadable(
            directory,
            format!("the directory of upstreams cannot be read: {error}"),
            Some("create it, or name another one with `upstreams = \"…\"`".to_owned()),
        ),
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
fn upstreams_directory(path: &Path, text: &str) -> PathBuf {
    let (document, _) = DeTable::parse_recoverable(text);
    let name = document.get_ref().get("upstreams").and_then(|v| v.get_ref().as_str());
    tables::beside(path, name.unwrap_or("upstreams"))
}

fn read_file<T: DeclaredTable>(text: &FileText, report: &ProblemReport) -> Option<T> {
    let (document, errors) = DeTable::parse_recoverable(&text.text);
    report_syntax(text, &errors, report);
    let at = Span::new(text.id, &(0..0));
    declare::file(document.get_ref(), &at, report)
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
