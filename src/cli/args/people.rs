//! Options of `durward accounts`, `roles` and `sessions`.

use clap::{Args, Subcommand};

use super::{Page, RoleArgs, WaitArgs};

/// Accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Make an account; its password is read from standard input, one line.
    Create(AccountArgs),
    /// List accounts.
    List {
        /// Of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Of this surface; needed when there are several for accounts.
        #[arg(long, value_name = "NAME")]
        surface: Option<String>,
        /// Which part.
        #[command(flatten)]
        page: Page,
    },
    /// Show one account.
    Show {
        /// Its id.
        id: String,
    },
    /// Switch an account and its sessions off; `enable` switches them on again.
    Disable {
        /// Its id.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Switch an account on again.
    Enable {
        /// Its id.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// End an account and its sessions for ever.
    Revoke {
        /// Its id.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Give an account another password, read from standard input, and end its sessions.
    SetPassword {
        /// Its id.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// `accounts create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AccountArgs {
    /// Whose it is.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: String,
    /// Its e-mail address; needed where accounts log in.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// Its surface; needed when there are several for accounts.
    #[arg(long, value_name = "NAME")]
    pub(crate) surface: Option<String>,
    /// `test` or `live`, for surfaces with a mode.
    #[arg(long, value_name = "MODE", value_parser = ["test", "live"])]
    pub(crate) mode: Option<String>,
    /// What it may do; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Which roles.
    #[command(flatten)]
    pub(crate) roles: RoleArgs,
    /// When it ends: 30d, or 2027-01-31T00:00:00Z. Without it, it lives until revoked.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// A name for people.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Roles.
#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Make a role of a tenant.
    Create {
        /// Whose it is.
        #[arg(long, value_name = "ID")]
        tenant: String,
        /// Its name.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// What its holders may do; may be given several times.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
    },
    /// List the roles of the configuration and, with a tenant, its own.
    List {
        /// Of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Show one role.
    Show {
        /// Its id.
        id: String,
    },
    /// Change a role of a tenant; what is not given stays.
    Set {
        /// Its id.
        id: String,
        /// Another name.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Another description.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Replaces all that its holders may do; may be given several times.
        #[arg(long = "scope", value_name = "SCOPE", conflicts_with = "no_scopes")]
        scopes: Vec<String>,
        /// Its holders may do nothing by it any more.
        #[arg(long)]
        no_scopes: bool,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Delete a role of a tenant; its holders lose what it allowed.
    Delete {
        /// Its id.
        id: String,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// Sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List live sessions: what hangs on an account, a key or a token, and what slides.
    List {
        /// Of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Of this surface.
        #[arg(long, value_name = "NAME")]
        surface: Option<String>,
        /// Hanging on the record of this id.
        #[arg(long, value_name = "ID")]
        parent: Option<String>,
        /// Of this subject.
        #[arg(long, value_name = "SUBJECT")]
        subject: Option<String>,
        /// Which part.
        #[command(flatten)]
        page: Page,
    },
    /// End one session for ever, or all that hang on a record.
    Revoke {
        /// The session's id.
        #[arg(required_unless_present = "all_of", conflicts_with = "all_of")]
        id: Option<String>,
        /// End all sessions that hang on the record of this id, which itself goes on.
        #[arg(long, value_name = "ID")]
        all_of: Option<String>,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
}
