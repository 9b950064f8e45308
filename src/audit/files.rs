//! Files of the trail: their names, and how they are made and replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Digits of the `seq` in a file's name, so that names are in the order of their numbers.
pub(super) const DIGITS: usize = 20;

/// The name of a file of the segment that begins with this entry: `trail-00000000000000000256.jsonl`.
#[must_use]
pub fn segment_file(directory: &Path, first: u64, ending: &str) -> PathBuf {
    directory.join(format!("trail-{first:0DIGITS$}.{ending}"))
}

/// The name of a segment of bodies.
#[must_use]
pub fn bodies_file(directory: &Path, first: u64, ending: &str) -> PathBuf {
    directory.join(format!("bodies-{first:0DIGITS$}.{ending}"))
}

/// The numbers of the files `<prefix>-<digits>.<ending>`, in order.
///
/// # Errors
/// When the directory cannot be read.
pub fn numbers(directory: &Path, prefix: &str, ending: &str) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            let digits = name
                .strip_prefix(prefix)?
                .strip_prefix('-')?
                .strip_suffix(ending)?
                .strip_suffix('.')?;
            (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse::<u64>().ok())?
        });
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

/// Opens a file to append to it; only its owner can read it.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(path)
}

/// Puts a new content in the place of a file, or leaves the old one.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory(path.parent().unwrap_or_else(|| Path::new(".")))
}

/// Makes what was renamed, made or removed in a directory outlive the machine.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Reads a file that is text and not longer than `bound` bytes.
pub(super) fn read_bounded(path: &Path, bound: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bound + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bound {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
    }
    Ok(text)
}
