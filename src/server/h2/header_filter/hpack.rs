//! HPACK (RFC 7541): decodes the header blocks of HTTP/2 in addition to the library that serves the connection.

use std::collections::VecDeque;

use super::huffman;

/// Size of the dynamic table: the default, which the library keeps (RFC 9113, section 6.5.2).
pub(super) const TABLE: usize = 4_096;
/// Bytes that an entry counts in addition to its text (RFC 7541, section 4.1).
pub(super) const OVERHEAD: usize = 32;

/// The static table (RFC 7541, appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The block cannot be read, and the connection's tables are lost (RFC 7541, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidBlock;

/// Whether a field becomes an entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexing {
    Added,
    None,
}

/// One field of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct HpackField<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) indexing: Indexing,
}

/// The client's dynamic table after the blocks that were decoded.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest entry comes first. Each is a name followed by its value, and the length of the name.
    entries: VecDeque<(Box<[u8]>, usize)>,
    size: usize,
    max: usize,
    /// Name and value of the current field. The buffer is reused.
    text: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max: TABLE,
            text: Vec::new(),
        }
    }
}

impl Decoder {
    /// Decodes a block. Calls `update` with each new size of the table, and `each` with every field.
    ///
    /// # Errors
    /// [`InvalidBlock`].
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        mut update: impl FnMut(usize),
        mut each: impl FnMut(HpackField<'_>),
    ) -> Result<(), InvalidBlock> {
        let (mut rest, mut began) = (block, false);
        while let Some(first) = rest.first().copied() {
            if first & 0xe0 == 0x20 {
                let size = take_int(&mut rest, 5)?;
                if began || size > TABLE {
                    return Err(InvalidBlock);
                }
                self.max = size;
                self.evict(0);
                update(size);
                continue;
            }
            began = true;
            if first & 0x80 != 0 {
                let index = take_int(&mut rest, 7)?;
                let (name, value) = self.entry(index)?;
                each(HpackField {
                    name,
                    value,
                    indexing: Indexing::None,
                });
                continue;
            }
            let (indexing, prefix) = if first & 0x40 != 0 {
                (Indexing::Added, 6)
            } else {
                (Indexing::None, 4)
            };
            self.literal(&mut rest, indexing, prefix, &mut each)?;
        }
        Ok(())
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        indexing: Indexing,
        prefix: u32,
        each: &mut impl FnMut(HpackField<'_>),
    ) -> Result<(), InvalidBlock> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        match take_int(rest, prefix)? {
            0 => take_text(rest, &mut text)?,
            index => text.extend_from_slice(self.entry(index)?.0),
        }
        let name_len = text.len();
        take_text(rest, &mut text)?;
        let (name, value) = text.split_at_checked(name_len).ok_or(InvalidBlock)?;
        each(HpackField { name, value, indexing });
        if indexing == Indexing::Added {
            self.add(&text, name_len);
        }
        self.text = text;
        Ok(())
    }

    fn add(&mut self, text: &[u8], name_len: usize) {
        let size = text.len() + OVERHEAD;
        self.evict(size);
        if size <= self.max {
            self.size += size;
            self.entries.push_front((text.into(), name_len));
        }
    }

    /// Evicts the oldest entries until `room` bytes fit (RFC 7541, section 4.4).
    fn evict(&mut self, room: usize) {
        while self.size + room > self.max
            && let Some((text, _)) = self.entries.pop_back()
        {
            self.size -= text.len() + OVERHEAD;
        }
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), InvalidBlock> {
        let index = index.checked_sub(1).ok_or(InvalidBlock)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (text, name_len) = self.entries.get(index - STATIC.len()).ok_or(InvalidBlock)?;
        text.split_at_checked(*name_len).ok_or(InvalidBlock)
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn nth(&self, at: usize) -> (&[u8], &[u8]) {
        self.entry(STATIC.len() + 1 + at).unwrap_or_default()
    }

    /// The newest entries, at most `most` of them, the oldest of these first.
    pub(super) fn newest(&self, most: usize) -> impl Iterator<Item = (&[u8], &[u8])> {
        let newest = self.entries.iter().take(most).rev();
        newest.filter_map(|(text, name_len)| text.split_at_checked(*name_len))
    }
}

/// Reads an integer (RFC 7541, section 5.1) of at most five octets, which is the library's limit.
fn take_int(rest: &mut &[u8], prefix: u32) -> Result<usize, InvalidBlock> {
    let mask = (1_usize << prefix) - 1;
    let (first, mut after) = rest.split_first().ok_or(InvalidBlock)?;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, next) = after.split_first().ok_or(InvalidBlock)?;
            after = next;
            if shift > 21 {
                return Err(InvalidBlock);
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = after;
    Ok(value)
}

/// Appends a string literal (RFC 7541, section 5.2) to `out`.
fn take_text(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), InvalidBlock> {
    let coded = rest.first().ok_or(InvalidBlock)? & 0x80 != 0;
    let length = take_int(rest, 7)?;
    let (text, after) = rest.split_at_checked(length).ok_or(InvalidBlock)?;
    *rest = after;
    if coded {
        return huffman::decode(text, out).ok_or(InvalidBlock);
    }
    out.extend_from_slice(text);
    Ok(())
}

/// Appends an integer with a prefix of `prefix` bits; `flags` has the bits before the prefix.
pub(super) fn push_int(out: &mut Vec<u8>, flags: u8, prefix: u32, value: usize) {
    let mask = (1_usize << prefix) - 1;
    let low = |n: usize| u8::try_from(n & 0xff).unwrap_or(0);
    if value < mask {
        return out.push(flags | low(value));
    }
    out.push(flags | low(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(low(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

/// Appends a new size of the table.
pub(super) fn push_update(out: &mut Vec<u8>, size: usize) {
    push_int(out, 0x20, 5, size);
}

/// Appends a field as a literal.
pub(super) fn push_field(out: &mut Vec<u8>, field: HpackField<'_>) {
    match field.indexing {
        Indexing::Added => push_int(out, 0x40, 6, 0),
        Indexing::None => push_int(out, 0, 4, 0),
    }
    for text in [field.name, field.value] {
        push_int(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, InvalidBlock> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decoder.decode(
            block,
            |_| {},
            |field| fields.push(format!("{}={}", text(field.name), text(field.value))),
        )?;
        Ok(fields)
    }

    #[test]
    fn the_requests_of_the_rfc_are_read() {
        // RFC 7541, appendix C.4: three requests, each with a table that the one before left.
        let mut decoder = Decoder::default();
        let blocks: [&[u8]; 3] = [
            &[
                0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ],
            &[0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf],
            &[
                0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b,
                0xb8, 0xe8, 0xb4, 0xbf,
            ],
        ];
        let wanted = [
            vec![":method=GET", ":scheme=http", ":path=/", ":authority=www.example.com"],
            vec![
                ":method=GET",
                ":scheme=http",
                ":path=/",
                ":authority=www.example.com",
                "cache-control=no-cache",
            ],
            vec![
                ":method=GET",
                ":scheme=https",
                ":path=/index.html",
                ":authority=www.example.com",
                "custom-key=custom-value",
            ],
        ];
        for (block, wanted) in blocks.into_iter().zip(wanted) {
            assert_eq!(read(&mut decoder, block).unwrap(), wanted);
        }
        assert_eq!((decoder.entries.len(), decoder.size), (3, 164));
    }

    #[test]
    fn what_is_written_is_read_and_the_table_forgets_the_oldest() {
        let mut decoder = Decoder::default();
        let long = "v".repeat(1_000);
        for n in 0..10 {
            let (mut block, name) = (Vec::new(), format!("x-{n}"));
            let field = |indexing| HpackField {
                name: name.as_bytes(),
                value: long.as_bytes(),
                indexing,
            };
            push_field(&mut block, field(Indexing::Added));
            push_field(&mut block, field(Indexing::None));
            assert_eq!(read(&mut decoder, &block).unwrap(), vec![format!("{name}={long}"); 2]);
        }
        assert_eq!(
            decoder.newest(9).map(|(name, _)| name).collect::<Vec<_>>(),
            [b"x-7", b"x-8", b"x-9"]
        );
        let mut block = Vec::new();
        push_update(&mut block, 1_500);
        assert_eq!(read(&mut decoder, &block), Ok(vec![]));
        assert_eq!(decoder.entries.len(), 1);
    }

    #[test]
    fn what_is_no_block_is_told() {
        for block in [
            &[0x80][..],
            &[0xbe],
            &[0x3f, 0xe2, 0x1f],
            &[0x82, 0x20],
            &[0x40],
            &[0x40, 0x01],
            &[0x00, 0x05, b'a'],
            &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            &[0x00, 0x81, 0x00, 0x00],
        ] {
            assert_eq!(read(&mut Decoder::default(), block), Err(InvalidBlock), "{block:x?}");
        }
    }
}
