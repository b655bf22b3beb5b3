//! The files of one repository at one revision: texts, listings, and files of which only the header is read.

use std::path::Path;

use serde::Deserialize;

use super::address::{Slashes, escaped};
use super::client::{Client, Reply};
use super::id::HubId;
use super::remote_file::RemoteFile;
use super::{HubSettings, Token, error, meant};
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

/// What the hub says of a repository.
#[derive(Deserialize)]
struct Listing {
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
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
        escaped(&self.client.commit().unwrap_or_else(|| self.id.revision.clone()), Slashes::Escape)
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
            return error::status(&host, status);
        }
        let token = self.client.has_token();
        let refused = |code, problem: &str, remedy: &str| error::refused(code, &host, status, problem, remedy);
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
            _ => error::status(&host, status),
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
        error::refused(code, host, status, &format!("has {repository}, {NOT_HERE}"), &remedy)
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
        let listing: Listing = serde_json::from_slice(&text).map_err(|_| {
            let problem = "gives no list of the files of the repository";
            error::malformed(&self.client.host(), problem).at(&self.client.field)
        })?;
        // A name that leads out of the repository is none of its files.
        Ok(listing.siblings.into_iter().map(|sibling| sibling.rfilename).filter(|name| is_inside(name)).collect())
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
