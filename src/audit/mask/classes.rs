//! Classes of bytes. By the classes of its bytes, most texts are known to hold no secret without a closer look.

use std::ops::Range;

use crate::base::text::each;

use super::cards;

/// What ends a run of characters that stand in a JSON string as they are: a quote, a backslash, a control character.
pub(super) const END: u8 = 1;
/// Begins an escape.
pub(super) const ESCAPE: u8 = 2;
pub(super) const DIGIT: u8 = 4;
/// A dot as in tokens, or a dash as around private keys.
pub(super) const MARK: u8 = 8;
/// The first letter of `bearer` and `basic`.
pub(super) const B: u8 = 16;
/// What stands behind these words.
pub(super) const SPACE: u8 = 32;
/// Stands between a name and its value.
pub(super) const ASSIGNMENT: u8 = 64;
/// A character that prefixes of keys are found by.
pub(super) const ANCHOR: u8 = 128;

/// Classes that say of the shortest text that it may hold a secret.
const SUSPECT: u8 = ESCAPE | ASSIGNMENT | ANCHOR;

/// The shortest text with a secret is `pin:1`.
pub(super) const SHORTEST: usize = 5;

/// Fewest characters of a signed token, and of a key of any prefix with a checksum.
pub(super) const SHORTEST_TOKEN: usize = 20;
pub(super) const SHORTEST_CHECKED: usize = 49;

/// Fewest characters of a key after a prefix of four characters or more, and after the name of a scheme.
pub(super) const SHORTEST_KEY: usize = 8;

/// `basic`, a space and a key.
const SHORTEST_SCHEME: usize = 6 + SHORTEST_KEY;

/// The dashes of a private key's frame alone are ten.
const SHORTEST_PRIVATE_KEY: usize = 31;

/// The class of each byte, with the anchors of a configuration.
#[derive(Debug)]
pub(super) struct ByteClasses {
    of: [u8; 256],
    /// The anchors, if they are few. What is not used repeats another one.
    few: Option<[u8; FEW]>,
    anchors: usize,
}

/// Most anchors that are looked for in many bytes at a time. Most configurations have one, the underscore.
const FEW: usize = 3;

/// A character that texts do not have, in the place of an anchor.
const NONE: u8 = 0x7f;

impl Default for ByteClasses {
    fn default() -> Self {
        let mut of = [0; 256];
        for (byte, class) in (0..=u8::MAX).zip(&mut of) {
            *class = class_of(byte, [NONE; FEW]);
        }
        Self {
            of,
            few: Some([NONE; FEW]),
            anchors: 0,
        }
    }
}

impl ByteClasses {
    pub(super) fn add_anchor(&mut self, anchor: u8) {
        if self.anchors == 0 {
            self.of.iter_mut().for_each(|classes| *classes &= !ANCHOR);
        }
        match self.of.get_mut(usize::from(anchor)) {
            Some(classes) if *classes & ANCHOR == 0 => *classes |= ANCHOR,
            _ => return,
        }
        if let Some(few) = &mut self.few {
            match few.get_mut(self.anchors..) {
                Some(free @ [_, ..]) => free.fill(anchor),
                _ => self.few = None,
            }
        }
        self.anchors += 1;
    }

    fn of(&self, byte: u8) -> u8 {
        self.of.get(usize::from(byte)).copied().unwrap_or_default()
    }

    /// The classes of all bytes of a text, with [`END`]s behind them.
    pub(super) fn of_text(&self, text: &str) -> TextClasses {
        let mut classes = vec![END; text.len() + WINDOW];
        self.write(text.as_bytes(), &mut classes);
        TextClasses(classes)
    }

    /// Writes the class of each byte.
    #[inline]
    fn write(&self, text: &[u8], classes: &mut [u8]) {
        let places = classes.iter_mut().zip(text);
        match self.few {
            Some(anchors) => places.for_each(|(class, byte)| *class = class_of(*byte, anchors)),
            None => places.for_each(|(class, byte)| *class = self.of(*byte)),
        }
    }

    /// What a text has.
    pub(super) fn traits_of(&self, text: &str) -> Traits {
        let mut traits = Traits {
            length: text.len(),
            digits: 0,
            seen: 0,
        };
        let (blocks, rest) = text.as_bytes().as_chunks::<BLOCK>();
        for block in blocks {
            let mut classes = [0; BLOCK];
            self.write(block, &mut classes);
            traits.seen |= classes.iter().fold(0, |seen, class| seen | class);
            let digits = classes.iter().fold(0_u8, |digits, class| digits + (class & DIGIT) / DIGIT);
            traits.digits += usize::from(digits);
        }
        for byte in rest {
            let class = self.of(*byte);
            traits.seen |= class;
            traits.digits += usize::from((class & DIGIT) / DIGIT);
        }
        traits
    }
}

/// Bytes that are classed together; a sum of 32 digits fits into a byte.
const BLOCK: usize = 32;

/// The classes of a byte. Without a branch and a table, so that the compiler classes sixteen bytes at a time.
#[inline]
const fn class_of(byte: u8, anchors: [u8; FEW]) -> u8 {
    let [one, two, three] = anchors;
    let lower = byte | 0x20;
    when((byte == b'"') | (byte == b'\\') | (byte < b' '), END)
        | when((byte == b'%') | (byte == b'\\'), ESCAPE)
        | when(byte.wrapping_sub(b'0') < 10, DIGIT)
        | when((byte == b'.') | (byte == b'-'), MARK)
        | when(lower == b'b', B)
        | when((byte == b' ') | (byte == b'+') | (byte == b'\t'), SPACE)
        | when((byte == b':') | (byte == b'=') | (byte == b'>'), ASSIGNMENT)
        | when((byte == one) | (byte == two) | (byte == three), ANCHOR)
}

#[inline]
const fn when(is_of_class: bool, class: u8) -> u8 {
    if is_of_class { class } else { 0 }
}

/// Bytes whose classes are looked at together, as two words.
const WINDOW: usize = 16;

/// The classes of the bytes of one text.
pub(super) struct TextClasses(Vec<u8>);

impl TextClasses {
    #[inline]
    fn window(&self, at: usize) -> [u64; 2] {
        window(&self.0, at).unwrap_or([each(END); 2])
    }

    /// Where a run ends that begins here: at an [`END`] or the end of the text.
    #[inline]
    pub(super) fn run_end(&self, begin: usize) -> usize {
        let mut at = begin;
        loop {
            let [low, high] = self.window(at).map(|word| word & each(END));
            if low != 0 {
                return at + (low.trailing_zeros() / 8) as usize;
            }
            if high != 0 {
                return at + 8 + (high.trailing_zeros() / 8) as usize;
            }
            at += WINDOW;
        }
    }

    /// Whether a part of the text is known to hold no secret, also below escapes, without a closer look.
    #[inline]
    pub(super) fn is_plain(&self, part: Range<usize>) -> bool {
        let length = part.len();
        if length < cards::FEWEST {
            let [low, high] = first(self.window(part.start), length);
            return length < SHORTEST || (low | high) & each(SUSPECT) == 0;
        }
        self.traits_of(part).is_plain()
    }

    fn traits_of(&self, part: Range<usize>) -> Traits {
        let (mut seen, mut digits, mut at) = (0, 0, part.start);
        while at < part.end {
            let [low, high] = first(self.window(at), part.end - at);
            seen |= low | high;
            // Of each byte one bit is moved to its lowest place; the product has their sum in its highest byte.
            let ones = ((low & each(DIGIT)) + (high & each(DIGIT))) / u64::from(DIGIT);
            digits += (ones.wrapping_mul(each(1)) >> 56) as usize;
            at += WINDOW;
        }
        Traits {
            length: part.len(),
            digits,
            seen: seen.to_le_bytes().into_iter().fold(0, |seen, class| seen | class),
        }
    }
}

/// Sixteen bytes from `at` on as two words, if there are as many.
#[inline]
pub(super) fn window(bytes: &[u8], at: usize) -> Option<[u64; 2]> {
    let (words, _) = bytes.get(at..)?.first_chunk::<WINDOW>()?.as_chunks::<8>();
    match words {
        [low, high] => Some([low, high].map(|word| u64::from_le_bytes(*word))),
        _ => None,
    }
}

/// The first bytes of a window, and zeros in place of the others.
#[inline]
pub(super) fn first([low, high]: [u64; 2], count: usize) -> [u64; 2] {
    match FIRST.get(count) {
        Some([kept_low, kept_high]) => [low & kept_low, high & kept_high],
        None => [low, high],
    }
}

/// For each count below sixteen, the bits of so many bytes.
static FIRST: [[u64; 2]; WINDOW] = {
    let mut kept = [[0; 2]; WINDOW];
    let mut count = 1;
    while count < WINDOW {
        kept[count] = if count < 8 {
            [(1 << (8 * count)) - 1, 0]
        } else {
            [u64::MAX, (1 << (8 * (count - 8))) - 1]
        };
        count += 1;
    }
    kept
};

/// What a text has.
pub(super) struct Traits {
    length: usize,
    digits: usize,
    /// The classes of its bytes.
    seen: u8,
}

impl Traits {
    pub(super) const fn have(&self, class: u8) -> bool {
        self.seen & class != 0
    }

    pub(super) const fn may_have_card(&self) -> bool {
        self.digits >= cards::FEWEST
    }

    pub(super) const fn may_have_token(&self) -> bool {
        self.length >= SHORTEST_TOKEN && (self.have(MARK) || self.length >= SHORTEST_CHECKED)
    }

    pub(super) const fn may_have_scheme(&self) -> bool {
        self.length >= SHORTEST_SCHEME && self.have(B) && self.have(SPACE)
    }

    pub(super) const fn may_have_private_key(&self) -> bool {
        self.length >= SHORTEST_PRIVATE_KEY && self.have(MARK)
    }

    /// Whether the text is known to hold no secret, also below escapes.
    pub(super) const fn is_plain(&self) -> bool {
        let is_suspect =
            self.have(SUSPECT) || self.may_have_card() || self.may_have_token() || self.may_have_scheme() || self.may_have_private_key();
        self.length < SHORTEST || !is_suspect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of all classes, and others, in any order.
    fn texts() -> impl Iterator<Item = String> {
        let characters: Vec<char> = "aB\"\\%5.-b +:=>_#\u{e4}\u{4e2d}\t\n\u{7f}0".chars().collect();
        (0..120).map(move |length| {
            let pick = |place: usize| characters[(place * place + 7 * length + place / 3) % characters.len()];
            (0..length).map(pick).collect()
        })
    }

    fn classes(anchors: &[u8]) -> ByteClasses {
        let mut classes = ByteClasses::default();
        anchors.iter().for_each(|anchor| classes.add_anchor(*anchor));
        classes
    }

    #[test]
    fn each_way_to_class_a_text_says_the_same() {
        for anchors in [b"".as_slice(), b"_", b"__#", b"_#B5", b"_a\x7f", b"\x7f"] {
            let classes = classes(anchors);
            for anchor in anchors {
                assert_ne!(classes.of(*anchor) & ANCHOR, 0, "{anchor:#x}");
            }
            for text in texts() {
                let all: Vec<u8> = text.bytes().map(|byte| classes.of(byte)).collect();
                let of_text = classes.of_text(&text);
                assert_eq!(of_text.0.strip_suffix(&[END; WINDOW]), Some(all.as_slice()), "{text:?}");
                let traits = classes.traits_of(&text);
                assert_eq!(traits.seen, all.iter().fold(0, |seen, class| seen | class), "{text:?}");
                assert_eq!(traits.digits, text.bytes().filter(u8::is_ascii_digit).count(), "{text:?}");
            }
        }
    }

    #[test]
    fn a_part_is_judged_as_by_itself() {
        let classes = classes(b"_");
        for text in texts() {
            let of_text = classes.of_text(&text);
            for begin in 0..=text.len() {
                let ends = (begin..text.len()).find(|at| of_text.0[*at] & END != 0);
                assert_eq!(of_text.run_end(begin), ends.unwrap_or(text.len()), "{text:?} from {begin}");
                for end in begin..=text.len() {
                    let Some(part) = text.get(begin..end) else { continue };
                    assert_eq!(of_text.is_plain(begin..end), classes.traits_of(part).is_plain(), "{part:?}");
                }
            }
        }
    }

    #[test]
    fn a_text_of_one_class_is_suspect_from_the_length_on_that_its_secrets_have() {
        let classes = classes(b"_");
        for (character, length) in [
            ("=", 5),
            (":", 5),
            (">", 5),
            ("%", 5),
            ("\\", 5),
            ("_", 5),
            ("1", 13),
            (".", 20),
            ("-", 20),
            ("x", 49),
        ] {
            let is_plain = |length: usize| classes.traits_of(&character.repeat(length)).is_plain();
            assert!((0..length).all(is_plain), "{character}");
            assert!(!(length..200).any(is_plain), "{character}");
        }
        for (text, is_plain) in [
            ("b 2345678901234", false),
            ("B\t2345678901234", false),
            ("b_", true),
            ("b 23456789012", true),
        ] {
            assert_eq!(classes.traits_of(text).is_plain(), is_plain, "{text}");
        }
    }
}
