//! Addresses: what redirects lead to, and which of them may have the token.

use ureq::http::Uri;

/// Scheme, host and port: what the token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an address; `None` if it is not HTTP, or has a name or password in it.
    pub(super) fn parse(address: &str) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let port = authority.port_u16().unwrap_or(usual);
        Some(Self { scheme, host: authority.host().to_ascii_lowercase(), port })
    }

    /// The host, with its port where that is not the usual one.
    pub(super) fn name(&self) -> String {
        match (self.scheme.as_str(), self.port) {
            ("http", 80) | ("https", 443) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Where `location`, a header of the answer to `address`, leads.
pub(super) fn join(address: &str, location: &str) -> Option<String> {
    let location = location.split('#').next()?;
    let (scheme, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let has_scheme = location.split(['/', '?']).next()?.contains(':');
    Some(if has_scheme {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let path = rest.get(authority.len()..)?.split('?').next()?;
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    })
}

/// What happens to `/` when a text is escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slashes {
    Keep,
    Escape,
}

/// A part of a path, its characters escaped.
pub(super) fn escaped(text: &str, slashes: Slashes) -> String {
    let escape = |byte: u8| match byte {
        b'/' if slashes == Slashes::Keep => "/".to_owned(),
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| Origin::parse(a).unwrap() == Origin::parse(b).unwrap();
        assert!(same("https://Host/a", "https://host:443/b?c"));
        for other in
            ["http://host/a", "https://host:444/a", "https://host.evil/a", "https://evil/host", "https://ho.st/"]
        {
            assert!(!same("https://host/a", other), "{other}");
        }
        for none in
            ["host", "ftp://host", "https://", "https://user@host/", "https://a:b@host/", "/path", "", "https://h h"]
        {
            assert_eq!(Origin::parse(none), None, "{none}");
        }
        assert_eq!(Origin::parse("http://127.0.0.1:81/x").unwrap().name(), "127.0.0.1:81");
    }

    #[test]
    fn redirects_are_joined() {
        let from = "https://host:1/a/b?c=/d";
        for (location, to) in [
            ("https://cdn/x?y", "https://cdn/x?y"),
            ("//cdn/x", "https://cdn/x"),
            ("/x/y?z", "https://host:1/x/y?z"),
            ("x", "https://host:1/a/x"),
            ("/x:y", "https://host:1/x:y"),
            ("/x#part", "https://host:1/x"),
            ("javascript:x", "javascript:x"),
        ] {
            assert_eq!(join(from, location).unwrap(), to);
        }
        assert_eq!(join("https://host", "x").unwrap(), "https://host/x");
        assert_eq!(escaped("refs/pr/1", Slashes::Escape), "refs%2Fpr%2F1");
        assert_eq!(escaped("a b/ä?#%", Slashes::Keep), "a%20b/%C3%A4%3F%23%25");
    }
    proptest! {
        #[test]
        fn whatever_a_server_sends_leads_somewhere_or_nowhere(location in "[a-zé:/@?#.%0-9\\[\\] ]{0,24}") {
            if let Some(to) = join("https://host/a/b", &location) {
                let there = Origin::parse(&to);
                // Nothing but the host itself has its origin.
                let is_host = there == Origin::parse("https://host");
                let same = to.starts_with("https://host/") || to.starts_with("https://host?") || to == "https://host"
                    || to.starts_with("https://host:443");
                prop_assert!(!is_host || same, "{location}: {to}");
            }
        }

        #[test]
        fn what_is_escaped_is_one_part_of_a_path(text in ".{0,16}") {
            let escaped = escaped(&text, Slashes::Escape);
            prop_assert!(escaped.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
        }
    }
}
