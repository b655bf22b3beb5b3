//! The files of one repository at one revision: texts, listings, and files of which only the header is read.

use serde::Deserialize;

use super::HubSettings;
use super::address::escaped;
use super::client::{Client, Reply};
use super::error::{HubError, HubProblem};
use super::id::HubId;
use super::remote_file::RemoteFile;
use crate::source::weights::is_inside;

/// The longest listing of a repository that is read.
const MAX_LISTING: u64 = 32 << 20;

/// A repository at a revision.
pub(in crate::source) struct Repository<'a> {
    client: Client,
    id: &'a HubId,
    nearest: &'a dyn Fn() -> Vec<String>,
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
    pub(super) fn new(
        id: &'a HubId,
        settings: &HubSettings,
        token: Option<String>,
        nearest: &'a dyn Fn() -> Vec<String>,
    ) -> Result<Self, HubError> {
        Ok(Self { client: Client::new(settings, token, id.to_string())?, id, nearest })
    }

    /// The bytes of a small file, and one more than `limit` of a large one; none if it is not there.
    pub(in crate::source) fn bytes(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>, HubError> {
        self.client.get(&self.address(file), None, |reply| match reply.status {
            200 => self.client.bytes(reply, file, limit).map(Some),
            _ if is_not_there(&reply) => Ok(None),
            _ => Err(self.refusal(&reply)),
        })
    }

    /// A file to read the start of; none if it is not there.
    pub(in crate::source) fn open(&self, file: &str) -> Result<Option<RemoteFile<'_>>, HubError> {
        match RemoteFile::open(&self.client, &self.address(file), file)? {
            Ok(file) => Ok(Some(file)),
            Err(reply) if is_not_there(&reply) => Ok(None),
            Err(reply) => Err(self.refusal(&reply)),
        }
    }

    /// The names of all its files.
    pub(in crate::source) fn files(&self) -> Result<Vec<String>, HubError> {
        let address = format!(
            "{}/api/models/{}/revision/{}",
            self.client.endpoint(),
            escaped(&self.id.repository, true),
            escaped(&self.revision(), false)
        );
        let text = self.client.get(&address, None, |reply| match reply.status {
            200 => self.client.bytes(reply, "the list of its files", MAX_LISTING),
            _ => Err(self.refusal(&reply)),
        })?;
        let listing: Listing = serde_json::from_slice(&text)
            .map_err(|_| self.error(HubProblem::Answer("gives no list of the files of the repository")))?;
        // A name that leads out of the repository is none of its files.
        Ok(listing.siblings.into_iter().map(|sibling| sibling.rfilename).filter(|name| is_inside(name)).collect())
    }

    /// An error of this repository.
    pub(super) fn error(&self, problem: HubProblem) -> HubError {
        self.client.error(problem)
    }

    /// The commit of the first answer, so that all files are of one; before it, the revision as it was given.
    fn revision(&self) -> String {
        self.client.commit().unwrap_or_else(|| self.id.revision.clone())
    }

    fn address(&self, file: &str) -> String {
        format!(
            "{}/{}/resolve/{}/{}",
            self.client.endpoint(),
            escaped(&self.id.repository, true),
            escaped(&self.revision(), false),
            escaped(file, true)
        )
    }

    /// Why there is no file, by the status and what the hub's own header says.
    fn refusal(&self, reply: &Reply) -> HubError {
        let status = reply.status;
        if !self.client.is_endpoint(&reply.address) {
            return self.client.error_at(&reply.address, HubProblem::Status(status));
        }
        let token = self.client.has_token();
        let missing = || HubProblem::Missing { token, status, nearest: (self.nearest)() };
        let page = || format!("{}/{}", self.client.endpoint(), self.id.repository);
        self.error(match (status, reply.header("x-error-code")) {
            (401 | 403, Some("GatedRepo")) => HubProblem::Gated { token, status, page: page() },
            (404, Some("RevisionNotFound")) => HubProblem::NoRevision { revision: self.id.revision.clone() },
            (401 | 403 | 404, Some("RepoNotFound")) => missing(),
            (401, _) if token => HubProblem::TokenRefused { status },
            (401 | 404, _) => missing(),
            (403, _) => HubProblem::Forbidden { token, status },
            _ => HubProblem::Status(status),
        })
    }
}

/// Whether it is only the file that is missing. A hub that does not say what is missing is asked for a list later.
fn is_not_there(reply: &Reply) -> bool {
    reply.status == 404 && matches!(reply.header("x-error-code"), None | Some("EntryNotFound"))
}
