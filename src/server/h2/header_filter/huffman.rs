//! The Huffman code of header blocks (RFC 7541, appendix B). It is canonical: the lengths of its codes determine them.

/// Bits of the code of each octet.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10,
    10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6,
    7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23,
    21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27,
    26,
];
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// The codes of one length.
#[derive(Clone, Copy)]
struct HuffmanRow {
    /// The first code, left-aligned in 32 bits.
    first: u64,
    /// The code after the last one, in the same form.
    end: u64,
    /// Where the octets of this length begin in [`OCTETS`].
    at: usize,
}

/// Octets by the length of their codes, then by value: the order of the codes.
const OCTETS: [u8; 256] = {
    let (mut octets, mut n, mut length) = ([0_u8; 256], 0, SHORTEST);
    while length <= LONGEST {
        let mut octet = 0_u8;
        loop {
            if LENGTHS[octet as usize] as usize == length {
                octets[n] = octet;
                n += 1;
            }
            if octet == u8::MAX {
                break;
            }
            octet += 1;
        }
        length += 1;
    }
    octets
};

const ROWS: [HuffmanRow; LONGEST + 1] = {
    let mut rows = [HuffmanRow { first: 0, end: 0, at: 0 }; LONGEST + 1];
    let (mut code, mut at, mut length) = (0_u64, 0, SHORTEST);
    while length <= LONGEST {
        code <<= 1;
        if length == SHORTEST {
            code = 0;
        }
        let (mut count, mut octet) = (0, 0);
        while octet < 256 {
            count += (LENGTHS[octet] as usize == length) as usize;
            octet += 1;
        }
        rows[length] = HuffmanRow {
            first: code << (32 - length),
            end: (code + count as u64) << (32 - length),
            at,
        };
        code += count as u64;
        at += count;
        length += 1;
    }
    rows
};

/// Bits by which [`SHORT`] is indexed. The codes of letters, digits and nearly all marks of a head have at most as many.
const SHORT_BITS: usize = 8;

/// The octet whose code these bits begin with, and the length of the code. The length is 0 if the code is longer.
const SHORT: [(u8, u8); 1 << SHORT_BITS] = {
    let (mut short, mut at, mut n) = ([(0, 0); 1 << SHORT_BITS], 0, 0);
    // In the order of the codes each code fills the places that begin with it.
    while LENGTHS[OCTETS[n] as usize] as usize <= SHORT_BITS {
        let length = LENGTHS[OCTETS[n] as usize];
        let end = at + (1 << (SHORT_BITS - length as usize));
        while at < end {
            short[at] = (OCTETS[n], length);
            at += 1;
        }
        n += 1;
    }
    short
};

/// Appends the decoded text; `None` if `coded` is not valid (RFC 7541, section 5.2).
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut word, mut bits, mut rest) = (0_u64, 0_usize, coded.iter());
    loop {
        while bits <= 56 {
            let Some(byte) = rest.next() else { break };
            word |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        let (octet, short) = SHORT.get((word >> (64 - SHORT_BITS)) as usize).copied().unwrap_or_default();
        if short != 0 && usize::from(short) <= bits {
            out.push(octet);
            word <<= short;
            bits -= usize::from(short);
            continue;
        }
        let window = word >> 32;
        let found = (SHORTEST..=LONGEST.min(bits)).find_map(|length| {
            let row = ROWS.get(length)?;
            (window >= row.first && window < row.end).then_some((length, row))
        });
        let Some((length, row)) = found else {
            // The rest must be padding: fewer than eight bits, all of them ones.
            let ones = bits < 8 && (word >> 56) as u8 | (0xff >> bits) == 0xff;
            return (bits == 0 || ones).then_some(());
        };
        let nth = (window - row.first) >> (32 - length);
        out.push(*OCTETS.get(row.at + usize::try_from(nth).ok()?)?);
        word <<= length;
        bits -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(coded: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(coded, &mut out)?;
        Some(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7541, appendix C.4 and C.6.
        for (coded, says) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
            (&[], ""),
        ] {
            assert_eq!(text(coded).as_deref(), Some(says));
        }
    }

    #[test]
    fn a_wrong_end_is_no_text() {
        for coded in [
            &[0x00][..],
            &[0xff],
            &[0xff, 0xff, 0xff, 0xff],
            &[0xf1, 0xff, 0xff],
            &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xb8],
        ] {
            assert_eq!(text(coded), None, "{coded:x?}");
        }
    }

    /// Every octet, with each octet that has a short code before and after it, in all alignments.
    #[test]
    fn every_octet_is_read_wherever_its_code_begins() {
        let code = |octet: u8| {
            let (length, place) = (
                usize::from(LENGTHS[usize::from(octet)]),
                OCTETS.iter().position(|o| *o == octet).unwrap(),
            );
            let nth = (place - ROWS[length].at) as u64;
            ((ROWS[length].first >> (32 - length)) + nth, length)
        };
        for octet in 0..=u8::MAX {
            for before in 0..8 {
                let clear = [vec![b'a'; before], vec![octet, b'b', octet]].concat();
                let bits: String = clear
                    .iter()
                    .map(|o| code(*o))
                    .map(|(code, length)| format!("{code:0length$b}"))
                    .collect();
                let padded = format!("{bits}{}", "1".repeat(bits.len().next_multiple_of(8) - bits.len()));
                let coded: Vec<u8> = padded
                    .as_bytes()
                    .chunks(8)
                    .map(|eight| eight.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0')))
                    .collect();
                let mut out = Vec::new();
                assert_eq!((decode(&coded, &mut out), out), (Some(()), clear));
            }
        }
    }

    #[test]
    fn every_octet_has_its_code() {
        let code = |octet: usize| {
            let length = usize::from(LENGTHS[octet]);
            let nth = OCTETS.iter().position(|o| usize::from(*o) == octet).unwrap() - ROWS[length].at;
            (ROWS[length].first >> (32 - length)) + nth as u64
        };
        assert_eq!(
            [code(b'0'.into()), code(b'a'.into()), code(b' '.into()), code(b'X'.into())],
            [0, 3, 0x14, 0xfc]
        );
        assert_eq!(
            [code(0), code(9), code(10), code(22), code(255)],
            [0x1ff8, 0xff_ffea, 0x3fff_fffc, 0x3fff_fffe, 0x3ff_ffee]
        );
    }
}
