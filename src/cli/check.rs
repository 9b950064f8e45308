//! `durward check`: every mistake of a configuration at once, with file, line and caret.

use std::path::Path;

use serde::Serialize;

use crate::config::error::ProblemSeverity;
use crate::config::{self, Problems, Purpose};

use super::descriptors::{self, Budget, Wanted};
use super::failure::Failure;
use super::output::{Form, Printer, style};

/// The answer in JSON: the same members whether there are mistakes or not.
#[derive(Serialize)]
struct Report {
    valid: bool,
    problems: serde_json::Value,
    /// What there would be too few descriptors for, if a gateway had the limits of this process.
    shortage: Option<String>,
}

pub(crate) fn run(config: &Path, printer: &Printer) -> Result<(), Failure> {
    match config::load(config, Purpose::Check) {
        Ok(loaded) => {
            if printer.form() == Form::Text && !loaded.warnings.is_empty() {
                printer.remark(&loaded.warnings.render(style()));
            }
            let shortage = match Budget::divide(descriptors::available(), &Wanted::by(&loaded)) {
                Ok(budget) => budget.shortage(),
                Err(too_few) => Some(too_few.to_string()),
            };
            if let Some(shortage) = shortage.as_ref().filter(|_| printer.form() == Form::Text) {
                printer.remark(&format!("warning: with the limits of this shell, {shortage}"));
            }
            let report = Report {
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
            let report = Report {
                valid: false,
                problems: errors.problems.to_json(),
                shortage: None,
            };
            printer.print(&report, |_| Ok(()))?;
            Err(printer.mistakes(config, &errors.problems, style()))
        }
    }
}

/// Notes say what will happen; only warnings count.
fn warnings(problems: &Problems) -> usize {
    problems.iter().filter(|d| d.problem.weight == ProblemSeverity::Warning).count()
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}
