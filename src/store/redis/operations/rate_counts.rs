//! Rate limits that all gateways count together: one script, by the clock of Redis.
//!
//! The rule is that of [`crate::decide::rate`]. The groups of a window are stored as `part:last:count;…` under
//! `{durward}:l:<key>`, which expires after one period. A store that is flushed loses its counts, which is no fault: a count is
//! not a fact about a credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::Script;
use tokio::task::AbortHandle;

use crate::decide::rate::{LimitKey, Rate, RateVerdict};
use crate::store::StoreError;
use crate::store::redis::scripts::{ADMIT, script};
use crate::store::redis::topology::{Link, LinkRole, LiveLink, StoreFault};
use crate::store::redis::{RedisStore, spawn_link};

/// Deadline of one command on this connection, longer than callers wait. After it, the connection counts as dead.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(250);

/// Most questions in flight: the default number of look-ups. More would only wait for each other.
const MAX_QUESTIONS: usize = 512;

/// Counts in Redis, on a connection of their own: a flood of limited requests never delays a look-up of credentials.
pub struct SharedCounts {
    link: Arc<Link>,
    task: AbortHandle,
    control: tokio::runtime::Handle,
    script: Arc<Script>,
    prefix: String,
    questions: Arc<AtomicUsize>,
}

impl RedisStore {
    /// Shared counts in the same Redis, with a supervised connection of their own.
    #[must_use]
    pub fn counts(&self) -> SharedCounts {
        let link = Arc::new(Link::new(&self.shared.locator, COMMAND_TIMEOUT));
        SharedCounts {
            task: spawn_link(
                &self.control,
                &link,
                &self.shared.scripts,
                LinkRole::Follow(self.shared.writer.watch()),
            ),
            link,
            control: self.control.clone(),
            script: Arc::new(script(ADMIT)),
            prefix: self.shared.scripts.key("l:"),
            questions: Arc::default(),
        }
    }
}

impl SharedCounts {
    /// Counts a request if it is within the limit. Fails at once without a healthy connection, and when too many questions are
    /// in flight. Cancel-safe: a dropped future may or may not have counted.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Corrupt`] when something else stands under the key.
    pub async fn admit(&self, key: LimitKey, rate: Rate) -> Result<RateVerdict, StoreError> {
        self.ask(key, rate, Purpose::Count).await
    }

    /// As [`admit`](Self::admit), but nothing is counted. Cancel-safe.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub async fn judge(&self, key: LimitKey, rate: Rate) -> Result<RateVerdict, StoreError> {
        self.ask(key, rate, Purpose::Judge).await
    }

    async fn ask(&self, key: LimitKey, rate: Rate, purpose: Purpose) -> Result<RateVerdict, StoreError> {
        let live = self.link.live().ok_or_else(|| self.link.last_error())?;
        let permit = QuestionPermit::take(&self.questions).ok_or_else(|| StoreError::Unavailable("too many are asking".into()))?;
        let (link, script) = (Arc::clone(&self.link), Arc::clone(&self.script));
        let key = format!("{}{}", self.prefix, key.to_hex());
        // The connection's timers belong to the control runtime, whichever worker asks.
        let task = self.control.spawn(async move {
            let answer = ask(&link, &live, &script, &key, rate, purpose).await;
            drop(permit);
            answer
        });
        task.await.unwrap_or_else(|_| Err(StoreError::Unavailable("it is closed".into())))
    }
}

impl Drop for SharedCounts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the script is asked for.
#[derive(Clone, Copy)]
enum Purpose {
    Count,
    /// The count stays as it is.
    Judge,
}

async fn ask(link: &Link, live: &LiveLink, script: &Script, key: &str, rate: Rate, purpose: Purpose) -> Result<RateVerdict, StoreError> {
    let mut wire = live.wire.connection.clone();
    let answer: Result<(u8, u32, u64), redis::RedisError> = script
        .key(key)
        .arg(rate.count())
        .arg(rate.period_millis())
        .arg(rate.part_millis())
        .arg(match purpose {
            Purpose::Count => "count",
            Purpose::Judge => "judge",
        })
        .invoke_async(&mut wire)
        .await;
    match answer {
        Ok((1, remaining, millis)) => Ok(RateVerdict::Admitted {
            remaining,
            reset: Duration::from_millis(millis),
        }),
        Ok((_, _, millis)) => Ok(RateVerdict::Refused {
            // Never longer than the period, whatever is stored.
            retry_after: Duration::from_millis(millis.clamp(1, rate.period_millis())),
        }),
        Err(error) => {
            let fault = StoreFault::of(&error);
            link.settle(live, &fault);
            Err(fault.error)
        }
    }
}

/// The permit of one question; released when it is dropped.
struct QuestionPermit(Arc<AtomicUsize>);

impl QuestionPermit {
    fn take(questions: &Arc<AtomicUsize>) -> Option<Self> {
        let permit = Self(Arc::clone(questions));
        (questions.fetch_add(1, Ordering::Relaxed) < MAX_QUESTIONS).then_some(permit)
    }
}

impl Drop for QuestionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
