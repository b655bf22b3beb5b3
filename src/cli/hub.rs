//! Where the hub's cache, its address and the token are: read from the variables that its own programs read.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::source::{HubId, HubSettings, Token, Watch};

/// The settings, if one of the models may be on the hub: the environment is not read for the others.
pub(super) fn settings_for<'a>(mut models: impl Iterator<Item = &'a str>, offline: bool) -> Option<HubSettings> {
    models.any(|name| HubId::parse(name).is_some()).then(|| settings(offline))
}

/// The settings that arguments and environment make.
pub(super) fn settings(is_offline: bool) -> HubSettings {
    let defaults = HubSettings::default();
    let home = path("HF_HOME").or_else(|| Some(cache_home()?.join("huggingface")));
    let within_home = |name: &str| home.as_ref().map(|home| home.join(name));
    let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| is_on(name));
    let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).map(Token);
    let implicit = !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN");
    let seconds = text("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.parse().ok()).filter(|&seconds| seconds > 0);
    HubSettings {
        cache: path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).or_else(|| within_home("hub")),
        offline: if is_offline { Some("--offline") } else { offline },
        endpoint: text("HF_ENDPOINT").unwrap_or(defaults.endpoint),
        token: token.filter(|_| implicit),
        token_file: path("HF_TOKEN_PATH").or_else(|| within_home("token")).filter(|_| implicit),
        certificates: path("SSL_CERT_FILE").or_else(|| path("REQUESTS_CA_BUNDLE")),
        timeout: seconds.map_or(defaults.timeout, Duration::from_secs),
        watch: watch(),
    }
}

/// A variable that is set to something.
fn text(name: &str) -> Option<String> {
    env::var(name).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A variable that is on, as the hub's own programs take it.
fn is_on(name: &str) -> bool {
    text(name).is_some_and(|text| ["1", "on", "yes", "true"].contains(&text.to_lowercase().as_str()))
}

/// A variable that is a path; `~` is the home directory.
fn path(name: &str) -> Option<PathBuf> {
    let path = env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from)?;
    match path.strip_prefix("~") {
        Ok(rest) => Some(env::home_dir()?.join(rest)),
        Err(_) => Some(path),
    }
}

/// Where programs keep what they can fetch again.
fn cache_home() -> Option<PathBuf> {
    path("XDG_CACHE_HOME").or_else(|| Some(env::home_dir().filter(|home| home != Path::new(""))?.join(".cache")))
}

/// What shows that the hub is asked.
#[cfg(feature = "hub")]
fn watch() -> Option<Watch> {
    let erases = text("TERM").is_none_or(|terminal| terminal != "dumb");
    (erases && super::terminal_is_watching()).then_some(super::progress::start)
}

/// Without a client nothing takes long.
#[cfg(not(feature = "hub"))]
fn watch() -> Option<Watch> {
    None
}
