//! The process that verifies SAML messages: it can reach nothing, and when it dies, one message is refused and the next one is not.

use std::fs::File;
use std::future::Future;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use durward::base::clock::UnixMillis;
use durward::sign_on::fault::FaultSide;
use durward::sign_on::provider::{EncryptionDemand, SignedPart};
use durward::sign_on::saml::child::SUBCOMMAND;
use durward::sign_on::saml::sample::{SampleProvider, SampleResponse};
use durward::sign_on::saml::verifier::{JobKeys, ProbeJob, ResponseJob, VerifierAnswer, VerifierJob, verify_response};
use durward::sign_on::saml::{SamlFault, SamlVerifier};
use tempfile::TempDir;

use crate::support::wait::{PATIENCE, until};

const NOW: UnixMillis = UnixMillis(1_795_950_000_000);

/// Short against what a test waits, long against what a healthy process needs.
const SOON: Duration = Duration::from_millis(300);

pub(super) fn provider() -> &'static SampleProvider {
    static PROVIDER: OnceLock<SampleProvider> = OnceLock::new();
    PROVIDER.get_or_init(|| SampleProvider::new(NOW))
}

pub(super) fn durward() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_durward"))
}

fn response_job(message: String) -> ResponseJob {
    ResponseJob {
        message,
        keys: JobKeys::new(&[provider().certificate()], NOW),
        signed: SignedPart::Either,
        encryption: EncryptionDemand::Optional,
        decryption_key: None,
    }
}

fn right_job() -> VerifierJob {
    VerifierJob::Response(response_job(SampleResponse::new(NOW).with_signed_assertion(provider())))
}

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

fn is_verified(answer: &Result<VerifierAnswer, SamlFault>) -> bool {
    matches!(answer, Ok(VerifierAnswer::Response(claims)) if claims.assertion.name_id.value == "ada@corp.example")
}

/// A program that stands where the verifier stands.
fn program(folder: &TempDir, body: &str) -> PathBuf {
    let path = folder.path().join("verifier");
    let draft = folder.path().join("draft");
    std::fs::write(&draft, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(draft, &path).unwrap();
    path
}

/// Whether this process, which is not confined, can do what the other one must not be able to do.
fn reaches(path: &Path, address: &str, socket: &Path) -> bool {
    File::open(path).is_ok() && std::net::TcpStream::connect(address).is_ok() && UnixStream::connect(socket).is_ok()
}

#[test]
fn it_reaches_no_file_and_no_socket() {
    let folder = TempDir::new().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "secret").unwrap();
    let socket = folder.path().join("store.sock");
    let _socket = UnixListener::bind(&socket).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert!(reaches(&pepper, &address, &socket));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let probe = ProbeJob {
        files: vec![
            text(&pepper),
            text(folder.path()),
            "/etc/passwd".to_owned(),
            "/proc/self/environ".to_owned(),
            "/proc/1/environ".to_owned(),
            "/dev/null".to_owned(),
            "/".to_owned(),
        ],
        address: Some(address),
        socket: Some(text(&socket)),
    };
    let answer = block_on(SamlVerifier::new(durward()).ask(&VerifierJob::Probe(probe)));
    let VerifierAnswer::Probe(possible) = answer.unwrap() else {
        panic!("no answer to the probe")
    };
    assert_eq!(possible, Vec::<String>::new());
    block_on(SamlVerifier::new(durward()).prove_confinement(vec![text(&pepper)])).unwrap();
}

#[test]
fn it_closes_what_the_gateway_was_started_with() {
    let (mut read, write) = std::io::pipe().unwrap();
    // A descriptor that a supervisor left open, and that a child inherits.
    rustix::io::fcntl_setfd(&write, rustix::io::FdFlags::empty()).unwrap();
    let mut child = Command::new(durward())
        .arg(SUBCOMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(write);
    // The end comes while the process still waits for its job, so it has closed its copy.
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(read.read_to_end(&mut Vec::new())));
    let closed = ended.recv_timeout(PATIENCE).is_ok();
    assert!(child.try_wait().unwrap().is_none());
    drop(child.stdin.take());
    assert!(closed);
    assert!(child.wait().unwrap().success());
}

#[test]
fn it_says_what_the_function_says() {
    let verifier = SamlVerifier::new(durward());
    let right = SampleResponse::new(NOW).signed_twice(provider());
    let VerifierAnswer::Response(claims) = block_on(verifier.ask(&VerifierJob::Response(response_job(right.clone())))).unwrap() else {
        panic!("another answer")
    };
    assert_eq!(*claims, verify_response(&response_job(right.clone())).unwrap());
    let wrong = right.replacen("ada@", "bob@", 1);
    let refused = block_on(verifier.ask(&VerifierJob::Response(response_job(wrong)))).unwrap_err();
    assert_eq!(refused, SamlFault::SignatureWrong);
    let document = VerifierJob::Metadata {
        document: provider().metadata(),
    };
    assert!(matches!(block_on(verifier.ask(&document)), Ok(VerifierAnswer::Metadata(_))));
}

#[test]
fn a_message_larger_than_any_job_is_refused_before_a_process_starts() {
    let huge = VerifierJob::Response(response_job("a".repeat(10 * 1024 * 1024)));
    let outcome = block_on(SamlVerifier::new(PathBuf::from("/nonexistent")).ask(&huge));
    assert_eq!(outcome.unwrap_err().label(), "saml_too_large");
    let absent = block_on(SamlVerifier::new(PathBuf::from("/nonexistent")).ask(&right_job()));
    assert_eq!(absent.unwrap_err().label(), "saml_verifier_failed");
}

/// Each way to fail: the message is refused, and the next one, which gets a healthy process, is verified.
#[test]
fn a_process_that_fails_refuses_its_message_and_no_other() {
    let cases = [
        ("kill -9 $$", "saml_verifier_failed"),
        ("kill -SEGV $$", "saml_verifier_failed"),
        ("exit 3", "saml_verifier_failed"),
        ("exit 0", "saml_verifier_failed"),
        ("echo garbage", "saml_verifier_failed"),
        (r#"echo '{"response":{}}'"#, "saml_verifier_failed"),
        (r#"echo '{"response":'; exit 0"#, "saml_verifier_failed"),
        ("exec cat /dev/zero", "saml_verifier_failed"),
        ("exec sleep 600", "saml_verifier_timeout"),
        ("while :; do :; done", "saml_verifier_timeout"),
        ("exec sleep 600 <&- >&-", "saml_verifier_timeout"),
    ];
    for (body, expected) in cases {
        let folder = TempDir::new().unwrap();
        let once = format!(
            "if mkdir {0}/failed; then\n{body}\nelse\nexec {1} {SUBCOMMAND}\nfi",
            folder.path().display(),
            durward().display()
        );
        let verifier = SamlVerifier::new(program(&folder, &once));
        let patience = if expected == "saml_verifier_timeout" { SOON } else { PATIENCE };
        let failed = block_on(verifier.clone().with_deadline(patience).ask(&right_job()));
        let fault = failed.unwrap_err();
        assert_eq!(fault.label(), expected, "{body}");
        assert!(fault.side() == FaultSide::Unavailable);
        let next = block_on(verifier.with_deadline(PATIENCE).ask(&right_job()));
        assert!(is_verified(&next), "after {body}: {next:?}");
    }
}

#[test]
fn only_a_process_whose_message_may_be_encrypted_prepares_for_decryption() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("arguments");
    let verifier = SamlVerifier::new(program(&folder, &format!("echo \"$@\" > {}; exit 3", file.display())));
    let arguments = |message: String| {
        let job = ResponseJob {
            decryption_key: Some("a key".to_owned()),
            ..response_job(message)
        };
        let answered = block_on(verifier.clone().with_deadline(PATIENCE).ask(&VerifierJob::Response(job)));
        assert_eq!(answered.unwrap_err().label(), "saml_verifier_failed");
        std::fs::read_to_string(&file).unwrap()
    };
    let plain = SampleResponse::new(NOW).with_signed_assertion(provider());
    assert_eq!(arguments(plain.clone()), format!("{SUBCOMMAND}\n"));
    let encrypted = plain.replace("saml:Assertion", "saml:EncryptedAssertion");
    assert_ne!(encrypted, plain);
    assert_eq!(arguments(encrypted), format!("{SUBCOMMAND} --decrypting\n"));
}

#[test]
fn a_process_is_killed_when_nobody_waits_for_it() {
    let folder = TempDir::new().unwrap();
    let pid_file = folder.path().join("pid");
    let script = program(
        &folder,
        &format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600", pid_file.display()),
    );
    let verifier = SamlVerifier::new(script).with_deadline(PATIENCE);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let task = runtime.spawn(async move { verifier.ask(&right_job()).await.is_ok() });
    let pid = until("its process", PATIENCE, || {
        std::fs::read_to_string(&pid_file).ok().filter(|pid| !pid.trim().is_empty())
    });
    let alive = || {
        // A zombie is gone. Its state tells, and not its command line, which is empty during `exec` too.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X']))
    };
    assert!(alive());
    task.abort();
    until("its end", PATIENCE, || (!alive()).then_some(()));
}

#[test]
fn messages_wait_in_a_bounded_queue() {
    let verifier = SamlVerifier::new(durward()).with_deadline(PATIENCE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let jobs = (0..6).map(|_| async { is_verified(&verifier.ask(&right_job()).await) });
        let all: Vec<bool> = futures_util::future::join_all(jobs).await;
        assert!(all.iter().all(|verified| *verified));
        let folder = TempDir::new().unwrap();
        let hung = SamlVerifier::new(program(&folder, "exec sleep 600")).with_deadline(SOON);
        let flood = (0..100).map(|_| async { hung.ask(&right_job()).await.unwrap_err() });
        let faults: Vec<SamlFault> = futures_util::future::join_all(flood).await;
        let busy = faults.iter().filter(|fault| **fault == SamlFault::VerifierBusy).count();
        let timeouts = faults.iter().filter(|fault| **fault == SamlFault::VerifierTimeout).count();
        assert_eq!(busy + timeouts, 100);
        assert!(busy >= 100 - 64 - 2, "{busy}");
    });
}

#[test]
fn no_help_mentions_it_and_a_job_that_cannot_be_read_is_refused() {
    let help = Command::new(durward()).arg("--help").output().unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains(SUBCOMMAND));
    let answered = Command::new(durward()).arg(SUBCOMMAND).stdin(Stdio::null()).output().unwrap();
    assert!(answered.status.success());
    assert!(String::from_utf8(answered.stdout).unwrap().contains("refused"));
}
