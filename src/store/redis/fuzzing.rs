//! The entry for fuzzing of what servers tell besides answers to look-ups: the list of gateways, endings, `INFO`, and
//! what sentinels and nodes of a cluster answer.

use crate::base::fingerprint::PepperMark;
use crate::store::redis::operations::parse_entry;
use crate::store::redis::stream::Ending;
use crate::store::redis::topology::{Endpoint, Replication, SentinelReport, parse_slots, replicas_of, reply_guard};

/// Puts these bytes before every such parser, with `name` as the name of an entry in the list of gateways. If they
/// are an ending, answers how it is written, and how that is written when it is read again: the same.
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
}
