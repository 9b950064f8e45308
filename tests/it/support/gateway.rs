//! The real binary as a process: started on ports of its own, told what to do, listened to, ended.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;

use super::site::Site;
use super::wait::{PATIENCE, until};

/// A running gateway. Dropping it kills the process.
pub(crate) struct Gateway {
    child: Child,
    config: PathBuf,
    output: Arc<Mutex<Vec<u8>>>,
    listeners: Vec<(String, SocketAddr)>,
    probes: Option<SocketAddr>,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Answer {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Gateway {
    /// Starts `durward serve` on a site and waits until it is ready.
    pub(crate) fn start(site: &Site) -> Self {
        let mut gateway = Self::spawn(site);
        gateway.wait_ready();
        gateway
    }

    /// Starts it as a service that may have so many descriptors, and waits until it is ready.
    pub(crate) fn start_with_descriptors(site: &Site, soft: u64, hard: u64) -> Self {
        let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &limits, env!("CARGO_BIN_EXE_durward")]);
        let mut gateway = Self::spawn_as(site, shell);
        gateway.wait_ready();
        gateway
    }

    /// Starts it with standard output and standard error going there, and waits until it is ready.
    pub(crate) fn start_writing_to(site: &Site, output: &Path) -> Self {
        let script = format!("exec \"$0\" \"$@\" > '{0}' 2> '{0}'", output.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_durward")]);
        let mut gateway = Self::spawn_as(site, shell);
        gateway.wait_ready();
        gateway
    }

    /// Starts `durward serve` on a site without waiting.
    pub(crate) fn spawn(site: &Site) -> Self {
        Self::spawn_as(site, Command::new(env!("CARGO_BIN_EXE_durward")))
    }

    fn spawn_as(site: &Site, mut command: Command) -> Self {
        let config = site.config();
        let mut child = command
            .args(["serve", "--config"])
            .arg(&config)
            .current_dir(site.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), output.clone());
        collect(child.stderr.take().unwrap(), output.clone());
        Self {
            child,
            config,
            output,
            listeners: Vec::new(),
            probes: None,
        }
    }

    /// Waits until `durward status` says ready, and remembers where it listens.
    pub(crate) fn wait_ready(&mut self) {
        self.wait_status("the gateway to be ready", |status| status["ready"] == Value::Bool(true));
    }

    /// Waits until it listens, ready or not, and remembers where.
    pub(crate) fn wait_listening(&mut self) {
        self.wait_status("the gateway to listen", |_| true);
    }

    fn wait_status(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let status = until(what, PATIENCE, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the gateway ended with {status}:\n{}", String::from_utf8_lossy(&self.output()));
            }
            let answer = run(&self.config, &["status", "--json"], b"");
            let status = (answer.code == 0).then(|| answer.json())?;
            wanted(&status).then_some(status)
        });
        self.listeners = status["listeners"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| {
                (
                    l["name"].as_str().unwrap().to_owned(),
                    l["address"].as_str().unwrap().parse().unwrap(),
                )
            })
            .collect();
        self.probes = status["probes"].as_str().and_then(|a| a.parse().ok());
    }

    /// Where the listener of this name accepts.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        self.listeners
            .iter()
            .find(|(name, _)| name == listener)
            .unwrap_or_else(|| panic!("no listener {listener} in {:?}", self.listeners))
            .1
    }

    /// Where probes and metrics are served.
    pub(crate) fn probes(&self) -> SocketAddr {
        self.probes.expect("a probe address")
    }

    /// Runs a command of the command line against this gateway.
    pub(crate) fn run(&self, args: &[&str]) -> Answer {
        run(&self.config, args, b"")
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let answer = self.run(&all);
        assert_eq!(answer.code, 0, "{args:?}: {answer:?}");
        answer.json()
    }

    /// Makes a key and answers the whole of what was said about it.
    pub(crate) fn create_key(&self, surface: &str, tenant: &str, more: &[&str]) -> Value {
        let mut args = vec!["keys", "create", "--surface", surface, "--tenant", tenant];
        args.extend(more);
        self.json(&args)
    }

    /// Everything it has written so far.
    pub(crate) fn output(&self) -> Vec<u8> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Lets the process write no file beyond this length, from now on; `None` for any length.
    pub(crate) fn limit_files(&self, length: Option<u64>) {
        let limit = Rlimit {
            current: length,
            maximum: None,
        };
        prlimit(Some(self.pid()), Resource::Fsize, limit).unwrap();
    }

    /// Lets the process have so many descriptors, from now on.
    pub(crate) fn limit_descriptors(&self, count: u64) {
        let limit = Rlimit {
            current: Some(count),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    /// Lets the process open nothing more, once what others asked of it is closed.
    pub(crate) fn leave_no_descriptor(&self) {
        let folder = format!("/proc/{}/fd", self.child.id());
        let lowest_free = || {
            let numbers = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
            let open: std::collections::BTreeSet<u64> = numbers.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
            (0..).find(|number| !open.contains(number)).unwrap()
        };
        let (mut lowest, mut seen) = (0, 0);
        let free = until("the descriptors to stay as they are", PATIENCE, || {
            let now = lowest_free();
            seen = if now == lowest { seen + 1 } else { 0 };
            lowest = now;
            (seen == 100).then_some(now)
        });
        self.limit_descriptors(free);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Waits until the process has ended.
    pub(crate) fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        until("the gateway to end", patience, || self.child.try_wait().unwrap())
    }

    /// Whether the process is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Open files and sockets.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Threads.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let tail = output.len().saturating_sub(4_000);
            let _ = std::io::stderr().write_all(&output[tail..]);
        }
    }
}

/// Runs the binary once with this configuration and this standard input.
pub(crate) fn run(config: &Path, args: &[&str], stdin: &[u8]) -> Answer {
    let mut child = Command::new(env!("CARGO_BIN_EXE_durward"))
        .args(args)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input closes the pipe; that is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..n]);
        }
    });
}
