//! What a request of a caller needs and what does not change until the next one: header lines, a part of the access line, and the
//! fingerprint by which the record of a token is found. It is worked out once and kept.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::base::fingerprint::Fingerprint;

/// Bytes of header lines that are stored inline: tenant, scopes, surface, mode and id of usual length.
const LINES: usize = 222;

/// Bytes of an access line that are stored inline.
const LOGGED: usize = 118;

/// Bytes of header lines of a token that are stored inline: the same, with a subject and some claims.
const TOKEN_LINES: usize = 350;

static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Header lines that are written once for these facts and one set of header rules. The first set of rules keeps its
/// lines. After a reload, lines are written for each request, until the facts are read again. The text of access
/// lines is kept too.
#[derive(Debug)]
#[repr(C)]
pub struct IdentityLines {
    /// Identifies the records that the lines are of, within the process. A copy has the same number: it differs only in the time of the
    /// last use, which no line has.
    number: u64,
    header_lines: OnceLock<(u64, InlineText<LINES>)>,
    logged: OnceLock<InlineText<LOGGED>>,
    outdated: AtomicBool,
}

impl Default for IdentityLines {
    fn default() -> Self {
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            header_lines: OnceLock::new(),
            logged: OnceLock::new(),
            outdated: AtomicBool::new(false),
        }
    }
}

impl IdentityLines {
    /// The lines, if these rules wrote them.
    #[must_use]
    pub fn written_by(&self, rules: u64) -> Option<&[u8]> {
        let (by, lines) = self.header_lines.get()?;
        if *by == rules {
            return Some(lines.text());
        }
        self.outdated.store(true, Ordering::Relaxed);
        None
    }

    /// Keeps the lines that these rules wrote, unless lines are kept already.
    pub fn keep(&self, rules: u64, lines: &[u8]) {
        // A second writer has written the same lines.
        let _ = self.header_lines.set((rules, InlineText::new(lines)));
    }

    /// The text of access lines about the caller. `write` writes it the first time.
    pub fn logged(&self, write: impl FnOnce() -> Vec<u8>) -> &[u8] {
        self.logged.get_or_init(|| InlineText::new(&write())).text()
    }

    /// Whether other rules than those that wrote the lines have asked for them.
    #[must_use]
    pub fn are_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    /// Reads a byte of each line of memory ([`Facts::fetch`](super::Facts::fetch)).
    #[inline]
    pub(super) fn fetch(&self) -> (u8, u8) {
        (
            self.header_lines.get().map_or(0, |(_, lines)| lines.fetch()),
            self.logged.get().map_or(0, InlineText::fetch),
        )
    }
}

impl Clone for IdentityLines {
    fn clone(&self) -> Self {
        Self {
            number: self.number,
            header_lines: self.header_lines.clone(),
            logged: self.logged.clone(),
            outdated: AtomicBool::new(self.are_outdated()),
        }
    }
}

/// What is kept with a token. Its lines depend on the token and on the records that it hangs on. They are kept for the records that were
/// seen last; for other records they are written anew.
#[derive(Default)]
pub struct TokenMemo {
    /// The fingerprint of the token's record. It follows from the claims and from the surface whose rules have read them.
    found_by: OnceLock<Option<Fingerprint>>,
    texts: Mutex<Option<TokenTexts>>,
}

#[derive(Debug)]
struct TokenTexts {
    /// [`IdentityLines::number`] of the records.
    records: u64,
    header_lines: Option<(u64, InlineText<TOKEN_LINES>)>,
    logged: Option<InlineText<LOGGED>>,
}

impl TokenMemo {
    /// The fingerprint by which the token's record is found; `None` when there can be no such record. `derive` derives it the first
    /// time.
    pub fn found_by(&self, derive: impl FnOnce() -> Option<Fingerprint>) -> Option<Fingerprint> {
        *self.found_by.get_or_init(derive)
    }

    /// Makes the processor fetch all that a request needs, as [`Facts::fetch`](super::Facts::fetch) does.
    #[inline]
    pub fn fetch(&self) {
        let texts = self.texts.try_lock().ok().and_then(|texts| {
            let texts = texts.as_ref()?;
            let lines = texts.header_lines.as_ref().map_or(0, |(_, lines)| lines.fetch());
            Some((lines, texts.logged.as_ref().map_or(0, InlineText::fetch)))
        });
        std::hint::black_box(texts);
    }

    /// Appends the header lines, if these rules wrote them for these records.
    #[must_use]
    pub fn append(&self, rules: u64, of: &IdentityLines, out: &mut Vec<u8>) -> bool {
        self.with(of, |texts| match &texts.header_lines {
            Some((by, lines)) if *by == rules => {
                out.extend_from_slice(lines.text());
                true
            }
            _ => false,
        })
        .unwrap_or(false)
    }

    /// Keeps the lines that these rules wrote for these records.
    pub fn keep(&self, rules: u64, of: &IdentityLines, lines: &[u8]) {
        self.with(of, |texts| texts.header_lines = Some((rules, InlineText::new(lines))));
    }

    /// Appends the text of access lines about the caller. `write` writes it the first time.
    pub fn append_logged(&self, of: &IdentityLines, out: &mut Vec<u8>, write: impl Fn() -> Vec<u8>) {
        let appended = self.with(of, |texts| {
            let text = texts.logged.get_or_insert_with(|| InlineText::new(&write()));
            out.extend_from_slice(text.text());
        });
        if appended.is_none() {
            out.extend_from_slice(&write());
        }
    }

    /// Works on the texts that are kept for these records. `None` when the texts are in use elsewhere at this moment, which is rare: each
    /// worker remembers tokens of its own.
    fn with<T>(&self, of: &IdentityLines, work: impl FnOnce(&mut TokenTexts) -> T) -> Option<T> {
        let mut texts = self.texts.try_lock().ok()?;
        let texts = match &mut *texts {
            Some(texts) if texts.records == of.number => texts,
            other => other.insert(TokenTexts {
                records: of.number,
                header_lines: None,
                logged: None,
            }),
        };
        Some(work(texts))
    }
}

impl std::fmt::Debug for TokenMemo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenMemo").finish_non_exhaustive()
    }
}

/// A copy begins with nothing kept: its claims may be changed.
impl Clone for TokenMemo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Two tokens that say the same are equal, whatever is kept with them.
impl PartialEq for TokenMemo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for TokenMemo {}

/// A text that is stored inline, in the same cache lines as the facts, and on the heap only if it is long.
#[derive(Debug, Clone)]
struct InlineText<const N: usize> {
    len: u16,
    short: [u8; N],
    long: Box<[u8]>,
}

impl<const N: usize> InlineText<N> {
    fn new(text: &[u8]) -> Self {
        let mut short = [0; N];
        let (len, long) = match (short.get_mut(..text.len()), u16::try_from(text.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(text);
                (len, Box::default())
            }
            _ => (0, text.into()),
        };
        Self { len, short, long }
    }

    fn text(&self) -> &[u8] {
        match self.len {
            0 => &self.long,
            len => self.short.get(..usize::from(len)).unwrap_or_default(),
        }
    }

    /// Reads a byte of each line of memory.
    fn fetch(&self) -> u8 {
        self.text().iter().step_by(64).fold(0, |sum, byte| sum ^ byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_whole_wherever_they_stand() {
        for length in [
            0,
            1,
            LOGGED,
            LOGGED + 1,
            LINES,
            LINES + 1,
            TOKEN_LINES,
            TOKEN_LINES + 1,
            5_000,
            70_000,
        ] {
            let text: Vec<u8> = (0_u8..=u8::MAX).cycle().take(length).collect();
            let lines = IdentityLines::default();
            lines.keep(7, &text);
            assert_eq!(lines.written_by(7), Some(&*text));
            assert_eq!(lines.logged(|| text.clone()), text);
            assert_eq!(lines.clone().written_by(7), Some(&*text));
            let token = TokenMemo::default();
            token.keep(7, &lines, &text);
            assert_eq!(appended(&token, 7, &lines), Some(text));
        }
    }

    fn appended(token: &TokenMemo, rules: u64, of: &IdentityLines) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        token.append(rules, of, &mut out).then_some(out)
    }

    fn logged(token: &TokenMemo, of: &IdentityLines, now: &str) -> String {
        let mut out = Vec::new();
        token.append_logged(of, &mut out, || now.into());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn j23_lines_of_a_token_are_those_of_the_records_and_rules_they_were_written_for() {
        let (records, newer) = (IdentityLines::default(), IdentityLines::default());
        let token = TokenMemo::default();
        assert_eq!(appended(&token, 1, &records), None);
        token.keep(1, &records, b"one");
        assert_eq!(logged(&token, &records, "first"), "first");
        assert_eq!(appended(&token, 1, &records).unwrap(), b"one");
        assert_eq!(logged(&token, &records, "second"), "first");
        // Another use of the same records.
        assert_eq!(appended(&token, 1, &records.clone()).unwrap(), b"one");
        // Other rules.
        assert_eq!(appended(&token, 2, &records), None);
        token.keep(2, &records, b"two");
        assert_eq!(appended(&token, 1, &records), None);
        // Other records, and back.
        assert_eq!(appended(&token, 2, &newer), None);
        assert_eq!(logged(&token, &newer, "newer"), "newer");
        assert_eq!(appended(&token, 2, &records), None);
        assert_eq!(logged(&token, &records, "third"), "third");
        assert_eq!(appended(&token.clone(), 2, &records), None);
        let (one, other) = (Fingerprint::of_token(b"1"), Fingerprint::of_token(b"2"));
        assert_eq!(token.found_by(|| Some(one)), Some(one));
        assert_eq!(token.found_by(|| Some(other)), Some(one));
        assert_eq!(
            token.clone().found_by(|| Some(other)),
            Some(other),
            "the copy may be of another record"
        );
    }

    #[test]
    fn texts_that_are_in_use_elsewhere_are_written_anew() {
        let (token, records) = (TokenMemo::default(), IdentityLines::default());
        token.keep(1, &records, b"one");
        let _held = token.texts.lock().unwrap();
        assert_eq!(appended(&token, 1, &records), None);
        assert_eq!(logged(&token, &records, "anew"), "anew");
    }
}
