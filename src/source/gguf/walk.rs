//! A file walked from its start, through one buffer, with no trust in what it says of itself.

use std::io::{BufRead, BufReader, ErrorKind, Read, Seek};

use super::damaged;
use crate::source::file;
use crate::units::{Code, Error, group_thousands};

/// What is read ahead at most.
pub(super) const BUFFER: usize = 64 << 10;

/// A reader that knows where it is and how much is left.
pub(super) struct Walk<R> {
    inner: BufReader<R>,
    position: u64,
    len: u64,
}

impl<R: Read + Seek> Walk<R> {
    /// From the start of a file of `len` bytes.
    pub(super) fn new(reader: R, len: u64) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER, reader), position: 0, len }
    }

    /// Bytes read or stepped over.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes left in the file.
    pub(super) fn remaining(&self) -> u64 {
        self.len.saturating_sub(self.position)
    }

    /// The next N bytes, which belong to `what`.
    pub(super) fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// A `u32`.
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    /// A `u64`.
    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    /// A count of things of at least `size` bytes each: no more than the rest of the file can hold.
    pub(super) fn count(&mut self, what: &'static str, size: u64) -> Result<u64, Error> {
        let count = self.u64(what)?;
        self.within(count, what, size)?;
        Ok(count)
    }

    /// Whether so many things of at least `size` bytes each can be in the rest of the file.
    pub(super) fn within(&self, count: u64, what: &'static str, size: u64) -> Result<u64, Error> {
        let bytes = count.checked_mul(size).filter(|&bytes| bytes <= self.remaining());
        bytes.ok_or_else(|| {
            let problem = format!("is more than the rest of the file holds ({})", self.place());
            damaged(Code::GgufImplausible, "", format!("{} {what}", group_thousands(count)), problem)
        })
    }

    /// A text of `len` bytes, which is in the rest of the file.
    pub(super) fn text(&mut self, len: u64, what: &'static str) -> Result<String, Error> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        self.fill(&mut bytes, what)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Steps over `len` bytes: within the buffer, or by a seek.
    pub(super) fn skip(&mut self, len: u64, what: &'static str) -> Result<(), Error> {
        if len > self.remaining() {
            return Err(self.truncated(what));
        }
        // A file has fewer than 2^63 bytes, and so has any step within it.
        let step = i64::try_from(len).map_err(|_| self.truncated(what))?;
        self.inner.seek_relative(step).map_err(file::reading)?;
        self.position = self.position.saturating_add(len);
        Ok(())
    }

    /// Steps over so many texts. Nearly all that a header has are those of its tokenizer, so those that lie in the buffer
    /// are stepped over within it.
    pub(super) fn skip_texts(&mut self, count: u64, what: &'static str) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            let mut rest = self.inner.buffer();
            let all = rest.len();
            while left > 0
                && let Some((len, behind)) = rest.split_first_chunk()
                && let Some(next) = usize::try_from(u64::from_le_bytes(*len)).ok().and_then(|len| behind.get(len..))
            {
                rest = next;
                left = left.saturating_sub(1);
            }
            let within = all.saturating_sub(rest.len());
            self.inner.consume(within);
            self.position = self.position.saturating_add(u64::try_from(within).unwrap_or(u64::MAX));
            if self.position > self.len {
                return Err(self.truncated(what));
            }
            if left > 0 {
                let len = self.count("bytes of a text", 1)?;
                self.skip(len, what)?;
                left = left.saturating_sub(1);
            }
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8], what: &'static str) -> Result<(), Error> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if len > self.remaining() {
            return Err(self.truncated(what));
        }
        match self.inner.read_exact(bytes) {
            Ok(()) => {
                self.position = self.position.saturating_add(len);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(self.truncated(what)),
            Err(error) => Err(file::reading(error)),
        }
    }

    fn truncated(&self, what: &'static str) -> Error {
        damaged(Code::GgufTruncated, "", "the file", format!("ends within {what} ({})", self.place()))
    }

    fn place(&self) -> String {
        format!("at byte {} of {}", group_thousands(self.position), group_thousands(self.len))
    }
}
