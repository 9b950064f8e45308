//! What a store reports to operators: whether it makes changes, and what they should change about it.

/// Whether a store makes changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writes {
    /// Why changes are not made at present, and what to do about it; `None` when they are.
    pub refused: Option<String>,
    /// Failures to write since the process began.
    pub failed: u64,
    /// How often the store was opened again after one.
    pub reopened: u64,
}

/// A setting or a state of a store that weakens what is promised. Shown and warned about; never a
/// reason to refuse to serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Concern {
    /// The settings cannot be seen.
    #[error("the store's settings cannot be looked at: allow the gateway's user INFO (and CONFIG GET)")]
    SettingsHidden,
    /// Nobody can tell one process of the server from another.
    #[error(
        "the store does not tell which of its processes answers (`run_id` of INFO), so a restart that lost gateways from the list cannot be \
             excluded and `--wait` never says that all have confirmed: allow the gateway's user INFO"
    )]
    ServerHidden,
    #[error("the store does not write changes down, a restart loses them: set `appendonly yes`")]
    NotPersistent,
    #[error("the store cannot write changes down: look at its disk and its log")]
    WritingFails,
    /// Changes are acknowledged before they are on the disk, and no replica has them either.
    #[error(
        "a power cut of the store's machine may lose acknowledged changes: set `appendfsync always`, or let changes wait for a replica"
    )]
    SyncedLate,
    /// Records may be thrown out when memory is short.
    #[error("the store may evict records when memory is short (`maxmemory-policy {policy}`): set `noeviction`")]
    MayEvict {
        policy: String,
        /// Keys thrown out since it was started.
        evicted: u64,
    },
    /// There are replicas, and no change waits for any.
    #[error("a failover may lose acknowledged changes for ever: the store has {replicas} replicas, set `wait_replicas = \"all\"`")]
    NothingAwaited { replicas: usize },
    /// Changes wait for fewer replicas than could be promoted.
    #[error(
        "a failover may lose acknowledged changes for ever: changes wait for {awaited} replicas and {promotable} could be promoted, \
         set `wait_replicas = \"all\"`"
    )]
    FewerThanAll {
        /// `wait_replicas`.
        awaited: u32,
        /// By the account of those who would promote one.
        promotable: usize,
    },
    /// Nobody says which replicas changes must wait for.
    #[error("changes are made but not confirmed, because which replicas could be promoted is not known: {why}")]
    ReplicasUnknown {
        /// What is in the way.
        why: String,
    },
    /// A primary that is cut off from its replicas goes on taking changes.
    #[error(
        "a primary that is cut off from its replicas goes on acknowledging changes: set `min-replicas-to-write` to the number of replicas"
    )]
    WritesAlone,
    /// Changes wait for replicas that are not there.
    #[error("changes wait for {wanted} replicas and {connected} are connected: changes are made but not confirmed")]
    TooFewReplicas {
        /// Connected and up to date within seconds.
        connected: usize,
        /// `wait_replicas`.
        wanted: u32,
    },
    /// The server refuses whatever writes.
    #[error("the store takes no changes, revocations included: {why}")]
    Closed { why: &'static str },
    /// The gateway's user at the store lacks rights.
    #[error("the store refuses its user the rights {}: compare with docs/redis.md", rights.join(", "))]
    RightsRefused {
        /// Names of commands, `~keys` for its keys.
        rights: Vec<String>,
    },
    /// A replica that could be promoted is away, or lags by seconds.
    #[error("changes are made but not confirmed, because replicas that could be promoted are not connected to the primary: {replicas}")]
    ReplicasAway { replicas: String },
    /// A node that is cut off from its cluster goes on answering.
    #[error("a node that is cut off from its cluster goes on answering: set `cluster-allow-reads-when-down no`")]
    ReadsWhenDown,
}

impl Concern {
    /// The rights that are missing, by name.
    #[must_use]
    pub fn refused_rights(&self) -> &[String] {
        match self {
            Self::RightsRefused { rights } => rights,
            _ => &[],
        }
    }

    /// Its word, for metrics and logs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::SettingsHidden => "settings_hidden",
            Self::ServerHidden => "server_hidden",
            Self::NotPersistent => "not_persistent",
            Self::WritingFails => "writing_fails",
            Self::SyncedLate => "synced_late",
            Self::MayEvict { .. } => "may_evict",
            Self::NothingAwaited { .. } => "nothing_awaited",
            Self::FewerThanAll { .. } => "fewer_than_all",
            Self::ReplicasUnknown { .. } => "replicas_unknown",
            Self::ReplicasAway { .. } => "replicas_away",
            Self::WritesAlone => "writes_alone",
            Self::TooFewReplicas { .. } => "too_few_replicas",
            Self::Closed { .. } => "takes_no_changes",
            Self::RightsRefused { .. } => "rights_refused",
            Self::ReadsWhenDown => "reads_when_down",
        }
    }
}
