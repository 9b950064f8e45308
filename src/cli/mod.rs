//! The command line: reads arguments, acts through the operator API, prints, and answers an exit code.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

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
mod output;
mod password;
mod peppers;
mod roles;
mod schema;
pub mod serve;
mod sessions;
mod tenants;
mod wait;

pub use failure::{Exit, Failure};
use output::{Form, Printer};

use accounts::AccountCommand;
use client::Client;
use drill::DrillArgs;
use events::EventArgs;
use keys::KeyCommand;
use peppers::PepperCommand;
use roles::RoleCommand;
use sessions::SessionCommand;
use tenants::TenantCommand;

/// An authentication gateway with a proven revocation bound.
#[derive(Debug, Parser)]
#[command(
    name = "durward",
    version,
    about,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = "gateway.toml")]
    pub(crate) config: PathBuf,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway.
    Serve,
    /// Check the configuration and report every mistake with file, line and caret.
    Check,
    /// Print the JSON Schema of a configuration file, for editors.
    Schema {
        /// Which file.
        file: schema::SchemaFile,
    },
    /// Permit the next start to begin with an empty store where the pepper is there already.
    NewStore,
    /// Run the shipped configuration with a sample upstream and show what it does.
    Demo,
    /// Make, list and switch tenants.
    #[command(subcommand)]
    Tenants(TenantCommand),
    /// Make, list, rotate and revoke keys.
    #[command(subcommand)]
    Keys(Box<KeyCommand>),
    /// Make, list and switch accounts.
    #[command(subcommand)]
    Accounts(Box<AccountCommand>),
    /// Make, list and change roles.
    #[command(subcommand)]
    Roles(RoleCommand),
    /// List and end sessions.
    #[command(subcommand)]
    Sessions(SessionCommand),
    /// Show what depends on each pepper, and when one can be dropped.
    Peppers {
        /// What to do; without it, they are shown.
        #[command(subcommand)]
        command: Option<PepperCommand>,
    },
    /// List the gateways that share the store: what each has applied, and when it was last heard of.
    Gateways,
    /// Revoke a canary on the real system and report what every gateway did.
    Drill(DrillArgs),
    /// Show what changed, oldest first.
    Events(EventArgs),
    /// Let the running gateway read its configuration again.
    Reload,
    /// Show what the running gateway does.
    Status,
    /// The demo's upstream alone: answers with what it was sent.
    #[command(hide = true)]
    SampleUpstream {
        /// Where it listens.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
        listen: SocketAddr,
    },
}

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
        Command::Schema { file } => schema::run(*file, printer),
        Command::NewStore => serve::permit_new_store(&cli.config, printer),
        Command::Demo => demo::run(printer),
        Command::Tenants(command) => tenants::run(&Client::of_config(&cli.config)?, command, printer),
        Command::Keys(command) => keys::run(&Client::of_config(&cli.config)?, command, printer),
        Command::Accounts(command) => accounts::run(&Client::of_config(&cli.config)?, command, printer),
        Command::Roles(command) => roles::run(&Client::of_config(&cli.config)?, command, printer),
        Command::Sessions(command) => sessions::run(&Client::of_config(&cli.config)?, command, printer),
        Command::Peppers { command } => peppers::run(&Client::of_config(&cli.config)?, command.as_ref(), printer),
        Command::Gateways => events::gateways(&Client::of_config(&cli.config)?, printer),
        Command::Drill(args) => drill::run(&Client::of_config(&cli.config)?, args, printer),
        Command::Events(args) => events::run(&Client::of_config(&cli.config)?, args, printer),
        Command::Reload => {
            let done: crate::admin::Reloaded = Client::of_config(&cli.config)?.post("/v1/reload", &())?;
            printer.print(&done, |out| writeln!(out, "reloaded; configuration {} is in force", done.version))
        }
        Command::Status => {
            let status: crate::admin::Status = Client::of_config(&cli.config)?.get("/v1/status")?;
            printer.print(&status, |out| output::status(out, &status))
        }
        Command::SampleUpstream { listen } => demo::sample_upstream::run(*listen),
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
