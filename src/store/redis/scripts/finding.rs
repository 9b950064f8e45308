//! Look-ups: one, or many in one message.

use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};

use super::super::dial::Wire;
use super::super::fault::{Fault, Retry};
use super::super::judge::FindReply;
use super::super::keys::Keys;
use super::{Scripts, run};
use crate::base::fingerprint::Fingerprint;
use crate::store::StoreError;

impl Scripts {
    pub(in super::super) async fn find(&self, wire: &Wire, fingerprint: &Fingerprint) -> Result<FindReply, Fault> {
        // An absence is proven: every hash is as large as it was made.
        let mut call = self.find.key(&self.keys.meta);
        for key in hashes(&self.keys) {
            call.key(key);
        }
        call.arg(&self.peppers).arg(fingerprint.to_hex()).arg(&self.registered);
        FindReply::read(run(wire, &call).await?, fingerprint)
    }

    /// Looks all of them up in one message to the server, each by a script of its own as [`find`](Self::find) does: together
    /// they are not one atomic step. Answers are in the order of `asked`.
    ///
    /// # Errors
    /// When the message as a whole was not answered.
    pub(in super::super) async fn find_all(&self, wire: &Wire, asked: &[Fingerprint]) -> Result<Vec<Result<FindReply, Fault>>, RedisError> {
        let mut pipeline = Pipeline::with_capacity(asked.len());
        for fingerprint in asked {
            let mut command = self.find_begins.clone();
            command.arg(fingerprint.to_hex()).arg(&self.registered);
            pipeline.add_command(command);
        }
        let mut connection = wire.connection.clone();
        let replies = connection.send_packed_commands(&pipeline, 0, asked.len()).await?;
        let read = |(reply, fingerprint): (Value, &Fingerprint)| read(reply, fingerprint);
        let mut read: Vec<_> = replies.into_iter().zip(asked).map(read).collect();
        // What was not answered is not known.
        read.resize_with(asked.len(), || Err(Fault::malformed()));
        Ok(read)
    }
}

/// The beginning of the command of a look-up, which is the same for all: what is looked up follows.
pub(super) fn beginning(script: &redis::Script, keys: &Keys, peppers: &str) -> Cmd {
    let hashes = hashes(keys);
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(hashes.len() + 1).arg(&keys.meta);
    for key in hashes {
        command.arg(key);
    }
    command.arg(peppers);
    command
}

/// The keys that a look-up reads besides `meta`.
fn hashes(keys: &Keys) -> [&String; 6] {
    [
        &keys.fingerprints,
        &keys.credentials,
        &keys.tenants,
        &keys.roles,
        &keys.used,
        &keys.gateways,
    ]
}

fn read(reply: Value, fingerprint: &Fingerprint) -> Result<FindReply, Fault> {
    let reply = reply.extract_error().map_err(|error| match error.kind() {
        // The server was started since. Asked for this one alone, it is given the script.
        ErrorKind::Server(ServerErrorKind::NoScript) => Fault {
            retry: Retry::Elsewhere,
            ..Fault::kept(StoreError::Unavailable("Redis does not know the script yet".into()))
        },
        _ => Fault::of(&error),
    })?;
    let words = redis::from_redis_value(reply).map_err(|_| Fault::malformed())?;
    FindReply::read(words, fingerprint)
}
