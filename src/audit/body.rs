//! Bodies that were captured beside the request path, and what the trail records of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::rand;

use crate::base::text::push_decimal;
use crate::decide::audit::BodyCapture;
use crate::telemetry::members::{EscapeFor, escape};

use super::mask::{BodyType, MaskMemory, Shapes, Withheld, mask_text};

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
    body_type: BodyType,
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
        let body_type = BodyType::of(&String::from_utf8_lossy(head.content_type), &capture);
        let withheld = if !matches!(head.content_encoding.trim_ascii(), b"" | b"identity") {
            Some(Withheld::Compressed)
        } else if head.length.is_some_and(|length| length > capture.max as u64) {
            Some(Withheld::TooLong)
        } else {
            None
        };
        // A type that is not recorded is the reason even where the body is compressed or long.
        let withheld = body_type.withheld().or(withheld);
        Self {
            body_type,
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
        self.copy.bytes.capacity() + self.body_type.media_type().len() + size_of::<Self>()
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
}

/// A salt for each body. They are drawn from the system's generator many at a time, and each is used once.
#[derive(Default)]
struct Salts {
    drawn: Vec<u8>,
}

/// Bytes of salts that are drawn at once.
const DRAWN: usize = 256 * SALT_LEN;

impl Salts {
    /// `None` if the system has no randomness to give.
    fn next(&mut self) -> Option<[u8; SALT_LEN]> {
        if self.drawn.is_empty() {
            let mut drawn = vec![0; DRAWN];
            rand::fill(&mut drawn).ok()?;
            self.drawn = drawn;
        }
        let (rest, salt) = self.drawn.split_last_chunk_mut::<SALT_LEN>()?;
        // It is erased with its body, and so it does not stay here.
        let salt = std::mem::take(salt);
        let left = rest.len();
        self.drawn.truncate(left);
        Some(salt)
    }
}

/// Writes what the trail has of bodies. The writer's thread has one, whose memory serves all bodies.
#[derive(Default)]
pub struct BodyRecorder {
    memory: MaskMemory,
    salts: Salts,
    /// Room for a salt and a masked body behind it.
    salted: String,
}

/// Most bytes of room that are kept for the next request.
const MAX_KEPT: usize = 256 << 10;

/// What stands in the place of a salt that is not there yet.
const NO_SALT: &str = "no salt in here.";

impl BodyRecorder {
    /// Masks the bodies of the entry `seq`. The members `body` and `answer`, each with a comma before it, go to `members`,
    /// and their lines to `lines`.
    pub fn record(&mut self, bodies: CapturedBodies, seq: u64, members: &mut Vec<u8>, lines: &mut Vec<u8>) {
        for (part, body) in [("body", bodies.body), ("answer", bodies.answer)] {
            if let Some(body) = body.filter(|body| body.size > 0) {
                let id = BodyId {
                    seq,
                    request_id: &bodies.request_id,
                    part,
                };
                self.record_one(*body, id, members, lines);
            }
        }
        if self.salted.capacity() > MAX_KEPT {
            self.salted = String::new();
        }
    }

    fn record_one(&mut self, mut body: CapturedBody, id: BodyId<'_>, members: &mut Vec<u8>, lines: &mut Vec<u8>) {
        self.salted.clear();
        self.salted.push_str(NO_SALT);
        let masked = match body.withheld {
            Some(why) => Err(why),
            None if !body.is_complete => Err(Withheld::Incomplete),
            None => self
                .memory
                .mask(&body.body_type, &body.copy.bytes, &body.capture, &body.shapes, &mut self.salted),
        };
        let media_type = body.body_type.media_type();
        let media_type = media_type
            .char_indices()
            .nth(MAX_TYPE)
            .map_or(media_type, |(end, _)| media_type.split_at(end).0);
        let media_type = mask_text(media_type, &body.shapes).into_owned();
        push_text(members, ",\"", id.part);
        members.extend_from_slice(b"\":{\"type\":");
        push_json(members, &media_type);
        members.extend_from_slice(b",\"size\":");
        push_decimal(members, body.size);
        if let Err(why) = masked {
            if body.withheld.is_none() {
                body.withhold(why);
            }
            if let Some(hash) = body.hash.take().filter(|_| body.size >= SHORTEST_HASHED) {
                push_hex(members, ",\"salt\":\"", &hash.salt);
                push_hex(members, ",\"sha256\":\"", hash.context.finish().as_ref());
            }
            return push_withheld(members, why);
        }
        let Some(salt) = self.salts.next() else {
            // A hash without a salt would tell short bodies.
            return push_withheld(members, Withheld::Busy);
        };
        let (_, text) = self.salted.split_at(NO_SALT.len());
        id.push_line(&media_type, body.size, &salt, text, lines);
        // Salt and text stand together, so that one call hashes both.
        let mut salted = std::mem::take(&mut self.salted).into_bytes();
        if let Some(begin) = salted.first_chunk_mut() {
            *begin = salt;
        }
        push_hex(members, ",\"sha256\":\"", digest::digest(&SHA256, &salted).as_ref());
        members.extend_from_slice(b",\"stored\":true}");
        salted.clear();
        self.salted = String::from_utf8(salted).unwrap_or_default();
    }
}

/// Which body of which entry.
#[derive(Clone, Copy)]
struct BodyId<'p> {
    seq: u64,
    request_id: &'p str,
    part: &'p str,
}

impl BodyId<'_> {
    /// Appends the line of the file of bodies.
    fn push_line(self, media_type: &str, size: u64, salt: &[u8], masked: &str, line: &mut Vec<u8>) {
        line.reserve(masked.len() + masked.len() / 4 + 200);
        line.extend_from_slice(b"{\"seq\":");
        push_decimal(line, self.seq);
        line.extend_from_slice(b",\"request_id\":");
        push_json(line, self.request_id);
        push_text(line, ",\"part\":\"", self.part);
        line.extend_from_slice(b"\",\"type\":");
        push_json(line, media_type);
        push_hex(line, ",\"salt\":\"", salt);
        line.extend_from_slice(b",\"size\":");
        push_decimal(line, size);
        line.extend_from_slice(b",\"masked\":");
        push_json(line, masked);
        line.extend_from_slice(b"}\n");
    }
}

fn push_withheld(out: &mut Vec<u8>, why: Withheld) {
    push_text(out, ",\"stored\":false,\"why\":\"", why.as_str());
    out.extend_from_slice(b"\"}");
}

fn push_text(out: &mut Vec<u8>, before: &str, text: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Appends bytes in hexadecimal, and the quote behind them.
fn push_hex(out: &mut Vec<u8>, before: &str, bytes: &[u8]) {
    let digit = |bits: u8| b"0123456789abcdef"[usize::from(bits & 15)];
    out.extend_from_slice(before.as_bytes());
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
    out.push(b'"');
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
        let (members, lines) = written(bodies);
        let entry: serde_json::Value = serde_json::from_str(&format!("{{\"seq\":1{members}}}")).unwrap();
        let line = lines.strip_suffix('\n').map(|line| serde_json::from_str(line).unwrap());
        (entry["body"].clone(), line)
    }

    /// The members and the lines.
    fn written(bodies: CapturedBodies) -> (String, String) {
        let (mut members, mut lines) = (Vec::new(), Vec::new());
        BodyRecorder::default().record(bodies, 1, &mut members, &mut lines);
        (String::from_utf8(members).unwrap(), String::from_utf8(lines).unwrap())
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
        let mut hash = Vec::new();
        push_hex(&mut hash, "", context.finish().as_ref());
        String::from_utf8(hash).unwrap().trim_end_matches('"').to_owned()
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
    fn no_salt_is_used_twice() {
        let (mut recorder, mut seen) = (BodyRecorder::default(), std::collections::HashSet::new());
        for seq in 0..600 {
            let bodies = CapturedBodies {
                answer: Some(Box::new(captured(json(None), &[b"[1]"], true))),
                ..CapturedBodies::default()
            };
            let (mut members, mut lines) = (Vec::new(), Vec::new());
            recorder.record(bodies, seq, &mut members, &mut lines);
            let line: serde_json::Value = serde_json::from_slice(&lines).unwrap();
            let entry: serde_json::Value = serde_json::from_str(&format!("{{\"a\":1{}}}", String::from_utf8(members).unwrap())).unwrap();
            assert_eq!(line["seq"], seq);
            assert_eq!(entry["answer"]["sha256"], salted(&line["salt"], b"[1]"));
            assert!(seen.insert(line["salt"].to_string()));
        }
    }

    #[test]
    fn an_empty_body_is_no_body() {
        let bodies = CapturedBodies {
            body: Some(Box::new(captured(json(None), &[], true))),
            ..CapturedBodies::default()
        };
        assert_eq!(written(bodies), Default::default());
        assert_eq!(written(CapturedBodies::default()), Default::default());
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
