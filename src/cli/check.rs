//! `durward check`: every mistake of a configuration at once, with file, line and caret.

use std::io::IsTerminal as _;
use std::path::Path;

use serde::Serialize;

use crate::config::error::Weight;
use crate::config::{self, Problems, Purpose, Style};

use super::failure::Failure;
use super::output::{Form, Printer};

/// The answer in JSON: the same members whether there are mistakes or not.
#[derive(Serialize)]
struct Report {
    valid: bool,
    problems: serde_json::Value,
}

pub(crate) fn run(config: &Path, printer: &Printer) -> Result<(), Failure> {
    match config::load(config, Purpose::Check) {
        Ok(loaded) => {
            if printer.form() == Form::Text && !loaded.warnings.is_empty() {
                printer.remark(&loaded.warnings.render(style()));
            }
            let report = Report {
                valid: true,
                problems: loaded.warnings.to_json(),
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
