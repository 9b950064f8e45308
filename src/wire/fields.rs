//! A flat, reusable list of header fields over one buffer.

use std::fmt;

/// Most fields in a head, as in linkerd, Envoy and hyper. Pieces of a cookie count.
pub const MAX_FIELDS: usize = 100;

/// Header fields in the order in which they were received. Names are kept as received; compare them with [`Field::is`].
/// The list keeps its allocations when cleared, so a connection reuses it.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    spans: Vec<FieldSpan>,
    text: usize,
}

/// Where one field lies in the buffer.
#[derive(Clone, Copy)]
pub(super) struct FieldSpan {
    pub(super) name_start: u32,
    pub(super) name_len: u32,
    pub(super) value_start: u32,
    pub(super) value_len: u32,
}

#[derive(Clone, Copy)]
pub struct Field<'a> {
    pub name: &'a [u8],
    /// The value without surrounding white space.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether the name is this one; `lower` must be lower case.
    #[must_use]
    pub fn is(&self, lower: &str) -> bool {
        self.name.eq_ignore_ascii_case(lower.as_bytes())
    }
}

impl fmt::Debug for Field<'_> {
    /// Writes the name only, since values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ..", self.name.escape_ascii())
    }
}

impl Fields {
    /// Removes the fields and keeps the allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.text = 0;
    }

    /// Appends a field. A list of more than 4 GiB cannot occur below the limits of heads and trailers. A field that
    /// would exceed 4 GiB is left out.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let (Ok(name_start), Ok(name_len), Ok(value_len), Ok(_)) = (
            u32::try_from(self.bytes.len()),
            u32::try_from(name.len()),
            u32::try_from(value.len()),
            u32::try_from(self.bytes.len().saturating_add(name.len()).saturating_add(value.len())),
        ) else {
            return;
        };
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.text += name.len() + value.len();
        self.spans.push(FieldSpan {
            name_start,
            name_len,
            value_start: name_start + name_len,
            value_len,
        });
    }

    /// Replaces the list by a block of field lines, copied in one piece. [`Self::push_span`] then says where the fields
    /// are in the block.
    pub(super) fn load_block(&mut self, block: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(block);
    }

    /// Adds a field of the block. A span outside the block reads as empty.
    pub(super) fn push_span(&mut self, span: FieldSpan) {
        self.text += span.name_len as usize + span.value_len as usize;
        self.spans.push(span);
    }

    /// Keeps the fields for which `keep` returns true, in their order, without moving a byte.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let mut spans = std::mem::take(&mut self.spans);
        spans.retain(|span| {
            let kept = keep(self.field(*span));
            if !kept {
                self.text -= span.name_len as usize + span.value_len as usize;
            }
            kept
        });
        self.spans = spans;
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of names and values together.
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        self.text
    }

    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Field<'_>> + Clone {
        self.spans.iter().map(|span| self.field(*span))
    }

    /// The field with this index.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<Field<'_>> {
        self.spans.get(index).map(|span| self.field(*span))
    }

    /// The fields in order. Each comes with its line as `Name: value\r\n`, if it was received in this form and can be
    /// copied in one piece.
    pub fn lines(&self) -> impl Iterator<Item = (Field<'_>, Option<&[u8]>)> {
        self.spans.iter().map(|span| {
            let (start, colon) = (span.name_start as usize, (span.name_start + span.name_len) as usize);
            let (value, end) = (span.value_start as usize, (span.value_start + span.value_len) as usize);
            let usual = self.bytes.get(colon..value) == Some(b": ") && self.bytes.get(end..end + 2) == Some(b"\r\n");
            (self.field(*span), if usual { self.bytes.get(start..end + 2) } else { None })
        })
    }

    fn field(&self, span: FieldSpan) -> Field<'_> {
        let slice = |start: u32, len: u32| {
            let start = start as usize;
            self.bytes.get(start..start + len as usize).unwrap_or_default()
        };
        Field {
            name: slice(span.name_start, span.name_len),
            value: slice(span.value_start, span.value_len),
        }
    }

    /// Values of every field with this lower-case name, in order.
    pub fn all<'a>(&'a self, lower: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter().filter(move |f| f.is(lower)).map(|f| f.value)
    }

    /// The value of the field with this lower-case name, `None` if it does not occur.
    ///
    /// # Errors
    /// [`Repeated`] when the field occurs more than once.
    pub fn one<'a>(&'a self, lower: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut found = None;
        for field in self.iter().filter(|f| f.is(lower)) {
            if found.replace(field.value).is_some() {
                return Err(Repeated);
            }
        }
        Ok(found)
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A field that may occur only once occurred more often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the field occurs more than once")]
pub struct Repeated;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_order_and_find_regardless_of_case() {
        let mut fields = Fields::default();
        for (n, v) in [("Host", "a"), ("X-A", "1"), ("x-a", "2")] {
            fields.push(n.as_bytes(), v.as_bytes());
        }
        assert_eq!(fields.one("host"), Ok(Some(b"a".as_slice())));
        assert_eq!(fields.one("x-a"), Err(Repeated));
        assert_eq!(fields.one("x-b"), Ok(None));
        assert_eq!(fields.all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
    }

    #[test]
    fn debug_shows_no_values() {
        let mut fields = Fields::default();
        fields.push(b"Authorization", b"canary");
        assert!(!format!("{fields:?}").contains("canary"));
    }
}
