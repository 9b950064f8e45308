//! Masks JSON while copying it. Numbers and the order of members stay as they were written; white space goes.

use std::borrow::Cow;

use super::names::MemberPath;
use super::{MASK, Rules, cards, escapes, text};

/// Deepest nesting of objects and lists. A body that is nested deeper is recorded without its text.
const MAX_DEPTH: usize = 64;

/// How deep texts that hold JSON themselves are read. A text below that which begins like JSON is masked as a whole.
const MAX_EMBEDDED: usize = 4;

/// The masked JSON; `None` if the text is not JSON or nested too deeply.
pub(super) fn mask(json: &str, rules: Rules<'_>) -> Option<String> {
    mask_embedded(json, rules, MAX_EMBEDDED)
}

/// Masks one JSON value on each line.
pub(super) fn mask_lines(lines: &str, rules: Rules<'_>) -> Option<String> {
    let mut out = String::with_capacity(lines.len());
    for line in lines.split(['\n', '\u{1e}']).map(str::trim_ascii).filter(|line| !line.is_empty()) {
        out.push_str(&mask(line, rules)?);
        out.push('\n');
    }
    Some(out)
}

/// Masks a text that may hold JSON: the value of a member, of a parameter, of a form.
pub(super) fn mask_text<'t>(value: &'t str, rules: Rules<'_>) -> Cow<'t, str> {
    mask_value(value, rules, MAX_EMBEDDED)
}

fn mask_value<'t>(value: &'t str, rules: Rules<'_>, embedded: usize) -> Cow<'t, str> {
    if matches!(value.trim_ascii_start().as_bytes(), [b'{' | b'[' | b'"', _, ..]) {
        let Some(embedded) = embedded.checked_sub(1) else {
            return Cow::Borrowed(MASK);
        };
        if let Some(masked) = mask_embedded(value, rules, embedded) {
            return Cow::Owned(masked);
        }
    }
    text::mask(value, rules.shapes)
}

fn mask_embedded(json: &str, rules: Rules<'_>, embedded: usize) -> Option<String> {
    let mut masker = Masker {
        text: json,
        at: 0,
        out: String::with_capacity(json.len()),
        rules,
        path: MemberPath::default(),
        embedded,
        hidden: 0,
    };
    masker.value(MAX_DEPTH)?;
    masker.skip_space();
    (masker.at == json.len()).then_some(masker.out)
}

struct Masker<'t> {
    text: &'t str,
    at: usize,
    out: String,
    rules: Rules<'t>,
    path: MemberPath<'t>,
    embedded: usize,
    /// How many masked values the current one stands in. What is in them is only read.
    hidden: usize,
}

impl<'t> Masker<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Steps over this byte, if it is the next one after white space.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Copies one value. `None` if it is broken, as in all steps below.
    fn value(&mut self, depth: usize) -> Option<()> {
        self.skip_space();
        match self.peek()? {
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.list(depth.checked_sub(1)?),
            b'"' => {
                let text = self.string()?;
                if self.hidden == 0 {
                    match (&text, mask_value(&text, self.rules, self.embedded)) {
                        // Without escapes it is written as it was read.
                        (Cow::Borrowed(_), Cow::Borrowed(same)) if same.len() == text.len() => push_plain(&mut self.out, same),
                        (_, masked) => push_string(&mut self.out, &masked),
                    }
                }
                Some(())
            }
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        self.out.push('{');
        if !self.take(b'}') {
            loop {
                self.member(depth)?;
                if self.take(b'}') {
                    break;
                }
                if !self.take(b',') {
                    return None;
                }
                self.out.push(',');
            }
        }
        self.out.push('}');
        Some(())
    }

    fn member(&mut self, depth: usize) -> Option<()> {
        self.skip_space();
        let name = self.string()?;
        if !self.take(b':') {
            return None;
        }
        match (&name, text::mask(&name, self.rules.shapes)) {
            (Cow::Borrowed(_), Cow::Borrowed(same)) => push_plain(&mut self.out, same),
            (_, masked) => push_string(&mut self.out, &masked),
        }
        self.out.push(':');
        self.path.push(name);
        let is_masked = self.hidden == 0 && self.rules.masks(&self.path);
        let begin = self.out.len();
        self.hidden += usize::from(is_masked);
        let copied = self.value(depth);
        self.path.pop();
        if is_masked {
            self.hidden -= 1;
            self.out.truncate(begin);
            push_string(&mut self.out, MASK);
        }
        copied
    }

    fn list(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        self.out.push('[');
        if !self.take(b']') {
            loop {
                self.value(depth)?;
                if self.take(b']') {
                    break;
                }
                if !self.take(b',') {
                    return None;
                }
                self.out.push(',');
            }
        }
        self.out.push(']');
        Some(())
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
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let number = self.text.get(begin..self.at)?;
        if self.hidden == 0 && cards::is_card(number) {
            push_string(&mut self.out, MASK);
        } else {
            self.out.push_str(number);
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
        self.out.push_str(word);
        Some(())
    }

    /// Reads a string, without its escapes.
    fn string(&mut self) -> Option<Cow<'t, str>> {
        self.at += usize::from(self.peek()? == b'"');
        let begin = self.at;
        let bytes = self.text.as_bytes();
        if begin == 0 || bytes.get(begin - 1) != Some(&b'"') {
            return None;
        }
        let plain = string_run(bytes.get(begin..)?);
        self.at += plain;
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
                    let run = string_run(bytes.get(self.at..)?);
                    // A control character stands in no string.
                    let piece = self.text.get(self.at..self.at + run).filter(|piece| !piece.is_empty())?;
                    text.push_str(piece);
                    self.at += run;
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

/// Appends a JSON string that has nothing to escape.
fn push_plain(out: &mut String, text: &str) {
    out.push('"');
    out.push_str(text);
    out.push('"');
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
