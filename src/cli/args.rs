//! The commands and their options: a stable contract (design 8).

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod confirmed;
mod people;
mod peppers;

pub(crate) use confirmed::{DrillArgs, EventArgs, WaitArgs};
pub(crate) use people::{AccountArgs, AccountCommand, RoleCommand, SessionCommand};
pub(crate) use peppers::PepperCommand;

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

/// Tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make an active tenant.
    Create {
        /// Your word for it; becomes the tenant header.
        id: String,
    },
    /// List tenants.
    List(Page),
    /// Admit a tenant's credentials.
    Enable {
        /// The tenant.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Refuse a tenant's credentials; `--wait` shows on which gateways they are refused.
    Disable {
        /// The tenant.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// Which part of a list.
#[derive(Debug, Clone, Args)]
pub(crate) struct Page {
    /// Begin after this id.
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// At most this many, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) limit: u16,
}

/// Keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key or a key pair; its secret is shown this once.
    Create(CreateArgs),
    /// List keys: prefix and last four characters, never a secret.
    List {
        /// Of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Of this surface.
        #[arg(long, value_name = "NAME")]
        surface: Option<String>,
        /// In force and found only with this pepper, whose mark `durward peppers` shows.
        #[arg(long, value_name = "MARK")]
        pepper: Option<String>,
        /// Which part.
        #[command(flatten)]
        page: Page,
    },
    /// Show one key.
    Show {
        /// Its id.
        id: String,
    },
    /// Tell the secret that a service signs its webhooks with; of other keys only the hash is kept.
    Reveal {
        /// Its id.
        id: String,
    },
    /// Switch a key off; `enable` switches it on again.
    Disable {
        /// Its id.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Switch a key on again.
    Enable {
        /// Its id.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// End a key for ever; for a leaked one say `--wait`, which shows on which gateways it has stopped.
    Revoke {
        /// Its id.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Make a key like this one and let this one end after a grace.
    Rotate {
        /// Its id.
        id: String,
        /// How long the old one goes on working: 45s, 90m, 12h, 30d, 2w, or 0.
        #[arg(long, value_name = "TIME", default_value = "1h")]
        grace: String,
        /// When the new one ends: 30d, or 2027-01-31T00:00:00Z. Without it, when the old one would have.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Take over keys of which only SHA-256 hashes are known.
    Import(ImportArgs),
}

/// What describes a key.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArgs {
    /// `test` or `live`; needed when the surface has both.
    #[arg(long, value_name = "MODE", value_parser = ["test", "live"])]
    pub(crate) mode: Option<String>,
    /// What it may do; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Who acts within the tenant.
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// When it ends: 30d, or 2027-01-31T00:00:00Z. Without it, it lives until revoked.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// A name for people.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Which roles.
#[derive(Debug, Clone, Args)]
pub(crate) struct RoleArgs {
    /// A role it has, by id or name; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
}

/// `keys create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CreateArgs {
    /// The surface it is for.
    #[arg(long, value_name = "NAME")]
    pub(crate) surface: String,
    /// Whose it is.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: String,
    /// Which roles.
    #[command(flatten)]
    pub(crate) roles: RoleArgs,
    /// The id of the record it hangs on: when that ends, it ends.
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// The rest.
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// `keys import`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// JSON lines with the names of these options as members (`scopes` is a list, or one text with spaces); `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sha256", "secret_sha256", "id", "last4", "mode", "scopes", "subject", "expires", "name"])]
    pub(crate) file: Option<PathBuf>,
    /// The surface it is for; with a file, the default of its lines.
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    pub(crate) surface: Option<String>,
    /// Whose it is; with a file, the default of its lines.
    #[arg(long, value_name = "ID", required_unless_present = "file")]
    pub(crate) tenant: Option<String>,
    /// SHA-256 of the key, or of the publishable half, in hexadecimal.
    #[arg(long, value_name = "HEX", required_unless_present = "file")]
    pub(crate) sha256: Option<String>,
    /// SHA-256 of the secret half, for a pair.
    #[arg(long, value_name = "HEX")]
    pub(crate) secret_sha256: Option<String>,
    /// The id it is known by; made up when absent.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Its last four characters, for lists.
    #[arg(long, value_name = "TEXT")]
    pub(crate) last4: Option<String>,
    /// The rest.
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}
