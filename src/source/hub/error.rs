//! Why the hub gives no model: each reason with its own remedy.

use super::cache::Miss;
use crate::units::{Code, Diagnose, Error, display_diagnosis};

/// Why the hub gives no model.
#[derive(Debug)]
pub struct HubError {
    /// What was asked for: an id, or the name of a setting that is wrong.
    pub field: String,
    /// Where: the host.
    pub host: String,
    /// Why not.
    pub problem: HubProblem,
}

/// What stands between an id and its model.
#[derive(Debug)]
pub enum HubProblem {
    /// It is not in the cache, and the hub may not be asked.
    Offline {
        /// What the cache said.
        miss: Miss,
        /// Whose word it is: an option or a variable.
        by: &'static str,
        /// Names of the catalogue that could have been meant.
        nearest: Vec<String>,
    },
    /// It is not in the cache, and this program was built without a client.
    NoClient {
        /// What the cache said.
        miss: Miss,
        /// Names of the catalogue that could have been meant.
        nearest: Vec<String>,
    },
    /// `HF_ENDPOINT` is no address of a server.
    Endpoint(String),
    /// The token has characters that no token has.
    Token,
    /// No such repository, or a private one that the token does not open.
    Missing {
        /// Whether a token was sent.
        token: bool,
        /// The status of the answer.
        status: u16,
        /// Names of the catalogue that could have been meant.
        nearest: Vec<String>,
    },
    /// Its licence must be accepted first.
    Gated {
        /// Whether a token was sent.
        token: bool,
        /// The status of the answer.
        status: u16,
        /// Where it is accepted.
        page: String,
    },
    /// The token is none that the hub knows.
    TokenRefused {
        /// The status of the answer.
        status: u16,
    },
    /// It is there, and may not be read.
    Forbidden {
        /// Whether a token was sent.
        token: bool,
        /// The status of the answer.
        status: u16,
    },
    /// No such branch, tag or commit.
    NoRevision {
        /// The revision.
        revision: String,
    },
    /// Neither a `config.json` nor a GGUF file.
    NoModel,
    /// Several GGUF files; their names.
    SeveralGguf(Vec<String>),
    /// No such GGUF file; the names of those that are there.
    NoFile {
        /// The file, or the tag.
        file: String,
        /// Those that are there.
        files: Vec<String>,
    },
    /// Too many requests.
    RateLimited {
        /// What the hub says of the time to wait.
        retry_after: Option<String>,
        /// Whether a token was sent.
        token: bool,
    },
    /// The hub is broken.
    Server {
        /// The status of the answer.
        status: u16,
        /// How often it was asked.
        attempts: usize,
    },
    /// A status that no file has.
    Status(u16),
    /// Redirected too often, in a way that is not safe, or to nowhere.
    Redirect(String),
    /// It can't be reached.
    Unreachable(String),
    /// Its certificate is not trusted, or what it says is no TLS.
    Certificate(String),
    /// A file of certificates that has none.
    NoCertificates,
    /// It does not answer in time.
    TimedOut,
    /// It ends before what it promised is there.
    Truncated(String),
    /// An answer that is none.
    Answer(&'static str),
    /// More than any header has.
    TooLarge(String),
}

impl Diagnose for HubError {
    #[expect(clippy::too_many_lines, reason = "an arm for each problem, and nothing else")]
    fn diagnosis(&self) -> Error {
        let Self { host, .. } = self;
        let diagnosis = |code, found: String, problem: String, remedy: String| Error {
            code,
            field: self.field.clone(),
            found: Some(found),
            problem,
            remedy,
        };
        let again = || "try again, or give a config.json".to_owned();
        match &self.problem {
            HubProblem::Offline { miss, by, nearest } => diagnosis(
                Code::Offline,
                miss.to_string(),
                format!("and {by} keeps the hub from being asked"),
                meant(nearest, &format!("leave {by} out, or fetch the model's files into the cache first")),
            ),
            HubProblem::NoClient { miss, nearest } => diagnosis(
                Code::NoClient,
                miss.to_string(),
                "and this program was built without the feature hub".into(),
                meant(nearest, "build it with that feature, or fetch the model's files into the cache"),
            ),
            HubProblem::Endpoint(found) => diagnosis(
                Code::HubEndpoint,
                found.clone(),
                "is no address of a server".into(),
                "write https://, the host, and no name or password".into(),
            ),
            HubProblem::Token => diagnosis(
                Code::HubToken,
                "the token".into(),
                "has characters that no token has".into(),
                "set it to the token alone".into(),
            ),
            HubProblem::Missing { token: false, status: status @ (401 | 403), nearest } => diagnosis(
                Code::HubPrivate,
                format!("{host} ({status})"),
                format!("has no such public repository, {NOT_HERE}"),
                meant(nearest, "check the spelling; if it is private, set HF_TOKEN to a token that may read it"),
            ),
            HubProblem::Missing { token, status, nearest } => diagnosis(
                Code::HubMissing,
                format!("{host} ({status})"),
                match token {
                    true => format!("has no such repository, or the token may not see it, {NOT_HERE}"),
                    false => format!("has no such repository, {NOT_HERE}"),
                },
                meant(nearest, "check the spelling"),
            ),
            HubProblem::Gated { token, status, page } => diagnosis(
                Code::HubGated,
                format!("{host} ({status})"),
                "gives it only to those who accepted its licence".into(),
                if *token {
                    format!("accept it at {page} with the account of the token, or give a config.json")
                } else {
                    format!("accept it at {page} and set HF_TOKEN, or give a config.json")
                },
            ),
            HubProblem::TokenRefused { status } => diagnosis(
                Code::HubToken,
                format!("{host} ({status})"),
                "does not know the token".into(),
                "set HF_TOKEN to a valid one, or leave it out for public models".into(),
            ),
            HubProblem::Forbidden { token, status } => diagnosis(
                Code::HubForbidden,
                format!("{host} ({status})"),
                "does not let it be read".into(),
                if *token { "use a token that may read it" } else { "set HF_TOKEN to a token that may read it" }.into(),
            ),
            HubProblem::NoRevision { revision } => diagnosis(
                Code::HubRevision,
                revision.clone(),
                format!("is no revision of it at {host}"),
                "name a branch, a tag or a whole commit, or leave it out".into(),
            ),
            HubProblem::NoModel => diagnosis(
                Code::HubNoModel,
                "the repository".into(),
                format!("has no config.json and no GGUF file at {host}"),
                "name the repository of a language model".into(),
            ),
            HubProblem::SeveralGguf(names) => diagnosis(
                Code::SeveralGguf,
                format!("{} GGUF files", names.len()),
                "are there".into(),
                format!("say which after a colon, {}:FILE: {}", self.field, listed(names)),
            ),
            HubProblem::NoFile { file, files } => diagnosis(
                Code::HubFile,
                file.clone(),
                "is no GGUF file there".into(),
                match files.as_slice() {
                    [] => "it has none: leave the file out".into(),
                    files => format!("there are {}", listed(files)),
                },
            ),
            HubProblem::RateLimited { retry_after, token } => diagnosis(
                Code::HubRateLimited,
                format!("{host} (429)"),
                "had too many requests".into(),
                match retry_after {
                    Some(wait) => format!("try again in {wait} s{}", if *token { "" } else { ", or set HF_TOKEN" }),
                    None => format!("try again later{}", if *token { "" } else { ", or set HF_TOKEN" }),
                },
            ),
            HubProblem::Server { status, attempts } => diagnosis(
                Code::HubServer,
                format!("{host} ({status})"),
                format!("is broken, asked {attempts} times"),
                again(),
            ),
            HubProblem::Status(status) => {
                diagnosis(Code::HubStatus, format!("{host} ({status})"), "gives no file".into(), again())
            }
            HubProblem::Redirect(reason) => {
                diagnosis(Code::HubRedirect, host.clone(), format!("redirects {reason}"), "check HF_ENDPOINT".into())
            }
            HubProblem::Unreachable(reason) => diagnosis(
                Code::HubUnreachable,
                host.clone(),
                format!("can't be reached ({reason})"),
                "check the network and HF_ENDPOINT, or give a config.json".into(),
            ),
            HubProblem::Certificate(reason) => diagnosis(
                Code::HubCertificate,
                host.clone(),
                format!("is not trusted ({reason})"),
                "behind a proxy with a certificate of its own set SSL_CERT_FILE to a file with that, or give a config.json"
                    .into(),
            ),
            HubProblem::NoCertificates => diagnosis(
                Code::HubCertificates,
                "the file".into(),
                "has no certificates".into(),
                "set SSL_CERT_FILE to a file with some (PEM), or leave it out".into(),
            ),
            HubProblem::TimedOut => diagnosis(
                Code::HubTimedOut,
                host.clone(),
                "does not answer in time".into(),
                "try again, or set HF_HUB_DOWNLOAD_TIMEOUT to more seconds".into(),
            ),
            HubProblem::Truncated(file) => {
                diagnosis(Code::HubTruncated, file.clone(), format!("ends too early at {host}"), again())
            }
            HubProblem::Answer(reason) => diagnosis(
                Code::HubAnswer,
                host.clone(),
                (*reason).into(),
                "check HF_ENDPOINT, or give a config.json".into(),
            ),
            HubProblem::TooLarge(file) => {
                diagnosis(Code::TooLarge, file.clone(), "is more than any header has".into(), "give another file".into())
            }
        }
    }
}

display_diagnosis!(HubError);

/// What was tried before the hub was asked.
const NOT_HERE: &str = "and it is no file here and in neither the catalogue nor the cache";

/// The remedy, and before it the names that could have been meant.
fn meant(nearest: &[String], remedy: &str) -> String {
    match nearest {
        [] => remedy.to_owned(),
        names => format!("nearest names: {}; {remedy}", names.join(", ")),
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
