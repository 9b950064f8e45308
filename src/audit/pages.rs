//! Files of checked pages: whoever reads a part of one knows that this part is as it was written, without reading the rest.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes of a page on the disk: what the kernel reads at least.
const PAGE: usize = 4_096;

/// Bytes of a page without its CRC.
const PAYLOAD: usize = PAGE - 4;

/// The CRC counts the number of the page too, so that a page is not taken for another one.
fn crc(number: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Writes the pages of one file. The last one is filled up with zeros.
#[derive(Debug)]
pub(super) struct PageWriter<W> {
    out: W,
    page: Vec<u8>,
    number: u64,
}

impl<W: Write> PageWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            page: Vec::with_capacity(PAGE),
            number: 0,
        }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((now, later)) = bytes.split_at_checked(PAYLOAD - self.page.len()) {
            self.page.extend_from_slice(now);
            self.flush()?;
            bytes = later;
        }
        self.page.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes the last page and answers what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.page.is_empty() {
            self.page.resize(PAYLOAD, 0);
            self.flush()?;
        }
        Ok(self.out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.page)?;
        self.out.write_all(&crc(self.number, &self.page).to_le_bytes())?;
        self.page.clear();
        self.number += 1;
        Ok(())
    }
}

/// Reads parts of a file of pages.
#[derive(Debug)]
pub(super) struct PageReader {
    file: File,
    path: PathBuf,
    pages: u64,
}

impl PageReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let page = PAGE as u64;
        let reader = Self {
            file,
            path: path.to_owned(),
            pages: length / page,
        };
        if length.is_multiple_of(page) {
            Ok(reader)
        } else {
            Err(reader.damaged("is cut off"))
        }
    }

    /// Reads `length` bytes from the place `at`, both without the CRCs.
    pub(super) fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let payload = PAYLOAD as u64;
        let first = at / payload;
        let skipped = usize::try_from(at % payload).unwrap_or(0);
        let count = (skipped + length).div_ceil(PAYLOAD);
        // A length that a damaged page wrote must not become an allocation.
        if first.saturating_add(count as u64) > self.pages {
            return Err(self.damaged("is too short"));
        }
        let mut pages = vec![0; count * PAGE];
        self.file
            .read_exact_at(&mut pages, first * PAGE as u64)
            .map_err(|error| io::Error::new(error.kind(), format!("the index {}: {error}", self.path.display())))?;
        let mut out = Vec::with_capacity(count * PAYLOAD);
        for (number, page) in (first..).zip(pages.chunks_exact(PAGE)) {
            let (bytes, sum) = page.split_at(PAYLOAD);
            if crc(number, bytes).to_le_bytes() != *sum {
                return Err(self.damaged(&format!("is damaged in page {number}")));
            }
            out.extend_from_slice(bytes);
        }
        out.truncate(skipped + length);
        out.drain(..skipped);
        Ok(out)
    }

    pub(super) fn damaged(&self, how: &str) -> io::Error {
        let text = format!("the index {} {how}", self.path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut writer = PageWriter::new(Vec::new());
        for part in bytes.chunks(1_000) {
            writer.write(part).unwrap();
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&writer.finish().unwrap()).unwrap();
        file
    }

    #[test]
    fn each_part_is_read_as_it_was_written() {
        let bytes: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        let file = written(&bytes);
        let reader = PageReader::open(file.path()).unwrap();
        for (at, length) in [(0, 1), (0, PAYLOAD), (PAYLOAD - 1, 2), (PAYLOAD, PAYLOAD), (5, 79_995), (79_999, 1)] {
            assert_eq!(reader.read(at as u64, length).unwrap(), bytes[at..at + length], "{at} {length}");
        }
        assert!(reader.read(80_000, 4_096).is_err());
        assert!(reader.read(u64::MAX, usize::MAX / 2).is_err());
    }

    #[test]
    fn a_changed_byte_is_found_where_it_is_read_and_only_there() {
        let bytes = vec![7; 3 * PAYLOAD];
        let file = written(&bytes);
        for place in [0, PAYLOAD, PAGE - 1] {
            let mut pages = std::fs::read(file.path()).unwrap();
            pages[PAGE + place] ^= 1;
            let changed = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(changed.path(), pages).unwrap();
            let reader = PageReader::open(changed.path()).unwrap();
            assert!(reader.read(0, PAYLOAD).is_ok());
            let error = reader.read(PAYLOAD as u64, 1).unwrap_err();
            assert!(error.to_string().contains("is damaged in page 1"), "{error}");
        }
    }

    #[test]
    fn exchanged_pages_and_a_cut_file_are_found() {
        let bytes: Vec<u8> = (0..3 * PAYLOAD).map(|i| u8::try_from(i / PAYLOAD).unwrap()).collect();
        let file = written(&bytes);
        let mut pages = std::fs::read(file.path()).unwrap();
        std::fs::write(file.path(), &pages[..PAGE + 10]).unwrap();
        assert!(PageReader::open(file.path()).is_err());
        let first = pages[..PAGE].to_vec();
        pages.copy_within(PAGE..2 * PAGE, 0);
        pages[PAGE..2 * PAGE].copy_from_slice(&first);
        std::fs::write(file.path(), &pages).unwrap();
        assert!(PageReader::open(file.path()).unwrap().read(0, 1).is_err());
    }
}
