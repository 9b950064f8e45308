//! Configuration files as texts with places in them, and the masking that keeps secrets out of every message.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub usize);

/// A stretch of one file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub source: SourceId,
    /// Bytes from, to (exclusive).
    pub start: usize,
    /// See `start`.
    pub end: usize,
}

impl Span {
    /// A place from a parser's span.
    #[must_use]
    pub const fn new(source: SourceId, span: &Range<usize>) -> Self {
        Self {
            source,
            start: span.start,
            end: span.end,
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub at: Span,
}

impl<T> Located<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located {
            value: change(self.value),
            at: self.at,
        }
    }
}

pub struct SourceFile {
    /// Its path as messages show it.
    pub label: PathBuf,
    text: String,
    masked: Vec<Range<usize>>,
    /// See [`Self::shown`].
    shown: OnceLock<String>,
    /// Where each line begins. A message about a file of a hundred thousand lines does not count them again.
    line_starts: OnceLock<Vec<usize>>,
}

/// Lines around a stretch of a file, as messages show them.
#[derive(Debug)]
pub struct Excerpt<'s> {
    pub text: &'s str,
    /// The number of its first line, from 1.
    pub line: usize,
    /// The stretch within `text`.
    pub span: Range<usize>,
}

impl SourceFile {
    #[must_use]
    pub const fn new(label: PathBuf, text: String) -> Self {
        Self {
            label,
            text,
            masked: Vec::new(),
            shown: OnceLock::new(),
            line_starts: OnceLock::new(),
        }
    }

    /// Hides a stretch from every message about this file, whatever the message is about: a
    /// literal secret must not be shown because something else on its line is wrong.
    pub fn mask(&mut self, span: Range<usize>) {
        self.masked.push(span);
        self.shown.take();
    }

    /// The text for messages: each masked character is a `*`. Byte positions are kept.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.shown.get_or_init(|| self.hide_masked())
    }

    fn hide_masked(&self) -> String {
        let mut bytes = self.text.clone().into_bytes();
        for span in &self.masked {
            let end = span.end.min(bytes.len());
            bytes.get_mut(span.start.min(end)..end).into_iter().flatten().for_each(hide);
        }
        // A mask that cuts a character leaves no text; then everything is hidden.
        String::from_utf8(bytes).unwrap_or_else(|error| {
            let mut bytes = error.into_bytes();
            bytes.iter_mut().for_each(hide);
            String::from_utf8(bytes).unwrap_or_default()
        })
    }

    /// Line and column of a byte, both counted from 1; the column in characters.
    #[must_use]
    pub fn line_column(&self, at: usize) -> (usize, usize) {
        let at = self.floor(at);
        let line = self.line_of(at);
        let start = self.line_starts().get(line).copied().unwrap_or(0);
        (line + 1, self.text[start..at].chars().count() + 1)
    }

    /// Index of the line with this byte, from 0.
    fn line_of(&self, at: usize) -> usize {
        self.line_starts().partition_point(|start| *start <= at).saturating_sub(1)
    }

    fn line_starts(&self) -> &[usize] {
        let all = || {
            let ends = memchr::memchr_iter(b'\n', self.text.as_bytes());
            std::iter::once(0).chain(ends.map(|end| end + 1)).collect()
        };
        self.line_starts.get_or_init(all)
    }

    /// The lines of a stretch with one line before and after it, so that nothing has to look at the whole file to show them.
    #[must_use]
    pub fn excerpt(&self, start: usize, end: usize) -> Excerpt<'_> {
        let span = self.clamp(start, end);
        let starts = self.line_starts();
        let first = self.line_of(span.start).saturating_sub(1);
        let from = starts.get(first).copied().unwrap_or(0);
        let to = starts.get(self.line_of(span.end) + 2).copied().unwrap_or(self.text.len());
        Excerpt {
            text: self.shown().get(from..to).unwrap_or_default(),
            line: first + 1,
            span: span.start - from..span.end - from,
        }
    }

    /// The beginning of the character that this byte is in.
    fn floor(&self, at: usize) -> usize {
        self.text.floor_char_boundary(at)
    }

    /// The stretch moved to whole characters inside the text, never empty unless the text is.
    #[must_use]
    pub fn clamp(&self, start: usize, end: usize) -> Range<usize> {
        let start = self.floor(start);
        let mut end = self.floor(end.max(start));
        if end == start {
            end = self.text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
        }
        start..end
    }
}

fn hide(byte: &mut u8) {
    if !matches!(byte, b'\n' | b'\r') {
        *byte = b'*';
    }
}

impl fmt::Debug for SourceFile {
    /// The name only: the text may hold what should not be in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.label.display())
    }
}

/// What to hide of the lines a syntax error is shown with. Where the grammar is broken nobody can say
/// which text is a secret, so on those lines everything in quotes is hidden unless it is a
/// reference, everything after the key of a secret, every long word, and all of a line that gives no
/// key a value: it may be one of a PEM that was pasted without quotes.
#[must_use]
pub fn suspects(text: &str, at: &Span) -> Vec<Span> {
    let begin = text
        .get(..at.start.min(text.len()))
        .and_then(|t| t.rfind('\n'))
        .map_or(0, |i| i + 1);
    let end = at.end.max(at.start);
    let end = text
        .get(end.min(text.len())..)
        .and_then(|t| t.find('\n'))
        .map_or(text.len(), |i| end + i);
    let mut places = Vec::new();
    let mut start = begin;
    for line in text.get(begin..end).unwrap_or("").split_inclusive('\n') {
        let hide = |(from, to): (usize, usize)| Span {
            source: at.source,
            start: start + from,
            end: start + to,
        };
        if is_of_ours(line) {
            let hidden = quoted(line).chain(long_words(line)).chain(after_secret_key(line));
            places.extend(hidden.map(hide));
        } else {
            places.push(hide((0, line.len())));
        }
        start += line.len();
    }
    places
}

/// Whether a line gives a key a value, opens or closes a table or a list, or says nothing. A line of base64 may end with
/// `=` too, but it is not lower case.
fn is_of_ours(line: &str) -> bool {
    const MAX_KEY: usize = 64;
    let line = line.trim();
    if line.is_empty() || line.starts_with(['[', ']', '{', '}', '"', '\'', '#', ',']) {
        return true;
    }
    let is_key = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b' ' | b'"');
    line.split_once('=')
        .is_some_and(|(key, value)| key.len() <= MAX_KEY && key.bytes().all(is_key) && !value.trim_matches('=').is_empty())
}

/// From the first key of a secret whose value is no reference to the end of the line.
fn after_secret_key(line: &str) -> Option<(usize, usize)> {
    const SECRET_KEYS: [&str; 6] = ["secret", "secrets", "pepper", "url", "key", "password"];
    line.match_indices('=').find_map(|(equals, _)| {
        let key = line.get(..equals)?.trim_end();
        let of_secret = SECRET_KEYS.iter().any(|secret| key.ends_with(secret));
        let value = line.get(equals + 1..)?.trim_start().trim_start_matches(['[', ' ']);
        (of_secret && !begins_with_reference(value)).then_some((equals + 1, line.len()))
    })
}

/// Whether a value is a reference in closed quotes.
fn begins_with_reference(value: &str) -> bool {
    let inside = value.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    inside.is_some_and(|(inside, _)| is_reference(inside))
}

/// A reference that may be shown: what is pasted after `file:` is not one.
fn is_reference(text: &str) -> bool {
    const MAX_SHOWN: usize = 200;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    let name = ["file:", "env:", "generate:"].iter().find_map(|scheme| text.strip_prefix(scheme));
    name.is_some_and(|name| name.len() <= MAX_SHOWN && name.bytes().all(plain) && !name.contains("-----"))
}

/// Words as only generated texts are.
fn long_words(line: &str) -> impl Iterator<Item = (usize, usize)> {
    const LONG: usize = 20;
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '\\' | '@' | ':' | '.' | '=');
    line.split(move |c| !is_word(c))
        .filter(|word| word.chars().count() >= LONG && !is_reference(word))
        .map(|word| {
            let from = word.as_ptr().addr() - line.as_ptr().addr();
            (from, from + word.len())
        })
}

/// The insides of quotes on a line, to its end where a quote is not closed; references are left out.
fn quoted(line: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut quotes = line.match_indices(['"', '\'']).map(|(i, _)| i);
    std::iter::from_fn(move || {
        let from = quotes.next()? + 1;
        Some((from, quotes.next().unwrap_or(line.len())))
    })
    .filter(move |(from, to)| !is_reference(line.get(*from..*to).unwrap_or("")))
}

/// Every file of one load.
#[derive(Debug, Default)]
pub struct SourceFiles(Vec<SourceFile>);

impl SourceFiles {
    pub fn add(&mut self, source: SourceFile) -> SourceId {
        self.0.push(source);
        SourceId(self.0.len() - 1)
    }

    /// The file of an id.
    #[must_use]
    pub fn find(&self, id: SourceId) -> Option<&SourceFile> {
        self.0.get(id.0)
    }

    pub fn mask(&mut self, at: &Span) {
        if let Some(source) = self.0.get_mut(at.source.0) {
            source.mask(at.start..at.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = SourceFile::new("f".into(), "ab\näöx\n".into());
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_column(1), (1, 2));
        assert_eq!(source.line_column(3), (2, 1));
        assert_eq!(source.line_column(7), (2, 3));
        assert_eq!(source.line_column(4), (2, 1), "inside a character: its beginning");
        assert_eq!(source.line_column(999), (3, 1));
    }

    #[test]
    fn a_masked_stretch_is_never_shown_and_moves_nothing() {
        let mut source = SourceFile::new("f".into(), "a = \"canäry\" # b\n".into());
        source.mask(4..13);
        let shown = source.shown();
        assert!(!shown.contains("can"));
        assert_eq!(shown.len(), source.text.len());
        assert!(shown.ends_with("# b\n"));
    }
}
