//! Secrets and files a configuration refers to: read, or made when serving for the first time.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::base::fingerprint::sha256;
use crate::config::Purpose;
use crate::config::secret::{Reference, is_pasted};
use crate::config::source::{Located, Span};

use super::{Builder, beside};

/// Bytes of a generated secret before it is written in hexadecimal: as many as its hash has.
const GENERATED_BYTES: usize = 32;

/// A file that is to be made.
pub(super) struct PendingFile {
    pub(super) path: PathBuf,
    pub(super) contents: Zeroizing<Vec<u8>>,
    pub(super) at: Span,
}

impl Builder<'_> {
    /// A path of the configuration, resolved.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        beside(self.path, path)
    }

    /// Reads a file; a failure is reported at the place that names it.
    pub(super) fn read_file(&self, path: &Located<String>, what: &str) -> Option<Zeroizing<Vec<u8>>> {
        if is_pasted(&path.value) {
            let message = format!("this is the text of {what} instead of the path of its file");
            self.report.error(
                &path.at,
                message,
                Some("put the text into a file, and write the path of the file".to_owned()),
            );
            return None;
        }
        self.read_path(&self.resolve(&path.value), &path.at, what)
    }

    /// Whether a file is not there. Asked by reading, so that its appearance is noticed later.
    pub(super) fn is_absent(&self, path: &Path) -> bool {
        matches!(self.environment.read(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    fn read_path(&self, path: &Path, at: &Span, what: &str) -> Option<Zeroizing<Vec<u8>>> {
        match self.environment.read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let help = match error.kind() {
                    io::ErrorKind::NotFound => Some("paths are relative to the directory of `gateway.toml`".to_owned()),
                    io::ErrorKind::PermissionDenied => Some("the user the gateway runs as must be able to read it".to_owned()),
                    _ => None,
                };
                self.report
                    .error(at, format!("{what} `{}` cannot be read: {error}", path.display()), help);
                None
            }
        }
    }

    /// Reads a secret as it is, without a line end at its end. Never empty.
    pub(super) fn read_secret(&self, secret: &Located<Reference>, what: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = match &secret.value {
            Reference::File(path) => self.read_path(&self.resolve(path), &secret.at, what)?,
            Reference::Generate(path) => self.read_or_generate(&self.resolve(path), &secret.at, what)?,
            Reference::Variable(name) => {
                let Some(value) = self.environment.variable(name) else {
                    let message = format!("the environment variable `{name}` is not set");
                    self.report.error(
                        &secret.at,
                        message,
                        Some(format!("it must hold {what}; an empty text is refused as well")),
                    );
                    return None;
                };
                Zeroizing::new(value.as_bytes().to_vec())
            }
            Reference::Public(text) => Zeroizing::new(text.as_bytes().to_vec()),
        };
        let trimmed = bytes
            .strip_suffix(b"\n")
            .map_or(bytes.as_slice(), |b| b.strip_suffix(b"\r").unwrap_or(b));
        if trimmed.is_empty() {
            self.report.error(&secret.at, format!("{what} is empty"), None);
            return None;
        }
        Some(Zeroizing::new(trimmed.to_vec()))
    }

    /// Reads a secret that may be made.
    pub(super) fn read_or_generate(&self, path: &Path, at: &Span, what: &str) -> Option<Zeroizing<Vec<u8>>> {
        match self.environment.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !matches!(self.purpose, Purpose::Reload(_)) => {}
            _ => return self.read_path(path, at, what),
        }
        if let Some(made) = self.created.borrow().iter().find(|c| c.path == path) {
            return Some(made.contents.clone());
        }
        let mut random = Zeroizing::new([0; GENERATED_BYTES]);
        if aws_lc_rs::rand::fill(random.as_mut_slice()).is_err() {
            self.report.error(at, "the system gives no random bytes", None);
            return None;
        }
        let digits = b"0123456789abcdef";
        let digit = |nibble: u8| digits.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
        let mut contents = Zeroizing::new(Vec::with_capacity(GENERATED_BYTES * 2));
        for byte in random.iter() {
            contents.extend([digit(byte >> 4), digit(*byte)]);
        }
        if self.store_is_there.get() {
            self.report.warning(
                at,
                format!(
                    "{what} `{}` is missing although the store is there: what an earlier secret signed is not admitted any more",
                    path.display()
                ),
                Some("if the file was lost, restore it; if the surface is new, ignore this".to_owned()),
            );
        }
        self.will_create(path.to_owned(), contents.clone(), at);
        Some(contents)
    }

    /// Notes a file to be made once the whole configuration is known to be right.
    pub(super) fn will_create(&self, path: PathBuf, contents: Zeroizing<Vec<u8>>, at: &Span) {
        if self.purpose == Purpose::Check {
            let message = format!("`{}` is not there yet", path.display());
            self.report
                .note(at, message, Some("`durward serve` creates it on its first start".to_owned()));
        }
        self.created.borrow_mut().push(PendingFile {
            path,
            contents,
            at: at.clone(),
        });
    }

    /// Notes the permission to begin a store, to be made before what is noted later.
    pub(super) fn will_permit(&self, path: PathBuf, at: &Span) {
        self.created.borrow_mut().push(PendingFile {
            path,
            contents: Zeroizing::default(),
            at: at.clone(),
        });
    }

    /// Makes the noted files, for their owner only. Never overwrites.
    pub(super) fn create_files(&self) {
        if self.purpose != Purpose::Serve {
            return;
        }
        for creation in self.created.borrow().iter() {
            if let Err(error) = create(&creation.path, &creation.contents) {
                self.report.error(
                    &creation.at,
                    format!("`{}` cannot be created: {error}", creation.path.display()),
                    Some("the user the gateway runs as must be able to write there".to_owned()),
                );
            }
        }
    }

    /// Whether two secrets are the same, by their hashes.
    pub(super) fn digest(secret: &[u8]) -> [u8; 32] {
        sha256(secret)
    }
}

/// Makes a file whole or not at all, also if the machine stops meanwhile. One that is there already is left as it is, and an
/// error unless there is nothing to write.
fn create(path: &Path, contents: &[u8]) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(parent) = parent {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    if contents.is_empty() && path.exists() {
        return Ok(());
    }
    let draft = draft_of(path);
    // What an interrupted start left behind.
    let _ = std::fs::remove_file(&draft);
    let written = write_draft(&draft, contents).and_then(|()| give_name(&draft, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written?;
    // Without this a power cut could lose the pepper while the store it belongs to survives.
    std::fs::File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// A hidden name beside it.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".draft");
    path.with_file_name(name)
}

fn write_draft(draft: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    if !contents.is_empty() {
        file.write_all(contents)?;
        file.write_all(b"\n")?;
    }
    file.sync_all()
}

/// Renames without replacing anything.
fn give_name(draft: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        // A file system that cannot rename so: nobody else makes these files.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !path.exists() => std::fs::rename(draft, path),
        outcome => Ok(outcome?),
    }
}
