//! Reads the corpus: text files in which each entry is one hostile input and what must come of it.
//!
//! ```text
//! [P1.1] what it is
//! target /public/../admin          one request with this target, sent to every kind of route
//! header X-Tenant-Id: evil         ... or with these fields, on every kind of route
//! raw GET / HTTP/1.1               ... or exactly these bytes; `raw-` leaves the line end out
//! h2 :path: admin                  ... or exactly these HTTP/2 fields, in this order
//! status 400 404                   statuses of the first answer; `closed` = none, `reset` = HTTP/2 stream error
//! upstream none                    none | one | two | any (at most one) | incomplete | target /x?y
//! upstream has X-A: 1              a field as it must arrive
//! connection closes                the gateway closes afterwards
//! only h1                          not said again in HTTP/2
//! ```
//!
//! In texts, `\r \n \t \0 \\ \xHH` are bytes, `{auth}` is a valid `Authorization` value, `{key}` the
//! key in it, and `{a*9000}` is `a` nine thousand times.

/// One hostile input.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Id of the attack it is one form of, e.g. `P1`.
    pub(super) id: String,
    /// Its own name, e.g. `P1.2`.
    pub(super) name: String,
    /// What it is, in words.
    pub(super) about: String,
    /// What is sent.
    pub(super) input: Input,
    /// What must be answered.
    pub(super) answers: Vec<Expected>,
    /// What may arrive upstream.
    pub(super) effect: Effect,
    /// Fields that must arrive.
    pub(super) has: Vec<(String, String)>,
    /// Whether the connection must be closed afterwards.
    pub(super) closes: Closing,
    /// Whether it is said again in HTTP/2.
    pub(super) versions: Versions,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// A GET of this target, on its own.
    Target(Vec<u8>),
    /// Field lines in an otherwise good request.
    Fields(Vec<(Vec<u8>, Vec<u8>)>),
    /// These bytes.
    Raw(Vec<u8>),
    /// These HTTP/2 fields; `body` and trailing fields if any.
    H2 {
        fields: Vec<(Vec<u8>, Vec<u8>)>,
        body: Option<Vec<u8>>,
        trailers: Vec<(Vec<u8>, Vec<u8>)>,
    },
}

/// One acceptable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// This status.
    Status(u16),
    /// The connection is closed without an answer.
    Closed,
    /// The HTTP/2 stream or connection ends with an error.
    Reset,
}

/// What may arrive upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Exactly one request.
    One,
    /// Exactly two requests.
    Two,
    /// At most one request.
    AtMostOne,
    /// At most one request, and not complete.
    Incomplete,
    /// Exactly one request with this target.
    Target(String),
}

/// Whether the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// It must.
    Must,
    /// It may.
    May,
}

/// In which versions an entry is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    /// HTTP/1.1, and HTTP/2 where it can be said there.
    Both,
    /// HTTP/1.1 only.
    H1,
}

/// Reads a corpus file. `key` fills `{auth}` and `{key}`.
pub(super) fn parse(text: &str, key: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(head) = line.strip_prefix('[') {
            entries.push(begin(head));
            continue;
        }
        let entry = entries.last_mut().unwrap_or_else(|| panic!("line {}: no entry yet", number + 1));
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        add(entry, word, rest, key).unwrap_or_else(|| panic!("line {}: {line}", number + 1));
    }
    for entry in &entries {
        assert!(!entry.answers.is_empty(), "{} expects nothing", entry.name);
    }
    entries
}

fn begin(head: &str) -> Entry {
    let (name, about) = head.split_once("] ").unwrap_or_else(|| panic!("[{head}"));
    Entry {
        id: name.split_once('.').unwrap_or_else(|| panic!("[{head}")).0.to_owned(),
        name: name.to_owned(),
        about: about.to_owned(),
        input: Input::Raw(Vec::new()),
        answers: Vec::new(),
        effect: Effect::None,
        has: Vec::new(),
        closes: Closing::May,
        versions: Versions::Both,
    }
}

fn add(entry: &mut Entry, word: &str, rest: &str, key: &str) -> Option<()> {
    match word {
        "target" => entry.input = Input::Target(unescape(rest, key)),
        "header" => {
            let field = split_field(rest, key)?;
            match &mut entry.input {
                Input::Fields(fields) => fields.push(field),
                other => *other = Input::Fields(vec![field]),
            }
        }
        "raw" | "raw-" => {
            let Input::Raw(bytes) = &mut entry.input else { return None };
            bytes.extend_from_slice(&unescape(rest, key));
            bytes.extend_from_slice(if word == "raw" { b"\r\n" } else { b"" });
        }
        "h2" | "h2-body" | "h2-trailer" => add_h2(entry, word, rest, key)?,
        "status" => entry.answers = rest.split(' ').map(expected).collect::<Option<_>>()?,
        "upstream" => match rest.split_once(' ') {
            None if rest == "none" => entry.effect = Effect::None,
            None if rest == "one" => entry.effect = Effect::One,
            None if rest == "two" => entry.effect = Effect::Two,
            None if rest == "any" => entry.effect = Effect::AtMostOne,
            None if rest == "incomplete" => entry.effect = Effect::Incomplete,
            Some(("target", target)) => entry.effect = Effect::Target(target.to_owned()),
            Some(("has", field)) => {
                let (name, value) = field.split_once(": ")?;
                entry.has.push((name.to_owned(), value.to_owned()));
            }
            _ => return None,
        },
        "connection" if rest == "closes" => entry.closes = Closing::Must,
        "only" if rest == "h1" => entry.versions = Versions::H1,
        _ => return None,
    }
    Some(())
}

fn add_h2(entry: &mut Entry, word: &str, rest: &str, key: &str) -> Option<()> {
    if !matches!(entry.input, Input::H2 { .. }) {
        entry.input = Input::H2 {
            fields: Vec::new(),
            body: None,
            trailers: Vec::new(),
        };
    }
    let Input::H2 { fields, body, trailers } = &mut entry.input else {
        return None;
    };
    match word {
        "h2" => fields.push(split_field(rest, key)?),
        "h2-trailer" => trailers.push(split_field(rest, key)?),
        _ => *body = Some(unescape(rest, key)),
    }
    Some(())
}

/// `name: value`; a pseudo-field's first colon belongs to its name, and `\x3a` makes any other part of it.
fn split_field(text: &str, key: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let skip = usize::from(text.starts_with(':'));
    let at = text[skip..].find(':')? + skip;
    let (name, value) = (&text[..at], text[at + 1..].strip_prefix(' ').unwrap_or(&text[at + 1..]));
    Some((unescape(name, key), unescape(value, key)))
}

fn expected(word: &str) -> Option<Expected> {
    match word {
        "closed" => Some(Expected::Closed),
        "reset" => Some(Expected::Reset),
        status => status.parse().ok().map(Expected::Status),
    }
}

/// Texts as bytes.
fn unescape(text: &str, key: &str) -> Vec<u8> {
    let text = text.replace("{auth}", &format!("Bearer {key}")).replace("{key}", key);
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (bytes, used) = match (first, after.first()) {
            (b'\\', Some(b'r')) => (vec![b'\r'], 2),
            (b'\\', Some(b'n')) => (vec![b'\n'], 2),
            (b'\\', Some(b't')) => (vec![b'\t'], 2),
            (b'\\', Some(b'0')) => (vec![0], 2),
            (b'\\', Some(b'\\')) => (vec![b'\\'], 2),
            (b'\\', Some(b'x')) => (vec![hex(&rest[2..4])], 4),
            (b'{', _) => repeated(rest, key).unwrap_or((vec![b'{'], 1)),
            (other, _) => (vec![*other], 1),
        };
        out.extend(bytes);
        rest = &rest[used..];
    }
    out
}

fn hex(digits: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
}

/// `{text*count}`.
fn repeated(rest: &[u8], key: &str) -> Option<(Vec<u8>, usize)> {
    let end = rest.iter().position(|b| *b == b'}')?;
    let inner = std::str::from_utf8(&rest[1..end]).ok()?;
    let (text, count) = inner.rsplit_once('*')?;
    Some((unescape(text, key).repeat(count.parse().ok()?), end + 1))
}

#[test]
fn escapes_and_repetitions_become_bytes() {
    assert_eq!(unescape("a\\x00\\r\\n{xy*3}{key}", "k"), b"a\x00\r\nxyxyxyk");
    assert_eq!(split_field(":path: /a", ""), Some((b":path".to_vec(), b"/a".to_vec())));
    assert_eq!(split_field("X_A:b", ""), Some((b"X_A".to_vec(), b"b".to_vec())));
}
