//! A Redis server of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::wait::{PATIENCE, until};

/// A running `redis-server`. Dropping it kills the process.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// Starts one on a free port and waits until it answers.
    pub(crate) fn start() -> Self {
        // The port is free now; should somebody take it meanwhile, the next one is tried.
        until("a redis-server to start (is it installed?)", PATIENCE, || {
            let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
            let folder = tempfile::tempdir().ok()?;
            Self::launch(port, folder)
        })
    }

    fn launch(port: u16, folder: TempDir) -> Option<Self> {
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "yes",
            ])
            .args(["--appendfsync", "no", "--maxmemory-policy", "noeviction", "--dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let mut redis = Self { child, port, folder };
        until("redis to answer or to end", PATIENCE, || {
            if redis.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            redis.answers().then_some(true)
        })
        .then_some(redis)
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it without notice.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after [`kill`](Self::kill), on the same port and the same files.
    pub(crate) fn start_again(self) -> Self {
        let port = self.port;
        let mut old = self;
        old.kill();
        let folder = std::mem::replace(&mut old.folder, tempfile::tempdir().unwrap());
        drop(old);
        Self::launch(port, folder).expect("redis starts again on its port")
    }

    fn answers(&self) -> bool {
        let client = redis::Client::open(self.url()).unwrap();
        client
            .get_connection_with_timeout(std::time::Duration::from_secs(1))
            .is_ok_and(|mut c| redis::cmd("PING").query::<String>(&mut c).is_ok())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
