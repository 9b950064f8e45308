//! `durward check` and `durward schema`. The first reports every mistake of a configuration at once, with file, line and
//! caret; the second prints the JSON Schema of a configuration file, as it is published under `schemas/`.

use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use crate::config::error::ProblemSeverity;
use crate::config::{self, Problems, Purpose, json_schema};

use super::descriptors::{self, DescriptorBudget, DescriptorDemand};
use super::failure::Failure;
use super::output::{Form, Printer, style};

/// The answer in JSON: the same members whether there are mistakes or not.
#[derive(Serialize)]
struct CheckReport {
    valid: bool,
    problems: serde_json::Value,
    /// A text that says what there are too few descriptors for, with the limits of this process.
    shortage: Option<String>,
}

pub(crate) fn run(config: &Path, printer: &Printer) -> Result<(), Failure> {
    match config::load(config, Purpose::Check) {
        Ok(loaded) => {
            if printer.form() == Form::Text && !loaded.warnings.is_empty() {
                printer.remark(&loaded.warnings.render(style()));
            }
            let shortage = match DescriptorBudget::divide(descriptors::available(), &DescriptorDemand::by(&loaded)) {
                Ok(budget) => budget.shortage(),
                Err(too_few) => Some(too_few.to_string()),
            };
            if let Some(shortage) = shortage.as_ref().filter(|_| printer.form() == Form::Text) {
                printer.remark(&format!("warning: with the limits of this shell, {shortage}"));
            }
            let report = CheckReport {
                valid: true,
                problems: loaded.warnings.to_json(),
                shortage,
            };
            let snapshot = &loaded.snapshot;
            printer.print(&report, |out| {
                writeln!(
                    out,
                    "{} is valid: {}, {}, {}{}",
                    config.display(),
                    count(snapshot.surfaces.len(), "surface"),
                    count(snapshot.upstreams.len(), "upstream"),
                    count(snapshot.routes.len(), "route"),
                    match warnings(&loaded.warnings) {
                        0 => String::new(),
                        number => format!("; {}", count(number, "warning")),
                    }
                )
            })
        }
        Err(errors) => {
            let report = CheckReport {
                valid: false,
                problems: errors.problems.to_json(),
                shortage: None,
            };
            printer.print(&report, |_| Ok(()))?;
            Err(printer.mistakes(config, &errors.problems, style()))
        }
    }
}

/// How many warnings there are. Notes only say what will happen, and do not count.
fn warnings(problems: &Problems) -> usize {
    problems.iter().filter(|d| d.problem.weight == ProblemSeverity::Warning).count()
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// Files that have a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SchemaFile {
    /// `gateway.toml`
    Gateway,
    /// A file of the `upstreams` directory.
    Upstream,
}

pub(crate) fn print_schema(file: SchemaFile, printer: &Printer) -> Result<(), Failure> {
    let schema = match file {
        SchemaFile::Gateway => json_schema::gateway(),
        SchemaFile::Upstream => json_schema::upstream(),
    };
    printer.print(&schema, |out| writeln!(out, "{schema:#}"))
}
