//! The process that reads what identity providers send: one for each message, without secrets of the gateway, files or sockets.
//!
//! The gateway starts itself anew as `durward saml-verifier` and writes one job to its standard input. The process confines itself
//! before it reads a byte of the job:
//!
//! * Its environment is empty, and it closes every descriptor but the standard streams.
//! * Landlock takes away every file, and tracing or signalling of other processes; where the kernel knows how, TCP and
//!   abstract Unix sockets too.
//! * It gives up its capabilities, so it cannot raise a limit again.
//! * It may open no descriptor at all (`RLIMIT_NOFILE` of zero), so neither a file nor a socket of any kind.
//! * Its memory and its processor time are bounded, and it is killed at its deadline.
//!
//! What it holds is the message, the provider's certificates, and our decryption key of this one provider. A crash, a kill, a
//! deadline or an answer that cannot be read is a refusal; the next message gets a new process.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::fault::{SamlFault, excerpt};
use super::verifier::{ProbeJob, VerifierAnswer, VerifierJob, answer};

/// The name of the hidden subcommand.
pub const SUBCOMMAND: &str = "saml-verifier";

/// The argument with which the process prepares for decryption.
const DECRYPTING: &str = "--decrypting";

/// Largest job: a message whose quotes are escaped, and eight certificates.
const MAX_JOB: usize = 1024 * 1024;

/// Largest answer; it repeats parts of a message.
const MAX_ANSWER: usize = 1024 * 1024;

/// How long a process may take. Two signatures take a millisecond, and the start of the process a few.
const DEADLINE: Duration = Duration::from_secs(5);

/// Seconds of a processor that a process may use.
const CPU_SECONDS: u64 = 3;

/// Address space of a process beyond what it has at its start. The tree of a message has at most a hundred times its size. What
/// the allocator reserves at the start, a GiB, does not count: the cryptography takes its memory elsewhere.
const MEMORY: u64 = 512 * 1024 * 1024;

/// Processes at a time. They are busy, not waiting, so more would only make each slower.
const PROCESSES: usize = 2;

/// Messages that wait for a process, and how long. A browser that waits longer has given up.
const WAITING: usize = 64;
const WAIT: Duration = Duration::from_secs(3);

/// Starts processes that verify messages. Clones share the bounds.
#[derive(Debug, Clone)]
pub struct SamlVerifier {
    program: PathBuf,
    deadline: Duration,
    processes: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl SamlVerifier {
    /// A verifier that runs `program`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            deadline: DEADLINE,
            processes: Arc::new(Semaphore::new(PROCESSES)),
            waiting: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// A verifier that runs this program again, also after its file was replaced by an update.
    #[must_use]
    pub fn of_this_program() -> Self {
        Self::new(PathBuf::from("/proc/self/exe"))
    }

    /// With another deadline, for tests of it.
    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Has a job done in a process of its own. If the caller breaks off, the process is killed.
    ///
    /// # Errors
    /// The reason for which the message is refused, or why there is no answer.
    pub async fn ask(&self, job: &VerifierJob) -> Result<VerifierAnswer, SamlFault> {
        let text = Zeroizing::new(serde_json::to_vec(job).map_err(|_| failed("the job cannot be written"))?);
        if text.len() > MAX_JOB {
            return Err(SamlFault::TooLarge(super::xml::MAX_MESSAGE));
        }
        let waiting = WaitingMessage::enter(&self.waiting)?;
        let permit = tokio::time::timeout(WAIT, self.processes.acquire()).await;
        drop(waiting);
        let _permit = permit.map_err(|_| SamlFault::VerifierBusy)?.map_err(|_| SamlFault::VerifierBusy)?;
        let answered = tokio::time::timeout(self.deadline, self.run(&text, job.may_decrypt())).await;
        match answered.unwrap_or(Err(SamlFault::VerifierTimeout))? {
            VerifierAnswer::Refused(fault) => Err(fault),
            answer => Ok(answer),
        }
    }

    /// Proves that a process is confined on this system: it tries what it must not be able to do.
    ///
    /// # Errors
    /// What it could do, or why it did not start.
    pub async fn prove_confinement(&self, files: Vec<String>) -> Result<(), SamlFault> {
        let probe = ProbeJob {
            files,
            address: None,
            socket: None,
        };
        match self.ask(&VerifierJob::Probe(probe)).await? {
            VerifierAnswer::Probe(possible) if possible.is_empty() => Ok(()),
            VerifierAnswer::Probe(possible) => Err(SamlFault::NotConfined(possible.join(", "))),
            _ => Err(failed("it answered something else")),
        }
    }

    async fn run(&self, job: &[u8], decrypting: bool) -> Result<VerifierAnswer, SamlFault> {
        let mut child = Command::new(&self.program)
            .arg(SUBCOMMAND)
            .args(decrypting.then_some(DECRYPTING))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A panic would show parts of a message there.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&format!("it does not start: {}", error.kind())))?;
        let answer = converse(&mut child, job).await;
        if answer.is_err() {
            // A process that writes without end would be waited for.
            let _ = child.start_kill();
        }
        let status = child.wait().await.map_err(|_| failed("its end is not known"))?;
        let answer = answer?;
        if !status.success() {
            return Err(failed(&described(status)));
        }
        serde_json::from_slice(&answer).map_err(|_| failed("its answer cannot be read"))
    }
}

/// Writes the job and reads the answer at the same time, so that neither side waits for the other.
async fn converse(child: &mut Child, job: &[u8]) -> Result<Vec<u8>, SamlFault> {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed("it has no pipes"));
    };
    let write = async move {
        // A process that ended early has said why, or its status does.
        let _ = input.write_all(job).await;
        let _ = input.shutdown().await;
    };
    let read = async move {
        let mut answer = Vec::new();
        let bound = u64::try_from(MAX_ANSWER).unwrap_or(u64::MAX).saturating_add(1);
        output
            .take(bound)
            .read_to_end(&mut answer)
            .await
            .map_err(|_| failed("its answer cannot be read"))?;
        if answer.len() > MAX_ANSWER {
            return Err(failed("its answer is too large"));
        }
        Ok(answer)
    };
    let ((), answer) = tokio::join!(write, read);
    answer
}

/// Counts a message that waits for a process.
struct WaitingMessage<'v>(&'v AtomicUsize);

impl<'v> WaitingMessage<'v> {
    fn enter(count: &'v AtomicUsize) -> Result<Self, SamlFault> {
        let entered = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= WAITING {
            return Err(SamlFault::VerifierBusy);
        }
        Ok(entered)
    }
}

impl Drop for WaitingMessage<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn failed(why: &str) -> SamlFault {
    SamlFault::VerifierFailed(why.to_owned())
}

fn described(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with code {code}"),
        (None, Some(signal)) => format!("signal {signal} killed it"),
        (None, None) => "it ended".to_owned(),
    }
}

/// The subcommand: confines the process, reads one job, and writes one answer. It answers whether that was possible. `decrypting`
/// says that the job may need decryption.
///
/// # Errors
/// Nothing can be written.
pub fn run(decrypting: bool) -> std::io::Result<()> {
    let answered = match confine(decrypting) {
        Ok(()) => answer_job(),
        Err(fault) => VerifierAnswer::Refused(fault),
    };
    let text = serde_json::to_vec(&answered).map_err(std::io::Error::other)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}

fn answer_job() -> VerifierAnswer {
    let mut text = Zeroizing::new(Vec::new());
    let bound = u64::try_from(MAX_JOB).unwrap_or(u64::MAX);
    if std::io::stdin().lock().take(bound).read_to_end(&mut text).is_err() {
        return VerifierAnswer::Refused(failed("its job cannot be read"));
    }
    match serde_json::from_slice(&text) {
        Ok(VerifierJob::Probe(probe)) => VerifierAnswer::Probe(attempt(&probe)),
        Ok(job) => answer(&job),
        Err(_) => VerifierAnswer::Refused(failed("its job cannot be read")),
    }
}

/// Takes away from this process what the verification of a message does not need. The process has one thread.
fn confine(decrypting: bool) -> Result<(), SamlFault> {
    let unable = |what: &str| SamlFault::NotConfined(what.to_owned());
    if decrypting {
        // Decryption blinds with random numbers. Their generator opens its sources at its first use, which must lie before the limits.
        // It takes some 40 ms, so a message that needs none does not wait for it.
        aws_lc_rs::rand::fill(&mut [0; 32]).map_err(|_| unable("it has no randomness"))?;
    }
    close_inherited().map_err(|_| unable("descriptors cannot be closed"))?;
    // No core file, no reading of its memory by processes of the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|_| unable("its memory can be read"))?;
    let memory = address_space()
        .ok_or_else(|| unable("its memory cannot be measured"))?
        .saturating_add(MEMORY);
    restrict_by_landlock()?;
    let limits = [
        (Resource::Cpu, CPU_SECONDS),
        (Resource::As, memory),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
        (Resource::Nofile, 0),
    ];
    for (resource, limit) in limits {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        setrlimit(resource, limit).map_err(|_| unable("a limit cannot be set"))?;
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(|_| unable("its capabilities stay"))
}

/// The address space that this process has now, in bytes.
fn address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    size.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Closes what the gateway was started with beyond its standard streams. What durward opens itself is closed at the start of
/// another program anyway.
fn close_inherited() -> std::io::Result<()> {
    let mut inherited = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        inherited.extend(number.filter(|number| *number > 2));
    }
    for number in inherited {
        // One of them was the directory itself, which is closed by now.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// Files and other processes are what this system must be able to forbid; the rest is forbidden as far as the kernel knows it.
/// Without it the process would refuse its job: a process of the same user could read the gateway's memory.
fn restrict_by_landlock() -> Result<(), SamlFault> {
    let unable =
        |error: &dyn std::fmt::Display| SamlFault::NotConfined(format!("Landlock (Linux 5.13 or newer): {}", excerpt(&error.to_string())));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(|error| unable(&error))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V4)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)))
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(|error| unable(&error))?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        return Err(unable(&"it is switched off"));
    }
    Ok(())
}

/// What this process could do of what it must not be able to do.
fn attempt(probe: &ProbeJob) -> Vec<String> {
    let mut possible = Vec::new();
    for file in &probe.files {
        if std::fs::File::open(file).is_ok() || std::fs::metadata(file).is_ok_and(|_| std::fs::read_dir(file).is_ok()) {
            possible.push(format!("open `{}`", excerpt(file)));
        }
    }
    let mut note = |what: &str, done: bool| {
        if done {
            possible.push(what.to_owned());
        }
    };
    note("write a file", std::fs::write("/tmp/durward-saml-verifier", "").is_ok());
    // What changes files without opening them.
    let (folder, link) = ("/tmp/durward-saml-verifier.folder", "/tmp/durward-saml-verifier.link");
    note("make a folder", std::fs::create_dir(folder).is_ok());
    note("make a link", std::os::unix::fs::symlink("/", link).is_ok());
    let _ = std::fs::remove_dir(folder);
    let _ = std::fs::remove_file(link);
    note("have an environment", std::env::vars_os().next().is_some());
    note("open a TCP socket", std::net::TcpListener::bind("127.0.0.1:0").is_ok());
    note("open a UDP socket", std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
    note("open a Unix socket", std::os::unix::net::UnixDatagram::unbound().is_ok());
    note("make a pair of sockets", std::os::unix::net::UnixStream::pair().is_ok());
    if let Some(address) = &probe.address {
        note("connect over TCP", std::net::TcpStream::connect(address).is_ok());
    }
    if let Some(socket) = &probe.socket {
        note(
            "connect to a socket of the file system",
            std::os::unix::net::UnixStream::connect(socket).is_ok(),
        );
    }
    note(
        "start a program",
        std::process::Command::new("/proc/self/exe").arg("--version").spawn().is_ok(),
    );
    let raised = Rlimit {
        current: Some(64),
        maximum: Some(64),
    };
    note("raise its limit of descriptors", setrlimit(Resource::Nofile, raised).is_ok());
    // If it could, this process would be another program now, and there would be no answer.
    let _ = std::os::unix::process::CommandExt::exec(std::process::Command::new("/proc/self/exe").arg("--version"));
    possible
}
