//! A connection to somebody who is asked again and again where the primary is: kept open, asked one question at a time.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::store::StoreError;

use super::access::Endpoint;
use super::dial::{CONNECT_TIMEOUT, Caller, Wire, dial};
use super::fault::Fault;

/// From the question to its answer, with a new connection if the kept one is dead. [`CONNECT_TIMEOUT`] for each.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Somebody who is asked, and the connection to it.
pub(super) struct Witness {
    endpoint: Endpoint,
    caller: Arc<Caller>,
    /// Locked while a question is open.
    wire: Arc<Mutex<Option<Wire>>>,
}

impl Witness {
    pub(super) fn new(endpoint: Endpoint, caller: &Arc<Caller>) -> Self {
        Self {
            endpoint,
            caller: Arc::clone(caller),
            wire: Arc::default(),
        }
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Puts a question. It is sent after the call. Ends within [`QUESTION_TIMEOUT`].
    ///
    /// Whoever has enough answers may drop this: the question goes on by itself to its end, so that a connection
    /// that hangs is found out and replaced whoever waits. There is one such question for each witness at a time.
    pub(super) async fn ask(&self, question: Cmd) -> Result<Value, Fault> {
        let answered = async {
            let wire = Arc::clone(&self.wire).lock_owned().await;
            let asked = put(self.endpoint.clone(), Arc::clone(&self.caller), wire, question);
            let asked = tokio::spawn(async move { tokio::time::timeout(QUESTION_TIMEOUT, asked).await });
            asked.await.unwrap_or_else(|_| Ok(Err(away("it is closed".into()))))
        };
        match tokio::time::timeout(QUESTION_TIMEOUT, answered).await {
            Ok(Ok(answer)) => answer,
            _ => Err(away(format!("{} did not answer in time", self.endpoint))),
        }
    }
}

/// Asks on the kept connection, or on a new one if that was closed meanwhile, and keeps what answered.
async fn put(endpoint: Endpoint, caller: Arc<Caller>, mut kept: OwnedMutexGuard<Option<Wire>>, question: Cmd) -> Result<Value, Fault> {
    if let Some(wire) = kept.take().filter(Wire::is_open) {
        match question.query_async(&mut wire.connection.clone()).await {
            Ok(answer) => {
                *kept = Some(wire);
                return Ok(answer);
            }
            Err(error) if error.is_timeout() || error.code().is_some() => return Err(caller.fault(&error)),
            // Closed in this moment, as by a restart.
            Err(_) => {}
        }
    }
    let wire = dial(&endpoint, &caller, CONNECT_TIMEOUT).await.map_err(Fault::kept)?;
    let answer = question.query_async(&mut wire.connection.clone()).await;
    let answer = answer.map_err(|error| caller.fault(&error))?;
    *kept = Some(wire);
    Ok(answer)
}

const fn away(why: String) -> Fault {
    Fault::kept(StoreError::Unavailable(why))
}
