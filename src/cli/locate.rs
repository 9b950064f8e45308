//! Finds the running gateway through its configuration file.

use std::path::Path;

use super::client::Client;
use super::failure::{Exit, Failure};

/// A client of the gateway that runs with this configuration. Only the socket's path is read, so
/// that an operator can act while the rest of the file is being edited.
pub(crate) fn client(config: &Path) -> Result<Client, Failure> {
    let wrong = |why: String| Failure::new(Exit::Configuration, why);
    let text = std::fs::read_to_string(config).map_err(|error| {
        wrong(format!(
            "the configuration {} cannot be read ({error}): give the gateway's with --config FILE",
            config.display()
        ))
    })?;
    let table = parse(&text).map_err(|line| wrong(format!("{}:{line}: this is not TOML: see `durward check`", config.display())))?;
    let socket = table
        .get("admin")
        .and_then(|admin| admin.get("socket"))
        .map_or(Some("state/admin.sock"), toml::Value::as_str);
    let socket = socket.ok_or_else(|| wrong(format!("{}: admin.socket is not a text", config.display())))?;
    let folder = config.parent().unwrap_or_else(|| Path::new(""));
    Ok(Client::new(folder.join(socket), config))
}

/// The file as a table, or the number of the line that is not TOML. The parser's own error would show that line, which may
/// be part of a secret that was pasted into the file.
fn parse(text: &str) -> Result<toml::Table, usize> {
    text.parse().map_err(|error: toml::de::Error| {
        let end = error.span().map_or(0, |span| span.start);
        text.bytes().take(end).filter(|byte| *byte == b'\n').count() + 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_toml_is_told_by_its_line_without_the_text_of_the_line() {
        assert!(parse("[admin]\nsocket = \"a.sock\"\n").is_ok_and(|table| table.contains_key("admin")));
        for (text, line) in [("= 1\n", 1), ("a = 1\ncanary+4711/\n", 2), ("key = \"canary\n4711\"\n", 1)] {
            assert_eq!(parse(text), Err(line), "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, "[tls]\nkey = -----BEGIN PRIVATE KEY-----\ncanary+4711/\n").unwrap();
        let Err(failure) = client(&file) else {
            panic!("a client of a broken file")
        };
        assert!(failure.message.contains("gateway.toml:2: "), "{failure}");
        assert!(
            !failure.message.contains("BEGIN") && !failure.message.contains("canary"),
            "{failure}"
        );
    }
}
