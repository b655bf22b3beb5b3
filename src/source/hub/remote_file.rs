//! A file on the hub, read like one on disk: by ranged requests through one window, so that a header costs its own length
//! and little more.

use std::io::{self, Read, Seek, SeekFrom};

use ureq::BodyReader;

use super::client::{Client, Reply};
use super::error;
use crate::units::{Code, Error};

/// The first range that is asked for, which most headers fit; each further one is twice as long, up to the last.
const FIRST: u64 = 64 << 10;
const LAST: u64 = 1 << 20;
/// What is received of one file at most: more than any header has.
const MAX_RECEIVED: u64 = 128 << 20;

/// A file of a repository, of which only what is read is received.
pub(super) struct RemoteFile<'a> {
    client: &'a Client,
    /// Its name, for errors.
    name: String,
    /// Where it really is, after all redirects.
    address: String,
    pub(super) len: u64,
    position: u64,
    /// What was received last, and where in the file it starts.
    window: Vec<u8>,
    window_start: u64,
    /// Bytes of the next request.
    next: u64,
    received: u64,
    /// The rest of the file, from a server that sends all of it whatever range is asked for.
    whole: Option<BodyReader<'static>>,
}

/// What a request for a range gave.
enum Piece {
    /// The range, and the length of the file.
    Range { bytes: Vec<u8>, len: u64 },
    /// The whole file, from its start.
    Whole { body: BodyReader<'static>, len: u64 },
    /// A status that has no part of the file.
    Other(Reply),
}

impl<'a> RemoteFile<'a> {
    /// The file at `address`, with its first bytes; the answer, if it is another than the file.
    pub(super) fn open(client: &'a Client, address: &str, name: &str) -> Result<Result<Self, Reply>, Error> {
        let range = (0, FIRST.saturating_sub(1));
        let (piece, address) = client.get(address, Some(range), |reply| {
            let address = reply.address.clone();
            Ok((piece(client, reply, range, name)?, address))
        })?;
        let (bytes, len, whole) = match piece {
            Piece::Range { bytes, len } => (Some(bytes), len, None),
            Piece::Whole { body, len } => (None, len, Some(body)),
            Piece::Other(reply) => return Ok(Err(reply)),
        };
        let (name, window) = (name.to_owned(), Vec::new());
        let (position, window_start, received) = (0, 0, 0);
        let mut file =
            Self { client, name, address, len, position, window, window_start, next: FIRST, received, whole };
        bytes.map_or(Ok(()), |bytes| file.received(bytes))?;
        Ok(Ok(file))
    }

    /// What is in the window from the position on.
    fn ahead(&self) -> &[u8] {
        let offset = self.position.checked_sub(self.window_start).and_then(|offset| usize::try_from(offset).ok());
        offset.and_then(|offset| self.window.get(offset..)).unwrap_or_default()
    }

    fn malformed(&self, problem: &str) -> Error {
        error::malformed(&self.client.host(), problem)
    }

    fn received(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.received = self.received.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.window = bytes;
        self.next = self.next.saturating_mul(2).min(LAST);
        if self.received > MAX_RECEIVED {
            return Err(Error::new(Code::TooLarge, "", &self.name, "is more than any header has", "give another file"));
        }
        Ok(())
    }

    /// Moves the window to the position.
    fn fetch(&mut self) -> Result<(), Error> {
        if self.whole.is_some() {
            return self.read_on();
        }
        let first = self.position;
        let last = first.saturating_add(self.next).min(self.len).saturating_sub(1);
        let name = self.name.clone();
        let found = self
            .client
            .get(&self.address, Some((first, last)), |reply| piece(self.client, reply, (first, last), &name))?;
        match found {
            Piece::Range { bytes, len } if len == self.len => {
                self.window_start = first;
                self.received(bytes)
            }
            Piece::Range { .. } => Err(self.malformed("changed the file while it was read")),
            Piece::Whole { .. } => Err(self.malformed("sends parts of the file, and then all of it")),
            Piece::Other(reply) => Err(error::status(&self.client.host(), reply.status)),
        }
    }

    /// Receives the next part of the whole file, until the position is in it.
    fn read_on(&mut self) -> Result<(), Error> {
        while self.ahead().is_empty() {
            let end = self.window_start.saturating_add(u64::try_from(self.window.len()).unwrap_or(u64::MAX));
            let Some(body) = self.whole.as_mut().filter(|_| end <= self.position) else {
                return Err(error::malformed(&self.client.host(), "does not send parts of a file"));
            };
            let mut bytes = vec![0; usize::try_from(FIRST).unwrap_or_default()];
            let count = self.client.read(body, &mut bytes, (&self.address, &self.name))?;
            bytes.truncate(count);
            if bytes.is_empty() {
                return Err(error::truncated(&self.client.host(), &self.name));
            }
            self.window_start = end;
            self.received(bytes)?;
        }
        Ok(())
    }
}

/// What an answer to a request for a range is.
fn piece(client: &Client, reply: Reply, (first, last): (u64, u64), name: &str) -> Result<Piece, Error> {
    match reply.status {
        206 => {
            let wrong = || error::malformed(&client.host(), "sends another part of the file than was asked for");
            let (start, end, len) = reply.header("content-range").and_then(content_range).ok_or_else(wrong)?;
            if start != first || end > last || end >= len {
                return Err(wrong());
            }
            let promised = end.saturating_sub(start).saturating_add(1);
            let bytes = client.bytes(reply, name, promised)?;
            match u64::try_from(bytes.len()) {
                Ok(count) if count == promised => Ok(Piece::Range { bytes, len }),
                Ok(count) if count > promised => Err(wrong()),
                _ => Err(error::truncated(&client.host(), name)),
            }
        }
        200 => {
            let len = reply.body.content_length();
            let len = len.ok_or_else(|| error::malformed(&client.host(), "does not say how long the file is"))?;
            Ok(Piece::Whole { body: reply.body.into_reader(), len })
        }
        _ => Ok(Piece::Other(reply)),
    }
}

/// The first byte, the last and the length of the file, of `bytes 0-99/1000`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, len) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last, len.trim().parse().ok()?))
}

impl Read for RemoteFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.len || buffer.is_empty() {
            return Ok(0);
        }
        if self.ahead().is_empty() {
            self.fetch().map_err(|error| io::Error::other(error.at(&self.client.field)))?;
        }
        let mut ahead = self.ahead();
        let count = ahead.read(buffer)?;
        self.position = self.position.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

impl Seek for RemoteFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn ranges_are_read_or_refused() {
        assert_eq!(content_range("bytes 0-99/1000"), Some((0, 99, 1000)));
        for text in ["", "bytes */1000", "bytes 5-4/10", "bytes 0-9/*", "lines 0-1/2", "bytes 0-99999999999999999999/1"]
        {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
