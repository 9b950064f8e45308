//! `durward audit verify` and `durward audit prove`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Directories, failed};
use crate::audit::checkpoint::{Checkpoint, CheckpointVerifier, public_key_of};
use crate::audit::prove::{ProofError, Prover, entries_of_request};
use crate::audit::verify::{TrailWitness, Verdict, read_witnesses, verify as verify_trail};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Printer;

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    directories: Directories,
    /// A checkpoint that was kept elsewhere, such as what `audit.checkpoint_file` wrote; may be given several times.
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// A verifier key that was kept elsewhere; may be given several times. Without it, the file beside the directory is used.
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// The id of the request.
    request_id: String,
    #[command(flatten)]
    directories: Directories,
}

/// The answer of `verify` in JSON.
#[derive(Serialize)]
struct VerifyReport<'a> {
    whole: bool,
    trails: &'a [Verdict],
}

/// The answer of `prove` in JSON.
#[derive(Serialize)]
struct ProofReport {
    request_id: String,
    proofs: Vec<EntryProof>,
}

#[derive(Serialize)]
struct EntryProof {
    directory: String,
    seq: u64,
    entry: String,
    /// The C2SP `tlog-proof`.
    proof: String,
    /// The verifier key, which whoever checks the proof should have from elsewhere.
    key: String,
}

pub(crate) fn verify(config: &Path, args: &VerifyArgs, printer: &Printer) -> Result<(), Failure> {
    let directories = args.directories.resolve(config)?;
    let given = args.keys.iter().map(|path| read_key(path)).collect::<Result<Vec<_>, _>>()?;
    let mut witnesses = Vec::new();
    for path in &args.checkpoints {
        let cannot = |error| failed(format!("the checkpoint `{}` cannot be read: {error}", path.display()));
        witnesses.extend(read_witnesses(path).map_err(cannot)?);
    }
    for directory in &directories {
        witnesses.extend(kept_for_others(directory)?);
    }
    let mut verdicts = Vec::new();
    let mut origins = Vec::new();
    for directory in &directories {
        let key = key_of(directory, &given)?;
        let cannot = |error| failed(format!("the trail in `{}` cannot be read: {error}", directory.display()));
        verdicts.push(verify_trail(directory, &key, &witnesses).map_err(cannot)?);
        origins.push(key.origin().to_owned());
    }
    let mut remarked: Vec<&str> = Vec::new();
    for witness in &witnesses {
        let origin = Checkpoint::parse_unverified(&witness.note).map(|said| said.origin);
        if let Some(origin) = origin.ok().filter(|origin| !origins.contains(origin))
            // A file may have many.
            && !remarked.contains(&&*witness.source)
        {
            remarked.push(&witness.source);
            printer.remark(&format!(
                "{} is of `{origin}`, whose trail was not given with --directory",
                witness.source
            ));
        }
    }
    let whole = verdicts.iter().all(Verdict::is_whole);
    let report = VerifyReport { whole, trails: &verdicts };
    printer.print(&report, |out| verdicts.iter().try_for_each(|verdict| show(verdict, out)))?;
    let bad = verdicts.iter().find_map(|verdict| Some((verdict, verdict.findings.first()?)));
    match bad {
        None => Ok(()),
        Some((verdict, first)) => Err(failed(format!(
            "the trail of `{}` is broken at entry {}: {}: {}",
            verdict.gateway, first.seq, first.file, first.fault
        ))),
    }
}

fn read_key(path: &Path) -> Result<CheckpointVerifier, Failure> {
    CheckpointVerifier::read(path).map_err(|error| failed(error.to_string()))
}

/// The key of a trail: of those that were given, the one with its origin; without any, the one beside the directory.
fn key_of(directory: &Path, given: &[CheckpointVerifier]) -> Result<CheckpointVerifier, Failure> {
    if given.is_empty() {
        return read_key(&public_key_of(directory));
    }
    if let [only] = given {
        return Ok(only.clone());
    }
    let beside = read_key(&public_key_of(directory))?;
    let key = given.iter().find(|key| key.origin() == beside.origin());
    key.cloned()
        .ok_or_else(|| failed(format!("no key that was given with --key is of `{}`", beside.origin())))
}

/// The checkpoints of other gateways that stand in a directory.
fn kept_for_others(directory: &Path) -> Result<Vec<TrailWitness>, Failure> {
    let others = directory.join("others");
    let cannot = |error: io::Error| failed(format!("`{}` cannot be read: {error}", others.display()));
    let mut paths = Vec::new();
    match std::fs::read_dir(&others) {
        Ok(entries) => {
            for entry in entries {
                paths.push(entry.map_err(cannot)?.path());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot(error)),
    }
    paths.retain(|path| path.extension().is_none_or(|ending| ending != "new"));
    paths.sort();
    let mut witnesses = Vec::new();
    for path in paths {
        let cannot = |error| failed(format!("the checkpoint `{}` cannot be read: {error}", path.display()));
        witnesses.extend(read_witnesses(&path).map_err(cannot)?);
    }
    Ok(witnesses)
}

fn show(verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
    let state = if verdict.is_whole() { "whole" } else { "BROKEN" };
    writeln!(out, "{}: {state}", verdict.directory)?;
    writeln!(
        out,
        "  entries {} to {} of gateway {}",
        verdict.first,
        verdict.size.saturating_sub(1),
        verdict.gateway
    )?;
    let signed = verdict.signed_at.map_or_else(String::new, |at| {
        let time = jiff::Timestamp::from_millisecond(at).map_or_else(|_| format!("{at} ms"), |time| time.to_string());
        format!(", the newest signed at {time}")
    });
    writeln!(
        out,
        "  proven by its own checkpoints: the first {} entries ({} hold{signed})",
        verdict.proven, verdict.checkpoints
    )?;
    match verdict.witnesses {
        0 => writeln!(
            out,
            "  no witness: whoever has the machine and its key could have written the trail anew"
        )?,
        witnesses => writeln!(
            out,
            "  proven by witnesses: the first {} entries ({witnesses} hold)",
            verdict.witnessed
        )?,
    }
    let bodies = verdict.bodies;
    if bodies.whole + bodies.erased + bodies.expired > 0 {
        writeln!(
            out,
            "  bodies: {} as recorded, {} erased, {} no longer kept",
            bodies.whole, bodies.erased, bodies.expired
        )?;
    }
    if verdict.gaps > 0 {
        writeln!(out, "  gaps that the trail tells: {}", verdict.gaps)?;
    }
    for finding in &verdict.findings {
        writeln!(out, "  entry {}: {}: {}", finding.seq, finding.file, finding.fault)?;
    }
    if verdict.more_findings > 0 {
        writeln!(out, "  and {} findings more", verdict.more_findings)?;
    }
    for note in &verdict.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

pub(crate) fn prove(config: &Path, args: &ProveArgs, printer: &Printer) -> Result<(), Failure> {
    let (mut proofs, mut problems) = (Vec::new(), Vec::new());
    for directory in args.directories.resolve(config)? {
        let cannot = |error| failed(format!("the trail in `{}` cannot be read: {error}", directory.display()));
        let found = entries_of_request(&directory, &args.request_id).map_err(cannot)?;
        problems.extend(found.problems);
        if found.entries.is_empty() {
            continue;
        }
        let key = read_key(&public_key_of(&directory))?;
        let unproven = |error: ProofError| failed(error.to_string());
        let prover = Prover::open(&directory, &key).map_err(unproven)?;
        for entry in found.entries {
            proofs.push(EntryProof {
                directory: directory.display().to_string(),
                seq: entry.seq,
                proof: prover.prove(entry.seq, &entry.line).map_err(unproven)?,
                entry: String::from_utf8_lossy(&entry.line).into_owned(),
                key: key.to_string(),
            });
        }
    }
    if proofs.is_empty() && problems.is_empty() {
        let message = format!("no entry of the trail has the request id `{}`", args.request_id);
        return Err(Failure::new(Exit::NotFound, message));
    }
    let report = ProofReport {
        request_id: args.request_id.clone(),
        proofs,
    };
    if !report.proofs.is_empty() {
        printer.print(&report, |out| {
            report.proofs.iter().try_for_each(|proof| out.write_all(proof.proof.as_bytes()))
        })?;
    }
    super::asking::whole(&problems, printer)
}
