//! A disk in memory that fails on demand, as the kernel's does: what was not synced may be lost.

use std::collections::BTreeSet;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::{BackendError, StorageBackend};

use super::super::file::BackingFile;

const BLOCK: u64 = 4096;

/// What the disk is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DiskCall {
    Read,
    Write,
    Length,
    Sync,
}

pub(super) const CHANGING: [DiskCall; 3] = [DiskCall::Write, DiskCall::Length, DiskCall::Sync];

#[derive(Debug, Default)]
struct FakeDiskState {
    bytes: Vec<u8>,
    /// As it is after a power cut.
    synced: Vec<u8>,
    blocks: BTreeSet<u64>,
    /// Blocks that are left; no bound if `None`.
    free: Option<usize>,
    /// Calls that fail, with this error, after so many of them.
    failing: Option<(Vec<DiskCall>, i32, usize)>,
    missing: bool,
    reserves: bool,
    owned: bool,
}

/// A disk, and the hand that breaks it.
#[derive(Debug, Default, Clone)]
pub(super) struct FakeDisk(Arc<Mutex<FakeDiskState>>);

impl FakeDisk {
    pub(super) fn new() -> Self {
        let fake = Self::default();
        fake.state().reserves = true;
        fake
    }

    /// One that has only what was synced.
    pub(super) fn after_power_cut(&self) -> Self {
        let fake = Self::new();
        let synced = self.state().synced.clone();
        {
            let mut state = fake.state();
            state.bytes.clone_from(&synced);
            state.synced = synced;
        }
        fake
    }

    fn state(&self) -> MutexGuard<'_, FakeDiskState> {
        self.0.lock().unwrap()
    }

    /// Calls of these kinds fail with this error number, after `good` more.
    pub(super) fn fail(&self, calls: &[DiskCall], errno: i32, good: usize) {
        self.state().failing = Some((calls.to_vec(), errno, good));
    }

    pub(super) fn mend(&self) {
        self.state().failing = None;
    }

    pub(super) fn fill_up(&self, blocks: usize) {
        self.state().free = Some(blocks);
    }

    pub(super) fn make_room(&self) {
        self.state().free = None;
    }

    pub(super) fn cannot_reserve(&self) {
        self.state().reserves = false;
    }

    pub(super) fn set_missing(&self, missing: bool) {
        self.state().missing = missing;
    }

    pub(super) fn length(&self) -> usize {
        self.state().bytes.len()
    }

    pub(super) fn empty(&self) {
        self.state().bytes.clear();
    }
}

impl FakeDiskState {
    fn call(&mut self, call: DiskCall) -> io::Result<()> {
        match &mut self.failing {
            Some((calls, errno, good)) if calls.contains(&call) => {
                if *good == 0 {
                    return Err(io::Error::from_raw_os_error(*errno));
                }
                *good -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_blocks(&mut self, from: u64, length: u64) -> io::Result<()> {
        for block in from / BLOCK..(from + length).div_ceil(BLOCK) {
            if self.blocks.contains(&block) {
                continue;
            }
            match &mut self.free {
                Some(0) => return Err(io::Error::from_raw_os_error(28)),
                Some(free) => *free -= 1,
                None => {}
            }
            self.blocks.insert(block);
        }
        Ok(())
    }
}

impl StorageBackend for FakeDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.call(DiskCall::Read)?;
        let from = usize::try_from(offset).unwrap();
        let bytes = state.bytes.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.call(DiskCall::Length)?;
        if length < state.bytes.len() as u64 {
            let kept = state.blocks.len();
            state.blocks.retain(|block| block * BLOCK < length);
            let freed = kept - state.blocks.len();
            state.free = state.free.map(|free| free + freed);
        }
        state.bytes.resize(usize::try_from(length).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.call(DiskCall::Sync)?;
        state.synced = state.bytes.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.call(DiskCall::Write)?;
        state.take_blocks(offset, data.len() as u64)?;
        let from = usize::try_from(offset).unwrap();
        if state.bytes.len() < from + data.len() {
            state.bytes.resize(from + data.len(), 0);
        }
        state.bytes[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        self.state().owned = true;
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        self.state().owned = false;
        Ok(())
    }
}

impl BackingFile for FakeDisk {
    fn bytes(&self) -> &dyn StorageBackend {
        self
    }

    fn reserve(&self, from: u64, length: u64) -> io::Result<()> {
        let mut state = self.state();
        if !state.reserves {
            return Err(io::ErrorKind::Unsupported.into());
        }
        state.call(DiskCall::Length)?;
        state.take_blocks(from, length)
    }

    fn forget_memory(&self) {
        let mut state = self.state();
        if state.failing.as_ref().is_some_and(|(calls, ..)| calls.contains(&DiskCall::Sync)) {
            state.bytes = state.synced.clone();
        }
    }

    fn is_in_place(&self) -> bool {
        !self.state().missing
    }
}
