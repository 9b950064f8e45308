//! Signed checkpoints of a trail: the size and the root of its tree at one time, as a C2SP `tlog-checkpoint` in a C2SP
//! `signed-note` with an Ed25519 signature. Whoever has one can prove later what stood in the trail before it.
//!
//! A file of checkpoints (`trail-….checkpoints`) has each of them followed by an empty line; [`notes`] reads it.

use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::tree::Hash;
use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;

/// Longest checkpoint that is read. Ours have less than 700 bytes; cosignatures of witnesses (at most 16) have room.
pub const MAX_CHECKPOINT: usize = 16 * 1024;

/// Most signatures of a checkpoint: C2SP `signed-note` demands that at least so many are accepted.
const MAX_SIGNATURES: usize = 16;

/// What the lines of signatures begin with.
const SIGNATURE: &str = "\u{2014} ";

/// The type of Ed25519 keys in C2SP `signed-note`.
const ED25519_TYPE: u8 = 1;

const KEY_ID_LEN: usize = 4;
const PUBLIC_KEY_LEN: usize = 32;

/// The extension line with the time of the signature.
const TIME: &str = "time ";

/// The origin of the checkpoints of a gateway, which is also the name of its key.
#[must_use]
pub fn origin_of(gateway: &GatewayId) -> String {
    format!("{ORIGIN_PREFIX}{gateway}")
}

const ORIGIN_PREFIX: &str = "durward.audit/";

/// The gateway that an origin names.
#[must_use]
pub fn gateway_of(origin: &str) -> Option<GatewayId> {
    GatewayId::parse(origin.strip_prefix(ORIGIN_PREFIX)?).ok()
}

/// The file with the signing key of the trail in a directory.
#[must_use]
pub fn signing_key_of(directory: &Path) -> PathBuf {
    beside(directory, ".key")
}

/// The file with the verifier key of the trail in a directory.
#[must_use]
pub fn public_key_of(directory: &Path) -> PathBuf {
    beside(directory, ".pub")
}

fn beside(directory: &Path, ending: &str) -> PathBuf {
    // Without a slash at its end.
    let mut path = directory.components().collect::<PathBuf>().into_os_string();
    path.push(ending);
    PathBuf::from(path)
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    /// How many entries the tree has.
    pub size: u64,
    pub root: Hash,
    /// When it was signed, by the clock of whoever signed it.
    pub time: Option<UnixMillis>,
}

/// Why a text is no checkpoint of a trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCheckpoint {
    #[error("it is not a signed note")]
    NotANote,
    #[error("it is not a checkpoint")]
    NotACheckpoint,
    #[error("it is of another trail")]
    OtherOrigin,
    #[error("it has no signature of this key")]
    NotSigned,
    #[error("its signature is wrong")]
    WrongSignature,
}

/// Why the key of a trail cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("`{0}` cannot be read or made: {1}")]
    Io(PathBuf, #[source] io::Error),
    #[error("`{0}` is not an Ed25519 key in PKCS#8 (PEM)")]
    NotAKey(PathBuf),
    #[error("`{0}` can be read by others than its owner; run: chmod 600 `{0}`")]
    Open(PathBuf),
    #[error("`{0}` is not a verifier key")]
    NotAVerifierKey(PathBuf),
    #[error(
        "the signing key `{key}` of this trail is missing, but `{public}` is there; restore the key, or move the directory, `{public}` and what is left of the trail away to begin another trail"
    )]
    Missing { key: PathBuf, public: PathBuf },
    #[error(
        "`{public}` is the verifier key `{found}`, and the key beside it makes `{expected}`; the trail belongs to another gateway or to another key"
    )]
    Differs { public: PathBuf, found: String, expected: String },
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// Signs the checkpoints of one trail.
pub struct CheckpointSigner {
    pair: Ed25519KeyPair,
    verifier: CheckpointVerifier,
}

impl fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointSigner")
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}

impl CheckpointSigner {
    /// Reads the key at `path`, or makes it where neither it nor its public half is there. The public half stands beside it, with
    /// the ending `pub`.
    ///
    /// # Errors
    /// When the files cannot be read or made, do not belong together, or belong to another origin.
    pub fn open_or_create(path: &Path, origin: &str) -> Result<Self, KeyError> {
        let public = path.with_extension("pub");
        let pem = match read_key(path) {
            Err(KeyError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                if public.exists() {
                    return Err(KeyError::Missing {
                        key: path.to_owned(),
                        public,
                    });
                }
                let made = generate()?;
                create(path, made.as_bytes(), 0o600)?;
                made
            }
            read => read?,
        };
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotAKey(path.to_owned()))?;
        let pair = Ed25519KeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| KeyError::NotAKey(path.to_owned()))?;
        let verifier = CheckpointVerifier::new(origin, pair.public_key().as_ref()).ok_or_else(|| KeyError::NotAKey(path.to_owned()))?;
        let expected = verifier.to_string();
        match std::fs::read_to_string(&public) {
            Ok(found) if found.trim_end() == expected => {}
            Ok(found) => {
                return Err(KeyError::Differs {
                    public,
                    found: found.trim_end().chars().take(MAX_CHECKPOINT).collect(),
                    expected,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&public, format!("{expected}\n").as_bytes(), 0o644)?,
            Err(error) => return Err(KeyError::Io(public, error)),
        }
        Ok(Self { pair, verifier })
    }

    /// The checkpoint of a tree. Whatever it covers must be on the disk before it is handed out: a checkpoint that the trail
    /// does not reach after a crash looks like tampering.
    #[must_use]
    pub fn sign(&self, size: u64, root: &Hash, time: UnixMillis) -> String {
        let name = &self.verifier.name;
        let text = format!("{name}\n{size}\n{}\n{TIME}{}\n", STANDARD.encode(root), time.0);
        let mut signature = self.verifier.id.to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n{SIGNATURE}{name} {}\n", STANDARD.encode(signature))
    }

    /// The public half.
    #[must_use]
    pub const fn verifier(&self) -> &CheckpointVerifier {
        &self.verifier
    }
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let failed = |error| KeyError::Io(path.to_owned(), error);
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::Open(path.to_owned()));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(failed)
}

fn generate() -> Result<Zeroizing<String>, KeyError> {
    // Version 1 of PKCS#8, which every other program reads.
    let made = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?;
    let body = Zeroizing::new(STANDARD.encode(made.as_ref()));
    Ok(Zeroizing::new(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        *body
    )))
}

/// Makes a file that is either whole or absent. Never overwrites.
fn create(path: &Path, contents: &[u8], mode: u32) -> Result<(), KeyError> {
    let made = || -> io::Result<()> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".draft");
        let draft = PathBuf::from(draft);
        let _ = std::fs::remove_file(&draft);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(contents)?;
        file.sync_all()?;
        // Unlike a rename, a link fails where the file is there.
        let linked = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft)?;
        linked?;
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    };
    made().map_err(|error| KeyError::Io(path.to_owned(), error))
}

/// The public half of the key of a trail: a C2SP verifier key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointVerifier {
    name: String,
    id: [u8; KEY_ID_LEN],
    public: [u8; PUBLIC_KEY_LEN],
}

impl fmt::Display for CheckpointVerifier {
    /// `<name>+<id in hexadecimal>+<type and key in base64>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+", self.name)?;
        for byte in self.id {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "+{}", STANDARD.encode(typed(&self.public)))
    }
}

fn typed(public: &[u8; PUBLIC_KEY_LEN]) -> Vec<u8> {
    [&[ED25519_TYPE], public.as_slice()].concat()
}

impl CheckpointVerifier {
    fn new(name: &str, public: &[u8]) -> Option<Self> {
        let public: [u8; PUBLIC_KEY_LEN] = public.try_into().ok()?;
        if name.is_empty() || name.contains('+') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return None;
        }
        let hashed = digest(&SHA256, &[name.as_bytes(), b"\n", &typed(&public)].concat());
        let id = hashed.as_ref().first_chunk().copied()?;
        Some(Self {
            name: name.to_owned(),
            id,
            public,
        })
    }

    /// Reads a verifier key; white space around it is left out. `None` when it is none, or no Ed25519 key.
    #[must_use]
    pub fn parse_key(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let key = STANDARD.decode(key).ok()?;
        let (ED25519_TYPE, public) = key.split_first().map(|(kind, public)| (*kind, public))? else {
            return None;
        };
        let parsed = Self::new(name, public)?;
        (id.len() == 2 * KEY_ID_LEN && u32::from_str_radix(id, 16).ok()? == u32::from_be_bytes(parsed.id)).then_some(parsed)
    }

    /// Reads the verifier key in a file.
    ///
    /// # Errors
    /// When the file cannot be read or is no verifier key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path).map_err(|error| KeyError::Io(path.to_owned(), error))?;
        Self::parse_key(&text).ok_or_else(|| KeyError::NotAVerifierKey(path.to_owned()))
    }

    /// The name of the key, which is the origin of its checkpoints.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.name
    }

    /// Checks the signature of a signed note and answers its text, with the line feed at its end. Signatures of other keys are
    /// passed over.
    ///
    /// # Errors
    /// When it is not a signed note, or has no right signature of this key.
    pub fn verify_note<'a>(&self, note: &'a str) -> Result<&'a str, InvalidCheckpoint> {
        let text = text_of(note)?;
        let signatures = &note[text.len() + 1..];
        let mut of_this_key = false;
        for line in signatures.lines() {
            let (name, signature) = line
                .strip_prefix(SIGNATURE)
                .and_then(|rest| rest.split_once(' '))
                .ok_or(InvalidCheckpoint::NotANote)?;
            let signature = STANDARD.decode(signature).map_err(|_| InvalidCheckpoint::NotANote)?;
            let (id, signature) = signature.split_at_checked(KEY_ID_LEN).ok_or(InvalidCheckpoint::NotANote)?;
            if name != self.name || id != self.id {
                continue;
            }
            UnparsedPublicKey::new(&ED25519, &self.public)
                .verify(text.as_bytes(), signature)
                .map_err(|_| InvalidCheckpoint::WrongSignature)?;
            of_this_key = true;
        }
        if of_this_key { Ok(text) } else { Err(InvalidCheckpoint::NotSigned) }
    }

    /// Checks a checkpoint of this trail.
    ///
    /// # Errors
    /// When it is none, or not signed with this key.
    pub fn verify(&self, note: &str) -> Result<Checkpoint, InvalidCheckpoint> {
        let said = Checkpoint::parse_unverified(note)?;
        if said.origin != self.name {
            return Err(InvalidCheckpoint::OtherOrigin);
        }
        self.verify_note(note)?;
        Ok(said)
    }
}

/// The text of a signed note, without looking at who signed it.
fn text_of(note: &str) -> Result<&str, InvalidCheckpoint> {
    let readable = note.len() <= MAX_CHECKPOINT && note.ends_with('\n') && note.bytes().all(|b| b >= b' ' || b == b'\n');
    let split = note.rfind("\n\n").filter(|_| readable).ok_or(InvalidCheckpoint::NotANote)?;
    let signatures = note[split + 2..].lines().count();
    if signatures == 0 || signatures > MAX_SIGNATURES {
        return Err(InvalidCheckpoint::NotANote);
    }
    Ok(&note[..=split])
}

impl Checkpoint {
    /// What a note says, whoever signed it: to find the key that must have.
    ///
    /// # Errors
    /// When it is not a checkpoint.
    pub fn parse_unverified(note: &str) -> Result<Self, InvalidCheckpoint> {
        let text = text_of(note)?;
        let mut lines = text.lines();
        let mut line = || {
            lines
                .next()
                .filter(|line| !line.is_empty())
                .ok_or(InvalidCheckpoint::NotACheckpoint)
        };
        let (origin, size, root) = (line()?, line()?, line()?);
        let size = plain_number(size).ok_or(InvalidCheckpoint::NotACheckpoint)?;
        let root = STANDARD.decode(root).ok().and_then(|root| Hash::try_from(root).ok());
        let mut time = None;
        for extension in lines {
            if extension.is_empty() {
                return Err(InvalidCheckpoint::NotACheckpoint);
            }
            let signed = extension.strip_prefix(TIME).and_then(plain_number);
            time = time.or_else(|| signed.and_then(|millis| i64::try_from(millis).ok()).map(UnixMillis));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root: root.ok_or(InvalidCheckpoint::NotACheckpoint)?,
            time,
        })
    }
}

/// A number in the one way in which it can be written.
fn plain_number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// The checkpoints of a file, each as one signed note, and how many bytes they fill: what stands behind is no whole note, as a
/// crash leaves it. Nothing is verified.
#[must_use]
pub fn notes(file: &str) -> (Vec<&str>, usize) {
    let mut notes = Vec::new();
    let mut begin = 0;
    while let Some(length) = note_length(&file[begin..]) {
        notes.push(&file[begin..begin + length]);
        begin += length + 1;
    }
    (notes, begin)
}

/// The length of the note that a text begins with, where its signatures and the empty line after them are whole.
fn note_length(text: &str) -> Option<usize> {
    let mut at = text.find("\n\n")? + 2;
    let signatures = at;
    loop {
        let rest = text.get(at..)?;
        if rest.starts_with('\n') && at > signatures {
            return Some(at);
        }
        at += rest.strip_prefix(SIGNATURE)?.find('\n')? + SIGNATURE.len() + 1;
    }
}

#[cfg(test)]
mod tests;
