//! The id of a model on the hub, as it is typed.

use std::fmt;

/// The branch that is meant where no revision is given.
const MAIN: &str = "main";
/// The longest name of a repository that the hub takes.
const MAX_NAME: usize = 96;

/// `org/name[@revision][:FILE]`.
///
/// The file stands behind a colon, as llama.cpp and vLLM have it, and not behind a third slash: a path of one's own that is
/// misspelt would look like that, and must not go to the network.
///
/// ```
/// use kvsize::source::HubId;
/// let id = HubId::parse("org/name@v1.0:name-Q4_K_M.gguf").unwrap();
/// assert_eq!((id.revision.as_str(), id.file.as_deref()), ("v1.0", Some("name-Q4_K_M.gguf")));
/// assert_eq!(HubId::parse("name"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// `org/name`.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// A GGUF file of the repository, or the tag in its name that tells it from the others (`Q4_K_M`).
    pub file: Option<String>,
}

impl HubId {
    /// The id that `text` is; none if it can't be one.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, file) = match text.split_once(':') {
            Some((text, file)) => (text, Some(file)),
            None => (text, None),
        };
        let (repository, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let (organisation, name) = repository.split_once('/')?;
        let sound = is_name(organisation)
            && is_name(name)
            && repository.len() <= MAX_NAME
            && is_path(revision)
            && file.is_none_or(is_path);
        let (repository, revision, file) = (repository.to_owned(), revision.to_owned(), file.map(ToOwned::to_owned));
        sound.then_some(Self { repository, revision, file })
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        match &self.file {
            Some(file) => write!(f, ":{file}"),
            None => Ok(()),
        }
    }
}

/// Whether the hub lets an organisation or a repository be called so.
fn is_name(text: &str) -> bool {
    let edge = ['-', '.'];
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !text.starts_with(edge)
        && !text.ends_with(edge)
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether it is a path within something, and leads nowhere else.
fn is_path(text: &str) -> bool {
    text.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !text.contains(['\\', ':', '@'])
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_have_two_parts_and_lead_nowhere_else() {
        for text in ["org/name", "o/n.1_2-3", "org/name@v1", "org/name@refs/pr/1", "org/name:Q4_K_M", "o/n@r:a/b.gguf"]
        {
            assert_eq!(HubId::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(HubId::parse("org/name@main").unwrap().to_string(), "org/name");
        for text in [
            "",
            "name",
            "a/b/c",
            "/a",
            "a/",
            "./a",
            "../a",
            "a/..",
            "a/b--c",
            "~/a",
            "a b/c",
            "org/name@",
            "org/name:",
            "org/name@../x",
            "org/name@/x",
            "org/name@x//y",
            "org/name:../x",
            "org/name:/etc/x",
            "org/name@a@b",
            "https://host/org",
            "C:/x",
            "org/name:a\\b",
            "org/name@\u{7}",
        ] {
            assert_eq!(HubId::parse(text), None, "{text}");
        }
        assert_eq!(HubId::parse(&format!("a/{}", "b".repeat(95))), None);
    }
    proptest! {
        #[test]
        fn what_is_an_id_is_written_as_one(text in "[ab]{1,2}/[ab.-]{1,3}(@[ab/.]{1,4})?(:[ab/.]{1,4})?") {
            if let Some(id) = HubId::parse(&text) {
                prop_assert_eq!(HubId::parse(&id.to_string()), Some(id.clone()));
                let parts = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
                prop_assert!(parts(&id.revision) && id.file.as_deref().is_none_or(parts));
            }
        }
    }
}
