//! The client of the operator API: HTTP/1.1 over the Unix socket of the gateway, with one connection for each call.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::admin::error;
use crate::base::ids::is_valid_id;

use super::failure::{Exit, Failure};

/// Longer than the gateway takes for an operation, so that its own answer is reported.
const DEADLINE: Duration = Duration::from_secs(40);
/// Largest answer: a page of 1,000 keys is below one megabyte.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Calls the gateway at one socket.
#[derive(Debug, Clone)]
pub(crate) struct OperatorClient {
    socket: PathBuf,
    config: PathBuf,
}

impl OperatorClient {
    /// A client of the gateway that runs with this configuration. Only the socket's path is read, so
    /// that an operator can act while the rest of the file is being edited.
    pub(crate) fn of_config(config: &Path) -> Result<Self, Failure> {
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
        Ok(Self::new(folder.join(socket), config))
    }

    /// A client of the gateway with this socket, found through this configuration file.
    #[must_use]
    pub(crate) fn new(socket: PathBuf, config: &Path) -> Self {
        Self {
            socket,
            config: config.to_owned(),
        }
    }

    /// # Errors
    /// [`Failure`]: the error that the gateway answered, or that no gateway runs.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call("GET", path, Bytes::new())
    }

    /// # Errors
    /// [`Failure`]: the error that the gateway answered, or that no gateway runs.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let mut body = serde_json::to_vec(body).unwrap_or_default();
        if body == b"null" {
            body.clear();
        }
        self.call("POST", path, body.into())
    }

    fn call<T: DeserializeOwned>(&self, method: &str, path: &str, body: Bytes) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::new(Exit::Failed, format!("no runtime: {e}")))?;
        let exchange = async {
            let exchange = exchange(&self.socket, method, path, body);
            let late = || {
                Failure::new(
                    Exit::Unavailable,
                    "the gateway did not answer in time; whether it acted is not known",
                )
            };
            tokio::time::timeout(DEADLINE, exchange)
                .await
                .map_err(|_| late())?
                .map_err(|e| self.explain(&e))
        };
        let (status, body) = runtime.block_on(exchange)?;
        let garbled = || {
            Failure::new(
                Exit::Failed,
                format!(
                    "the gateway at {} gave an answer that this version of durward cannot read",
                    self.socket.display()
                ),
            )
        };
        if (200..300).contains(&status) {
            warn_if_unrecorded(&body);
            return serde_json::from_slice(&body).map_err(|_| garbled());
        }
        let answer: error::ErrorBody = serde_json::from_slice(&body).map_err(|_| garbled())?;
        Err(Failure::of_gateway(answer.error))
    }

    fn explain(&self, error: &CallError) -> Failure {
        let socket = self.socket.display();
        let message = match error {
            CallError::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                format!("the operator socket {socket} belongs to another user: act as the user the gateway runs as")
            }
            CallError::Connect(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                format!(
                    "no gateway answers at {socket}: start one with `durward serve --config {config}`, or give the --config it was started with",
                    config = self.config.display()
                )
            }
            CallError::Connect(error) => format!("the operator socket {socket} cannot be reached: {error}"),
            CallError::Exchange(error) => format!("the gateway at {socket} broke off: {error}; whether it acted is not known"),
        };
        Failure::new(Exit::Unavailable, message)
    }
}

#[derive(Debug)]
enum CallError {
    Connect(io::Error),
    Exchange(Box<dyn std::error::Error + Send + Sync>),
}

async fn exchange(socket: &Path, method: &str, path: &str, body: Bytes) -> Result<(u16, Bytes), CallError> {
    let stream = UnixStream::connect(socket).await.map_err(CallError::Connect)?;
    let exchanged = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "durward")
            .body(Full::new(body))?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
            Ok((status, body))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answered = std::pin::pin!(answered);
        tokio::select! {
            answer = answered.as_mut() => answer,
            ended = connection.as_mut() => {
                ended?;
                answered.await
            }
        }
    };
    exchanged.await.map_err(CallError::Exchange)
}

/// Tells that something was done and is not on the audit trail, whatever the command prints.
fn warn_if_unrecorded(body: &[u8]) {
    #[derive(serde::Deserialize)]
    struct Recorded {
        not_recorded: Option<String>,
    }
    if let Ok(Recorded { not_recorded: Some(why) }) = serde_json::from_slice(body) {
        // When standard error is closed, nobody can read the warning. The gateway has it in its log.
        let _ = writeln!(io::stderr(), "warning: {why}");
    }
}

/// The file as a table, or the number of the first line that is not TOML. The parser's own error would show that line,
/// which may be part of a secret that was pasted into the file.
fn parse(text: &str) -> Result<toml::Table, usize> {
    text.parse().map_err(|_| {
        // The parser reports mistakes in no order, and an open quote makes several.
        let (_, errors) = toml::de::DeTable::parse_recoverable(text);
        let starts = errors.iter().filter_map(|error| Some(error.span()?.start));
        let first = starts.min().unwrap_or(0);
        text.bytes().take(first).filter(|byte| *byte == b'\n').count() + 1
    })
}

/// An id as part of a path: nothing in it can lead elsewhere.
pub(crate) fn path_id(id: &str) -> Result<&str, Failure> {
    if is_valid_id(id) && id != "." && id != ".." {
        return Ok(id);
    }
    Err(Failure::new(
        Exit::Usage,
        "an id has 1 to 128 characters of A-Z a-z 0-9 . _ : -; `list` shows them",
    ))
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
        let Err(failure) = OperatorClient::of_config(&file) else {
            panic!("a client of a broken file")
        };
        assert!(failure.message.contains("gateway.toml:2: "), "{failure}");
        assert!(
            !failure.message.contains("BEGIN") && !failure.message.contains("canary"),
            "{failure}"
        );
    }
}
