//! Models by the id they have on the Hugging Face hub: from its local cache, else over HTTPS (feature `hub`).
//!
//! Nothing is written to disk, and no weights are received: texts, and the headers of files. The environment is read by
//! whoever calls, who hands it down as [`HubSettings`].

mod cache;
mod error;
mod files;
mod id;

#[cfg(feature = "hub")]
mod address;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
pub(super) mod remote;
#[cfg(feature = "hub")]
mod remote_file;
#[cfg(feature = "hub")]
mod repository;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use self::cache::Miss;
pub use self::error::{HubError, HubProblem};
pub use self::id::HubId;

/// Where models on the hub are looked for.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// The directory of the local cache.
    pub cache: Option<PathBuf>,
    /// Who says that the hub is not to be asked, if someone does: an option or a variable.
    pub offline: Option<&'static str>,
    /// The hub, `https://huggingface.co` or a mirror.
    pub endpoint: String,
    /// What opens private and gated repositories. It is sent to the endpoint and to nobody else.
    pub token: Option<Token>,
    /// The file that has the token where there is none given.
    pub token_file: Option<PathBuf>,
    /// A file of certificates to trust, in place of those built in.
    pub certificates: Option<PathBuf>,
    /// How long an answer, or a part of it, may take to come.
    pub timeout: Duration,
    /// Told, when the hub is asked, for what, where, and the count of bytes received; what it gives is dropped when the hub
    /// has answered.
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

/// The path of the model in the cache.
pub(super) fn cached(settings: &HubSettings, id: &HubId) -> Result<PathBuf, Miss> {
    cache::find(settings.cache.as_deref(), id)
}

/// An error before anyone is asked.
pub(super) fn unasked(id: &HubId, problem: HubProblem) -> HubError {
    HubError { field: id.to_string(), host: String::new(), problem }
}
