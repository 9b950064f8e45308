//! References to secrets: configuration says where a secret is, never what it is.

use super::reader::RawEntry;
use super::schema::ValueKind;

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Reference {
    File(String),
    /// A file that `durward serve` creates when it is not there.
    Generate(String),
    Variable(String),
    /// Written in the configuration: only for URLs without a password.
    Public(String),
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{path}"),
            Self::Generate(path) => write!(f, "generate:{path}"),
            Self::Variable(name) => write!(f, "env:{name}"),
            Self::Public(_) => f.write_str("url"),
        }
    }
}

/// The text is not a reference; it may be a secret, so it is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a secret reference")]
pub struct NotAReference;

const HELP: &str = "write `file:<path>`, `env:<VARIABLE>` or `generate:<path>` (a file made on the first start); \
                    if this was a real secret, replace it: it has been in a configuration file";

impl Reference {
    /// Reads `file:…`, `env:…` or `generate:…`.
    ///
    /// # Errors
    /// [`NotAReference`] for everything else.
    pub fn parse(text: &str) -> Result<Self, NotAReference> {
        if is_pasted(text) {
            return Err(NotAReference);
        }
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.to_owned())),
            Some(("generate", path)) if !path.is_empty() => Ok(Self::Generate(path.to_owned())),
            Some(("env", name)) if is_variable(name) => Ok(Self::Variable(name.to_owned())),
            _ => Err(NotAReference),
        }
    }

    /// Reads a reference, or where the key takes one, a URL without a password. A literal is reported.
    pub(super) fn read(entry: &RawEntry<'_>) -> Option<Self> {
        let text = entry.text()?;
        if let Ok(reference) = Self::parse(text) {
            return Some(reference);
        }
        if matches!(entry.key.kind, ValueKind::Url) && is_public_url(text) {
            return Some(Self::Public(text.to_owned()));
        }
        let message = format!("`{}` must be a reference, not the secret itself", entry.key.name);
        entry.error(message, HELP.to_owned())
    }
}

/// Whether this is the contents of a file where its path belongs: no path has these.
#[must_use]
pub(super) fn is_pasted(text: &str) -> bool {
    text.contains("-----BEGIN ") || text.contains(['\n', '\r'])
}

/// Schemes of a store's address: Redis' own, and what Valkey calls the same.
pub(super) const STORE_SCHEMES: [(&str, &str); 4] = [
    ("redis://", "redis://"),
    ("rediss://", "rediss://"),
    ("valkey://", "redis://"),
    ("valkeys://", "rediss://"),
];

/// Whether a text can only be the address of a store, without a password: a URL, or `host:port`.
fn is_public_url(text: &str) -> bool {
    if text.contains('@') {
        return false;
    }
    STORE_SCHEMES.iter().any(|(scheme, _)| text.starts_with(scheme)) || is_host_and_port(text)
}

/// `host:port`, an IPv6 address in brackets. Without a port it could be any word, a secret too.
#[must_use]
pub(super) fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let is_address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = (1..=253).contains(&host.len()) && host.bytes().all(plain);
    (is_name || is_address) && !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_password_may_be_written_down() {
        for good in [
            "redis://h",
            "rediss://h:1/0",
            "valkey://h",
            "valkeys://h:6380",
            "h:6379",
            "10.0.0.7:6379",
            "[::1]:6379",
        ] {
            assert!(is_public_url(good), "{good}");
        }
        for bad in [
            "redis://u:p@h",
            "valkey://u:p@h",
            "u:p@h:6379",
            "hunter2",
            "hunter2:x",
            "h:0",
            "h:+1",
            "::1:6379",
            "http://h",
            ":1",
        ] {
            assert!(!is_public_url(bad), "{bad}");
        }
    }

    #[test]
    fn references_are_read_and_literals_are_not() {
        assert_eq!(Reference::parse("file:a/b"), Ok(Reference::File("a/b".into())));
        assert_eq!(Reference::parse("env:A_1"), Ok(Reference::Variable("A_1".into())));
        assert_eq!(Reference::parse("generate:s"), Ok(Reference::Generate("s".into())));
        for bad in [
            "",
            "file:",
            "env:",
            "env:A-B",
            "env:1A",
            "hunter2",
            "http://x",
            "File:a",
            "file:-----BEGIN PRIVATE KEY-----",
            "file:a\nb",
        ] {
            assert_eq!(Reference::parse(bad), Err(NotAReference), "{bad}");
        }
    }
}
