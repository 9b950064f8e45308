//! `durward check`: every mistake of a configuration at once, with file, line and caret.

use std::io::IsTerminal as _;
use std::path::Path;

use serde::Serialize;

use crate::config::error::Weight;
use crate::config::{self, Problems, Purpose, Style};

use super::descriptors::{self, Budget, Wanted};
use super::failure::Failure;
use super::output::{Form, Printer};

/// The answer in JSON: the same members whether there are mistakes or not.
#[derive(Serialize)]
struct Report {
    valid: bool,
    problems: serde_json::Value,
    /// What a gateway with the limits of this process would have too few descriptors for.
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
            match printer.form() {
                Form::Json => printer.print(
                    &Report {
                        valid: false,
                        problems: errors.problems.to_json(),
                        shortage: None,
                    },
                    |_| Ok(()),
                )?,
                Form::Text => printer.remark(&errors.problems.render(style())),
            }
            Err(Failure::of_configuration(config, &errors.problems))
        }
    }
}

/// Notes say what will happen; only warnings count.
fn warnings(problems: &Problems) -> usize {
    problems.iter().filter(|d| d.problem.weight == Weight::Warning).count()
}

fn style() -> Style {
    if std::io::stderr().is_terminal() {
        Style::Coloured
    } else {
        Style::Plain
    }
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}
