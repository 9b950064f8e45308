//! The members of a line of the trail by which entries are found. What else a line has is for its reader.

use std::borrow::Cow;

use serde::Deserialize;

/// A text of a line, borrowed from it where it has no escapes.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LineText<'a>(#[serde(borrow)] Cow<'a, str>);

impl LineText<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is read of each line that a query looks at.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EntryFields<'a> {
    pub(crate) seq: u64,
    #[serde(borrow)]
    pub(crate) time: Option<LineText<'a>>,
    #[serde(borrow)]
    pub(crate) kind: Option<LineText<'a>>,
    #[serde(borrow)]
    pub(crate) request_id: Option<LineText<'a>>,
    #[serde(borrow)]
    pub(crate) client: Option<LineText<'a>>,
    #[serde(borrow)]
    pub(crate) route: Option<LineText<'a>>,
    #[serde(borrow)]
    pub(crate) credential: Option<LineText<'a>>,
    #[serde(borrow)]
    pub(crate) tenant: Option<LineText<'a>>,
    #[serde(borrow)]
    pub(crate) denial: Option<LineText<'a>>,
    pub(crate) status: Option<u16>,
    #[serde(borrow)]
    pub(crate) target: Option<LineText<'a>>,
    /// The credential that takes the place of the target.
    #[serde(borrow)]
    pub(crate) replaced_by: Option<LineText<'a>>,
    /// What a served route did, and to which records.
    #[serde(borrow)]
    pub(crate) done: Option<LineText<'a>>,
    #[serde(borrow)]
    pub(crate) who: Option<ActorFields<'a>>,
}

/// Who did what an `operator` entry tells.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ActorFields<'a> {
    #[serde(borrow)]
    pub(crate) credential: Option<LineText<'a>>,
}

impl<'a> EntryFields<'a> {
    /// The members of a line; `None` when it is no line of a trail.
    pub(crate) fn of_line(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Whether it may tell of a change of records: of an operator's action, or of what a served route did to a record.
    pub(crate) fn tells_change(&self) -> bool {
        let kind = self.kind.as_ref().map(LineText::as_str);
        matches!(kind, Some("operator" | "drill")) || self.done.as_ref().is_some_and(|done| done.as_str().contains(' '))
    }

    /// The time in milliseconds since 1970, where the line has one.
    pub(crate) fn millis(&self) -> Option<i64> {
        parse_millis(self.time.as_ref()?.as_str())
    }
}

impl EntryFields<'_> {
    /// The ids of the records that were made or changed: by an operator, or by a served route.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &str> {
        let named = [self.target.as_ref(), self.replaced_by.as_ref()];
        let done = self.done.as_ref().map_or("", LineText::as_str);
        named.into_iter().flatten().map(LineText::as_str).chain(done_ids(done))
    }
}

/// The ids in `mint api:key_1 session:ses_1`.
pub(crate) fn done_ids(done: &str) -> impl Iterator<Item = &str> {
    done.split(' ')
        .skip(1)
        .filter_map(|record| record.split_once(':').map(|(_, id)| id))
}

/// A time as lines have it: RFC 3339.
pub(crate) fn parse_millis(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_its_members_and_its_time() {
        let line = br#"{"seq":7,"gateway":"gw-a","time":"1970-01-01T00:00:01.250Z","kind":"operator","who":{"via":"route","credential":"key_1"},"target":"k\u0041","other":[1,{}]}"#;
        let fields = EntryFields::of_line(line).unwrap();
        assert_eq!(fields.seq, 7);
        assert_eq!(fields.millis(), Some(1_250));
        assert_eq!(fields.target.unwrap().as_str(), "kA");
        assert_eq!(fields.who.unwrap().credential.unwrap().as_str(), "key_1");
    }

    #[test]
    fn records_that_were_made_or_changed_are_targets() {
        let targets = |line: &str| -> Vec<String> {
            let fields = EntryFields::of_line(line.as_bytes()).unwrap();
            fields.targets().map(str::to_owned).collect()
        };
        assert_eq!(targets(r#"{"seq":1,"target":"key_1","replaced_by":"key_2"}"#), ["key_1", "key_2"]);
        assert_eq!(targets(r#"{"seq":1,"done":"mint api:key_1 session:a:b"}"#), ["key_1", "a:b"]);
        assert_eq!(targets(r#"{"seq":1,"done":"list"}"#), [] as [&str; 0]);
        assert_eq!(targets(r#"{"seq":1,"credential":"key_1"}"#), [] as [&str; 0]);
    }

    #[test]
    fn what_is_no_line_has_no_members() {
        for line in [
            &b""[..],
            b"{}",
            b"[]",
            b"{\"seq\":1",
            b"{\"seq\":-1}",
            b"{\"seq\":1,\"status\":\"x\"}",
        ] {
            assert!(EntryFields::of_line(line).is_none(), "{line:?}");
        }
    }
}
