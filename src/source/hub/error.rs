//! Why a request gives no file: each reason with its own remedy. The client adds the id that was asked for.

use std::io::ErrorKind;

use ureq::Timeout;

use crate::units::{Code, Error};

const AGAIN: &str = "try again, or give a config.json";

/// An error of what `host` answered with `status`.
pub(super) fn refused(code: Code, host: &str, status: u16, problem: &str, remedy: &str) -> Error {
    Error::new(code, "", format!("{host} ({status})"), problem, remedy)
}

/// A status that no file has.
pub(super) fn status(host: &str, status: u16) -> Error {
    refused(Code::HubStatus, host, status, "gives no file", AGAIN)
}

pub(super) fn broken(host: &str, status: u16, attempts: usize) -> Error {
    refused(Code::HubServer, host, status, &format!("is broken, asked {attempts} times"), AGAIN)
}

pub(super) fn redirect(host: &str, problem: &str) -> Error {
    Error::new(Code::HubRedirect, "", host, format!("redirects {problem}"), "check HF_ENDPOINT")
}

pub(super) fn timed_out(host: &str) -> Error {
    let remedy = "try again, or set HF_HUB_DOWNLOAD_TIMEOUT to more seconds";
    Error::new(Code::HubTimedOut, "", host, "does not answer in time", remedy)
}

/// A file or answer that ends before all that was promised is there.
pub(super) fn truncated(host: &str, file: &str) -> Error {
    Error::new(Code::HubTruncated, "", file, format!("ends too early at {host}"), AGAIN)
}

/// A malformed answer.
pub(super) fn malformed(host: &str, problem: &str) -> Error {
    Error::new(Code::HubAnswer, "", host, problem, "check HF_ENDPOINT, or give a config.json")
}

fn unreachable(host: &str, reason: &str) -> Error {
    let remedy = "check the network and HF_ENDPOINT, or give a config.json";
    Error::new(Code::HubUnreachable, "", host, format!("can't be reached ({reason})"), remedy)
}

fn not_trusted(host: &str, reason: &str) -> Error {
    let remedy = "behind a proxy with its own certificate set SSL_CERT_FILE to a file with that, or give a config.json";
    Error::new(Code::HubCertificate, "", host, format!("is not trusted ({reason})"), remedy)
}

/// What the client's own error means, while `file` was read, or nothing yet.
pub(super) fn of_client(error: ureq::Error, host: &str, file: Option<&str>) -> Error {
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => unreachable(host, "no connection in time"),
        ureq::Error::Timeout(_) => timed_out(host),
        ureq::Error::Rustls(error) => not_trusted(host, &error.to_string()),
        ureq::Error::HostNotFound => unreachable(host, "no such host"),
        ureq::Error::Io(error) => match error.kind() {
            // What TLS does not take comes as one of these.
            ErrorKind::InvalidData if file.is_none() => not_trusted(host, &error.to_string()),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => timed_out(host),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                truncated(host, file.unwrap_or("the answer"))
            }
            _ => unreachable(host, &error.to_string()),
        },
        error => match (file, error) {
            (Some(file), _) => truncated(host, file),
            (None, ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..)) => {
                malformed(host, "does not speak HTTP")
            }
            (None, error) => unreachable(host, &error.to_string()),
        },
    }
}
