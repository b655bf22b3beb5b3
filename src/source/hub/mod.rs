//! Models by the id they have on the Hugging Face hub: from its local cache, else over HTTPS (feature `hub`).
//!
//! Nothing is written to disk, and no weights are received: texts, and the headers of files. The environment is read by
//! whoever calls, who hands it down as [`HubSettings`].

mod cache;
mod id;

#[cfg(feature = "hub")]
mod address;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod repository;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::catalogue::{self, ModelEntry};
use crate::units::{Code, Error};

pub(super) use self::cache::find as cached;
pub use self::id::HubId;
#[cfg(feature = "hub")]
pub(super) use self::repository::Repository;

/// Where models on the hub are looked for.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// The directory of the local cache.
    pub cache: Option<PathBuf>,
    /// The option or variable that forbids asking the hub, if one does.
    pub offline: Option<&'static str>,
    /// The hub, `https://huggingface.co` or a mirror.
    pub endpoint: String,
    /// What opens private and gated repositories. It is sent to the endpoint alone.
    pub token: Option<Token>,
    /// The file that has the token where there is none given.
    pub token_file: Option<PathBuf>,
    /// A file of certificates to trust, in place of those built in.
    pub certificates: Option<PathBuf>,
    /// How long an answer, or a part of it, may take to come.
    pub timeout: Duration,
    /// Called when the hub is asked, with the id, the host and the count of bytes received; its result is dropped when the
    /// hub has answered.
    pub watch: Option<Watch>,
}

/// What may show that something is going on.
pub type Watch = fn(&str, &str, Arc<AtomicU64>) -> Box<dyn Any>;

impl Default for HubSettings {
    /// The hub itself, for public models, without a cache.
    fn default() -> Self {
        Self {
            cache: None,
            offline: None,
            endpoint: "https://huggingface.co".into(),
            token: None,
            token_file: None,
            certificates: None,
            timeout: Duration::from_secs(10),
            watch: None,
        }
    }
}

/// A token, which is never shown.
#[derive(Clone)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The id is not in the cache, and the option or variable `by` keeps the hub from being asked.
pub(super) fn offline(id: &HubId, miss: &str, by: &str, overlay: &[ModelEntry]) -> Error {
    let problem = format!("{miss}, and {by} is set");
    let remedy = format!("leave {by} out, or fetch the model's files into the cache first");
    Error::without_value(Code::Offline, id.to_string(), problem, meant(id, overlay, &remedy))
}

#[cfg(not(feature = "hub"))]
pub(super) fn no_client(id: &HubId, miss: &str, overlay: &[ModelEntry]) -> Error {
    let problem = format!("{miss}, and this program was built without the feature hub");
    let remedy = "build it with that feature, or fetch the model's files into the cache";
    Error::without_value(Code::NoClient, id.to_string(), problem, meant(id, overlay, remedy))
}

/// The remedy, and before it the names of the catalogue that could have been meant.
fn meant(id: &HubId, overlay: &[ModelEntry], remedy: &str) -> String {
    match catalogue::nearest(&id.repository, overlay).as_slice() {
        [] => remedy.to_owned(),
        names => format!("nearest names: {}; {remedy}", names.join(", ")),
    }
}
