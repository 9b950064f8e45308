//! `durward audit report`: what one credential did, for whoever has to know after a leak.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::asking::{open, tell_cost};
use super::{Directories, failed};
use crate::audit::checkpoint::{CheckpointVerifier, public_key_of};
use crate::audit::query::EntryQuery;
use crate::audit::report::proofs::prove;
use crate::audit::report::{CredentialReport, report};
use crate::audit::segments::Segments;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Printer;
use crate::config::units::parse_duration;

mod timeline;

/// The longest bound that a configuration can have.
const LONGEST_BOUND: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The id of the credential.
    credential_id: String,
    #[command(flatten)]
    directories: Directories,
    /// After how many seconds an end holds everywhere. Without it `revocation.bound` of the configuration, or 60 if that cannot be read.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    bound: Option<u64>,
    /// Write the proofs of the entries that the report rests on, for `docs/audit/verify_proof.py`. With several trails, one file for
    /// each gateway: FILE.GATEWAY.
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
}

pub(crate) fn run(config: &Path, args: &ReportArgs, printer: &Printer) -> Result<(), Failure> {
    let bound = bound_of(config, args.bound)?;
    let trails = open(config, &args.directories)?;
    let query = EntryQuery {
        credential: Some(args.credential_id.clone()),
        ..EntryQuery::default()
    };
    tell_cost(&trails, &query, None, printer);
    let report = report(&args.credential_id, &trails, bound).map_err(|error| failed(error.to_string()))?;
    if !report.is_known() {
        if !report.gaps.is_empty() {
            printer.warn(&report.gaps);
        }
        let message = format!("no entry of the trail is about the credential `{}`", args.credential_id);
        return Err(Failure::new(Exit::NotFound, message));
    }
    printer.print(&report, |out| timeline::show(&report, bound, out))?;
    if let Some(file) = &args.proof {
        write_proofs(file, &trails, &report, printer)?;
    }
    if report.is_clean() { Ok(()) } else { Err(failed(report.statement)) }
}

/// The bound that was given, or that of the configuration. No gateway has a longer one than the default.
fn bound_of(config: &Path, given: Option<u64>) -> Result<Duration, Failure> {
    if let Some(seconds) = given {
        return Ok(Duration::from_secs(seconds));
    }
    let Some(table) = fs::read_to_string(config).ok().and_then(|text| text.parse::<toml::Table>().ok()) else {
        return Ok(LONGEST_BOUND);
    };
    match table.get("revocation").and_then(|revocation| revocation.get("bound")) {
        None => Ok(LONGEST_BOUND),
        Some(bound) => bound.as_str().and_then(parse_duration).ok_or_else(|| {
            let message = format!(
                "{}: revocation.bound is not a duration; give the bound with --bound SECONDS",
                config.display()
            );
            Failure::new(Exit::Configuration, message)
        }),
    }
}

fn write_proofs(file: &Path, trails: &[Segments], report: &CredentialReport, printer: &Printer) -> Result<(), Failure> {
    let mut names: Vec<PathBuf> = Vec::new();
    for (number, (trail, reach)) in trails.iter().zip(&report.gateways).enumerate() {
        let key = CheckpointVerifier::read(&public_key_of(trail.directory())).map_err(|error| failed(error.to_string()))?;
        let proofs = prove(report, number, trail, &key).map_err(|error| failed(format!("{}: {error}", reach.gateway)))?;
        let mut name = file.as_os_str().to_owned();
        if trails.len() > 1 {
            name.push(format!(".{}", file_name(&reach.gateway)));
        }
        let mut path = PathBuf::from(name);
        if names.contains(&path) {
            path.as_mut_os_string().push(format!(".{number}"));
        }
        let cannot = |error: io::Error| failed(format!("the proofs cannot be written to `{}`: {error}", path.display()));
        fs::write(&path, &proofs.text).map_err(cannot)?;
        printer.remark(&format!(
            "{}: the proofs of {} entries of {}",
            path.display(),
            proofs.proven,
            reach.gateway
        ));
        if proofs.unsigned > 0 {
            printer.warn(&[format!(
                "{} newer requests at {} are not signed yet, and not among the proofs: a checkpoint is made every few seconds",
                proofs.unsigned, reach.gateway
            )]);
        }
        names.push(path);
    }
    if report.evidence.omitted > 0 {
        printer.warn(&[format!("{} further entries are not among the proofs", report.evidence.omitted)]);
    }
    Ok(())
}

/// The id of a gateway as a part of a file's name, whatever a trail says.
fn file_name(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    id.chars().take(128).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_given_one_then_that_of_the_configuration_then_the_longest() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("gateway.toml");
        let bound = |given| bound_of(&config, given).map(|bound| bound.as_secs()).ok();
        assert_eq!(bound(None), Some(60));
        fs::write(&config, "[revocation]\nbound = \"10s\"\n").unwrap();
        assert_eq!((bound(None), bound(Some(20))), (Some(10), Some(20)));
        fs::write(&config, "[revocation]\nbound = \"soon\"\n").unwrap();
        assert_eq!(bound(None), None);
        fs::write(&config, "[store]\n").unwrap();
        assert_eq!(bound(None), Some(60));
    }

    #[test]
    fn a_gateway_s_id_leads_to_no_other_directory() {
        assert_eq!(file_name("edge-1"), "edge-1");
        assert_eq!(file_name("../a/b:c"), ".._a_b_c");
    }
}
