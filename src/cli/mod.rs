//! The command line: reads arguments, acts through the operator API, prints, and answers an exit code.

use std::ffi::OsString;
use std::io::{self, Write as _};

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

mod accounts;
mod args;
mod check;
mod client;
mod demo;
mod descriptors;
mod drill;
mod events;
mod failure;
mod import;
mod keys;
mod locate;
mod new_store;
mod output;
mod password;
mod peppers;
mod roles;
pub mod serve;
mod sessions;
mod tenants;
mod wait;

use args::{Cli, Command};
pub use failure::{Exit, Failure};
use output::{Form, Printer};

/// Runs a command line (with the program's name first) and answers how the process ends.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // What the line says about the form counts also where the rest of it is wrong.
    let wants_json = arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, if wants_json { Form::Json } else { Form::Text }),
    };
    let form = if cli.json { Form::Json } else { Form::Text };
    match dispatch(&cli, &Printer::new(form)) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            failure.print(form);
            failure.exit
        }
    }
}

fn dispatch(cli: &Cli, printer: &Printer) -> Result<(), Failure> {
    match &cli.command {
        Command::Serve => serve::run(&cli.config, printer),
        Command::Check => check::run(&cli.config, printer),
        Command::NewStore => new_store::run(&cli.config, printer),
        Command::Demo => demo::run(printer),
        Command::Tenants(command) => tenants::run(&locate::client(&cli.config)?, command, printer),
        Command::Keys(command) => keys::run(&locate::client(&cli.config)?, command, printer),
        Command::Accounts(command) => accounts::run(&locate::client(&cli.config)?, command, printer),
        Command::Roles(command) => roles::run(&locate::client(&cli.config)?, command, printer),
        Command::Sessions(command) => sessions::run(&locate::client(&cli.config)?, command, printer),
        Command::Peppers { command } => peppers::run(&locate::client(&cli.config)?, command.as_ref(), printer),
        Command::Gateways => events::gateways(&locate::client(&cli.config)?, printer),
        Command::Drill(args) => drill::run(&locate::client(&cli.config)?, args, printer),
        Command::Events(args) => events::run(&locate::client(&cli.config)?, args, printer),
        Command::Reload => {
            let done: crate::admin::Reloaded = locate::client(&cli.config)?.post("/v1/reload", &())?;
            printer.print(&done, |out| writeln!(out, "reloaded; configuration {} is in force", done.version))
        }
        Command::Status => {
            let status: crate::admin::Status = locate::client(&cli.config)?.get("/v1/status")?;
            printer.print(&status, |out| output::status(out, &status))
        }
        Command::SampleUpstream { listen } => demo::escrow::run(*listen),
    }
}

/// clap's own message says what would have been right; help and version are no mistake.
fn usage(error: &clap::Error, form: Form) -> Exit {
    let text = error.render().to_string();
    if !error.use_stderr() {
        let _ = write!(io::stdout(), "{text}");
        return Exit::Done;
    }
    // A word that belongs nowhere may be a password that somebody took for an argument.
    let stray = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) if !word.starts_with('-') => Some(word),
        _ => None,
    };
    let text = stray.map_or_else(|| text.clone(), |word| text.replace(&format!("'{word}'"), "(not repeated here)"));
    match form {
        Form::Text => {
            let _ = write!(io::stderr(), "{text}");
        }
        Form::Json => Failure::new(Exit::Usage, text.trim_start_matches("error: ").trim_end()).print(form),
    }
    Exit::Usage
}
