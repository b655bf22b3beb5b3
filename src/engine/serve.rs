//! The line that starts a server with a layout, to be pasted.

use std::path::Path;

use super::{Double, Engine, SettingValue, ValueKind};
use crate::estimate::Layout;
use crate::units::{ElementFormat, KvDtype, Tokens};

/// A server to start.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The model as it was named.
    pub model: Option<&'a str>,
    /// Whether that is a file or a directory.
    pub is_path: bool,
    /// Its own name.
    pub name: &'a str,
    /// Its 16-bit format, in which a cache needs no option.
    pub dtype: ElementFormat,
    /// The engine.
    pub engine: &'a Engine,
    /// The format asked for.
    pub kv_dtype: KvDtype,
    /// How the model is spread.
    pub layout: Layout,
    /// The longest request.
    pub seq_len: Tokens,
    /// Requests at once, if that was given.
    pub batch: Option<u64>,
    /// The share of the memory, if that was given.
    pub utilization: Option<Double>,
    /// Whether a line can say all of it.
    pub is_told: bool,
    /// Whether each replica is a server, even where the engine has an option for replicas.
    pub replicas_apart: bool,
}

/// The program that starts a server, and the names of its options.
pub(super) struct Options {
    pub(super) program: &'static str,
    pub(super) tp: &'static str,
    pub(super) pp: &'static str,
    /// None where each replica is a server.
    pub(super) dp: Option<&'static str>,
    pub(super) dcp: Option<&'static str>,
    pub(super) seq_len: &'static str,
    pub(super) utilization: &'static str,
    pub(super) kv_dtype: &'static str,
    /// The formats that it names otherwise than we do, and its names.
    pub(super) formats: &'static [(&'static str, &'static str)],
    /// The settings that it has no option for.
    pub(super) without_option: &'static [&'static str],
}

impl Served<'_> {
    /// The command line; `None` for what is no server, for a model without a name, and for settings without an option.
    pub fn command(&self) -> Option<String> {
        if self.is_told { (self.engine.profile.serve)(self) } else { None }
    }

    /// The command line of a server with these options.
    pub(super) fn with(&self, options: &Options) -> Option<String> {
        let Layout { tp, pp, dp, dcp } = self.layout;
        let dp_option = options.dp.filter(|_| !self.replicas_apart);
        let sized = |name: Option<&str>, size: u64| name.filter(|_| size > 1).map(|name| format!("{name} {size}"));
        let valued = |name: &str, value: Option<String>| value.map(|value| format!("{name} {value}"));
        let words = [
            Some(format!("{} {}", options.program, self.named()?)),
            sized(Some(options.tp), tp),
            sized(Some(options.pp), pp),
            sized(dp_option, dp),
            sized(options.dcp, dcp),
            Some(format!("{} {}", options.seq_len, self.seq_len.0)),
            valued(options.utilization, self.utilization.map(|share| share.value().to_string())),
            valued(options.kv_dtype, self.format(options.formats)),
        ];
        let replicas = if dp_option.is_some() { 1 } else { dp };
        self.line(words.into_iter().flatten().collect(), options.without_option, replicas)
    }

    /// The words, the settings that were given, and how many servers it takes; `None` where a setting has no option.
    pub(super) fn line(&self, mut words: Vec<String>, without_option: &[&str], replicas: u64) -> Option<String> {
        for (name, value) in self.engine.settings.iter() {
            if without_option.contains(name) {
                return None;
            }
            words.push(match (value, self.engine.setting(name)?.kind) {
                (SettingValue::Switch(false), ValueKind::Switch { off }) => format!("--{off}"),
                (SettingValue::Switch(_), _) => format!("--{name}"),
                _ => format!("--{name} {value}"),
            });
        }
        words.extend((replicas > 1).then(|| format!("# each of {replicas} replicas")));
        Some(words.join(" "))
    }

    /// The model as a server's argument.
    fn named(&self) -> Option<String> {
        let path = self.model.filter(|_| self.is_path).map(|path| path.strip_suffix("config.json").unwrap_or(path));
        let name = match path {
            Some("") => ".",
            Some(path) if path.len() > 1 => path.trim_end_matches('/'),
            Some(path) => path,
            None => self.name,
        };
        Some(quoted(name)).filter(|_| self.model.is_some_and(|model| model != "-"))
    }

    /// The GGUF file, as a server's argument.
    pub(super) fn file(&self) -> String {
        let is_gguf = |model: &&str| Path::new(model).extension().is_some_and(|own| own.eq_ignore_ascii_case("gguf"));
        self.model.filter(is_gguf).map_or_else(|| "MODEL.gguf".into(), quoted)
    }

    /// The format by the server's name, where it needs an option.
    fn format(&self, formats: &[(&str, &str)]) -> Option<String> {
        let KvDtype::Given(format) = self.kv_dtype else { return None };
        if format.k == self.dtype && format.v == self.dtype {
            return None;
        }
        let ours = format.to_string();
        let theirs = formats.iter().find(|(name, _)| *name == ours);
        Some(theirs.map_or(ours, |(_, name)| (*name).to_owned()))
    }
}

/// A word of a command, in quotes where a shell would take it apart.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
