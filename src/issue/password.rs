//! Hashes passwords with Argon2id, outside the workers and with bounded memory. An unknown account costs the same
//! work as a known one.

use std::net::IpAddr;
use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use crate::snapshot::HashingLimits;

use super::hash_queue::{FairQueue, Flow, QueueFull, QueuePermit};
use crate::base::network::ClientNetwork;

/// Memory of one hash in KiB, passes and lanes: the OWASP password storage recommendation for
/// Argon2id (19 MiB, 2, 1), the largest memory of its table that needs one lane only.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Largest cost that a stored hash may ask for. Imported hashes may cost more than ours; without a bound one record
/// could use up the machine.
const MAX_MEMORY_KIB: u32 = 128 * 1024;
const MAX_PASSES: u32 = 10;
/// Random bytes of a salt (RFC 9106, section 3.1 recommends 16).
const SALT_LEN: usize = 16;
/// Longest password in bytes: a text of 200 words. A longer one only makes hashing slower.
pub const MAX_PASSWORD: usize = 1024;

/// Why a password could not be checked or hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many passwords are being hashed.
    #[error("too many passwords are being checked")]
    Busy,
    /// The password is empty or longer than 1,024 bytes.
    #[error("a password has 1 to 1024 bytes")]
    Length,
    /// The stored hash is no Argon2 hash, or its cost is above the bounds.
    #[error("the stored password hash cannot be used")]
    Hash,
    /// The system has no randomness, or no thread for the hash.
    #[error("the password could not be hashed")]
    System,
}

/// Hashes a password into a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$…`). It takes about 20 ms of one core and 19
/// MiB, so never call it on a worker; see [`Passwords::acquire`].
///
/// # Errors
/// [`PasswordError::Length`], [`PasswordError::System`].
pub fn hash_password(password: &str) -> Result<Zeroizing<String>, PasswordError> {
    check_length(password)?;
    let mut salt = [0_u8; SALT_LEN];
    rand::fill(&mut salt).map_err(|_| PasswordError::System)?;
    let hash = hasher()?
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|_| PasswordError::System)?;
    Ok(Zeroizing::new(hash.to_string()))
}

/// Whether a password matches a PHC string. The cost is that of the stored hash.
///
/// # Errors
/// [`PasswordError::Hash`]. A password that is too long is a wrong one.
pub fn verify_password(phc: &str, password: &str) -> Result<bool, PasswordError> {
    let hash = Phc::new(phc).map_err(|_| PasswordError::Hash)?;
    let params = Params::try_from(&hash).map_err(|_| PasswordError::Hash)?;
    let is_argon2 = matches!(hash.algorithm.as_str(), "argon2id" | "argon2i" | "argon2d");
    if !is_argon2 || params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
        return Err(PasswordError::Hash);
    }
    if check_length(password).is_err() {
        return Ok(false);
    }
    match hasher()?.verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(PasswordError::Hash),
    }
}

/// The queues in front of password hashing: they bound the hashes at a time and the waiters, share both fairly among
/// networks, and keep the work off the workers' threads. Sign-ups have a queue of their own, because anybody may sign
/// up and must not keep others from logging in. Clones share the queues.
#[derive(Debug, Clone)]
pub struct Passwords {
    runtime: Handle,
    log_in: FairQueue,
    sign_up: FairQueue,
}

/// The caller for whom a password is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requester {
    /// A logged-in caller, or one who logs in from a network that is known for the account.
    Known,
    /// Any other caller who logs in.
    LogIn,
    SignUp,
}

/// Allows one hash. When it is dropped, the next waiter gets it.
#[derive(Debug)]
pub struct HashPermit {
    runtime: Handle,
    permit: QueuePermit,
}

impl Passwords {
    /// Queues with these limits. The hashes run on the blocking threads of `runtime`.
    #[must_use]
    pub fn new(runtime: Handle, log_in: HashingLimits, sign_up: HashingLimits) -> Self {
        let queue = |places: HashingLimits| FairQueue::new(places.at_once, places.waiting);
        Self {
            runtime,
            log_in: queue(log_in),
            sign_up: queue(sign_up),
        }
    }

    /// Waits for a permit to hash. Cancel-safe: a caller that leaves gives the permit back.
    ///
    /// # Errors
    /// [`PasswordError::Busy`], at once or when a caller with a better claim takes the room in the queue.
    pub async fn acquire(&self, requester: Requester, address: IpAddr) -> Result<HashPermit, PasswordError> {
        let network = ClientNetwork::of(address);
        let (queue, flow) = match requester {
            Requester::Known => (&self.log_in, Flow::Known(network)),
            Requester::LogIn => (&self.log_in, Flow::Stranger(network)),
            Requester::SignUp => (&self.sign_up, Flow::Stranger(network)),
        };
        let permit = queue.enter(flow).await.map_err(|QueueFull| PasswordError::Busy)?;
        Ok(HashPermit {
            runtime: self.runtime.clone(),
            permit,
        })
    }
}

impl HashPermit {
    /// Hashes a new password. Cancel-safe: a hash that has begun ends in the background, and its result is dropped.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(self, password: Zeroizing<String>) -> Result<Zeroizing<String>, PasswordError> {
        self.run(move || hash_password(&password)).await
    }

    /// Whether a password matches this hash. Without a hash, because there is no such account, the same work is done
    /// and the answer is no. Cancel-safe.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn verify(self, hash: Option<Zeroizing<String>>, password: Zeroizing<String>) -> Result<bool, PasswordError> {
        self.run(move || match &hash {
            Some(hash) => verify_password(hash, &password),
            None => verify_password(dummy_hash()?, &password).map(|_| false),
        })
        .await
    }

    async fn run<T: Send + 'static>(self, work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static) -> Result<T, PasswordError> {
        let Self { runtime, permit } = self;
        let hashing = runtime.spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        hashing.await.map_err(|_| PasswordError::System)?
    }
}

fn check_length(password: &str) -> Result<(), PasswordError> {
    if (1..=MAX_PASSWORD).contains(&password.len()) {
        Ok(())
    } else {
        Err(PasswordError::Length)
    }
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::System)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The hash of a random password, made once. Passwords of unknown accounts are compared with it.
fn dummy_hash() -> Result<&'static str, PasswordError> {
    static DUMMY: LazyLock<Option<Zeroizing<String>>> = LazyLock::new(|| {
        let mut unknown = Zeroizing::new([0_u8; 32]);
        rand::fill(unknown.as_mut_slice()).ok()?;
        let text: Zeroizing<String> = Zeroizing::new(unknown.iter().map(|b| char::from(b'a' + b % 26)).collect());
        hash_password(&text).ok()
    });
    DUMMY.as_deref().map(String::as_str).ok_or(PasswordError::System)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(password: &str) -> Zeroizing<String> {
        Zeroizing::new(password.to_owned())
    }

    #[test]
    fn a_password_verifies_against_its_own_hash_and_no_other() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", &hash[..30]);
        assert_eq!(verify_password(&hash, "correct horse"), Ok(true));
        assert_eq!(verify_password(&hash, "correct horsf"), Ok(false));
        assert_ne!(*hash, *hash_password("correct horse").unwrap(), "each has its own salt");
    }

    #[test]
    fn a_hash_that_is_none_or_too_dear_is_refused_before_any_work() {
        for bad in [
            "",
            "secret",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQxMjM0NTY$YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE",
            "$argon2id$v=19$m=19456,t=9999,p=1$c29tZXNhbHQxMjM0NTY$YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE",
        ] {
            assert_eq!(verify_password(bad, "x"), Err(PasswordError::Hash), "{bad}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(hash_password("").unwrap_err(), PasswordError::Length);
        assert_eq!(hash_password(&"x".repeat(1025)).unwrap_err(), PasswordError::Length);
        assert_eq!(verify_password(dummy_hash().unwrap(), &"x".repeat(1025)), Ok(false));
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ONE: HashingLimits = HashingLimits { at_once: 1, waiting: 2 };

    #[tokio::test]
    async fn an_unknown_account_costs_the_same_work_and_is_never_right() {
        let passwords = Passwords::new(Handle::current(), ONE, ONE);
        let place = || async { passwords.acquire(Requester::LogIn, HERE).await.unwrap() };
        assert_eq!(place().await.verify(None, text("guess")).await, Ok(false));
        let hash = place().await.hash(text("mine")).await.unwrap();
        assert_eq!(place().await.verify(Some(hash.clone()), text("mine")).await, Ok(true));
        assert_eq!(place().await.verify(Some(hash), text("yours")).await, Ok(false));
    }

    #[tokio::test]
    async fn sign_ups_take_no_place_of_a_log_in() {
        let passwords = Passwords::new(Handle::current(), ONE, ONE);
        let held = passwords.acquire(Requester::SignUp, HERE).await.unwrap();
        let waits = tokio::spawn({
            let passwords = passwords.clone();
            async move { passwords.acquire(Requester::SignUp, HERE).await.is_ok() }
        });
        while passwords.sign_up.waiting() < 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(passwords.acquire(Requester::SignUp, HERE).await.unwrap_err(), PasswordError::Busy);
        assert!(passwords.acquire(Requester::LogIn, HERE).await.is_ok(), "at once");
        drop(held);
        assert!(waits.await.unwrap(), "places come free again");
    }
}
