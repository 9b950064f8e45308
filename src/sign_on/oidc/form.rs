//! Names and values of a query or a form, read so that no name can have two values.

use crate::base::percent;

/// Most pairs. Providers send a handful.
const MAX_PAIRS: usize = 64;

/// The pairs of a query or a form.
pub(super) struct FormPairs(Vec<(String, String)>);

/// A text that is none, or says one thing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FormFault;

impl FormPairs {
    /// Reads at most `max_len` bytes of `application/x-www-form-urlencoded`.
    pub(super) fn parse(text: &[u8], max_len: usize) -> Result<Self, FormFault> {
        if text.len() > max_len {
            return Err(FormFault);
        }
        let text = std::str::from_utf8(text).map_err(|_| FormFault)?;
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_PAIRS {
                return Err(FormFault);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The value of a name; an empty value counts as missing (RFC 6749, section 3.1). A name that stands there twice is refused.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, FormFault> {
        let mut values = self.0.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(FormFault);
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    /// Whether a pair has this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }
}

fn decode(text: &str) -> Result<String, FormFault> {
    percent::decode(&text.replace('+', " ")).ok_or(FormFault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, name: &str) -> Result<Option<String>, FormFault> {
        FormPairs::parse(text.as_bytes(), 100)?
            .one(name)
            .map(|value| value.map(str::to_owned))
    }

    #[test]
    fn a_name_has_one_value_or_none() {
        assert_eq!(one("a=1&b=%26%3D+%2B", "b"), Ok(Some("&= +".to_owned())));
        assert_eq!(one("a=&b", "a"), Ok(None));
        assert_eq!(one("a=1&a=1", "a"), Err(FormFault));
        assert_eq!(one("a=1&%61=2", "a"), Err(FormFault), "in another spelling");
        assert_eq!(one("a=1&x=1&x=2", "a"), Ok(Some("1".to_owned())), "what nobody asks for");
        for bad in ["a=%", "a=%zz", "a=%ff", &"x".repeat(101), &"a&".repeat(65)] {
            assert!(FormPairs::parse(bad.as_bytes(), 200).is_err() || bad.len() == 101, "{bad}");
        }
        assert!(FormPairs::parse(&[b'x'; 101], 100).is_err());
        assert!(FormPairs::parse(b"a=\xff", 100).is_err());
    }
}
