//! The store's file: one descriptor and one lock for the life of the process, under any number of redb's views of it.
//!
//! After a failed write redb answers every later call with an error until its database is opened again. So the database is
//! thrown away and another one is opened over the same file. The lock of the file is kept meanwhile.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use super::overlay::Overlay;

/// For files up to this length, about a million credentials, space of the file system is reserved: for all that they hold,
/// and for growing once more. For longer files that would take too much of the disk.
const MAX_RESERVED: u64 = 256 * 1024 * 1024;

/// Most space that is reserved for growing once more. A file grows by doubling.
const MAX_AHEAD: u64 = 64 * 1024 * 1024;

/// What a store lies on.
pub(super) trait Medium: std::fmt::Debug + Send + Sync {
    /// Reads, writes, lengths, locks.
    fn bytes(&self) -> &dyn StorageBackend;

    /// Takes space of the file system for this part of the file, which may lie beyond its end.
    ///
    /// # Errors
    /// When there is none, or the file system knows no such thing.
    fn reserve(&self, from: u64, length: u64) -> io::Result<()>;

    /// Drops what the kernel has of the file in memory, so that it is read from the disk: after a failed `fsync` the two may
    /// differ.
    fn forget_memory(&self);

    /// Whether the file still stands at its path. If it was removed, what is written to it is lost at the next start.
    fn is_in_place(&self) -> bool;
}

/// A file.
#[derive(Debug)]
pub(super) struct OnFile {
    bytes: FileBackend,
    file: File,
    path: PathBuf,
    /// Device and number.
    identity: (u64, u64),
}

impl OnFile {
    /// The open file that stands at `path`.
    ///
    /// # Errors
    /// Those of the system.
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

impl Medium for OnFile {
    fn bytes(&self) -> &dyn StorageBackend {
        &self.bytes
    }

    fn reserve(&self, from: u64, length: u64) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, length)?)
    }

    fn forget_memory(&self) {
        // A hint: a file system that keeps no copy in memory does not know it.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.identity)
    }
}

/// What went wrong last.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// What was tried: "write to", "read", ...
    pub(super) tried: &'static str,
    pub(super) kind: io::ErrorKind,
    /// The system's own words.
    pub(super) words: String,
}

/// A medium with what is known about it.
#[derive(Debug)]
pub(super) struct Disk {
    medium: Box<dyn Medium>,
    /// Set once redb has locked the file, which then stays locked until the process closes it.
    locked: AtomicBool,
    fault: Mutex<Option<Fault>>,
    /// The length that the file was given last.
    length: AtomicU64,
    /// The length for which there was no space; 0 if there was.
    wanted: AtomicU64,
    /// Whether the file may grow into the reserved space: while something is wrong, for what should not fail.
    frugal: AtomicBool,
}

impl Disk {
    pub(super) fn new(medium: Box<dyn Medium>) -> Arc<Self> {
        Arc::new(Self {
            medium,
            locked: AtomicBool::new(false),
            fault: Mutex::default(),
            length: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            // A store must open on a full disk, too.
            frugal: AtomicBool::new(true),
        })
    }

    /// A view that reads and writes the file.
    ///
    /// # Errors
    /// When the length of the file cannot be read.
    pub(super) fn view(self: &Arc<Self>) -> io::Result<(View, Arc<Gate>)> {
        let length = self.medium.bytes().len()?;
        Ok(self.make_view(Written::ToFile(AtomicU64::new(length))))
    }

    /// A view that reads the file, and writes to memory only.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub(super) fn copy(self: &Arc<Self>) -> io::Result<(View, Arc<Gate>)> {
        let overlay = Overlay::over(self.medium.bytes())?;
        Ok(self.make_view(Written::Kept(Mutex::new(overlay))))
    }

    fn make_view(self: &Arc<Self>, written: Written) -> (View, Arc<Gate>) {
        let gate = Arc::<Gate>::default();
        let view = View {
            disk: Arc::clone(self),
            gate: Arc::clone(&gate),
            written,
        };
        (view, gate)
    }

    /// The file is locked, and no view unlocks it.
    pub(super) fn keep_lock(&self) {
        self.locked.store(true, Ordering::Release);
        self.length.store(self.medium.bytes().len().unwrap_or(0), Ordering::Relaxed);
    }

    /// Length of the file.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn length(&self) -> io::Result<u64> {
        self.medium.bytes().len()
    }

    pub(super) fn forget_memory(&self) {
        self.medium.forget_memory();
    }

    pub(super) fn is_in_place(&self) -> bool {
        self.medium.is_in_place()
    }

    /// What went wrong since this was asked last.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note<T>(&self, tried: &'static str, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(Fault {
                tried,
                kind: error.kind(),
                words: error.to_string(),
            });
        }
        result
    }

    /// Whether the file is as long as it was made. If it is shorter, somebody else has cut it off.
    pub(super) fn is_whole(&self) -> bool {
        let length = self.length.load(Ordering::Relaxed);
        self.medium.bytes().len().is_ok_and(|now| now >= length)
    }

    /// Lengthens the file. While all is well, this fails unless there is space to grow once more after that. So on a full disk
    /// a creation fails first, and some space is left for revocations.
    fn lengthen(&self, length: u64) -> io::Result<()> {
        if !self.frugal.load(Ordering::Relaxed) {
            self.wanted.store(length, Ordering::Relaxed);
            self.reserve_for(length)?;
        }
        self.medium.bytes().set_len(length)?;
        self.wanted.store(0, Ordering::Relaxed);
        self.length.store(length, Ordering::Relaxed);
        Ok(())
    }

    /// Reserves space to grow once more, from the present length or from the one for which there was no space last.
    ///
    /// # Errors
    /// When the file system has none.
    pub(super) fn reserve(&self) -> io::Result<()> {
        let length = self.medium.bytes().len()?.max(self.wanted.load(Ordering::Relaxed));
        self.note("keep space for", self.reserve_for(length))
    }

    fn reserve_for(&self, length: u64) -> io::Result<()> {
        if length > MAX_RESERVED {
            return Ok(());
        }
        match self.medium.reserve(0, length.saturating_add(length.min(MAX_AHEAD))) {
            Err(error) if is_full(error.kind()) => Err(error),
            // Not every file system can reserve space. That is no lack of it.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Sets whether the file may grow into the reserved space.
    pub(super) fn set_frugal(&self, frugal: bool) {
        self.frugal.store(frugal, Ordering::Relaxed);
    }

    /// Cuts off what redb does not use. Not while space is short: a file that is cut gives its space away.
    fn cut(&self, length: u64) -> io::Result<()> {
        if self.frugal.load(Ordering::Relaxed) || self.medium.bytes().len()? <= length {
            return Ok(());
        }
        self.length.store(length, Ordering::Relaxed);
        self.medium.bytes().set_len(length)
    }
}

const fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Closes a view for good, so that a database that was replaced does not reach the file any more.
#[derive(Debug, Default)]
pub(super) struct Gate(RwLock<bool>);

impl Gate {
    /// Waits for calls that are under way, then lets none through.
    pub(super) fn shut(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// Where a view's writes go.
#[derive(Debug)]
enum Written {
    /// Into the file. The number is the length that redb sees; the file may be longer.
    ToFile(AtomicU64),
    /// Into memory.
    Kept(Mutex<Overlay>),
}

/// What one redb database sees of the file.
#[derive(Debug)]
pub(super) struct View {
    disk: Arc<Disk>,
    gate: Arc<Gate>,
    written: Written,
}

impl View {
    fn bytes(&self) -> &dyn StorageBackend {
        self.disk.medium.bytes()
    }

    /// Does something unless the view was closed.
    fn through<T>(&self, what: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
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

impl StorageBackend for View {
    fn len(&self) -> io::Result<u64> {
        self.through(|| match &self.written {
            Written::Kept(overlay) => Ok(lock(overlay).length),
            Written::ToFile(length) => Ok(length.load(Ordering::Acquire)),
        })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.through(|| {
            let result = match &self.written {
                Written::Kept(overlay) => lock(overlay).read(self.bytes(), offset, out),
                Written::ToFile(_) => self.bytes().read(offset, out),
            };
            self.disk.note("read", result)
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.through(|| match &self.written {
            Written::Kept(overlay) => {
                lock(overlay).set_length(length);
                Ok(())
            }
            Written::ToFile(own) => {
                if length > self.bytes().len()? {
                    self.disk.note("lengthen", self.disk.lengthen(length))?;
                }
                own.store(length, Ordering::Release);
                Ok(())
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.through(|| match &self.written {
            Written::Kept(_) => Ok(()),
            Written::ToFile(_) => self.disk.note("sync", self.bytes().sync_data()),
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.through(|| match &self.written {
            Written::Kept(overlay) => lock(overlay).write(self.bytes(), offset, data),
            Written::ToFile(_) => self.disk.note("write to", self.bytes().write(offset, data)),
        })
    }

    /// The locks belong to the process, not to one view.
    fn close(&self) -> io::Result<()> {
        self.through(|| match &self.written {
            Written::Kept(_) => Ok(()),
            Written::ToFile(length) => self.disk.cut(length.load(Ordering::Acquire)),
        })
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if self.disk.locked.load(Ordering::Acquire) {
            return Ok(true);
        }
        self.bytes().try_lock_range(start, end)
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if self.disk.locked.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.bytes().query_lock_range(start, end)
    }
}
