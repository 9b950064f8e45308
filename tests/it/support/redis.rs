//! Real redis-server processes: started on a free port, watched until ready, killed on drop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed, and this says where"
)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Ports to try: another process can take the one that was free a moment ago.
const TRIES: usize = 20;

/// A server of this test's own, without persistence.
pub(crate) struct RedisServer {
    child: Option<Child>,
    port: u16,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
}

impl RedisServer {
    /// Starts a primary.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a replica of another server.
    pub(crate) fn replica_of(primary: &Self) -> Self {
        Self::start_with(&["--replicaof", "127.0.0.1", &primary.port.to_string()])
    }

    /// Starts a server with more settings.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_choosing(|| arguments.iter().map(|&a| a.to_owned()).collect())
    }

    /// Starts a server with settings that are chosen anew for each try, because they hold ports.
    pub(crate) fn start_choosing(mut arguments: impl FnMut() -> Vec<String>) -> Self {
        for _ in 0..TRIES {
            let port = free_port();
            let arguments = arguments();
            let directory = tempfile::tempdir().unwrap();
            if let Some(child) = spawn(port, &arguments, &directory, "no") {
                return Self {
                    child: Some(child),
                    port,
                    arguments,
                    directory,
                };
            }
        }
        panic!("redis-server did not start on any of {TRIES} ports");
    }

    /// Where it listens, on this machine.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs one command on a connection of its own.
    pub(crate) fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap()
    }

    /// Fills the room for marks of what was used once, from this many up to that many. In steps, so that the server answers others meanwhile.
    pub(crate) fn fill_marks(&self, from: u64, to: u64) {
        let text = "for i = tonumber(ARGV[1]) + 1, tonumber(ARGV[2]) do redis.call('HSET', KEYS[1], i, '1') \
                    redis.call('ZADD', KEYS[2], 0, '999999999999999:' .. i) end return redis.call('HSET', KEYS[3], 'marks', ARGV[2])";
        let step = 5_000;
        for begin in (from..to).step_by(step) {
            let (begin, end) = (begin.to_string(), (begin + step as u64).min(to).to_string());
            self.command::<u64>(&["EVAL", text, "3", "{durward}:o", "{durward}:oe", "{durward}:meta", &begin, &end]);
        }
    }

    /// As [`command`](Self::command), of a server that may cut the connection.
    pub(crate) fn try_command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query(&mut connection)
    }

    /// Runs one command with a binary last argument.
    pub(crate) fn command_with_bytes(&self, words: &[&str], last: &[u8]) {
        let mut connection = redis::Client::open(self.url()).unwrap().get_connection().unwrap();
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.arg(last).exec(&mut connection).unwrap();
    }

    /// Stops it as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again, empty, on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let directory = tempfile::tempdir().unwrap();
        self.child = spawn(self.port, &self.arguments, &directory, "no");
        self.directory = directory;
        assert!(self.child.is_some(), "redis-server did not start again on port {}", self.port);
    }

    /// Starts a primary that writes everything down before it answers.
    pub(crate) fn start_durable() -> Self {
        let mut server = Self::start();
        // Not by a command: what is written while the first file is made in the background would go with a kill.
        server.kill();
        server.revive();
        server
    }

    /// Starts it again after [`kill`](Self::kill) with what it had written down.
    pub(crate) fn revive(&mut self) {
        self.child = spawn(self.port, &self.arguments, &self.directory, "yes");
        assert!(self.child.is_some(), "redis-server did not start again on port {}", self.port);
    }

    /// Starts it again after [`kill`](Self::kill) with what `SAVE` wrote down last.
    pub(crate) fn revive_from_snapshot(&mut self) {
        self.child = spawn(self.port, &self.arguments, &self.directory, "no");
        assert!(self.child.is_some(), "redis-server did not start again on port {}", self.port);
    }

    /// Makes it hang: it accepts and never answers.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        signal_to(self.child.as_ref().unwrap(), signal);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process of ours.
pub(crate) fn signal_to(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

/// Starts a process and waits for its own word that it is ready; `None` when it ended instead.
fn spawn(port: u16, arguments: &[String], directory: &tempfile::TempDir, durable: &str) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", durable, "--appendfsync", "always", "--logfile", ""])
        .args(["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"])
        .arg("--dir")
        .arg(directory.path());
    command.args(arguments).arg("--user").args(documented_user());
    spawn_until(command, "Ready to accept connections")
}

/// The line of the documentation that makes the gateway's user, with the words after `user`. Every server here has
/// it, and every gateway of a site is it; tests themselves are the default user.
pub(crate) fn documented_user() -> Vec<&'static str> {
    let text = include_str!("../../../docs/redis.md");
    let line = text
        .lines()
        .find(|line| line.starts_with("user durward "))
        .expect("the documented user");
    line.split_whitespace().skip(1).collect()
}

/// Lines of `[store]` that make a gateway this user, and the file that they name.
pub(crate) fn as_documented_user() -> (&'static str, &'static str, &'static str) {
    let password = documented_user().into_iter().find_map(|word| word.strip_prefix('>'));
    (
        "username = \"durward\"\npassword = \"file:redis-password\"\n",
        "redis-password",
        password.expect("its password"),
    )
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a process and waits for a line of its; `None` when it ended instead.
pub(crate) fn spawn_until(mut command: Command, ready: &str) -> Option<Child> {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => panic!(
            "redis-server cannot be started ({error}): these tests run against real Redis processes; \
             scripts/test installs what they need"
        ),
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains(ready));
    if !ready {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    }
    // The pipe must be emptied, or a talkative server would stand still.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Some(child)
}
