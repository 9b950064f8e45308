//! Judges the answer to a look-up: facts, or the reason why it cannot be trusted.

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::is_valid_id;
use crate::base::principal::CredentialRecord;
use crate::store::{Found, FoundFacts, StoreError, change, codec};

use super::endings::Endings;
use super::fault::Fault;
use super::guard;
use super::history::{History, Known};
use super::scripts::Stored;

/// What a look-up brought, not judged yet.
pub(super) struct FindReply {
    /// The fingerprint that was asked for, as the server heard it.
    asked: String,
    history: String,
    position: u64,
    /// With an entry of the index, what it led to.
    pub(super) led_to: Option<LedTo>,
}

/// What an entry of the index led to.
pub(super) struct LedTo {
    tenant: Option<Vec<u8>>,
    /// Under which ids the records stand, in words, to be named when they cannot be read.
    ids: String,
    /// The credential and what it hangs on; none when the index names a tenant itself.
    pub(super) records: Vec<Stored>,
    roles: Vec<Option<Vec<u8>>>,
}

impl FindReply {
    /// Reads the list a script answered to the look-up of this fingerprint.
    ///
    /// # Errors
    /// When it has another form, or is the answer to somebody else's question (hardening C3): facts name
    /// whom they are about, but an absence would be anybody's.
    pub(super) fn read(words: Vec<Option<Vec<u8>>>, fingerprint: &Fingerprint) -> Result<Self, Fault> {
        let reply = Self::parse(words).ok_or_else(Fault::malformed)?;
        if reply.asked != fingerprint.to_hex() {
            return Err(Fault::swapped());
        }
        Ok(reply)
    }

    fn parse(reply: Vec<Option<Vec<u8>>>) -> Option<Self> {
        let mut reply = reply.into_iter();
        let asked = String::from_utf8(reply.next()??).ok()?;
        let history = String::from_utf8(reply.next()??).ok()?;
        let position = std::str::from_utf8(&reply.next()??).ok()?.parse().ok()?;
        let led_to = match reply.next() {
            None => None,
            Some(tenant) => {
                let told = String::from_utf8(reply.next()??).ok()?;
                let (count, ids) = told.split_once(' ').unwrap_or((&told, ""));
                let count: usize = count.parse().ok()?;
                let records = (0..count).map(|_| reply.next().zip(reply.next())).collect::<Option<_>>()?;
                Some(LedTo {
                    tenant,
                    ids: ids.to_owned(),
                    records,
                    roles: reply.collect(),
                })
            }
        };
        Some(Self {
            asked,
            history,
            position,
            led_to,
        })
    }
}

/// What a look-up makes of a server's bytes, bounds and judgement together: the entry for fuzzing.
///
/// # Errors
/// Whatever is not an answer to exactly this question.
pub fn judge_bytes(fingerprint: &Fingerprint, bytes: &[u8]) -> Result<Option<FoundFacts>, StoreError> {
    guard::check(bytes).map_err(|reason| StoreError::Unavailable(reason.into()))?;
    let value = redis::parse_redis_value(bytes).map_err(|error| Fault::of(&error).error)?;
    let value = value.extract_error().map_err(|error| Fault::of(&error).error)?;
    let words: Vec<Option<Vec<u8>>> = redis::from_redis_value(value).map_err(|_| Fault::malformed().error)?;
    let reply = FindReply::read(words, fingerprint).map_err(|fault| fault.error)?;
    let found = judge(fingerprint, &History::default().known(), &Endings::default(), reply);
    found.map(|found| found.facts).map_err(|fault| fault.error)
}

/// Turns a reply into facts, with everything seen to end laid over them, or into the reason why it
/// cannot be trusted.
pub(super) fn judge(fingerprint: &Fingerprint, known: &Known, endings: &Endings, reply: FindReply) -> Result<Found, Fault> {
    if !known.is_followed_by(&reply.history, reply.position) {
        return Err(Fault::kept(StoreError::Unavailable(
            "it has lost changes this gateway has seen; reading it again".into(),
        )));
    }
    let position = known
        .position(reply.position)
        .ok_or_else(|| corrupt("its position is out of range"))?;
    let Some(led_to) = reply.led_to else {
        return Ok(Found {
            position,
            facts: None,
            primary_at: None,
        });
    };
    let ids = led_to.ids.clone();
    let mut facts = facts_of(led_to).map_err(|error| Fault::kept(naming(&ids, error)))?;
    if !change::answers(&facts.credential, fingerprint) {
        // Either the index is wrong or this reply was meant for somebody else (hardening C3).
        return Err(Fault::about_another(StoreError::Corrupt(format!(
            "the index of fingerprints leads to the credential {} of the tenant {}, which is found by another one",
            facts.credential.id, facts.credential.tenant
        ))));
    }
    endings.restrict(&mut facts);
    Ok(Found {
        position,
        facts: Some(facts),
        primary_at: None,
    })
}

/// The error with the ids of the records that it is about, the credential's own first.
fn naming(ids: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(why) if !ids.is_empty() && ids.split(' ').all(is_valid_id) => {
            StoreError::Corrupt(format!("{why} (credential {})", ids.replace(' ', ", which hangs on ")))
        }
        error => error,
    }
}

fn facts_of(led_to: LedTo) -> Result<FoundFacts, StoreError> {
    let tenant = led_to
        .tenant
        .ok_or_else(|| StoreError::Corrupt("the tenant of a credential is missing".into()))?;
    let tenant = codec::decode_tenant(&tenant)?;
    let mut records = led_to.records.into_iter();
    let Some(first) = records.next() else {
        return change::assemble(CredentialRecord::of_tenant(&tenant), tenant, Vec::new(), Vec::new());
    };
    let credential = record_of(first)?.ok_or_else(|| StoreError::Corrupt("a fingerprint points to no credential".into()))?;
    let mut ancestors = Vec::new();
    for stored in records {
        ancestors.extend(record_of(stored)?);
    }
    let mut roles = Vec::new();
    for role in led_to.roles.into_iter().flatten() {
        roles.push(codec::decode_role(&role)?);
    }
    change::assemble(credential, tenant, ancestors, roles)
}

/// A stored credential with its last use laid over.
fn record_of((bytes, used): Stored) -> Result<Option<CredentialRecord>, StoreError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let record = codec::decode_credential(&bytes)?;
    let used = used.map(|used| {
        let millis = std::str::from_utf8(&used).ok().and_then(|text| text.parse().ok());
        millis
            .map(UnixMillis)
            .ok_or_else(|| StoreError::Corrupt("a last use is not a time".into()))
    });
    Ok(Some(change::used(record, used.transpose()?)))
}

/// A credential that stands under this id.
pub(super) fn credential_of(id: &str, stored: Stored) -> Result<Option<CredentialRecord>, StoreError> {
    match record_of(stored)? {
        Some(record) if record.id.as_str() != id => Err(StoreError::Corrupt("a credential stands under another id".into())),
        record => Ok(record),
    }
}

fn corrupt(what: &str) -> Fault {
    Fault::kept(StoreError::Corrupt(what.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Fingerprint = Fingerprint::from_bytes([0x11; 32]);

    /// What a server sends that knows nobody, asked for this.
    fn absence(asked: &Fingerprint) -> Vec<u8> {
        format!("*3\r\n$64\r\n{}\r\n$7\r\nhistory\r\n$1\r\n7\r\n", asked.to_hex()).into_bytes()
    }

    #[test]
    fn an_absence_answers_the_question_that_was_asked_and_no_other() {
        assert!(matches!(judge_bytes(&ASKED, &absence(&ASKED)), Ok(None)));
        let other = absence(&Fingerprint::from_bytes([0x12; 32]));
        assert!(matches!(judge_bytes(&ASKED, &other), Err(StoreError::Corrupt(_))));
    }

    #[test]
    fn an_answer_of_another_form_is_none() {
        for bytes in [
            &b"*2\r\n$1\r\na\r\n$1\r\n7\r\n"[..],
            b"*0\r\n",
            b"+OK\r\n",
            b"-ERR no\r\n",
            b"*3\r\n$64",
        ] {
            assert!(judge_bytes(&ASKED, bytes).is_err(), "{bytes:?}");
        }
    }
}
