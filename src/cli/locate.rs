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
    let table: toml::Table = text.parse().map_err(|error| wrong(format!("{}: {error}", config.display())))?;
    let socket = table
        .get("admin")
        .and_then(|admin| admin.get("socket"))
        .map_or(Some("state/admin.sock"), toml::Value::as_str);
    let socket = socket.ok_or_else(|| wrong(format!("{}: admin.socket is not a text", config.display())))?;
    let folder = config.parent().unwrap_or_else(|| Path::new(""));
    Ok(Client::new(folder.join(socket), config))
}
