//! Bodies that were captured beside the request path, and what the trail records of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::rand;

use crate::decide::audit::BodyCapture;
use crate::telemetry::members::{EscapeFor, escape};

use super::mask::{MaskedBody, Shapes, Withheld, mask_body, mask_text, media_type, withheld_by_type};

/// Bytes of a salt. The salt is erased with its body, and then the hash in the entry tells nothing of it.
pub const SALT_LEN: usize = 16;

/// A shorter body that is not recorded has no hash: whoever tries all short bodies would find it.
const SHORTEST_HASHED: u64 = 64;

/// Longest media type in entries.
const MAX_TYPE: usize = 100;

/// Most bytes of captured bodies in the process, from their first byte until they are written.
pub const MAX_CAPTURED: usize = 64 << 20;

static CAPTURED: CaptureBudget = CaptureBudget::new(MAX_CAPTURED);

/// Memory that all captured bodies share.
#[derive(Debug)]
pub struct CaptureBudget {
    used: AtomicUsize,
    most: usize,
}

impl CaptureBudget {
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            most,
        }
    }

    /// Takes so many bytes, if there are as many.
    fn take(&self, bytes: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = used.saturating_add(bytes) <= self.most;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A copy of bytes that counts against a budget until it is dropped.
struct BudgetedBytes {
    bytes: Vec<u8>,
    counted: usize,
    budget: &'static CaptureBudget,
}

impl BudgetedBytes {
    const fn new(budget: &'static CaptureBudget) -> Self {
        Self {
            bytes: Vec::new(),
            counted: 0,
            budget,
        }
    }

    /// Copies these bytes, if there is memory for them. `expected` is the length of the whole body, if it is known.
    fn extend(&mut self, data: &[u8], expected: usize) -> bool {
        let length = self.bytes.len() + data.len();
        if length > self.bytes.capacity() {
            let capacity = length.max(expected).max(self.bytes.capacity() * 2);
            let more = capacity - self.counted;
            if !self.budget.take(more) {
                return false;
            }
            self.counted = capacity;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        true
    }

    fn clear(&mut self) {
        self.bytes = Vec::new();
        self.budget.give_back(std::mem::take(&mut self.counted));
    }
}

impl Drop for BudgetedBytes {
    fn drop(&mut self) {
        self.budget.give_back(self.counted);
    }
}

/// What is captured of one request. Without bodies it is two empty pointers.
#[derive(Debug, Default)]
pub struct CapturedBodies {
    /// The id of the request, where there is a body.
    pub request_id: String,
    pub body: Option<Box<CapturedBody>>,
    pub answer: Option<Box<CapturedBody>>,
}

/// What the head says about a body.
#[derive(Debug, Clone, Copy, Default)]
pub struct BodyHead<'h> {
    pub content_type: &'h [u8],
    /// The value of `Content-Encoding`; empty if there is none.
    pub content_encoding: &'h [u8],
    /// The declared length.
    pub length: Option<u64>,
}

/// A body, or a part of one, with what is needed to mask it. `Debug` shows nothing of it.
pub struct CapturedBody {
    content_type: String,
    copy: BudgetedBytes,
    /// Bytes that passed.
    size: u64,
    expected: usize,
    is_complete: bool,
    /// Why the body is not recorded, as soon as that is known.
    withheld: Option<Withheld>,
    /// The hash of a body that is not copied.
    hash: Option<SaltedHash>,
    capture: Arc<BodyCapture>,
    shapes: Arc<Shapes>,
}

impl fmt::Debug for CapturedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapturedBody({} bytes)", self.size)
    }
}

impl CapturedBody {
    /// Begins with an empty body.
    #[must_use]
    pub fn begin(head: BodyHead<'_>, capture: Arc<BodyCapture>, shapes: Arc<Shapes>) -> Self {
        Self::begin_within(&CAPTURED, head, capture, shapes)
    }

    fn begin_within(budget: &'static CaptureBudget, head: BodyHead<'_>, capture: Arc<BodyCapture>, shapes: Arc<Shapes>) -> Self {
        let content_type = String::from_utf8_lossy(head.content_type).into_owned();
        let withheld = if !matches!(head.content_encoding.trim_ascii(), b"" | b"identity") {
            Some(Withheld::Compressed)
        } else if head.length.is_some_and(|length| length > capture.max as u64) {
            Some(Withheld::TooLong)
        } else {
            None
        };
        // A type that is not recorded is the reason even where the body is compressed or long.
        let withheld = withheld_by_type(&content_type, &capture).or(withheld);
        Self {
            content_type,
            copy: BudgetedBytes::new(budget),
            size: 0,
            expected: head.length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0),
            is_complete: false,
            hash: withheld.and_then(|_| SaltedHash::new()),
            withheld,
            capture,
            shapes,
        }
    }

    /// These bytes pass.
    pub fn push(&mut self, data: &[u8]) {
        self.size += data.len() as u64;
        if self.withheld.is_none() {
            let room = self.capture.max - self.copy.bytes.len();
            if data.len() > room {
                self.withhold(Withheld::TooLong);
            } else if !self.copy.extend(data, self.expected) {
                self.withhold(Withheld::Busy);
            } else {
                return;
            }
        }
        if let Some(hash) = &mut self.hash {
            hash.context.update(data);
        }
    }

    /// The whole body has passed.
    pub fn end(&mut self) {
        self.is_complete = true;
    }

    /// From now on the body is hashed and not copied.
    fn withhold(&mut self, why: Withheld) {
        self.withheld = Some(why);
        self.hash = SaltedHash::new();
        if let Some(hash) = &mut self.hash {
            hash.context.update(&self.copy.bytes);
        }
        self.copy.clear();
    }

    /// Bytes of memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.copy.bytes.capacity() + self.content_type.capacity() + size_of::<Self>()
    }

    /// Appends what the entry and the file of bodies have of it.
    fn record(mut self, part: &str, request_id: &str, recorded: &mut RecordedBodies) {
        if self.size == 0 {
            return;
        }
        let masked = match self.withheld {
            Some(why) => MaskedBody::Withheld(why),
            None if !self.is_complete => MaskedBody::Withheld(Withheld::Incomplete),
            None => mask_body(&self.content_type, &self.copy.bytes, &self.capture, &self.shapes),
        };
        let media_type: String = media_type(&self.content_type).chars().take(MAX_TYPE).collect();
        let media_type = mask_text(&media_type, &self.shapes);
        let members = &mut recorded.members;
        push_text(members, ",\"", part);
        members.extend_from_slice(b"\":{\"type\":");
        push_json(members, &media_type);
        push_text(members, ",\"size\":", &self.size.to_string());
        match masked {
            MaskedBody::Masked(masked) => match SaltedHash::new() {
                Some(mut hash) => {
                    hash.context.update(masked.as_bytes());
                    let salt = hash.salt;
                    push_hash(members, hash);
                    members.extend_from_slice(b",\"stored\":true}");
                    let line = body_line(part, request_id, &media_type, self.size, &salt, &masked);
                    recorded.lines.push(line);
                }
                // A hash without a salt would tell short bodies.
                None => push_withheld(members, Withheld::Busy),
            },
            MaskedBody::Withheld(why) => {
                if self.withheld.is_none() {
                    self.withhold(why);
                }
                if let Some(hash) = self.hash.take().filter(|_| self.size >= SHORTEST_HASHED) {
                    push_text(members, ",\"salt\":\"", &hex(&hash.salt));
                    members.push(b'"');
                    push_hash(members, hash);
                }
                push_withheld(members, why);
            }
        }
    }
}

/// SHA-256 of a salt and what follows it.
struct SaltedHash {
    salt: [u8; SALT_LEN],
    context: digest::Context,
}

impl SaltedHash {
    /// `None` if the system has no randomness to give.
    fn new() -> Option<Self> {
        let mut salt = [0; SALT_LEN];
        rand::fill(&mut salt).ok()?;
        let mut context = digest::Context::new(&SHA256);
        context.update(&salt);
        Some(Self { salt, context })
    }
}

/// What the trail writes of the bodies of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RecordedBodies {
    /// The members `body` and `answer` of the entry, each with a comma before it.
    pub members: Vec<u8>,
    /// The lines of the file of bodies, each without `{"seq":N` before and `}` after it.
    pub lines: Vec<Vec<u8>>,
}

impl CapturedBodies {
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.body.is_none() && self.answer.is_none()
    }

    /// Bytes of memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bodies = [&self.body, &self.answer];
        bodies.into_iter().flatten().map(|body| body.weight()).sum()
    }

    /// Masks the bodies, and writes what the trail has of them. This takes the time, so it is done by the writer's thread.
    #[must_use]
    pub fn record(self) -> RecordedBodies {
        let mut recorded = RecordedBodies::default();
        if let Some(body) = self.body {
            body.record("body", &self.request_id, &mut recorded);
        }
        if let Some(answer) = self.answer {
            answer.record("answer", &self.request_id, &mut recorded);
        }
        recorded
    }
}

fn body_line(part: &str, request_id: &str, media_type: &str, size: u64, salt: &[u8], masked: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(masked.len() + masked.len() / 8 + 200);
    line.extend_from_slice(b",\"request_id\":");
    push_json(&mut line, request_id);
    push_text(&mut line, ",\"part\":\"", part);
    line.extend_from_slice(b"\",\"type\":");
    push_json(&mut line, media_type);
    push_text(&mut line, ",\"salt\":\"", &hex(salt));
    push_text(&mut line, "\",\"size\":", &size.to_string());
    line.extend_from_slice(b",\"masked\":");
    push_json(&mut line, masked);
    line
}

fn push_hash(out: &mut Vec<u8>, hash: SaltedHash) {
    push_text(out, ",\"sha256\":\"", &hex(hash.context.finish().as_ref()));
    out.push(b'"');
}

fn push_withheld(out: &mut Vec<u8>, why: Withheld) {
    push_text(out, ",\"stored\":false,\"why\":\"", why.as_str());
    out.extend_from_slice(b"\"}");
}

fn push_text(out: &mut Vec<u8>, before: &str, text: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn hex(bytes: &[u8]) -> String {
    let digit = |bits: u8| char::from(b"0123456789abcdef"[usize::from(bits & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Appends a JSON string of ASCII only.
fn push_json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text, EscapeFor::Json);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(max: usize) -> Arc<BodyCapture> {
        Arc::new(BodyCapture {
            max,
            types: vec!["application/json".into(), "text/plain".into()],
            mask: Vec::new(),
        })
    }

    fn captured(head: BodyHead<'_>, chunks: &[&[u8]], is_whole: bool) -> CapturedBody {
        let mut body = CapturedBody::begin(head, capture(100), Arc::default());
        chunks.iter().for_each(|chunk| body.push(chunk));
        if is_whole {
            body.end();
        }
        body
    }

    fn json(length: Option<u64>) -> BodyHead<'static> {
        BodyHead {
            content_type: b"application/json; charset=utf-8",
            content_encoding: b"",
            length,
        }
    }

    /// The member and the line of a request body.
    fn recorded(body: CapturedBody) -> (serde_json::Value, Option<serde_json::Value>) {
        let bodies = CapturedBodies {
            request_id: "r1".into(),
            body: Some(Box::new(body)),
            answer: None,
        };
        let recorded = bodies.record();
        let entry = format!("{{\"seq\":1{}}}", String::from_utf8(recorded.members).unwrap());
        let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
        let line = recorded.lines.first().map(|line| {
            let line = format!("{{\"seq\":1{}}}", std::str::from_utf8(line).unwrap());
            serde_json::from_str(&line).unwrap()
        });
        (entry["body"].clone(), line)
    }

    fn salted(salt: &serde_json::Value, text: &[u8]) -> String {
        let salt = salt.as_str().unwrap().as_bytes();
        let salt: Vec<u8> = salt
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[high, low]| crate::base::percent::hex_pair(*high, *low).unwrap())
            .collect();
        assert_eq!(salt.len(), SALT_LEN);
        let mut context = digest::Context::new(&SHA256);
        context.update(&salt);
        context.update(text);
        hex(context.finish().as_ref())
    }

    #[test]
    fn a_body_is_recorded_masked_with_a_hash_of_what_is_recorded() {
        let (member, line) = recorded(captured(json(None), &[b"{\"password\":\"hun", b"ter2\",\"a\":\"\xc3\xa4\"}"], true));
        let line = line.unwrap();
        assert_eq!(line["masked"], "{\"password\":\"***\",\"a\":\"\u{e4}\"}");
        assert_eq!((&line["request_id"], &line["part"]), (&"r1".into(), &"body".into()));
        assert_eq!(line["size"], 31);
        assert_eq!(
            (&member["type"], &member["size"], &member["stored"]),
            (&"application/json".into(), &31.into(), &true.into())
        );
        let masked = line["masked"].as_str().unwrap();
        assert_eq!(member["sha256"], salted(&line["salt"], masked.as_bytes()));
        assert_eq!(member.get("salt"), None, "it is erased with the body");
    }

    #[test]
    fn what_is_not_recorded_is_told_by_type_size_and_hash() {
        let long = [b'1'; 101];
        let head = |content_type: &'static [u8], content_encoding: &'static [u8]| BodyHead {
            content_type,
            content_encoding,
            length: None,
        };
        for (why, head, body, is_whole) in [
            ("too_long", json(None), long.as_slice(), true),
            ("too_long", json(Some(101)), long.as_slice(), true),
            ("compressed", head(b"application/json", b"gzip"), &long[..80], true),
            ("type", head(b"image/png", b""), &long[..80], true),
            ("type", head(b"", b""), &long[..80], true),
            ("binary", head(b"text/plain", b""), &[0xff; 80], true),
            ("binary", head(b"text/plain; charset=utf-16", b""), &long[..80], true),
            ("not_json", json(None), &[b'x'; 80], true),
            ("incomplete", json(None), &long[..80], false),
        ] {
            let (member, line) = recorded(captured(head, &[&body[..40], &body[40..]], is_whole));
            assert_eq!(line, None, "{why}");
            assert_eq!((&member["why"], &member["stored"]), (&why.into(), &false.into()));
            assert_eq!(member["size"], body.len());
            assert_eq!(member["sha256"], salted(&member["salt"], body), "{why}");
        }
        let (member, _) = recorded(captured(json(None), &[b"4111"], false));
        assert_eq!(member.get("sha256"), None, "a short one could be guessed");
    }

    #[test]
    fn an_empty_body_is_no_body() {
        let bodies = CapturedBodies {
            body: Some(Box::new(captured(json(None), &[], true))),
            ..CapturedBodies::default()
        };
        assert_eq!(bodies.record(), RecordedBodies::default());
        assert_eq!(CapturedBodies::default().record(), RecordedBodies::default());
    }

    #[test]
    fn all_bodies_share_their_memory_and_give_it_back() {
        static BUDGET: CaptureBudget = CaptureBudget::new(100);
        let begin = || CapturedBody::begin_within(&BUDGET, json(None), capture(100), Arc::default());
        let mut first = begin();
        first.push(b"[\"0123456789012345678901234567890123456789012345678901234567890123456789\"]");
        first.end();
        let mut second = begin();
        second.push(b"[\"01234567890123456789012345678901234567890123456789012345678901234\"]");
        second.end();
        assert_eq!(recorded(second).0["why"], "busy");
        assert_eq!(recorded(first).0["stored"], true);
        assert_eq!(BUDGET.used.load(Ordering::Relaxed), 0);
        let mut third = begin();
        third.push(b"[\"0123456789012345678901234567890123456789012345678901234567890123456789\"]");
        third.end();
        assert_eq!(recorded(third).0["stored"], true);
    }

    #[test]
    fn nothing_of_a_body_is_shown_by_debug() {
        let body = captured(json(None), &[b"\"canary\""], true);
        assert_eq!(format!("{body:?}"), "CapturedBody(8 bytes)");
    }
}
