//! One exchange with the hub after another: redirects by hand, since the token may not go along; limits on time, attempts
//! and bytes.

use std::any::Any;
use std::cell::RefCell;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::HeaderMap;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Timeout};

use super::HubSettings;
use super::address::{Origin, join};
use crate::source::file;
use crate::units::{Code, Error};

/// How often a hub that is broken is asked, and how long is waited before it is asked again.
const ATTEMPTS: usize = 3;
const WAITS: [Duration; ATTEMPTS - 1] = [Duration::from_millis(200), Duration::from_millis(800)];
/// Redirects that are followed: the hub itself needs one or two.
const MAX_REDIRECTS: usize = 5;
/// The total time of all exchanges, as a multiple of the timeout.
const TOTAL: u32 = 6;

/// What talks to the hub, for one model.
pub(super) struct Client {
    agent: Agent,
    pub(super) endpoint: String,
    origin: Origin,
    token: Option<String>,
    /// What is asked for, for errors.
    pub(super) field: String,
    deadline: Instant,
    /// The commit that the hub says it answers from.
    pub(super) commit: RefCell<Option<String>>,
    received: Arc<AtomicU64>,
    _watch: Option<Box<dyn Any>>,
}

/// An answer, whose body is not read yet.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Where it came from in the end.
    pub(super) address: String,
}

impl Reply {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// A client for `field`, an id.
    pub(super) fn new(settings: &HubSettings, token: Option<String>, field: String) -> Result<Self, Error> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let plain = !endpoint.contains(['?', '#']);
        let origin = Origin::parse(&endpoint).filter(|_| plain).ok_or_else(|| {
            let (problem, remedy) = ("is not the URL of a server", "write https://, the host, and no name or password");
            Error::new(Code::HubEndpoint, "HF_ENDPOINT", without_password(&endpoint), problem, remedy)
        })?;
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            let problem = "has characters that no token has";
            return Err(Error::new(Code::HubToken, "HF_TOKEN", "the token", problem, "set it to the token alone"));
        }
        let roots = match &settings.certificates {
            None => RootCerts::WebPki,
            Some(path) => certificates(path).ok_or_else(|| {
                let remedy = "set SSL_CERT_FILE to a file with some (PEM), or leave it out";
                let path = path.display().to_string();
                Error::new(Code::HubCertificates, path, "the file", "has no certificates", remedy)
            })?,
        };
        let timeout = settings.timeout;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_resolve(Some(timeout))
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout))
            .user_agent(concat!("kvsize/", env!("CARGO_PKG_VERSION")))
            // What is counted are the bytes of the file itself.
            .accept_encoding("identity")
            .build()
            .new_agent();
        let received = Arc::new(AtomicU64::new(0));
        let watch = settings.watch.map(|watch| watch(&field, &origin.name(), Arc::clone(&received)));
        let now = Instant::now();
        let deadline = now.checked_add(timeout.saturating_mul(TOTAL)).unwrap_or(now);
        let commit = RefCell::new(None);
        Ok(Self { agent, endpoint, origin, token, field, deadline, commit, received, _watch: watch })
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether an address is the hub's own, and not where it redirects to.
    pub(super) fn is_endpoint(&self, address: &str) -> bool {
        Origin::parse(address).as_ref() == Some(&self.origin)
    }

    /// The host of the endpoint.
    pub(super) fn host(&self) -> String {
        self.origin.name()
    }

    /// The host of an address.
    pub(super) fn host_of(&self, address: &str) -> String {
        Origin::parse(address).map_or_else(|| self.host(), |origin| origin.name())
    }

    /// What `read` makes of the answer to a request for `address`, or for a range of its bytes. What may pass is tried again.
    pub(super) fn get<T>(
        &self,
        address: &str,
        range: Option<(u64, u64)>,
        mut read: impl FnMut(Reply) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut waits = WAITS.iter();
        loop {
            let error = match self.follow(address, range).and_then(&mut read) {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            let may_pass = matches!(error.code, Code::HubServer | Code::HubTruncated);
            match waits.next().filter(|_| may_pass) {
                Some(wait) => thread::sleep(*wait),
                None => return Err(error.at(&self.field)),
            }
        }
    }

    /// The answer at the end of all redirects.
    fn follow(&self, address: &str, range: Option<(u64, u64)>) -> Result<Reply, Error> {
        let mut address = address.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.exchange(address, range)?;
            if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
                return self.unless_broken(reply);
            }
            let wrong = |where_to: &str| redirect(&self.host_of(&reply.address), where_to);
            let next = reply.header("location").and_then(|location| join(&reply.address, location));
            let next = next.ok_or_else(|| wrong("to nowhere"))?;
            let (from, to) = (Origin::parse(&reply.address), Origin::parse(&next));
            match (from, to) {
                (_, None) => return Err(wrong("to something that is not the URL of a server")),
                (Some(from), Some(to)) if from.scheme == "https" && to.scheme != "https" => {
                    return Err(wrong("from HTTPS to plain HTTP"));
                }
                _ => address = next,
            }
        }
        Err(redirect(&self.host(), "too often"))
    }

    /// One request and its answer. The token goes to the endpoint and to no other host, port or scheme.
    fn exchange(&self, address: String, range: Option<(u64, u64)>) -> Result<Reply, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out(&self.host_of(&address)));
        }
        let at_endpoint = self.is_endpoint(&address);
        let mut request = self.agent.get(&address).config().timeout_global(Some(left)).build();
        if let Some(token) = self.token.as_ref().filter(|_| at_endpoint) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some((first, last)) = range {
            request = request.header("range", format!("bytes={first}-{last}"));
        }
        let response = request.call().map_err(|error| of_client(error, &self.host_of(&address), None))?;
        let (parts, body) = response.into_parts();
        let reply = Reply { status: parts.status.as_u16(), headers: parts.headers, body, address };
        if let Some(commit) = reply.header("x-repo-commit").filter(|_| at_endpoint)
            && commit.len() == 40
            && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            self.commit.borrow_mut().get_or_insert_with(|| commit.to_owned());
        }
        Ok(reply)
    }

    /// The reply, unless it says that the hub has too much to do or is broken.
    fn unless_broken(&self, reply: Reply) -> Result<Reply, Error> {
        let host = self.host_of(&reply.address);
        match reply.status {
            429 => {
                let seconds = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let retry_after = reply.header("retry-after").map(str::trim).filter(seconds);
                let wait = retry_after.map_or_else(|| "later".to_owned(), |seconds| format!("in {seconds} s"));
                let token = if self.has_token() { "" } else { ", or set HF_TOKEN" };
                let remedy = format!("try again {wait}{token}");
                Err(refused(Code::HubRateLimited, &host, reply.status, "had too many requests", &remedy))
            }
            500..=599 => {
                let problem = format!("is broken, asked {ATTEMPTS} times");
                Err(refused(Code::HubServer, &host, reply.status, &problem, AGAIN))
            }
            _ => Ok(reply),
        }
    }

    /// Reads on in the body of an answer, up to the end of `buffer`.
    pub(super) fn read(
        &self,
        body: &mut impl Read,
        buffer: &mut [u8],
        (address, file): (&str, &str),
    ) -> Result<usize, Error> {
        loop {
            match body.read(buffer) {
                Ok(count) => {
                    self.received.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(of_client(error.into(), &self.host_of(address), Some(file))),
            }
        }
    }

    /// The whole body of an answer; of one that is longer than `limit`, a byte more than that.
    pub(super) fn bytes(&self, reply: Reply, file: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let Reply { body, address, .. } = reply;
        let mut body = body.into_reader().take(limit.saturating_add(1));
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; PIECE]);
        loop {
            let count = self.read(&mut body, &mut buffer, (&address, file))?;
            match buffer.get(..count) {
                Some([]) | None => return Ok(bytes),
                Some(piece) => bytes.extend_from_slice(piece),
            }
        }
    }
}

fn redirect(host: &str, where_to: &str) -> Error {
    failed(Code::HubRedirect, host, format!("redirects {where_to}"))
}

/// The certificates of a file; none if it has none.
fn certificates(path: &Path) -> Option<RootCerts> {
    let pem = file::text(path).ok()?;
    let certificates = parse_pem(pem.as_bytes()).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    (!certificates.is_empty()).then(|| RootCerts::new_with_certs(&certificates))
}

/// What is read of a body at a time.
const PIECE: usize = 16 << 10;

/// An address as it may be shown.
fn without_password(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => address.to_owned(),
    }
}

// Why a request gives no file: each reason with its own remedy. The client adds the id that was asked for.

pub(super) const AGAIN: &str = "try again, or give a config.json";

/// An error of what `host` answered with `status`.
pub(super) fn refused(code: Code, host: &str, status: u16, problem: &str, remedy: &str) -> Error {
    Error::new(code, "", format!("{host} ({status})"), problem, remedy)
}

/// An error of this code, which says what to do.
pub(super) fn failed(code: Code, found: &str, problem: impl Into<String>) -> Error {
    let remedy = match code {
        Code::HubRedirect => "check HF_ENDPOINT",
        Code::HubTimedOut => "try again, or set HF_HUB_DOWNLOAD_TIMEOUT to more seconds",
        Code::HubAnswer => "check HF_ENDPOINT, or give a config.json",
        Code::HubUnreachable => "check the network and HF_ENDPOINT, or give a config.json",
        Code::HubCertificate => {
            "behind a proxy with its own certificate set SSL_CERT_FILE to a file with that, or give a config.json"
        }
        _ => AGAIN,
    };
    Error::new(code, "", found, problem, remedy)
}

/// A status that no file has.
pub(super) fn status(host: &str, status: u16) -> Error {
    refused(Code::HubStatus, host, status, "gives no file", AGAIN)
}

pub(super) fn timed_out(host: &str) -> Error {
    failed(Code::HubTimedOut, host, "does not answer in time")
}

/// A file or answer that ends before all that was promised is there.
pub(super) fn truncated(host: &str, file: &str) -> Error {
    failed(Code::HubTruncated, file, format!("ends too early at {host}"))
}

/// A malformed answer.
pub(super) fn malformed(host: &str, problem: &str) -> Error {
    failed(Code::HubAnswer, host, problem)
}

/// What the client's own error means, while `file` was read, or nothing yet.
pub(super) fn of_client(error: ureq::Error, host: &str, file: Option<&str>) -> Error {
    let unreachable = |reason: &str| failed(Code::HubUnreachable, host, format!("can't be reached ({reason})"));
    let not_trusted = |reason: &str| failed(Code::HubCertificate, host, format!("is not trusted ({reason})"));
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => unreachable("no connection in time"),
        ureq::Error::Timeout(_) => timed_out(host),
        ureq::Error::Rustls(error) => not_trusted(&error.to_string()),
        ureq::Error::HostNotFound => unreachable("no such host"),
        ureq::Error::Io(error) => match error.kind() {
            // What TLS does not take comes as one of these.
            ErrorKind::InvalidData if file.is_none() => not_trusted(&error.to_string()),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => timed_out(host),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                truncated(host, file.unwrap_or("the answer"))
            }
            _ => unreachable(&error.to_string()),
        },
        error => match (file, error) {
            (Some(file), _) => truncated(host, file),
            (None, ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..)) => {
                malformed(host, "does not speak HTTP")
            }
            (None, error) => unreachable(&error.to_string()),
        },
    }
}
