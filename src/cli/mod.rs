//! The command line: reads arguments, acts through the operator API, prints, and answers an exit code.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

mod accounts;
mod actor;
mod args;
mod audit;
mod check;
mod client;
mod demo;
mod descriptors;
mod drill;
mod events;
mod explain;
mod failure;
mod import;
mod keys;
mod output;
mod password;
mod peppers;
mod providers;
mod roles;
mod serve;
mod sessions;
mod tenants;
mod wait;

pub use failure::Exit;
use failure::Failure;
use output::{Form, Printer};

use accounts::AccountCommand;
use audit::AuditCommand;
use client::OperatorClient;
use drill::DrillArgs;
use events::EventArgs;
use explain::ExplainArgs;
use keys::KeyCommand;
use peppers::PepperCommand;
use providers::ProviderCommand;
use roles::RoleCommand;
use sessions::SessionCommand;
use tenants::TenantCommand;

use crate::sign_on::saml;

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
    /// The configuration file of the gateway.
    #[arg(long, global = true, value_name = "FILE", default_value = "gateway.toml")]
    pub(crate) config: PathBuf,
    /// Answer in JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway until SIGINT or SIGTERM.
    Serve,
    /// Check the configuration and report every mistake with file, line and caret.
    Check,
    /// Print the JSON Schema of a configuration file, for editors.
    Schema {
        /// Which file.
        file: check::SchemaFile,
    },
    /// Permit the next start to begin with an empty store although the pepper exists already.
    NewStore,
    /// Run the shipped configuration with a sample upstream and show what it does.
    Demo,
    /// Make, list, enable and disable tenants.
    #[command(subcommand)]
    Tenants(TenantCommand),
    /// Make, list, rotate and revoke keys.
    #[command(subcommand)]
    Keys(Box<KeyCommand>),
    /// Make, list, enable, disable and revoke accounts.
    #[command(subcommand)]
    Accounts(Box<AccountCommand>),
    /// Make, list and change roles.
    #[command(subcommand)]
    Roles(RoleCommand),
    /// Make, list, change and delete the identity providers of tenants, for single sign-on.
    #[command(subcommand)]
    Providers(Box<ProviderCommand>),
    /// List sessions, and end them.
    #[command(subcommand)]
    Sessions(SessionCommand),
    /// Show how many credentials depend on each pepper, and when a pepper can be dropped.
    Peppers {
        /// What to do; without it, the peppers are shown.
        #[command(subcommand)]
        command: Option<PepperCommand>,
    },
    /// List the gateways that share the store, what each has applied, and when it wrote its last receipt.
    Gateways,
    /// Revoke a canary on the real system and report what every gateway did.
    Drill(DrillArgs),
    /// Show what changed, the oldest change first.
    Events(EventArgs),
    /// Verify audit trails, and prove what stands in them.
    #[command(subcommand)]
    Audit(Box<AuditCommand>),
    /// Say what would become of a request and why, or what became of one, without sending anything.
    Explain(Box<ExplainArgs>),
    /// Make the running gateway read its configuration again.
    Reload,
    /// Show what the running gateway serves, and whether it is ready.
    Status,
    /// Run only the upstream of the demo, which answers with the request it got.
    #[command(hide = true)]
    SampleUpstream {
        /// The address on which it listens.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
        listen: SocketAddr,
    },
    /// Verify one SAML message in a confined process; the gateway starts it.
    #[command(name = saml::child::SUBCOMMAND, hide = true)]
    SamlVerifier {
        /// The message may have to be decrypted.
        #[arg(long)]
        decrypting: bool,
    },
}

/// Runs a command line (with the program's name first) and answers how the process ends.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // `--json` counts also on a line that is wrong otherwise.
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
        Command::Schema { file } => check::print_schema(*file, printer),
        Command::NewStore => serve::permit_new_store(&cli.config, printer),
        Command::Demo => demo::run(printer),
        Command::Tenants(command) => tenants::run(&OperatorClient::of_config(&cli.config)?, command, printer),
        Command::Keys(command) => keys::run(&OperatorClient::of_config(&cli.config)?, command, printer),
        Command::Accounts(command) => accounts::run(&OperatorClient::of_config(&cli.config)?, command, printer),
        Command::Roles(command) => roles::run(&OperatorClient::of_config(&cli.config)?, command, printer),
        Command::Providers(command) => providers::run(&OperatorClient::of_config(&cli.config)?, command, printer),
        Command::Sessions(command) => sessions::run(&OperatorClient::of_config(&cli.config)?, command, printer),
        Command::Peppers { command } => peppers::run(&OperatorClient::of_config(&cli.config)?, command.as_ref(), printer),
        Command::Gateways => events::gateways(&OperatorClient::of_config(&cli.config)?, printer),
        Command::Drill(args) => drill::run(&OperatorClient::of_config(&cli.config)?, args, printer),
        Command::Audit(command) => audit::run(&cli.config, command, printer),
        Command::Events(args) => events::run(&OperatorClient::of_config(&cli.config)?, args, printer),
        Command::Explain(args) => explain::run(&cli.config, args, printer),
        Command::Reload => {
            let done: crate::admin::Reloaded = OperatorClient::of_config(&cli.config)?.post("/v1/reload", &())?;
            printer.print(&done, |out| writeln!(out, "reloaded; configuration {} is in force", done.version))
        }
        Command::Status => {
            let status: crate::admin::GatewayStatus = OperatorClient::of_config(&cli.config)?.get("/v1/status")?;
            printer.print(&status, |out| output::status(out, &status))
        }
        Command::SampleUpstream { listen } => demo::sample_upstream::run(*listen),
        Command::SamlVerifier { decrypting } => {
            saml::child::run(*decrypting).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
        }
    }
}

/// Prints the message of clap, which says what would have been right. Help and version are not mistakes.
fn usage(error: &clap::Error, form: Form) -> Exit {
    let text = error.render().to_string();
    if !error.use_stderr() {
        let _ = write!(io::stdout(), "{text}");
        return Exit::Done;
    }
    // An unknown word may be a password that somebody gave as an argument.
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
