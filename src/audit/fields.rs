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
#[derive(Debug, Clone, Default, Deserialize)]
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
        Self::of_plain_line(line).or_else(|| serde_json::from_slice(line).ok())
    }

    /// The members of a line in the form in which the writer makes nearly all of them: no white space between members, no
    /// escapes in a member that is read, no `who`. Members that nobody asks for are passed over, which makes it several times
    /// faster than reading JSON. `None` says only that the line is not of this form.
    fn of_plain_line(line: &'a [u8]) -> Option<Self> {
        let mut rest = PlainLine(line.strip_prefix(b"{")?.strip_suffix(b"}")?);
        let mut seq = None;
        let mut fields = Self::default();
        loop {
            let text = match rest.name()? {
                b"time" => Some(&mut fields.time),
                b"kind" => Some(&mut fields.kind),
                b"request_id" => Some(&mut fields.request_id),
                b"client" => Some(&mut fields.client),
                b"route" => Some(&mut fields.route),
                b"credential" => Some(&mut fields.credential),
                b"tenant" => Some(&mut fields.tenant),
                b"denial" => Some(&mut fields.denial),
                b"target" => Some(&mut fields.target),
                b"replaced_by" => Some(&mut fields.replaced_by),
                b"done" => Some(&mut fields.done),
                b"who" => return None,
                b"seq" => {
                    fill(&mut seq, rest.number()?)?;
                    None
                }
                b"status" => {
                    fill(&mut fields.status, u16::try_from(rest.number()?).ok()?)?;
                    None
                }
                _ => {
                    rest.pass()?;
                    None
                }
            };
            if let Some(text) = text {
                fill(text, LineText(Cow::Borrowed(rest.text()?)))?;
            }
            if rest.is_end()? {
                break;
            }
        }
        fields.seq = seq?;
        Some(fields)
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

/// What is left of the members of a line.
struct PlainLine<'a>(&'a [u8]);

impl<'a> PlainLine<'a> {
    /// A string without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let text = self.0.strip_prefix(b"\"")?;
        let end = memchr::memchr2(b'"', b'\\', text)?;
        let (string, rest) = text.split_at_checked(end)?;
        self.0 = rest.strip_prefix(b"\"")?;
        Some(string)
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let name = self.string()?;
        self.0 = self.0.strip_prefix(b":")?;
        Some(name)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// A whole number without a sign, as JSON has it.
    fn number(&mut self) -> Option<u64> {
        let (digits, rest) = self.0.split_at(self.0.iter().take_while(|byte| byte.is_ascii_digit()).count());
        self.0 = rest;
        let digits = digits
            .strip_prefix(b"0")
            .filter(|more| !more.is_empty())
            .map_or(Some(digits), |_| None)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Passes over any value.
    fn pass(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.0.first()? {
                b'"' => {
                    self.pass_string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.0 = self.0.get(1..)?;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.0 = self.0.get(1..)?;
                }
                b',' | b':' if depth > 0 => self.0 = self.0.get(1..)?,
                _ => {
                    // A number, `true`, `false` or `null`.
                    let is_end = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'.');
                    let end = self.0.iter().position(is_end).unwrap_or(self.0.len());
                    self.0 = self.0.get(end..).filter(|_| end > 0)?;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Passes over a string, which may have escapes.
    fn pass_string(&mut self) -> Option<()> {
        self.0 = self.0.get(1..)?;
        loop {
            let at = memchr::memchr2(b'"', b'\\', self.0)?;
            let is_end = self.0.get(at) == Some(&b'"');
            self.0 = self.0.get(at + if is_end { 1 } else { 2 }..)?;
            if is_end {
                return Some(());
            }
        }
    }

    /// Whether there are no more members. Otherwise a comma must follow.
    fn is_end(&mut self) -> Option<bool> {
        if self.0.is_empty() {
            return Some(true);
        }
        self.0 = self.0.strip_prefix(b",")?;
        Some(false)
    }
}

/// Fills a place; `None` for a member that was there before: that is for a real reader to refuse.
fn fill<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
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
    use proptest::prelude::*;

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

    const NAMES: [&str; 12] = [
        "seq",
        "time",
        "kind",
        "request_id",
        "status",
        "client",
        "headers",
        "took_us",
        "who",
        "done",
        "route",
        "x",
    ];
    const VALUES: [&str; 14] = [
        "0",
        "7",
        "200",
        "70000",
        "-1",
        "01",
        r#""a""#,
        r#""""#,
        r#""k\u0041""#,
        r#"{"a":[1,{"b":"}\""}]}"#,
        "[]",
        "null",
        "true",
        "\"gr\u{fc}n\"",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// The short way reads nothing that the long way reads otherwise.
        #[test]
        fn both_ways_of_reading_a_line_agree(
            members in prop::collection::vec((0..NAMES.len(), 0..VALUES.len()), 0..12),
            cut in prop::option::weighted(0.2, 0_usize..200),
        ) {
            let text: Vec<String> = members.iter().map(|(name, value)| format!("{:?}:{}", NAMES[*name], VALUES[*value])).collect();
            let mut line = format!("{{\"seq\":3,{}}}", text.join(",")).into_bytes();
            if let Some(at) = cut.filter(|at| *at < line.len()) {
                line.remove(at);
            }
            let plain = EntryFields::of_plain_line(&line);
            let whole = serde_json::from_slice::<EntryFields<'_>>(&line).ok();
            if let (Some(plain), Some(whole)) = (&plain, &whole) {
                prop_assert_eq!(format!("{plain:?}"), format!("{whole:?}"));
            }
        }
    }

    #[test]
    fn lines_as_the_writer_makes_them_are_read_the_short_way() {
        let line = br#"{"seq":7,"gateway":"gw","time":"1970-01-01T00:00:01.250Z","kind":"request","request_id":"r1","status":200,"bytes_in":0,"completed":true,"headers":{"user-agent":"a\"b","x":["1","2"]},"snapshot":1}"#;
        let fields = EntryFields::of_plain_line(line).unwrap();
        assert_eq!((fields.seq, fields.status), (7, Some(200)));
        assert_eq!(fields.request_id.unwrap().as_str(), "r1");
        for other in [
            &br#"{"seq":7,"seq":7}"#[..],
            br#"{"seq":7,"kind":"a","kind":"a"}"#,
            br#"{"seq": 7}"#,
            br#"{"seq":7,"kind":"\u0061"}"#,
            br#"{"seq":07}"#,
            br#"{"seq":7,"x":}"#,
            br#"{"seq":7,"x":{"a":1}"#,
            br#"{"kind":"request"}"#,
        ] {
            assert!(EntryFields::of_plain_line(other).is_none(), "{}", String::from_utf8_lossy(other));
        }
    }
}
