//! A line on stderr while the hub is asked, once that takes longer than a moment; it is gone when the hub has answered.

use std::any::Any;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::report;
use crate::units::group_thousands;

/// What is shown.
struct Progress {
    /// Dropped to end it.
    end: Option<Sender<()>>,
    shown: Option<JoinHandle<()>>,
}

/// How long nothing is shown, and how often it is shown anew.
const MOMENT: Duration = Duration::from_millis(500);

/// Shows the count of bytes received of an id, until it is dropped.
pub(super) fn start(id: &str, host: &str, received: Arc<AtomicU64>) -> Box<dyn Any> {
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
    Box::new(Progress { end: Some(end), shown: thread::Builder::new().spawn(show).ok() })
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(shown) = self.shown.take() {
            let _ = shown.join();
        }
    }
}
