//! Why a request gives no file: each reason with its own remedy. The client adds the id that was asked for.

use std::io::ErrorKind;

use ureq::Timeout;

use crate::units::{Code, Error};

pub(super) const AGAIN: &str = "try again, or give a config.json";

/// An error of what `host` answered with `status`.
pub(super) fn refused(code: Code, host: &str, status: u16, problem: &str, remedy: &str) -> Error {
    Error::new(code, "", format!("{host} ({status})"), problem, remedy)
}

/// An error of this code, which says what to do.
pub(super) fn of(code: Code, found: &str, problem: impl Into<String>) -> Error {
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
    of(Code::HubTimedOut, host, "does not answer in time")
}

/// A file or answer that ends before all that was promised is there.
pub(super) fn truncated(host: &str, file: &str) -> Error {
    of(Code::HubTruncated, file, format!("ends too early at {host}"))
}

/// A malformed answer.
pub(super) fn malformed(host: &str, problem: &str) -> Error {
    of(Code::HubAnswer, host, problem)
}

/// What the client's own error means, while `file` was read, or nothing yet.
pub(super) fn of_client(error: ureq::Error, host: &str, file: Option<&str>) -> Error {
    let unreachable = |reason: &str| of(Code::HubUnreachable, host, format!("can't be reached ({reason})"));
    let not_trusted = |reason: &str| of(Code::HubCertificate, host, format!("is not trusted ({reason})"));
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
