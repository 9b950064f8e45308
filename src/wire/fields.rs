//! A flat, reusable list of header fields over one buffer.

use std::fmt;

/// Most fields in a head (hardening 3.2): what linkerd, Envoy and hyper use; cookie crumbs count.
pub const MAX_FIELDS: usize = 100;

/// Header fields in the order they were received. Names are kept as received; compare them with
/// [`Field::is`]. The list keeps its allocations when cleared, so a connection reuses it.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    name_len: u16,
    value_len: u32,
}

/// One field.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// The name as received.
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
    /// The name only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ..", self.name.escape_ascii())
    }
}

impl Fields {
    /// Forgets the fields, keeps the allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Appends a field. Names longer than 65,535 and values longer than 4 GiB cannot occur below
    /// the 16 KiB head limit; they would be truncated to nothing rather than wrapped.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let (Ok(start), Ok(name_len), Ok(value_len)) = (
            u32::try_from(self.bytes.len()),
            u16::try_from(name.len()),
            u32::try_from(value.len()),
        ) else {
            return;
        };
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.spans.push(Span {
            start,
            name_len,
            value_len,
        });
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of names and values together.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.spans.iter().map(|span| {
            let (start, name_len, value_len) = (span.start as usize, usize::from(span.name_len), span.value_len as usize);
            let (name, rest) = self.bytes[start..].split_at(name_len);
            Field {
                name,
                value: &rest[..value_len],
            }
        })
    }

    /// Values of every field with this lower-case name, in order.
    pub fn all<'a>(&'a self, lower: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter().filter(move |f| f.is(lower)).map(|f| f.value)
    }

    /// The value of the field with this lower-case name, if there is exactly one; `Err` with more.
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

/// A field that may occur once occurred more often.
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
