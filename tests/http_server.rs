//! A small HTTP server on the loopback address, which does what it is told: ranges, redirects, lies and silence.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) authorization: Option<String>,
}

/// What is answered.
#[derive(Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Arc<Vec<u8>>,
    ranges: bool,
    promised: Option<usize>,
    silent: bool,
    without_length: bool,
}

impl Answer {
    /// A file of which ranges are given.
    pub(crate) fn file(body: impl Into<Vec<u8>>) -> Self {
        Self::shared(&Arc::new(body.into()))
    }

    /// The same, not copied.
    pub(crate) fn shared(body: &Arc<Vec<u8>>) -> Self {
        Self { ranges: true, body: Arc::clone(body), ..Self::status(200) }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Arc::default(),
            ranges: false,
            promised: None,
            silent: false,
            without_length: false,
        }
    }

    /// A refusal, with the hub's own word for it.
    pub(crate) fn refusal(status: u16, code: &str) -> Self {
        Self::status(status).header("X-Error-Code", code)
    }

    pub(crate) fn redirect(location: impl Into<String>) -> Self {
        Self::status(302).header("Location", location)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The whole file, whatever range is asked for.
    pub(crate) fn ignoring_ranges(self) -> Self {
        Self { ranges: false, ..self }
    }

    /// The same with another status.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// More bytes promised than come before the connection is closed.
    pub(crate) fn promising(self, bytes: usize) -> Self {
        Self { promised: Some(bytes), ..self }
    }

    /// More bytes promised than come, and the connection left open.
    pub(crate) fn then_silence(self) -> Self {
        Self { promised: Some(self.body.len() + 1), silent: true, ..self }
    }

    /// The end of the body is that of the connection.
    pub(crate) fn without_length(self) -> Self {
        Self { without_length: true, ..self }
    }
}

/// The server, which ends with the tests.
pub(crate) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicUsize>,
}

impl Server {
    /// A server that answers each request with what `answer` makes of it.
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(AtomicUsize::new(0));
        let (log, count, answer) = (Arc::clone(&requests), Arc::clone(&sent), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, count, answer) = (Arc::clone(&log), Arc::clone(&count), Arc::clone(&answer));
                // A client that goes away ends its connection, and is no failure.
                thread::spawn(move || serve(&stream.unwrap(), &log, &count, &*answer));
            }
        });
        Self { port, requests, sent }
    }

    /// A server with these files at these paths, and none else.
    pub(crate) fn of(files: Vec<(&'static str, Answer)>) -> Self {
        Self::start(move |request| {
            let found = files.iter().find(|(path, _)| *path == request.path);
            found.map_or_else(|| Answer::refusal(404, "EntryNotFound"), |(_, answer)| answer.clone())
        })
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }

    /// Bytes of bodies that were sent.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

fn serve(
    stream: &TcpStream,
    log: &Mutex<Vec<Request>>,
    sent: &AtomicUsize,
    answer: &dyn Fn(&Request) -> Answer,
) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    loop {
        let request = read_request(&mut lines)?;
        log.lock().unwrap().push(request.clone());
        let answer = answer(&request);
        let len = answer.body.len();
        let part = request.range.filter(|_| answer.ranges).map(|(first, last)| (first.min(len), (last + 1).min(len)));
        let (first, end) = part.unwrap_or((0, len));
        let mut head = format!("HTTP/1.1 {} X\r\n", if part.is_some() { 206 } else { answer.status });
        if part.is_some() {
            write!(head, "Content-Range: bytes {first}-{}/{len}\r\n", end.saturating_sub(1)).unwrap();
        }
        if !answer.without_length {
            write!(head, "Content-Length: {}\r\n", answer.promised.unwrap_or(end - first)).unwrap();
        }
        for (name, value) in &answer.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        let mut stream = stream;
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        for piece in answer.body[first..end].chunks(16 << 10) {
            stream.write_all(piece).ok()?;
            sent.fetch_add(piece.len(), Ordering::SeqCst);
        }
        if answer.silent {
            // Until the client goes away, or is taken to hang.
            stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
            let _ = lines.read(&mut [0]);
        }
        if answer.promised.is_some() || answer.without_length {
            return None;
        }
    }
}

fn read_request(lines: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    lines.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, range: None, authorization: None };
    loop {
        line.clear();
        lines.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { return Some(request) };
        match name.to_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                request.range = Some((first.parse().ok()?, last.parse().ok()?));
            }
            _ => {}
        }
    }
}
