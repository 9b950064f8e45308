//! Where the primary is now, for all connections of this process together.
//!
//! The leading connection looks for it and checks it; the others go where the leader is, and leave as
//! soon as the leader is elsewhere. So no connection goes on reading from an old primary while the
//! rest of the process follows the new one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::store::{StoreError, watch};

use super::access::{Endpoint, RedisAccess, Servers};
use super::cluster::Nodes;
use super::dial::{Caller, Surroundings, Wire, dial};
use super::fault::{Connection, Fault};
use super::link::Backoff;
use super::pace::Pace;
use super::rights::Rights;
use super::sentinel::Sentinels;
use super::turn::Turn;

/// Where the leader is, for the other connections.
pub(super) type Course = watch::Receiver<Option<Arc<Endpoint>>>;

/// Who knows where the primary is.
enum Guide {
    One(Endpoint),
    Sentinels(Box<Sentinels>),
    Cluster(Nodes),
}

/// Where the primary is, and how to find it.
pub(super) struct Whereabouts {
    around: Surroundings,
    pace: Pace,
    /// When this gateway tries again after others have lost the store too.
    pub(super) turn: Turn,
    guide: Guide,
    caller: Caller,
    /// Where the leader found the primary; `None` while nobody may be asked.
    course: watch::Sender<Option<Arc<Endpoint>>>,
    /// Grows when a server said that it is not our primary.
    astray: watch::Sender<u64>,
    hint: Mutex<Option<Endpoint>>,
}

impl Whereabouts {
    pub(super) fn new(around: Surroundings, access: RedisAccess, hash_tag: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            caller: Caller::new(&around, &access.user, access.database, access.tls.as_ref()),
            guide: match access.servers {
                Servers::One(endpoint) => Guide::One(endpoint),
                Servers::Sentinels(sentinels) => Guide::Sentinels(Box::new(Sentinels::new(&around, *sentinels))),
                Servers::Cluster(seeds) => Guide::Cluster(Nodes::new(seeds, hash_tag)),
            },
            pace: around.pace(),
            turn: Turn::new(clock),
            around,
            course: watch::channel(None).0,
            astray: watch::channel(0).0,
            hint: Mutex::default(),
        }
    }

    /// Where to try next; the leader's to ask. Whether it is the primary is for the connection to
    /// find out. Ends within two seconds.
    pub(super) async fn locate(&self) -> Result<Endpoint, StoreError> {
        match &self.guide {
            Guide::One(endpoint) => Ok(endpoint.clone()),
            Guide::Sentinels(sentinels) => self.heed(sentinels, sentinels.ask().await),
            Guide::Cluster(nodes) => {
                let hint = self.hint.lock().unwrap_or_else(PoisonError::into_inner).take();
                match hint {
                    Some(endpoint) => Ok(endpoint),
                    None => nodes.ask(&self.caller).await,
                }
            }
        }
    }

    /// Whether the leader's primary is still believed to be one by those who know; a part of its
    /// heartbeat. Ends within two seconds.
    ///
    /// # Errors
    /// It is not: another is, or nobody has said so for too long.
    pub(super) async fn confirm(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        let Guide::Sentinels(sentinels) = &self.guide else {
            return Ok(());
        };
        match self.heed(sentinels, sentinels.ask().await) {
            Ok(named) if named == *endpoint => Ok(()),
            Ok(named) => Err(StoreError::Unavailable(format!("the sentinels name {named} as the primary now"))),
            Err(_) if sentinels.is_trusted() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends the course when the sentinels name another primary, or have not been heard for too long.
    fn heed(&self, sentinels: &Sentinels, answer: Result<Endpoint, StoreError>) -> Result<Endpoint, StoreError> {
        let is_over = |at: &Endpoint| match &answer {
            Ok(named) => named != at,
            Err(_) => !sentinels.is_trusted(),
        };
        self.course.send_if_modified(|course| {
            let ended = course.as_deref().is_some_and(is_over);
            if ended {
                *course = None;
            }
            ended
        });
        answer
    }

    /// Connects to what may be the primary, at the pace of this gateway.
    ///
    /// # Errors
    /// As [`dial`].
    pub(super) async fn dial(&self, endpoint: &Endpoint, response_timeout: Duration) -> Result<Wire, StoreError> {
        self.pace.wait(&self.turn).await;
        dial(endpoint, &self.caller, response_timeout).await
    }

    /// The leader is connected to the primary here.
    pub(super) fn set_course(&self, endpoint: Endpoint) {
        self.course.send_if_modified(|course| {
            let changed = course.as_deref() != Some(&endpoint);
            if changed {
                *course = Some(Arc::new(endpoint));
            }
            changed
        });
    }

    /// What was refused to this gateway's users.
    pub(super) const fn rights(&self) -> &Arc<Rights> {
        self.around.rights()
    }

    /// The pauses of one more connection.
    pub(super) fn backoff(&self) -> Backoff {
        self.around.backoff()
    }

    /// Where the leader is, now and whenever that changes.
    pub(super) fn course(&self) -> Course {
        self.course.subscribe()
    }

    /// Told about every fault: a server that is not our primary makes the leader look for it.
    pub(super) fn note(&self, fault: &Fault) {
        self.rights().note(fault);
        if let Connection::Astray(hint) = &fault.connection {
            if hint.is_some() {
                self.hint.lock().unwrap_or_else(PoisonError::into_inner).clone_from(hint);
            }
            self.astray.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// What the leader watches while it is connected; seen up to now.
    pub(super) fn astray(&self) -> watch::Receiver<u64> {
        self.astray.subscribe()
    }
}

/// Waits until the leader is elsewhere.
pub(super) async fn left(course: &mut Course, endpoint: &Endpoint) {
    // An error means that the store is gone, and with it this connection.
    let _ = course.wait_for(|now| now.as_deref() != Some(endpoint)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap()
    }

    fn cluster() -> Whereabouts {
        let access = RedisAccess {
            servers: Servers::Cluster(vec![endpoint("127.0.0.1:1")]),
            user: super::super::access::RedisUser::default(),
            database: 0,
            tls: None,
        };
        Whereabouts::new(
            Surroundings::default(),
            access,
            "durward",
            Arc::new(crate::base::clock::SystemClock),
        )
    }

    #[tokio::test]
    async fn a_node_that_says_where_the_slot_is_is_followed_once() {
        let whereabouts = cluster();
        let mut astray = whereabouts.astray();
        let hint = Some(endpoint("10.0.0.7:7000"));
        whereabouts.note(&Fault {
            connection: Connection::Astray(hint.clone()),
            ..Fault::replica()
        });
        assert!(astray.has_changed().unwrap());
        let _ = astray.take_latest();
        assert_eq!(whereabouts.locate().await.ok(), hint);
        // Nobody listens where the seeds are.
        assert!(whereabouts.locate().await.is_err());
    }

    #[tokio::test]
    async fn a_course_that_has_not_changed_is_left_by_nobody() {
        let whereabouts = cluster();
        whereabouts.set_course(endpoint("a:1"));
        let mut course = whereabouts.course();
        whereabouts.set_course(endpoint("a:1"));
        assert!(!course.has_changed().unwrap());
        whereabouts.set_course(endpoint("b:1"));
        left(&mut course, &endpoint("a:1")).await;
    }
}
