//! What a failed command means: for the caller, for the connection, and for the search for the primary.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::base::clock::{Clock, SystemClock};
use crate::store::StoreError;
use crate::store::redis::scripts::rights;

use super::{Endpoint, registration};

/// Milliseconds between two log lines about one alarm. Otherwise every refused request would write a line.
const ALARM_INTERVAL: u64 = 10_000;

/// What a failed command means.
#[derive(Debug, Clone)]
pub(crate) struct StoreFault {
    pub(crate) error: StoreError,
    pub(crate) connection: ConnectionFate,
    pub(crate) retry: RetryRead,
    /// The rights of which one is missing. A change that is refused for this reason has changed nothing.
    pub(crate) refused: Vec<String>,
    /// Why the server takes no changes at all. A change that is refused for this reason has changed nothing.
    pub(crate) closed: Option<WritesClosed>,
}

/// Whether a connection may go on being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConnectionFate {
    Keep,
    Drop,
    /// The server is not our primary, or not any more. The leader looks for the primary, first at this address if the
    /// server named one.
    NotPrimary(Option<Endpoint>),
}

/// Whether a read may be sent again, on another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryRead {
    Elsewhere,
    /// The answer is about another credential. The answer on another connection tells whether the store is wrong or this
    /// connection.
    Compare,
    /// After this gateway is registered (again).
    Registered,
    No,
}

/// What an operator must look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultAlarm {
    Credentials,
    NoData,
    DataLost,
    Swapped,
    Closed(&'static str),
}

impl StoreFault {
    /// Judges an error. No error is an absence (docs/threats.md C4, F9). Only the code of the server's text is kept: the rest
    /// may repeat arguments.
    pub(crate) fn of(error: &RedisError) -> Self {
        if is_garbage(error) {
            // The read is not repeated: another connection would be lost, too (docs/threats.md F10).
            return Self::refused(StoreError::Corrupt("an answer of Redis is none, or too large".into()));
        }
        if error.code() == Some("UNLISTED") {
            return Self {
                retry: RetryRead::Registered,
                ..Self::kept(registration::unlisted(None))
            };
        }
        if error.code() == Some("ALONE") {
            return Self {
                retry: RetryRead::Elsewhere,
                ..Self::kept(StoreError::Unavailable("it was too much together with others".into()))
            };
        }
        let retry = if !error.is_timeout() && (error.is_io_error() || error.is_connection_dropped()) {
            RetryRead::Elsewhere
        } else {
            RetryRead::No
        };
        Self {
            error: meaning(error),
            connection: use_of(error),
            retry,
            refused: rights::refused(error),
            closed: WritesClosed::of(error),
        }
    }

    /// Whether a change was certainly not made: the server checks these conditions before the first write of a script.
    pub(crate) fn changed_nothing(&self) -> bool {
        !self.refused.is_empty() || self.closed.is_some()
    }

    /// The gateway's user lacks this right.
    pub(crate) fn of_right(right: &str) -> Self {
        let refused = vec![right.to_owned()];
        Self {
            refused: refused.clone(),
            ..Self::kept(lacks(&refused))
        }
    }

    /// An error after which the connection stays in use.
    pub(crate) const fn kept(error: StoreError) -> Self {
        Self {
            error,
            connection: ConnectionFate::Keep,
            retry: RetryRead::No,
            refused: Vec::new(),
            closed: None,
        }
    }

    /// An error after which the connection is closed.
    pub(crate) const fn refused(error: StoreError) -> Self {
        Self {
            error,
            connection: ConnectionFate::Drop,
            retry: RetryRead::No,
            refused: Vec::new(),
            closed: None,
        }
    }

    /// An answer to another question. Answers on one connection come in the order of the questions, so no later answer on
    /// this connection can be trusted. Another connection can be asked.
    pub(crate) fn swapped() -> Self {
        raise(FaultAlarm::Swapped);
        Self {
            retry: RetryRead::Elsewhere,
            ..Self::refused(StoreError::Corrupt("the answer is to another question".into()))
        }
    }

    /// An answer to this question that is about another credential.
    pub(crate) fn about_another(error: StoreError) -> Self {
        Self {
            retry: RetryRead::Compare,
            ..Self::kept(error)
        }
    }

    /// An index holds an entry that is none of our ids.
    pub(crate) fn of_index() -> Self {
        Self::kept(StoreError::Corrupt("an index holds an entry that is none of ours".into()))
    }

    /// An answer of a form that this question cannot have.
    pub(crate) fn malformed() -> Self {
        Self::refused(StoreError::Corrupt("an answer of Redis has the wrong form".into()))
    }

    /// The server says that it is not the primary.
    pub(crate) fn replica() -> Self {
        Self {
            error: StoreError::Unavailable("Redis is a replica here; the primary is needed".into()),
            connection: ConnectionFate::NotPrimary(None),
            retry: RetryRead::No,
            refused: Vec::new(),
            closed: None,
        }
    }
}

/// Whether the reply guard refused the bytes.
fn is_garbage(error: &RedisError) -> bool {
    error
        .source()
        .and_then(|cause| cause.downcast_ref::<Arc<dyn Error + Send + Sync>>())
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData)
}

/// What becomes of the connection after this error.
fn use_of(error: &RedisError) -> ConnectionFate {
    match error.kind() {
        _ if error.is_timeout() || error.is_io_error() || error.is_connection_dropped() => ConnectionFate::Drop,
        // A primary that was demoted or cut off: the address may lead to another server by now.
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::ClusterDown) => {
            ConnectionFate::NotPrimary(None)
        }
        // While a slot moves, no node has all of its keys. A later question finds the node that has them.
        ErrorKind::Server(ServerErrorKind::TryAgain) => ConnectionFate::NotPrimary(None),
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
            ConnectionFate::NotPrimary(error.redirect_node().and_then(|(address, _)| Endpoint::parse_redirect(address)))
        }
        ErrorKind::Server(_) | ErrorKind::Extension => ConnectionFate::Keep,
        _ => ConnectionFate::Drop,
    }
}

/// Why a server takes no changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WritesClosed {
    Full,
    DiskFails,
    TooFewReplicas,
}

impl WritesClosed {
    /// The reason, if the server said that it takes no changes. Inside a script, Redis before 7.0 answers the code `ERR` and
    /// names the reason in the words after it.
    fn of(error: &RedisError) -> Option<Self> {
        const ALL: [(&str, &str, WritesClosed); 3] = [
            ("OOM", "OOM command not allowed", WritesClosed::Full),
            ("MISCONF", "MISCONF ", WritesClosed::DiskFails),
            ("NOREPLICAS", "NOREPLICAS ", WritesClosed::TooFewReplicas),
        ];
        let (code, detail) = (error.code()?, error.detail().unwrap_or_default());
        ALL.iter()
            .find(|(own, inside, _)| code == *own || code == "ERR" && detail.contains(inside))
            .map(|(_, _, why)| *why)
    }

    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::Full => "Redis is full and takes no changes (OOM): its `maxmemory` is reached; raise it, or free memory",
            Self::DiskFails => "Redis takes no changes because it cannot write to its disk (MISCONF): look at its disk and its log",
            Self::TooFewReplicas => {
                "Redis takes no changes because too few replicas are connected (NOREPLICAS): see its `min-replicas-to-write`"
            }
        }
    }
}

fn meaning(error: &RedisError) -> StoreError {
    let refused = rights::refused(error);
    if !refused.is_empty() {
        return lacks(&refused);
    }
    if let Some(why) = WritesClosed::of(error).map(WritesClosed::why) {
        raise(FaultAlarm::Closed(why));
        return StoreError::Unavailable(why.into());
    }
    match error.code() {
        Some("WRONGTYPE") => StoreError::Corrupt("a key has the wrong type".into()),
        // Inside a script, Redis before 7.0 names the reason in the words after the code.
        Some("ERR")
            if error
                .detail()
                .is_some_and(|detail| detail.contains("WRONGTYPE Operation against a key")) =>
        {
            StoreError::Corrupt("a key has the wrong type".into())
        }
        Some("BADINDEX") => StoreFault::of_index().error,
        Some("TOOLARGE") => {
            // Only an id is taken from the server's text.
            let id = error
                .detail()
                .filter(|id| crate::base::ids::is_valid_id(id))
                .unwrap_or("of no valid id");
            StoreError::Corrupt(format!(
                "the record {id}, or when it was last used, is longer than any that is written"
            ))
        }
        Some("FOREIGN") => StoreError::Foreign(crate::store::peppers::lacks("`durward peppers` at another gateway names it")),
        Some("DROPPED") => StoreError::Foreign(
            "this gateway's first pepper was dropped from it, or is being dropped: put another one first and start it again".into(),
        ),
        Some("NODATA") => {
            raise(FaultAlarm::NoData);
            StoreError::Unavailable("it holds no data: it was never used, or it was flushed; make a tenant, or restore it".into())
        }
        Some("DATALOST") => {
            raise(FaultAlarm::DataLost);
            StoreError::Unavailable("it has lost keys: check that maxmemory-policy is noeviction, and restore it".into())
        }
        Some(code @ ("NOAUTH" | "WRONGPASS")) => {
            raise(FaultAlarm::Credentials);
            StoreError::Unavailable(format!("Redis refuses this gateway's user ({code})"))
        }
        Some("LOADING") => StoreError::Unavailable("Redis is reading its data after a start (LOADING)".into()),
        Some("BUSY") => StoreError::Unavailable("Redis is held up by a script that somebody runs there (BUSY)".into()),
        Some("CROSSSLOT") => StoreError::Unavailable("a key is of another slot of the cluster (CROSSSLOT): see `key_prefix`".into()),
        Some(code) => StoreError::Unavailable(format!("Redis answered {code}")),
        None if error.kind() == ErrorKind::AuthenticationFailed => {
            // The client says no more than this. A server that takes no more connections answers so, too.
            raise(FaultAlarm::Credentials);
            StoreError::Unavailable(
                "Redis refuses this gateway's user: its name or password is not accepted, or there are too many connections".into(),
            )
        }
        None if error.is_timeout() => StoreError::Unavailable("Redis did not answer in time".into()),
        None if matches!(error.kind(), ErrorKind::UnexpectedReturnType) => {
            StoreError::Corrupt("an answer of Redis has the wrong form".into())
        }
        None => StoreError::Unavailable(format!("the connection to Redis failed ({})", error.category())),
    }
}

fn lacks(refused: &[String]) -> StoreError {
    let right = rights::shown(refused);
    raise_denied(&right);
    StoreError::Unavailable(format!("Redis refuses this gateway's user (NOPERM): it lacks the right {right}"))
}

/// Logs which right is missing, at most once in [`ALARM_INTERVAL`] for each right. The names are ours, so they are few.
fn raise_denied(right: &str) {
    static LOGGED_AT: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
    let now = SystemClock.now().boot.0;
    let mut logged_at = LOGGED_AT.lock().unwrap_or_else(PoisonError::into_inner);
    if logged_at.get(right).is_some_and(|last| now < last.saturating_add(ALARM_INTERVAL)) {
        return;
    }
    logged_at.insert(right.to_owned(), now);
    drop(logged_at);
    tracing::error!(
        alarm = "store_credentials",
        right,
        "Redis refuses this gateway's user a right: give it (docs/redis.md)"
    );
}

/// Logs an alarm, at most once in [`ALARM_INTERVAL`] for each kind.
fn raise(alarm: FaultAlarm) {
    static LOGGED_AT: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
    let now = SystemClock.now().boot.0.saturating_add(ALARM_INTERVAL);
    let logged_at = match alarm {
        FaultAlarm::Credentials => &LOGGED_AT[0],
        FaultAlarm::NoData => &LOGGED_AT[1],
        FaultAlarm::DataLost => &LOGGED_AT[2],
        FaultAlarm::Swapped => &LOGGED_AT[3],
        FaultAlarm::Closed(_) => &LOGGED_AT[4],
    };
    let due = |last: u64| (now >= last.saturating_add(ALARM_INTERVAL)).then_some(now);
    if logged_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_err() {
        return;
    }
    match alarm {
        FaultAlarm::Credentials => {
            tracing::error!(
                alarm = "store_credentials",
                "Redis refuses this gateway's user: check name, password and its commands (docs/redis.md)"
            );
        }
        FaultAlarm::NoData => {
            tracing::error!(
                alarm = "store_empty",
                "the store holds no data: new, or flushed; nobody is admitted and nobody is told to be unknown until it is restored, \
                 or an operator makes a tenant"
            );
        }
        FaultAlarm::DataLost => {
            tracing::error!(
                alarm = "store_data_lost",
                "the store has lost keys of ours (evicted, expired or deleted): restore it, and set maxmemory-policy to noeviction"
            );
        }
        FaultAlarm::Closed(why) => {
            tracing::error!(
                alarm = "store_takes_no_changes",
                why,
                "the store takes no changes, revocations included, and gateways cannot announce themselves"
            );
        }
        FaultAlarm::Swapped => {
            tracing::error!(
                alarm = "store_answers_swapped",
                "a connection to Redis brought somebody else's answer, which nobody was given: it is closed; look at what stands between"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f9_no_error_of_the_server_is_an_absence_and_its_text_is_not_repeated() {
        for line in [
            "LOADING canary",
            "READONLY canary",
            "NOAUTH canary",
            "OOM canary",
            "BUSY canary",
            "MOVED 1 canary:1",
            "NOPERM canary",
            "MASTERDOWN canary",
            "ASK 1 canary:1",
            "CLUSTERDOWN canary",
            "TRYAGAIN canary",
            "NODATA canary",
            "DATALOST canary",
        ] {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
            let error = value.extract_error().unwrap_err();
            let fault = StoreFault::of(&error);
            assert!(matches!(fault.error, StoreError::Unavailable(_)), "{line}: {:?}", fault.error);
            assert!(!fault.error.to_string().contains("canary"), "{}", fault.error);
        }
    }

    #[test]
    fn a_server_that_takes_no_changes_says_why_and_has_changed_nothing() {
        let fault = |line: &str| {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
            StoreFault::of(&value.extract_error().unwrap_err())
        };
        for (line, word) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'. script: a, on @user_script:1.",
                "maxmemory",
            ),
            (
                "ERR Error running script (call to f_a): @user_script:9: @user_script: 9: -OOM command not allowed when used memory > 'maxmemory'.",
                "maxmemory",
            ),
            ("MISCONF Redis is configured to save RDB snapshots, canary", "disk"),
            ("NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write"),
        ] {
            let fault = fault(line);
            assert!(fault.changed_nothing(), "{line}");
            assert!(fault.error.to_string().contains(word), "{line}: {}", fault.error);
        }
        for line in ["LOADING x", "BUSY x", "ERR x", "WRONGTYPE x", "NODATA x"] {
            assert!(!fault(line).changed_nothing(), "{line}");
        }
    }

    #[test]
    fn a_server_that_is_not_our_primary_makes_us_look_for_it() {
        let connection = |line: &str| {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
            StoreFault::of(&value.extract_error().unwrap_err()).connection
        };
        let logged_at = Endpoint::parse("10.0.0.7:7000");
        assert_eq!(connection("MOVED 866 10.0.0.7:7000"), ConnectionFate::NotPrimary(logged_at.clone()));
        assert_eq!(connection("ASK 866 10.0.0.7:7000"), ConnectionFate::NotPrimary(logged_at));
        assert_eq!(
            connection("MOVED 866 ::1:7000"),
            ConnectionFate::NotPrimary(Endpoint::parse("[::1]:7000"))
        );
        for line in [
            "MOVED 866 :7000",
            "MOVED",
            "READONLY x",
            "MASTERDOWN x",
            "CLUSTERDOWN x",
            "TRYAGAIN x",
        ] {
            assert_eq!(connection(line), ConnectionFate::NotPrimary(None), "{line}");
        }
        for line in ["LOADING x", "OOM x", "BUSY x", "NODATA x", "NOPERM x"] {
            assert_eq!(connection(line), ConnectionFate::Keep, "{line}");
        }
    }
}
