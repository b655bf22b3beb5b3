//! The files of one repository at one revision: texts, listings, and files of which only the header is read.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;
use ureq::BodyReader;

use super::address::{Slashes, escaped};
use super::client::{self, Client, Reply};
use super::id::HubId;
use super::{HubSettings, Token, meant};
use crate::catalogue::ModelEntry;
use crate::source::file::{self, MAX_LIST_BYTES};
use crate::source::file_names::{has_extension, is_inside, model_name};
use crate::source::files::{CONFIG, Files, Opened};
use crate::units::{Code, Error};

/// A repository at a revision.
pub(in crate::source) struct Repository<'a> {
    client: Client,
    id: HubId,
    /// The user's own models, for the names that could have been meant.
    overlay: &'a [ModelEntry],
}

impl<'a> Repository<'a> {
    /// The repository of `id`; nothing is asked yet.
    pub(in crate::source) fn new(id: HubId, settings: &HubSettings, overlay: &'a [ModelEntry]) -> Result<Self, Error> {
        let given = settings.token.as_ref().map(|Token(token)| token.trim().to_owned());
        let token = given.or_else(|| file::read_token(settings.token_file.as_deref()?));
        let client = Client::new(settings, token.filter(|token| !token.is_empty()), id.to_string())?;
        Ok(Self { client, id, overlay })
    }

    /// The commit of the first answer, so that all files are of one; before it, the revision as it was given.
    fn escaped_revision(&self) -> String {
        escaped(&self.client.commit.borrow().clone().unwrap_or_else(|| self.id.revision.clone()), Slashes::Escape)
    }

    fn address(&self, file: &str) -> String {
        let (repository, file) = (escaped(&self.id.repository, Slashes::Keep), escaped(file, Slashes::Keep));
        format!("{}/{repository}/resolve/{}/{file}", self.client.endpoint, self.escaped_revision())
    }

    /// Why there is no file, by the status and what the hub's own header says.
    fn refusal(&self, reply: &Reply) -> Error {
        let status = reply.status;
        let host = self.client.host_of(&reply.address);
        if !self.client.is_endpoint(&reply.address) {
            return client::status(&host, status);
        }
        let token = self.client.has_token();
        let refused = |code, problem: &str, remedy: &str| client::refused(code, &host, status, problem, remedy);
        match (status, reply.header("x-error-code")) {
            (401 | 403, Some("GatedRepo")) => {
                let page = format!("{}/{}", self.client.endpoint, self.id.repository);
                let how = if token { "with the account of the token" } else { "and set HF_TOKEN" };
                let remedy = format!("accept it at {page} {how}, or give a config.json");
                refused(Code::HubGated, "gives it only to those who accepted its licence", &remedy)
            }
            (404, Some("RevisionNotFound")) => Error::new(
                Code::HubRevision,
                "",
                &self.id.revision,
                format!("is not a revision of it at {host}"),
                "name a branch, a tag or a whole commit, or leave it out",
            ),
            (401 | 403 | 404, Some("RepoNotFound")) => self.missing(&host, status),
            (401, _) if token => {
                let remedy = "set HF_TOKEN to a valid one, or leave it out for public models";
                refused(Code::HubToken, "does not know the token", remedy)
            }
            (401 | 404, _) => self.missing(&host, status),
            (403, _) => {
                let remedy =
                    if token { "use a token that may read it" } else { "set HF_TOKEN to a token that may read it" };
                refused(Code::HubForbidden, "does not let it be read", remedy)
            }
            _ => client::status(&host, status),
        }
    }

    /// No such repository, or a private one that the token does not open.
    fn missing(&self, host: &str, status: u16) -> Error {
        const NOT_HERE: &str = "and it is not a file, not in the catalogue, not in the cache";
        let token = self.client.has_token();
        let (code, repository, remedy) = match status {
            401 | 403 if !token => {
                let remedy = "check the spelling; if it is private, set HF_TOKEN to a token that may read it";
                (Code::HubPrivate, "no such public repository", remedy)
            }
            _ if token => (Code::HubMissing, "no such repository, or the token may not see it", "check the spelling"),
            _ => (Code::HubMissing, "no such repository", "check the spelling"),
        };
        let remedy = meant(&self.id, self.overlay, remedy);
        client::refused(code, host, status, &format!("has {repository}, {NOT_HERE}"), &remedy)
    }

    /// The answer to a request for the whole of an address, of at most `limit` bytes and one more; `None` if only the file is
    /// missing.
    fn get(&self, address: &str, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        self.client.get(address, None, |reply| match reply.status {
            200 => self.client.bytes(reply, name, limit).map(Some),
            _ if is_not_there(&reply) => Ok(None),
            _ => Err(self.refusal(&reply)),
        })
    }
}

impl Files for Repository<'_> {
    fn text(&self, name: &str, limit: u64) -> Result<Option<String>, Error> {
        let bytes = self.get(&self.address(name), name, limit)?;
        bytes.map(|bytes| file::read_text(bytes.as_slice(), &self.label(name), limit)).transpose()
    }

    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, Error> {
        match RemoteFile::open(&self.client, &self.address(name), name).map_err(|error| error.at(&self.client.field))? {
            Ok(file) => Ok(Some(Opened { len: file.len, reader: Box::new(file) })),
            Err(reply) if is_not_there(&reply) => Ok(None),
            Err(reply) => Err(self.refusal(&reply).at(&self.client.field)),
        }
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let repository = escaped(&self.id.repository, Slashes::Keep);
        let endpoint = &self.client.endpoint;
        let address = format!("{endpoint}/api/models/{repository}/revision/{}", self.escaped_revision());
        let text = self.client.get(&address, None, |reply| match reply.status {
            200 => self.client.bytes(reply, "the list of its files", MAX_LIST_BYTES),
            _ => Err(self.refusal(&reply)),
        })?;
        let listed = |listing: Value| -> Option<Vec<String>> {
            let name = |sibling: &Value| Some(sibling.get("rfilename")?.as_str()?.to_owned());
            listing.get("siblings")?.as_array()?.iter().map(name).collect()
        };
        let names = serde_json::from_slice(&text).ok().and_then(listed).ok_or_else(|| {
            let problem = "gives no list of the files of the repository";
            client::malformed(&self.client.host(), problem).at(&self.client.field)
        })?;
        // A name that leads out of the repository is none of its files.
        Ok(names.into_iter().filter(|name| is_inside(name)).collect())
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn label(&self, name: &str) -> String {
        if has_extension(name, "gguf") {
            HubId { file: Some(name.to_owned()), ..self.id.clone() }.to_string()
        } else {
            format!("{}/{name}", HubId { file: None, ..self.id.clone() })
        }
    }

    fn model_name(&self, name: &str) -> String {
        if name == CONFIG { self.id.repository.clone() } else { model_name(Path::new(name)) }
    }

    fn error_in(&self, name: &str, error: Error) -> Error {
        // What the hub itself answers to a request in the middle of a file has the id already.
        if error.field == self.client.field { error } else { error.in_file(self.label(name)) }
    }

    fn no_model(&self, wanted: Option<&str>, others: &[String]) -> Error {
        let field = &self.client.field;
        let Some(wanted) = wanted else {
            let problem = format!("has no config.json and no GGUF file at {}", self.client.host());
            let remedy = "name the repository of a language model";
            return Error::new(Code::HubNoModel, field, "the repository", problem, remedy);
        };
        let remedy = match others {
            [] => "it has none: leave the file out".into(),
            others => format!("there are {}", listed(others)),
        };
        Error::new(Code::HubFile, field, wanted, "is not a GGUF file there", remedy)
    }

    fn several_gguf(&self, names: &[String]) -> Error {
        let (field, found) = (&self.client.field, format!("{} GGUF files", names.len()));
        let remedy = format!("say which after a colon, {field}:FILE: {}", listed(names));
        Error::new(Code::SeveralGguf, field, found, "are there", remedy)
    }
}

/// Names, and how many more there are.
fn listed(names: &[String]) -> String {
    const MOST: usize = 40;
    let shown = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MOST).filter(|&more| more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}

/// Whether it is only the file that is missing. A hub that does not say what is missing is asked for a list later.
fn is_not_there(reply: &Reply) -> bool {
    reply.status == 404 && matches!(reply.header("x-error-code"), None | Some("EntryNotFound"))
}

// A file on the hub, read like one on disk: by ranged requests through one window, so that a header costs its own length
// and little more.

/// The first range that is asked for, which most headers fit; each further one is twice as long, up to the last.
const FIRST: u64 = 64 << 10;
const LAST: u64 = 1 << 20;
/// What is received of one file at most: more than any header has.
const MAX_RECEIVED: u64 = 128 << 20;

/// A file of a repository, of which only what is read is received.
struct RemoteFile<'a> {
    client: &'a Client,
    /// Its name, for errors.
    name: String,
    /// Where it really is, after all redirects.
    address: String,
    len: u64,
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
    fn open(client: &'a Client, address: &str, name: &str) -> Result<Result<Self, Reply>, Error> {
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
        client::malformed(&self.client.host(), problem)
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
            Piece::Other(reply) => Err(client::status(&self.client.host(), reply.status)),
        }
    }

    /// Receives the next part of the whole file, until the position is in it.
    fn read_on(&mut self) -> Result<(), Error> {
        while self.ahead().is_empty() {
            let end = self.window_start.saturating_add(u64::try_from(self.window.len()).unwrap_or(u64::MAX));
            let Some(body) = self.whole.as_mut().filter(|_| end <= self.position) else {
                return Err(client::malformed(&self.client.host(), "does not send parts of a file"));
            };
            let mut bytes = vec![0; usize::try_from(FIRST).unwrap_or_default()];
            let count = self.client.read(body, &mut bytes, (&self.address, &self.name))?;
            bytes.truncate(count);
            if bytes.is_empty() {
                return Err(client::truncated(&self.client.host(), &self.name));
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
            let wrong = || client::malformed(&client.host(), "sends another part of the file than was asked for");
            let (start, end, len) = reply.header("content-range").and_then(content_range).ok_or_else(wrong)?;
            if start != first || end > last || end >= len {
                return Err(wrong());
            }
            let promised = end.saturating_sub(start).saturating_add(1);
            let bytes = client.bytes(reply, name, promised)?;
            match u64::try_from(bytes.len()) {
                Ok(count) if count == promised => Ok(Piece::Range { bytes, len }),
                Ok(count) if count > promised => Err(wrong()),
                _ => Err(client::truncated(&client.host(), name)),
            }
        }
        200 => {
            let len = reply.body.content_length();
            let len = len.ok_or_else(|| client::malformed(&client.host(), "does not say how long the file is"))?;
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
