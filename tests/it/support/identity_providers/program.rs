//! A program that writes `port N` when it listens, and ends when its standard input does: so it ends with the test, however that ends.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// One that runs. Dropping it kills it.
pub(super) struct Program {
    child: Child,
    /// Where it listens on this machine, over plain HTTP.
    pub(super) port: u16,
}

impl Program {
    /// Starts it; what it complains about goes to this file, and is shown if it does not start.
    pub(super) fn start(mut command: Command, complaints: &Path) -> Self {
        let log = std::fs::File::create(complaints).unwrap();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}. `scripts/test tests` installs it"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.strip_prefix("port ")?.trim().parse().ok());
        let Some(port) = port else {
            let _ = child.wait();
            let complaints = std::fs::read_to_string(complaints).unwrap_or_default();
            panic!("{command:?} did not start:\n{complaints}");
        };
        // What it writes later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `scripts/test` installs what is not of Debian.
pub(super) fn installed(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("tools/identity-providers").join(name)
}

/// A program of this folder.
pub(super) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/support/identity_providers/programs")
        .join(name)
}
