//! The store's file: one descriptor and one lock for the life of the process, under any number of views by redb.
//!
//! After a failed write redb answers every later call with an error until its database is opened again. So the database is
//! dropped and another one is opened over the same file. The lock of the file is kept meanwhile.
//!
//! If the file cannot be written, a view keeps what redb writes in memory ([`Overlay`]), so that look-ups go on. redb's own
//! read-only mode would not do: it refuses a file that was not closed cleanly, and after a failed write none is closed cleanly.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::{Bound, Range};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

/// Space of the file system is reserved for files up to this length, about a million credentials: for the whole file, and for
/// growing once more. For longer files the reserve would take too much of the disk.
const MAX_RESERVED: u64 = 256 * 1024 * 1024;

/// Most space that is reserved for growing once more. A file grows by doubling.
const MAX_AHEAD: u64 = 64 * 1024 * 1024;

/// Most memory of one overlay. While it opens a file, redb writes its header and the list of free pages: some kilobytes for
/// each gigabyte of the file.
const MAX_OVERLAY: usize = 64 * 1024 * 1024;

/// Bytes of one piece of an overlay.
const PIECE: usize = 4096;

/// The file below a store; tests put a fake one in its place.
pub(super) trait BackingFile: std::fmt::Debug + Send + Sync {
    fn bytes(&self) -> &dyn StorageBackend;

    /// Reserves space of the file system for this part of the file, which may lie beyond its end.
    ///
    /// # Errors
    /// When there is no space, or the file system cannot reserve any.
    fn reserve(&self, from: u64, length: u64) -> io::Result<()>;

    /// Drops the kernel's copy of the file in memory, so that the file is read from the disk: after a failed `fsync` the two may
    /// differ.
    fn forget_memory(&self);

    /// Whether the file is still the one at its path. If it was removed, whatever is written to it is lost at the next start.
    fn is_in_place(&self) -> bool;
}

#[derive(Debug)]
pub(super) struct OsFile {
    bytes: FileBackend,
    file: File,
    path: PathBuf,
    identity: (u64, u64),
}

impl OsFile {
    /// Takes over the open file that is at `path`.
    ///
    /// # Errors
    /// The errors of the system.
    pub(super) fn new(path: &Path, file: File) -> io::Result<Self> {
        let (double, about) = (file.try_clone()?, file.metadata()?);
        Ok(Self {
            bytes: FileBackend::new(file).map_err(io::Error::other)?,
            file: double,
            path: path.to_owned(),
            identity: (about.dev(), about.ino()),
        })
    }
}

impl BackingFile for OsFile {
    fn bytes(&self) -> &dyn StorageBackend {
        &self.bytes
    }

    fn reserve(&self, from: u64, length: u64) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, length)?)
    }

    fn forget_memory(&self) {
        // Only a hint: a file system that keeps no copy in memory refuses it.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.identity)
    }
}

#[derive(Debug, Clone)]
pub(super) struct FileFault {
    /// What was tried: "write to", "read", ...
    pub(super) tried: &'static str,
    pub(super) kind: io::ErrorKind,
    pub(super) words: String,
}

/// The file with all that its views share: its lock, its last fault, its length and its reserve.
#[derive(Debug)]
pub(super) struct StoreFile {
    backing: Box<dyn BackingFile>,
    /// Set once redb has locked the file, which then stays locked until the process closes it.
    locked: AtomicBool,
    fault: Mutex<Option<FileFault>>,
    /// The length that the file was given last.
    length: AtomicU64,
    /// The length for which there was no space; 0 if there was.
    denied_length: AtomicU64,
    /// Whether the file may grow into the reserved space. It may while something is wrong, so that revocations succeed.
    may_use_reserve: AtomicBool,
}

impl StoreFile {
    pub(super) fn new(backing: Box<dyn BackingFile>) -> Arc<Self> {
        Arc::new(Self {
            backing,
            locked: AtomicBool::new(false),
            fault: Mutex::default(),
            length: AtomicU64::new(0),
            denied_length: AtomicU64::new(0),
            // A store must open on a full disk too.
            may_use_reserve: AtomicBool::new(true),
        })
    }

    /// A view that reads and writes the file.
    ///
    /// # Errors
    /// When the length of the file cannot be read.
    pub(super) fn view(self: &Arc<Self>) -> io::Result<(FileView, Arc<ViewGate>)> {
        let length = self.backing.bytes().len()?;
        Ok(self.make_view(WriteTarget::File(AtomicU64::new(length))))
    }

    /// A view that reads the file, and writes to memory only.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub(super) fn copy(self: &Arc<Self>) -> io::Result<(FileView, Arc<ViewGate>)> {
        let overlay = Overlay::over(self.backing.bytes())?;
        Ok(self.make_view(WriteTarget::Memory(Mutex::new(overlay))))
    }

    fn make_view(self: &Arc<Self>, target: WriteTarget) -> (FileView, Arc<ViewGate>) {
        let gate = Arc::<ViewGate>::default();
        let view = FileView {
            file: Arc::clone(self),
            gate: Arc::clone(&gate),
            target,
        };
        (view, gate)
    }

    /// The file is locked, and no view unlocks it.
    pub(super) fn keep_lock(&self) {
        self.locked.store(true, Ordering::Release);
        self.length.store(self.backing.bytes().len().unwrap_or(0), Ordering::Relaxed);
    }

    /// Length of the file.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn length(&self) -> io::Result<u64> {
        self.backing.bytes().len()
    }

    pub(super) fn forget_memory(&self) {
        self.backing.forget_memory();
    }

    pub(super) fn is_in_place(&self) -> bool {
        self.backing.is_in_place()
    }

    /// What went wrong since this was asked last.
    pub(super) fn take_fault(&self) -> Option<FileFault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note<T>(&self, tried: &'static str, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(FileFault {
                tried,
                kind: error.kind(),
                words: error.to_string(),
            });
        }
        result
    }

    /// Whether the file is as long as this process has made it. If it is shorter, another process has cut it off.
    pub(super) fn is_whole(&self) -> bool {
        let length = self.length.load(Ordering::Relaxed);
        self.backing.bytes().len().is_ok_and(|now| now >= length)
    }

    /// Lengthens the file. While all changes are made, this fails unless there is space to grow once more after that. So on a
    /// full disk a creation fails first, and some space is left for revocations.
    fn lengthen(&self, length: u64) -> io::Result<()> {
        if !self.may_use_reserve.load(Ordering::Relaxed) {
            self.denied_length.store(length, Ordering::Relaxed);
            self.reserve_for(length)?;
        }
        self.backing.bytes().set_len(length)?;
        self.denied_length.store(0, Ordering::Relaxed);
        self.length.store(length, Ordering::Relaxed);
        Ok(())
    }

    /// Reserves space to grow once more, from the present length or from the one for which there was no space last.
    ///
    /// # Errors
    /// When the file system has none.
    pub(super) fn reserve(&self) -> io::Result<()> {
        let length = self.backing.bytes().len()?.max(self.denied_length.load(Ordering::Relaxed));
        self.note("keep space for", self.reserve_for(length))
    }

    fn reserve_for(&self, length: u64) -> io::Result<()> {
        if length > MAX_RESERVED {
            return Ok(());
        }
        match self.backing.reserve(0, length.saturating_add(length.min(MAX_AHEAD))) {
            Err(error) if is_full(error.kind()) => Err(error),
            // Not every file system can reserve space. That does not mean that there is none.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Sets whether the file may grow into the reserved space.
    pub(super) fn set_may_use_reserve(&self, may_use_reserve: bool) {
        self.may_use_reserve.store(may_use_reserve, Ordering::Relaxed);
    }

    /// Cuts off what redb does not use, but not while space is short: a file that is cut gives its space away.
    fn truncate(&self, length: u64) -> io::Result<()> {
        if self.may_use_reserve.load(Ordering::Relaxed) || self.backing.bytes().len()? <= length {
            return Ok(());
        }
        self.length.store(length, Ordering::Relaxed);
        self.backing.bytes().set_len(length)
    }
}

const fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Closes a view for ever, so that a replaced database can no longer reach the file.
#[derive(Debug, Default)]
pub(super) struct ViewGate(RwLock<bool>);

impl ViewGate {
    /// Waits for calls that are running, then lets no further call through.
    pub(super) fn shut(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// Where a view's writes go.
#[derive(Debug)]
enum WriteTarget {
    /// Into the file. The number is the length that redb sees; the file may be longer.
    File(AtomicU64),
    Memory(Mutex<Overlay>),
}

/// What one redb database sees of the file.
#[derive(Debug)]
pub(super) struct FileView {
    file: Arc<StoreFile>,
    gate: Arc<ViewGate>,
    target: WriteTarget,
}

impl FileView {
    fn bytes(&self) -> &dyn StorageBackend {
        self.file.backing.bytes()
    }

    /// Runs `what`, unless the view was closed.
    fn while_open<T>(&self, what: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let shut = self.gate.0.read().unwrap_or_else(PoisonError::into_inner);
        if *shut {
            return Err(io::Error::other("the store is being opened again"));
        }
        what()
    }
}

fn lock(overlay: &Mutex<Overlay>) -> MutexGuard<'_, Overlay> {
    overlay.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StorageBackend for FileView {
    fn len(&self) -> io::Result<u64> {
        self.while_open(|| match &self.target {
            WriteTarget::Memory(overlay) => Ok(lock(overlay).length),
            WriteTarget::File(length) => Ok(length.load(Ordering::Acquire)),
        })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.while_open(|| {
            let result = match &self.target {
                WriteTarget::Memory(overlay) => lock(overlay).read(self.bytes(), offset, out),
                WriteTarget::File(_) => self.bytes().read(offset, out),
            };
            self.file.note("read", result)
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.while_open(|| match &self.target {
            WriteTarget::Memory(overlay) => {
                lock(overlay).set_length(length);
                Ok(())
            }
            WriteTarget::File(own) => {
                if length > self.bytes().len()? {
                    self.file.note("lengthen", self.file.lengthen(length))?;
                }
                own.store(length, Ordering::Release);
                Ok(())
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.while_open(|| match &self.target {
            WriteTarget::Memory(_) => Ok(()),
            WriteTarget::File(_) => self.file.note("sync", self.bytes().sync_data()),
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.while_open(|| match &self.target {
            WriteTarget::Memory(overlay) => lock(overlay).write(self.bytes(), offset, data),
            WriteTarget::File(_) => self.file.note("write to", self.bytes().write(offset, data)),
        })
    }

    /// The locks belong to the process, not to one view.
    fn close(&self) -> io::Result<()> {
        self.while_open(|| match &self.target {
            WriteTarget::Memory(_) => Ok(()),
            WriteTarget::File(length) => self.file.truncate(length.load(Ordering::Acquire)),
        })
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if self.file.locked.load(Ordering::Acquire) {
            return Ok(true);
        }
        self.bytes().try_lock_range(start, end)
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if self.file.locked.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.bytes().query_lock_range(start, end)
    }
}

/// The file as it is, and in memory whatever a view has written over it.
#[derive(Debug)]
pub(super) struct Overlay {
    pub(super) length: u64,
    /// Where the file's own bytes end; zeros follow.
    of_file: u64,
    pieces: HashMap<u64, Box<[u8; PIECE]>>,
}

impl Overlay {
    pub(super) fn over(file: &dyn StorageBackend) -> io::Result<Self> {
        let length = file.len()?;
        Ok(Self {
            length,
            of_file: length,
            pieces: HashMap::new(),
        })
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.length = length;
        self.of_file = self.of_file.min(length);
        self.pieces.retain(|number, _| number * (PIECE as u64) < length);
    }

    pub(super) fn read(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(file, offset, out)?;
        for (number, within, part) in pieces(offset, out.len()) {
            let from = self.pieces.get(&number).and_then(|piece| piece.get(within));
            if let (Some(from), Some(to)) = (from, out.get_mut(part)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn read_file(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(self.of_file.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (of_file, beyond) = out.split_at_mut(there.min(out.len()));
        beyond.fill(0);
        if of_file.is_empty() { Ok(()) } else { file.read(offset, of_file) }
    }

    pub(super) fn write(&mut self, file: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        self.length = self.length.max(offset.saturating_add(data.len() as u64));
        for (number, within, part) in pieces(offset, data.len()) {
            if !self.pieces.contains_key(&number) {
                if self.pieces.len() >= MAX_OVERLAY / PIECE {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                let mut piece = Box::new([0; PIECE]);
                self.read_file(file, number * PIECE as u64, piece.as_mut_slice())?;
                self.pieces.insert(number, piece);
            }
            let to = self.pieces.get_mut(&number).and_then(|piece| piece.get_mut(within));
            if let (Some(to), Some(from)) = (to, data.get(part)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }
}

/// The pieces that `length` bytes from `offset` on touch: for each its number, the range within it, and the range of those
/// bytes.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let at = offset.saturating_add(done as u64);
        let within = usize::try_from(at % PIECE as u64).unwrap_or(0);
        let count = (PIECE - within).min(length - done);
        let next = (at / PIECE as u64, within..within + count, done..done + count);
        done += count;
        Some(next)
    })
}
