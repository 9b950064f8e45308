//! Masks JSON. Numbers and the order of members stay as they were written; white space goes.

use std::borrow::Cow;
use std::ops::Range;

use super::classes::TextClasses;
use super::names::MemberPath;
use super::{MASK, Rules, cards, escapes, text};

/// Deepest nesting of objects and lists. A body that is nested deeper is recorded without its text.
const MAX_DEPTH: usize = 64;

/// How deep texts that hold JSON themselves are read. A text below that which begins like JSON is masked as a whole.
const MAX_EMBEDDED: usize = 4;

/// Appends the masked JSON. `None` if the text is not JSON or nested too deeply; what was appended is then of no use.
pub(super) fn mask(json: &str, rules: Rules<'_>, out: &mut String) -> Option<()> {
    mask_embedded(json, rules, MAX_EMBEDDED, out)
}

/// Masks one JSON value on each line.
pub(super) fn mask_lines(lines: &str, rules: Rules<'_>, out: &mut String) -> Option<()> {
    for line in lines.split(['\n', '\u{1e}']).map(str::trim_ascii).filter(|line| !line.is_empty()) {
        mask(line, rules, out)?;
        out.push('\n');
    }
    Some(())
}

/// Masks a text that may hold JSON: the value of a member, of a parameter, of a form.
pub(super) fn mask_text<'t>(value: &'t str, rules: Rules<'_>) -> Cow<'t, str> {
    mask_value(value, rules, MAX_EMBEDDED)
}

fn mask_value<'t>(value: &'t str, rules: Rules<'_>, embedded: usize) -> Cow<'t, str> {
    if matches!(value.trim_ascii_start().as_bytes(), [b'{' | b'[' | b'"', _, ..]) {
        let Some(embedded) = embedded.checked_sub(1) else {
            return Cow::Owned(MASK.to_owned());
        };
        let mut out = String::new();
        if mask_embedded(value, rules, embedded, &mut out).is_some() {
            return Cow::Owned(out);
        }
    }
    text::mask(value, rules.shapes)
}

fn mask_embedded(json: &str, rules: Rules<'_>, embedded: usize, out: &mut String) -> Option<()> {
    out.reserve(json.len());
    let mut masker = Masker {
        text: json,
        classes: rules.shapes.classes.of_text(json),
        at: 0,
        out,
        copied: 0,
        rules,
        path: MemberPath::default(),
        embedded,
        hidden: 0,
    };
    masker.skip_space();
    masker.value(MAX_DEPTH)?;
    masker.skip_space();
    masker.copy_until(masker.at);
    (masker.at == json.len()).then_some(())
}

/// Reads JSON and copies it, in pieces that are as long as nothing has to change.
struct Masker<'t, 'o> {
    text: &'t str,
    classes: TextClasses,
    at: usize,
    out: &'o mut String,
    /// Until here the text is copied, or something else stands in its place.
    copied: usize,
    rules: Rules<'t>,
    path: MemberPath<'t>,
    embedded: usize,
    /// How many masked values the current one stands in. What is in them is only read.
    hidden: usize,
}

impl<'t> Masker<'t, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Copies what stands before `end` and is not copied yet.
    fn copy_until(&mut self, end: usize) {
        if self.hidden == 0 {
            self.out.push_str(self.text.get(self.copied..end).unwrap_or_default());
            self.copied = end;
        }
    }

    /// Appends a string in place of what stands from `begin` to here.
    fn replace(&mut self, begin: usize, text: &str) {
        self.copy_until(begin);
        push_string(self.out, text);
        self.copied = self.at;
    }

    #[inline]
    fn skip_space(&mut self) {
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.leave_space_out();
        }
    }

    fn leave_space_out(&mut self) {
        self.copy_until(self.at);
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        if self.hidden == 0 {
            self.copied = self.at;
        }
    }

    /// Steps over this byte, if it is the next one after white space.
    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Reads one value, which begins here. `None` if it is broken, as in all steps below.
    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.list(depth.checked_sub(1)?),
            b'"' => self.text(),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.word(),
        }
    }

    /// Reads a value and writes [`MASK`] in its place.
    fn masked_value(&mut self, depth: usize) -> Option<()> {
        let begin = self.at;
        self.copy_until(begin);
        self.hidden += 1;
        let read = self.value(depth);
        self.hidden -= 1;
        self.replace(begin, MASK);
        read
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        if self.take(b'}') {
            return Some(());
        }
        loop {
            self.member(depth)?;
            if self.take(b'}') {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
            self.skip_space();
        }
    }

    fn member(&mut self, depth: usize) -> Option<()> {
        if self.hidden > 0 {
            self.string()?;
            self.colon()?;
            return self.value(depth);
        }
        match self.verbatim_end() {
            Some(end) if self.rules.is_known(self.text, self.at + 1..end) => {
                let name = self.at + 1..end;
                self.at = end + 1;
                self.colon()?;
                // Nobody asks where a value stands that has no members.
                if !self.rules.has_open_pattern && !matches!(self.peek(), Some(b'{' | b'[')) {
                    return self.value(depth);
                }
                self.path.push(Cow::Borrowed(self.text.get(name)?));
                let is_masked = self.rules.has_open_pattern && self.rules.pattern_masks(&self.path);
                self.end_member(is_masked, depth)
            }
            _ => self.other_member(depth),
        }
    }

    /// Reads a member whose name is not known to be plain.
    fn other_member(&mut self, depth: usize) -> Option<()> {
        let begin = self.at;
        let name = self.string()?;
        match (&name, text::mask(&name, self.rules.shapes)) {
            (Cow::Borrowed(_), Cow::Borrowed(_)) => {}
            (_, masked) => self.replace(begin, &masked),
        }
        self.colon()?;
        self.path.push(name);
        let is_masked = self.rules.masks(&self.path);
        self.end_member(is_masked, depth)
    }

    fn colon(&mut self) -> Option<()> {
        let is_next = self.take(b':');
        self.skip_space();
        is_next.then_some(())
    }

    /// Reads the value at the end of the path, which ends there.
    fn end_member(&mut self, is_masked: bool, depth: usize) -> Option<()> {
        let read = if is_masked { self.masked_value(depth) } else { self.value(depth) };
        self.path.pop();
        read
    }

    fn list(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.value(depth)?;
            if self.take(b']') {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
            self.skip_space();
        }
    }

    fn text(&mut self) -> Option<()> {
        let begin = self.at;
        if let Some(end) = self.verbatim_end() {
            self.at = end + 1;
            if self.hidden == 0
                && !self.is_plain(begin + 1..end)
                && let Cow::Owned(masked) = mask_value(self.text.get(begin + 1..end)?, self.rules, self.embedded)
            {
                self.replace(begin, &masked);
            }
            return Some(());
        }
        let text = self.string()?;
        if self.hidden == 0 {
            let masked = mask_value(&text, self.rules, self.embedded);
            self.replace(begin, &masked);
        }
        Some(())
    }

    /// Whether a string without escapes holds neither a secret nor JSON.
    #[inline]
    fn is_plain(&self, string: Range<usize>) -> bool {
        let may_be_json = matches!(self.text.as_bytes().get(string.start), Some(b'{' | b'[' | b' '));
        !may_be_json && self.classes.is_plain(string)
    }

    fn number(&mut self) -> Option<()> {
        let begin = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        // No number begins with a zero and another digit (RFC 8259, section 6).
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let has_exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let may_be_card = has_exponent || self.at - begin >= cards::FEWEST;
        if self.hidden == 0 && may_be_card && cards::is_card(self.text.get(begin..self.at)?) {
            self.replace(begin, MASK);
        }
        Some(())
    }

    /// Steps over one digit or more.
    fn digits(&mut self) -> Option<()> {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > begin).then_some(())
    }

    fn word(&mut self) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word))?;
        self.at += word.len();
        Some(())
    }

    /// Where the string ends that is next, if it is one without escapes.
    #[inline]
    fn verbatim_end(&self) -> Option<usize> {
        let is_quote = |at: usize| self.text.as_bytes().get(at) == Some(&b'"');
        if !is_quote(self.at) {
            return None;
        }
        let end = self.classes.run_end(self.at + 1);
        is_quote(end).then_some(end)
    }

    /// Reads a string, without its escapes.
    fn string(&mut self) -> Option<Cow<'t, str>> {
        if self.peek()? != b'"' {
            return None;
        }
        let begin = self.at + 1;
        self.at = self.classes.run_end(begin);
        let plain = self.text.get(begin..self.at)?;
        if self.peek()? == b'"' {
            self.at += 1;
            return Some(Cow::Borrowed(plain));
        }
        let mut text = String::with_capacity(plain.len() * 2);
        text.push_str(plain);
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(Cow::Owned(text));
                }
                b'\\' => text.push(self.escape()?),
                _ => {
                    let run = self.at;
                    self.at = self.classes.run_end(run);
                    // A control character stands in no string.
                    let piece = self.text.get(run..self.at).filter(|piece| !piece.is_empty())?;
                    text.push_str(piece);
                }
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let behind = self.text.as_bytes().get(self.at + 1..)?;
        let (character, rest) = match behind {
            [b'u', ..] => escapes::unicode_escape(behind)?,
            [b'\'', ..] => return None,
            [letter, rest @ ..] => (char::from(escapes::short_escape(*letter)?), rest),
            [] => return None,
        };
        self.at = self.text.len() - rest.len();
        Some(character)
    }
}

/// How many bytes of a string stand before its end, an escape, or a control character.
fn string_run(text: &[u8]) -> usize {
    text.iter()
        .position(|byte| *byte < b' ' || matches!(byte, b'"' | b'\\'))
        .unwrap_or(text.len())
}

/// Appends a JSON string.
fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let plain = string_run(rest.as_bytes());
        out.push_str(rest.get(..plain).unwrap_or_default());
        match rest.as_bytes().get(plain) {
            None => break,
            Some(b'\n') => out.push_str("\\n"),
            Some(b'\r') => out.push_str("\\r"),
            Some(b'\t') => out.push_str("\\t"),
            Some(byte @ (b'"' | b'\\')) => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            Some(byte) => {
                out.push_str("\\u00");
                out.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
            }
        }
        rest = rest.get(plain + 1..).unwrap_or_default();
    }
    out.push('"');
}
