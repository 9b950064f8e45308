//! Reads a password from standard input. It is never an argument, since all processes of a machine can see arguments.

use std::io::{self, IsTerminal as _, Read as _};

use zeroize::Zeroizing;

use crate::admin::accounts::PlainPassword;
use crate::issue::password::MAX_PASSWORD;

use super::failure::{Exit, Failure};
use super::output::Printer;

/// Reads one line. On a terminal, a prompt asks for it.
pub(crate) fn read(printer: &Printer) -> Result<PlainPassword, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        printer.remark("password (it is shown while you type; Ctrl-D ends it):");
    }
    let mut bytes = Zeroizing::new(Vec::new());
    // One byte more than the longest line, so that a longer one is noticed.
    let limit = u64::try_from(MAX_PASSWORD).unwrap_or(u64::MAX).saturating_add(3);
    input
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("standard input cannot be read: {error}")))?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<PlainPassword, Failure> {
    let wrong = || {
        Failure::new(
            Exit::Usage,
            format!("a password is one line of 1 to {MAX_PASSWORD} bytes on standard input"),
        )
    };
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| wrong())?;
    if text.is_empty() || text.len() > MAX_PASSWORD || text.chars().any(char::is_control) {
        return Err(wrong());
    }
    Ok(PlainPassword::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        for (input, password) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("two words\r\n", "two words"),
            ("ü\n", "ü"),
        ] {
            assert_eq!(parse(input.as_bytes()).unwrap().expose(), password);
        }
        assert!(parse("x".repeat(MAX_PASSWORD).as_bytes()).is_ok());
        for bad in ["", "\n", "a\nb", "a\tb", &"x".repeat(MAX_PASSWORD + 1)] {
            assert_eq!(parse(bad.as_bytes()).unwrap_err().exit, Exit::Usage);
        }
        assert!(parse(&[0xff]).is_err());
    }
}
