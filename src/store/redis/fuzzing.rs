//! The entries for fuzzing: every parser of what Redis servers and sentinels answer.

use crate::base::fingerprint::{Fingerprint, PepperMark};
use crate::store::{StoreError, StoredFacts};

use super::operations::lookups::judge;
use super::operations::receipts::parse_entry;
use super::scripts::read_together;
use super::stream::{Ending, Endings, History};
use super::topology::cluster::{parse_slots, replicas_of};
use super::topology::sentinel::SentinelReport;
use super::topology::{Endpoint, Replication, StoreFault, reply_guard};

/// The credential that a look-up found; `None` for an absence.
type LookupOutcome = Result<Option<StoredFacts>, StoreError>;

/// Reads and judges the bytes of a server as look-ups that are made together do, with all bounds. Answers are in the order of
/// `asked`.
///
/// # Errors
/// The bytes are no answer to exactly these questions.
pub fn judge_bytes(asked: &[Fingerprint], bytes: &[u8]) -> Result<Vec<LookupOutcome>, StoreError> {
    reply_guard::check(bytes).map_err(|reason| StoreError::Unavailable(reason.into()))?;
    let value = redis::parse_redis_value(bytes).map_err(|error| StoreFault::of(&error).error)?;
    let read = read_together(value, asked).map_err(|fault| fault.error)?;
    let judged = asked.iter().zip(read).map(|(fingerprint, reply)| {
        let found = reply.and_then(|reply| judge(fingerprint, &History::default().known(), &Endings::default(), reply));
        found.map(|found| found.facts).map_err(|fault| fault.error)
    });
    Ok(judged.collect())
}

/// Gives these bytes to all other parsers: of the list of gateways (with `name` as the name of an entry), of endings, of
/// `INFO`, and of what sentinels and nodes of a cluster answer. If the bytes are an ending, answers its text, and the text
/// after it is read again, which must be the same.
#[must_use]
pub fn parse_bytes(name: &[u8], bytes: &[u8]) -> Option<(String, Option<String>)> {
    let _ = parse_entry(name, bytes);
    if reply_guard::check(bytes).is_ok()
        && let Ok(value) = redis::parse_redis_value(bytes)
    {
        let _ = Endpoint::parse("node:7000").and_then(|asked| parse_slots(&value, &asked));
        let _ = replicas_of(&value, 0);
        let _ = SentinelReport::read(value.clone(), value);
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let _ = Replication::parse(text);
    let _ = PepperMark::parse(text);
    let written = Ending::parse(text)?.encode();
    let again = Ending::parse(&written).map(|ending| ending.encode());
    Some((written, again))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_read_as_it_is_written() {
        let (written, again) = parse_bytes(b"gw/1", b"t 7  active").expect("an ending");
        assert_eq!((written.as_str(), again.as_deref()), ("t 7 active", Some("t 7 active")));
        assert_eq!(parse_bytes(b"gw/1", b"t 7 maybe"), None);
    }

    const ASKED: Fingerprint = Fingerprint::from_bytes([0x11; 32]);

    /// The reply of a server without this credential.
    fn absence(asked: &Fingerprint) -> Vec<u8> {
        format!("*3\r\n$7\r\nhistory\r\n$3\r\n7 -\r\n*1\r\n$64\r\n{}\r\n", asked.to_hex()).into_bytes()
    }

    #[test]
    fn an_absence_answers_the_question_that_was_asked_and_no_other() {
        assert_eq!(judge_bytes(&[ASKED], &absence(&ASKED)), Ok(vec![Ok(None)]));
        let other = absence(&Fingerprint::from_bytes([0x12; 32]));
        assert!(matches!(judge_bytes(&[ASKED], &other), Err(StoreError::Corrupt(_))));
    }

    /// What each of two look-ups brings that were made together: whether it was answered.
    fn two(parts: [&str; 2]) -> Result<Vec<bool>, StoreError> {
        let bytes = format!("*4\r\n$7\r\nhistory\r\n$3\r\n7 -\r\n{}{}", parts[0], parts[1]);
        let found = judge_bytes(&[ASKED, OTHER], bytes.as_bytes())?;
        Ok(found.iter().map(Result::is_ok).collect())
    }

    const OTHER: Fingerprint = Fingerprint::from_bytes([0x12; 32]);

    #[test]
    fn of_two_answers_one_may_be_an_error_and_none_may_be_anothers() {
        let [one, other] = [ASKED, OTHER].map(|asked| format!("*1\r\n$64\r\n{}\r\n", asked.to_hex()));
        assert_eq!(two([&one, &other]), Ok(vec![true, true]));
        assert_eq!(two(["-TOOLARGE k\r\n", &other]), Ok(vec![false, true]));
        let more = "*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\n9\r\n$1\r\nc\r\n";
        for parts in [
            [&*other, &*one],
            [&*one, &*one],
            [&*one, "$-1\r\n"],
            [&*one, "*0\r\n"],
            [&*one, more],
        ] {
            assert!(matches!(two(parts), Err(StoreError::Corrupt(_))), "{parts:?}");
        }
    }

    #[test]
    fn an_answer_of_another_form_is_none() {
        for bytes in [
            &b"*2\r\n$1\r\na\r\n$1\r\n7\r\n"[..],
            b"*2\r\n$1\r\na\r\n$3\r\n7 -\r\n",
            b"*0\r\n",
            b"+OK\r\n",
            b"-ERR no\r\n",
            b"*3\r\n$64",
        ] {
            assert!(judge_bytes(&[ASKED], bytes).is_err(), "{bytes:?}");
        }
    }
}
