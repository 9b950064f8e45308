//! Names of members, parameters and fields: which say that their value is secret, and which a pattern means.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

use super::classes::{first, window};

/// Words that make a name secret wherever they stand in it.
const WORDS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "secrets",
    "authorization",
    "cvv",
    "cvv2",
    "cvc",
    "cvc2",
    "csc",
    "jwt",
];

/// Words that make a name secret if they are its last word: `token`, but not `token_type`.
const LAST_WORDS: [&str; 9] = [
    "token",
    "pin",
    "otp",
    "totp",
    "cookie",
    "bearer",
    "credentials",
    "tokenvalue",
    "pincode",
];

/// Two words that make a name secret where they follow each other.
const PAIRS: [[&str; 2]; 8] = [
    ["api", "key"],
    ["private", "key"],
    ["access", "key"],
    ["signing", "key"],
    ["encryption", "key"],
    ["token", "value"],
    ["pin", "code"],
    ["pin", "number"],
];

/// Beginnings of a folded name's rest that make it secret, for names whose words are not told apart (`newpassword`).
const PARTS: [&str; 7] = ["password", "passwd", "passphrase", "privatekey", "secret", "apikey", "accesskey"];

/// Whole folded names that are secret, though their words are not told apart. Those of SAML 2.0 (bindings, sections 3.4 to 3.6) hold
/// assertions, what names a person or a session in a log-out, and what an assertion is fetched by.
const WHOLE: [&str; 9] = [
    "cardpin",
    "newpin",
    "oldpin",
    "userpin",
    "securitycode",
    "cardverificationvalue",
    "samlresponse",
    "samlrequest",
    "samlart",
];

/// Letters of which a secret name has all of one set. Few other names have, so few names are looked at closely.
const LETTERS: [u32; 16] = [
    letters(b"pas"),
    letters(b"pwd"),
    letters(b"secrt"),
    letters(b"authoriz"),
    letters(b"cv"),
    letters(b"cs"),
    letters(b"jwt"),
    letters(b"token"),
    letters(b"pin"),
    letters(b"otp"),
    letters(b"cokie"),
    letters(b"bear"),
    letters(b"crednt"),
    letters(b"key"),
    letters(b"securityod"),
    letters(b"samlr"),
];

/// The set of the letters of a name.
const fn letters(name: &[u8]) -> u32 {
    let (mut set, mut at) = (0, 0);
    while at < name.len() {
        let letter = name[at] | 0x20;
        if letter.is_ascii_lowercase() {
            set |= 1 << (letter - b'a');
        }
        at += 1;
    }
    set
}

/// Longest name that is folded without an allocation.
const SHORT: usize = 64;

/// The letters and digits of a name, in lower case: what all spellings of a name have in common.
fn folded(name: &str) -> String {
    name.bytes()
        .filter(|byte| !is_separator(*byte))
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect()
}

const fn is_separator(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric() && byte < 0x80
}

/// Whether two names differ only in spelling: `card_number`, `cardNumber`, `Card-Number`.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let letters = |name| {
        let kept = |byte: &u8| !is_separator(*byte);
        str::bytes(name).filter(kept).map(|byte: u8| byte.to_ascii_lowercase())
    };
    letters(one).eq(letters(other))
}

/// The name of something that carries a credential in this configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CarrierName {
    /// See [`folded`].
    folded: String,
    letters: u32,
}

impl CarrierName {
    pub(super) fn of(name: &str) -> Self {
        Self {
            folded: folded(name),
            letters: letters(name.as_bytes()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.folded.is_empty()
    }
}

/// Whether the value of a member of this name is masked whatever it is. `more` are further names.
pub(super) fn is_secret(name: &str, more: &[CarrierName]) -> bool {
    let own = letters(name.as_bytes());
    // All are compared, since the compiler compares several at a time then.
    let has_letters = LETTERS.iter().fold(false, |found, needed| found | (own & needed == *needed));
    if !has_letters && !more.iter().any(|known| own == known.letters) {
        return false;
    }
    let mut stack = [0; SHORT];
    let mut heap = Vec::new();
    let room = if name.len() <= SHORT {
        stack.as_mut_slice()
    } else {
        heap.resize(name.len(), 0);
        heap.as_mut_slice()
    };
    let fold = Folded::of(name.as_bytes(), room);
    fold.is_secret || fold.names(more)
}

/// A name without its separators, in lower case.
struct Folded<'n> {
    text: &'n [u8],
    is_secret: bool,
}

impl<'n> Folded<'n> {
    fn of(name: &[u8], room: &'n mut [u8]) -> Self {
        let (mut length, mut word_at, mut before_at) = (0, 0, 0);
        let mut is_secret = false;
        let mut end_word = |room: &[u8], word_at: usize, before_at: usize, length: usize| {
            let word = room.get(word_at..length).unwrap_or_default();
            let before = room.get(before_at..word_at).unwrap_or_default();
            is_secret |= WORDS.iter().any(|known| known.as_bytes() == word)
                || PAIRS
                    .iter()
                    .any(|[first, second]| first.as_bytes() == before && second.as_bytes() == word);
        };
        for (at, byte) in name.iter().enumerate() {
            let after = |step: usize| name.get(at + step).copied().unwrap_or_default();
            let before = at.checked_sub(1).and_then(|at| name.get(at)).copied().unwrap_or_default();
            // `cardPin`, and the `C` of `PINCode`.
            let begins = byte.is_ascii_uppercase() && (!before.is_ascii_uppercase() || after(1).is_ascii_lowercase());
            if (begins || is_separator(*byte)) && length > word_at {
                end_word(room, word_at, before_at, length);
                (before_at, word_at) = (word_at, length);
            }
            if !is_separator(*byte)
                && let Some(place) = room.get_mut(length)
            {
                *place = byte.to_ascii_lowercase();
                length += 1;
            }
        }
        end_word(room, word_at, before_at, length);
        let room: &'n [u8] = room;
        let text = room.get(..length).unwrap_or_default();
        let last = text.get(word_at..).unwrap_or_default();
        let last = last.strip_suffix(b"s").unwrap_or(last);
        is_secret |= LAST_WORDS
            .iter()
            .any(|known| known.strip_suffix('s').unwrap_or(known).as_bytes() == last)
            || text.ends_with(b"token")
            || WHOLE.iter().any(|known| known.as_bytes() == text)
            || has_part(text);
        Self { text, is_secret }
    }

    fn names(&self, known: &[CarrierName]) -> bool {
        known.iter().any(|name| name.folded.as_bytes() == self.text)
    }
}

fn has_part(text: &[u8]) -> bool {
    text.iter().enumerate().any(|(at, byte)| {
        // All parts begin with one of these letters, which saves most of the comparisons.
        matches!(byte, b'p' | b's' | b'a') && {
            let rest = text.get(at..).unwrap_or_default();
            PARTS.iter().any(|part| rest.starts_with(part.as_bytes())) && !rest.starts_with(b"secretar")
        }
    })
}

/// The names of the members that a value stands in, the outermost first. Lists have no part in it.
#[derive(Default)]
pub(super) struct MemberPath<'t>(Vec<Cow<'t, str>>);

impl<'t> MemberPath<'t> {
    pub(super) fn push(&mut self, name: Cow<'t, str>) {
        self.0.push(name);
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    pub(super) fn last(&self) -> Option<&str> {
        self.0.last().map(|name| &**name)
    }

    /// Whether the path ends as a pattern says: names with dots between, where `*` is any name. Names are the same in
    /// all spellings. A name with dots or brackets counts as several.
    pub(super) fn ends_with(&self, pattern: &str) -> bool {
        let mut names = self.0.iter().rev().flat_map(|name| parts(name));
        let mut wanted = pattern.rsplit('.');
        wanted.all(|part| names.next().is_some_and(|name| part == ANY || is_same(part, name)))
    }
}

/// The part of a pattern that any name is meant by.
const ANY: &str = "*";

/// The names that a name with dots or brackets counts as, the innermost first.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.rsplit(['.', '[', ']']).filter(|part| !part.is_empty())
}

fn last_part(pattern: &str) -> &str {
    pattern.rsplit('.').next().unwrap_or_default()
}

/// Whether a pattern may mean members of any name.
pub(super) fn is_open(pattern: &str) -> bool {
    last_part(pattern) == ANY
}

/// Whether a path with this name at its end may end as a pattern says that is not [open](is_open).
pub(super) fn may_end_with(name: &str, pattern: &str) -> bool {
    parts(name).next().is_none_or(|part| is_same(last_part(pattern), part))
}

/// Names that are remembered at most. Another one takes the place of one that it shares its slot with.
const SLOTS: usize = 64;

/// The bytes of a name with zeros behind them. No name in JSON has zeros of its own, without escapes.
type PaddedName = [u64; 2];

/// Names of members that were looked at and need no second look: nothing in them is masked, and neither are their values,
/// unless an open pattern says so. Each is remembered by all of its bytes, up to sixteen.
#[derive(Debug)]
pub(super) struct PlainNames([Cell<PaddedName>; SLOTS]);

impl Default for PlainNames {
    fn default() -> Self {
        Self([const { Cell::new([0; 2]) }; SLOTS])
    }
}

impl PlainNames {
    /// Whether the name that stands in a part of a text is one of them, by memory or by a look.
    #[inline]
    pub(super) fn have(&self, text: &[u8], name: Range<usize>, look: impl FnOnce() -> bool) -> bool {
        let length = name.len();
        let Some(window) = window(text, name.start).filter(|_| length > 0 && length <= 2 * size_of::<u64>()) else {
            return false;
        };
        let padded = first(window, length);
        let [low, high] = padded;
        // The upper bits of a product depend on all bits of its factors.
        let mixed = (low ^ high.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let Some(slot) = self.0.get((mixed >> 58) as usize) else {
            return false;
        };
        if slot.get() == padded {
            return true;
        }
        let is_plain = look();
        if is_plain {
            slot.set(padded);
        }
        is_plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_secret_in_every_spelling_and_their_twins_are_not() {
        for name in [
            "password",
            "Password",
            "PASSWORD",
            "newPassword",
            "new-password",
            "new_password",
            "newpassword",
            "user.password",
            "passwordConfirmation",
            "passwd",
            "pwd",
            "secret",
            "clientSecret",
            "client_secret",
            "clientsecret",
            "token",
            "access_token",
            "accessToken",
            "refresh_token",
            "id_token",
            "accesstoken",
            "tokens",
            "api_key",
            "apiKey",
            "API-Key",
            "x-api-key",
            "apikey",
            "authorization",
            "Authorization",
            "cvv",
            "CVC",
            "cardCvc",
            "card_cvv2",
            "pin",
            "PIN",
            "cardPin",
            "cardPIN",
            "PINCode",
            "pin_code",
            "private_key",
            "privateKey",
            "PrivateKey",
            "otp",
            "set-cookie",
            "card[pin]",
            "SAMLResponse",
            "samlResponse",
            "SAMLRequest",
            "saml_request",
            "SAMLart",
        ] {
            assert!(is_secret(name, &[]), "{name}");
        }
        for name in [
            "",
            "a",
            "name",
            "shipping",
            "spin",
            "pinned",
            "opinion",
            "secretary",
            "token_type",
            "tokenType",
            "max_tokens_used",
            "monkey",
            "key",
            "keyboard",
            "passport",
            "compass",
            "author",
            "cookies_accepted",
            "card_number",
            "SAMLEncoding",
            "RelayState",
            "code",
            "state",
            "\u{e4}\u{f6}",
            "-",
            "....",
        ] {
            assert!(!is_secret(name, &[]), "{name}");
        }
        let long = format!("{}Password", "x".repeat(500));
        assert!(is_secret(&long, &[]));
        assert!(!is_secret(&"x".repeat(500), &[]));
        assert!(is_secret("X-Portal-Session", &[CarrierName::of("x_portal_session")]));
        assert!(!is_secret("X-Portal", &[CarrierName::of("x_portal_session")]));
    }

    #[test]
    fn a_pattern_names_the_end_of_a_path() {
        let ends = |path: &[&'static str], pattern: &str| {
            let mut names = MemberPath::default();
            path.iter().for_each(|name| names.push(Cow::Borrowed(name)));
            names.ends_with(pattern)
        };
        assert!(ends(&["ssn"], "ssn"));
        assert!(ends(&["a", "b", "ssn"], "ssn"));
        assert!(ends(&["a", "cardHolder"], "card_holder"));
        assert!(ends(&["x", "card", "name"], "card.*"));
        assert!(ends(&["card[name]"], "card.name"));
        assert!(ends(&["card.name"], "card.*"));
        assert!(!ends(&["card"], "card.*"));
        assert!(!ends(&["card", "a", "b"], "card.*"));
        assert!(!ends(&["ssn", "b"], "ssn"));
        assert!(!ends(&["ssnx"], "ssn"));
        assert!(!ends(&[], "ssn"));
    }
}
