//! Where the hub's cache, its address and the token are: read from the variables that its own programs read.

use std::any::Any;
use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::args::HubArguments;
use super::terminal_is_watching;
use crate::report;
use crate::source::{HubSettings, Token, Watch};
use crate::units::group_thousands;

/// The settings that arguments and environment make.
pub(super) fn settings(arguments: &HubArguments) -> HubSettings {
    let defaults = HubSettings::default();
    let home = path("HF_HOME").or_else(|| Some(cache_home()?.join("huggingface")));
    let within_home = |name: &str| home.as_ref().map(|home| home.join(name));
    let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| is_on(name));
    let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).map(Token);
    let implicit = !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN");
    let seconds = text("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.parse().ok()).filter(|&seconds| seconds > 0);
    HubSettings {
        cache: path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).or_else(|| within_home("hub")),
        offline: if arguments.offline { Some("--offline") } else { offline },
        endpoint: text("HF_ENDPOINT").unwrap_or(defaults.endpoint),
        token: token.filter(|_| implicit),
        token_file: path("HF_TOKEN_PATH").or_else(|| within_home("token")).filter(|_| implicit),
        certificates: path("SSL_CERT_FILE").or_else(|| path("REQUESTS_CA_BUNDLE")),
        timeout: seconds.map_or(defaults.timeout, Duration::from_secs),
        watch: terminal_is_watching().then_some(Progress::start as Watch),
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

/// A line on stderr while the hub is asked, once that takes longer than a moment; it is gone when the hub has answered.
struct Progress {
    /// Dropped to end it.
    end: Option<Sender<()>>,
    shown: Option<JoinHandle<()>>,
}

/// How long nothing is shown, and how often it is shown anew.
const MOMENT: Duration = Duration::from_millis(500);

impl Progress {
    fn start(id: &str, host: &str, received: Arc<AtomicU64>) -> Box<dyn Any> {
        let text = report::clean(&format!("{id} from {host}"));
        let (end, ended) = mpsc::channel();
        let show = move || {
            let mut shown = false;
            while ended.recv_timeout(MOMENT) == Err(RecvTimeoutError::Timeout) {
                let line = format!("{text}: {} bytes", group_thousands(received.load(Ordering::Relaxed)));
                let width = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0);
                let line: String = line.chars().take(usize::from(width.saturating_sub(1))).collect();
                // To the start of the line, the text, and nothing behind it.
                let _ = io::stderr().write_all(format!("\r{line}\x1b[K").as_bytes());
                shown = true;
            }
            if shown {
                let _ = io::stderr().write_all(b"\r\x1b[K");
            }
        };
        // Where no thread is to be had, nothing is shown.
        Box::new(Self { end: Some(end), shown: thread::Builder::new().spawn(show).ok() })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(shown) = self.shown.take() {
            let _ = shown.join();
        }
    }
}
