//! Objects whose keys are the options of a command in `snake_case`: a line of a batch, a budget of a file. One is turned into these
//! options, and goes the way that a command line goes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use clap::{ArgAction, ArgMatches, Command};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::settings;
use crate::engine::{PROFILES, ValueKind};
use crate::units::{Code, Error};

/// A hash of short texts: a step for each eight bytes, a fifth of what std's costs. It does not withstand keys that are chosen
/// to collide, which slow their own batch down and nothing else.
#[derive(Debug, Default)]
pub(super) struct ShortHasher(u64);

impl Hasher for ShortHasher {
    fn write(&mut self, bytes: &[u8]) {
        /// 2⁶⁴ over the golden ratio, odd.
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            let mixed = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
            self.0 = mixed ^ (mixed >> 32);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map by short texts.
pub(super) type ByText<K, V> = HashMap<K, V, BuildHasherDefault<ShortHasher>>;

/// What a value is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number.
    Number,
    /// A number, or a text with a unit: tokens, bytes.
    Size,
    /// A text.
    Text,
    /// A text, or a list of texts.
    Texts,
    /// A model: a text, or an object.
    Model,
    /// True or false.
    Switch,
}

/// A key of a line.
#[derive(Debug)]
struct Key {
    /// The option it is, without the dashes; of a switch, the one that switches it on.
    option: String,
    /// Of a switch, the option that switches it off, if there is one.
    off: Option<&'static str>,
    kind: Kind,
}

/// Where a key's value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Id,
    SeqLen,
    Batch,
    Memory,
    EncoderLen,
    SharedPrefix,
    /// The key of this number; it is another name that says the opposite.
    Other(u8, bool),
    Unknown,
}

impl Place {
    /// The bit that tells whether it was met before.
    pub(super) fn bit(self) -> u8 {
        match self {
            Self::Id => 255,
            Self::SeqLen => 254,
            Self::Batch => 253,
            Self::Memory => 252,
            Self::EncoderLen => 251,
            Self::SharedPrefix => 250,
            Self::Other(number, _) => number,
            Self::Unknown => 249,
        }
    }
}

/// All keys of a line.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    names: ByText<String, Place>,
}

impl Keys {
    /// The keys that the options of `command` make.
    fn of(command: &Command) -> Self {
        let mut keys = Self { keys: Vec::new(), names: ByText::default() };
        keys.add(Key { option: "MODEL".into(), off: None, kind: Kind::Model }, ["model"]);
        for setting in PROFILES.iter().flat_map(|profile| profile.settings) {
            let ValueKind::Switch { off } = setting.kind else { continue };
            if keys.names.contains_key(&key_of(setting.name)) {
                continue;
            }
            let short = setting.name.strip_prefix("enable-").unwrap_or(setting.name);
            let key = Key { option: setting.name.into(), off: Some(off), kind: Kind::Switch };
            let place = keys.add(key, [setting.name, setting.alias, short]);
            if let Place::Other(number, _) = place {
                keys.names.insert(key_of(off), Place::Other(number, true));
            }
        }
        for argument in command.get_arguments() {
            let Some(name) = argument.get_long() else { continue };
            if keys.names.contains_key(&key_of(name)) || ["help", "version"].contains(&name) {
                continue;
            }
            let value = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
            let kind = match value {
                _ if matches!(argument.get_action(), ArgAction::SetTrue) => Kind::Switch,
                "N" | "BITS" | "RATIO" => Kind::Number,
                "TOKENS" | "BYTES" => Kind::Size,
                "CONFIG" => Kind::Model,
                "[Nx]GPU" => Kind::Texts,
                // Words that are numbers may be written as such.
                _ if argument.get_possible_values().iter().any(|word| word.get_name().parse::<i64>().is_ok()) => {
                    Kind::Size
                }
                _ => Kind::Text,
            };
            let aliases = argument.get_visible_aliases().unwrap_or_default();
            keys.add(Key { option: name.into(), off: None, kind }, [name].into_iter().chain(aliases));
        }
        for (name, place) in [
            ("seq_len", Place::SeqLen),
            ("batch", Place::Batch),
            ("memory", Place::Memory),
            ("encoder_len", Place::EncoderLen),
            ("shared_prefix", Place::SharedPrefix),
        ] {
            let Some(&old) = keys.names.get(name) else { continue };
            keys.names.values_mut().filter(|known| **known == old).for_each(|known| *known = place);
        }
        keys.names.insert("id".into(), Place::Id);
        keys
    }

    fn add<'a>(&mut self, key: Key, names: impl IntoIterator<Item = &'a str>) -> Place {
        // A test holds that there are fewer; past them a key would be unknown, and not another.
        let number = u8::try_from(self.keys.len()).unwrap_or(u8::MAX);
        let place = Place::Other(number, false);
        self.keys.push(key);
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            self.names.insert(key_of(name), place);
        }
        place
    }

    /// Where the value of a key goes. The names that most lines have are met without a look-up.
    pub(super) fn place(&self, name: &str) -> Place {
        match name {
            "seq_len" => Place::SeqLen,
            "batch" => Place::Batch,
            "id" => Place::Id,
            "memory" => Place::Memory,
            "model" => Place::Other(0, false),
            _ => self.names.get(name).copied().unwrap_or(Place::Unknown),
        }
    }

    /// What the key of this name is.
    fn key(&self, name: &str) -> Option<(&Key, bool)> {
        let option = |option: &str| self.keys.iter().find(|key| key.option == option).map(|key| (key, false));
        match self.place(name) {
            Place::Id | Place::Unknown => None,
            Place::SeqLen => option("seq-len"),
            Place::Batch => option("batch"),
            Place::Memory => option("memory"),
            Place::EncoderLen => option("encoder-len"),
            Place::SharedPrefix => option("shared-prefix"),
            Place::Other(number, opposite) => Some((self.keys.get(usize::from(number))?, opposite)),
        }
    }

    /// The key, or the one of `own`, that is nearest to a name, if one is near.
    fn nearest<'a>(&'a self, name: &str, own: &[&'a str]) -> Option<&'a str> {
        // What is no option is told by `own` alone.
        let options = self.names.iter().filter(|(_, place)| **place != Place::Id).map(|(name, _)| name.as_str());
        nearest(name, options.chain(own.iter().copied()))
    }
}

/// The key of an option.
fn key_of(option: &str) -> String {
    option.replace('-', "_")
}

/// The field of an error under the name that a line has for it: `--kv-dtype` is `kv_dtype`.
pub(super) fn field_of(field: &str) -> String {
    let word = |word: &str| match word.strip_prefix("--") {
        Some(option) => key_of(option),
        None if word == "MODEL" => "model".into(),
        None => word.to_owned(),
    };
    field.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// All that a line says, in its order.
pub(super) struct Pairs<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'a> de::Deserialize<'a> for Pairs<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfPairs;
        impl<'a> Visitor<'a> for OfPairs {
            type Value = Pairs<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Pairs<'a>, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(OfPairs)
    }
}

pub(super) fn wrong(code: Code, key: &str, found: String, problem: String, remedy: &str) -> Error {
    Error { code, field: key.into(), found: Some(found), problem, remedy: remedy.into() }
}

/// As much of a text as a message shows.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The text that a value is.
pub(super) fn text_of(key: &str, raw: &str) -> Result<String, Error> {
    let not_text = |error: serde_json::Error| {
        let problem = format!("is not a text: {}", said_by(&error));
        wrong(Code::NotText, key, shortened(raw), problem, "write it in quotes, its escapes whole")
    };
    serde_json::from_str(raw).map_err(not_text)
}

/// What the parser says, without the number of the line, which it takes for the first.
pub(super) fn said_by(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    match error.column() {
        0 => text.to_owned(),
        column => format!("{text} at column {column}"),
    }
}

/// Reads objects whose keys are the options of a command in `snake_case`.
pub(super) struct Reader {
    command: Command,
    pub(super) keys: Keys,
}

impl Reader {
    /// The reader for the options that `augment` gives a command, and for the settings of engines.
    pub(super) fn of(augment: fn(Command) -> Command) -> Self {
        let command = Command::new("object").disable_help_flag(true).disable_version_flag(true).no_binary_name(true);
        let mut command = settings::augment(augment(command));
        command.build();
        let keys = Keys::of(&command);
        Self { command, keys }
    }

    /// The keys as the properties of a JSON Schema, each with the help of its option.
    #[cfg(feature = "cli")]
    pub(super) fn properties(&self) -> serde_json::Map<String, serde_json::Value> {
        use serde_json::{Value, json};
        assert!(self.keys.keys.len() < usize::from(Place::Unknown.bit()), "each key has a bit of its own");
        let options = self.keys.names.keys().filter_map(|name| Some((name, self.keys.key(name)?)));
        let property = |(name, (key, opposite)): (&String, (&Key, bool))| {
            let argument = self.command.get_arguments().find(|argument| argument.get_long() == Some(&key.option));
            let words: Vec<Value> = argument
                .filter(|_| key.kind != Kind::Switch)
                .map(clap::Arg::get_possible_values)
                .unwrap_or_default()
                .iter()
                .flat_map(|word| {
                    let number = word.get_name().parse::<i64>().ok().map(Value::from);
                    [Some(Value::from(word.get_name())), number].into_iter().flatten()
                })
                .collect();
            // Where the parser refuses it.
            let least = if let Some(setting) =
                PROFILES.iter().flat_map(|profile| profile.settings).find(|known| known.name == key.option)
            {
                u64::from(setting.kind == ValueKind::Count)
            } else {
                let zero = [format!("--{}", key.option), "0".to_owned()];
                let refused = self.command.clone().try_get_matches_from(zero).err();
                u64::from(refused.is_some_and(|error| error.kind() == clap::error::ErrorKind::ValueValidation))
            };
            let is_ratio = argument
                .and_then(clap::Arg::get_value_names)
                .is_some_and(|names| names.iter().any(|name| name == "RATIO"));
            let mut schema = match key.kind {
                _ if !words.is_empty() => json!({"enum": words.into_iter().chain([Value::Null]).collect::<Vec<_>>()}),
                Kind::Number if is_ratio => json!({"type": ["number", "null"], "minimum": 0}),
                Kind::Number => json!({"type": ["integer", "null"], "minimum": least}),
                Kind::Size => json!({"type": ["integer", "string", "null"], "minimum": least}),
                Kind::Text => json!({"type": ["string", "null"]}),
                Kind::Texts => json!({"type": ["string", "array", "null"], "items": {"type": "string"}, "minItems": 1}),
                Kind::Model => json!({"type": ["string", "object", "null"]}),
                Kind::Switch => json!({"type": ["boolean", "null"]}),
            };
            let own = if key.option == "MODEL" { "model".into() } else { key_of(&key.option) };
            let help = argument.and_then(clap::Arg::get_help).map(ToString::to_string).unwrap_or_default();
            // An option takes a list, and its help names options.
            let help = help.replace(", a list", "");
            let help = field_of(help.split(" [env").next().unwrap_or_default());
            schema["description"] = match own.as_str() {
                _ if opposite => format!("The opposite of {own}").into(),
                _ if *name != own => format!("The same as {own}").into(),
                "model" => {
                    "A catalogue name, a path or an id of the hub; or an object, a config.json or kvsize.spec/1".into()
                }
                _ => help.into(),
            };
            (name.clone(), schema)
        };
        options.map(property).collect()
    }

    /// The object as options. Keys in `own` are passed over; of one that is not known, `unknown` is asked with the nearest
    /// that is.
    pub(super) fn options(
        &mut self,
        pairs: &[(String, &RawValue)],
        own: &[&str],
        unknown: impl Fn(&str, Option<&str>) -> Option<Error>,
    ) -> Result<ArgMatches, Error> {
        let mut met: Vec<&str> = Vec::with_capacity(pairs.len());
        let mut options = Vec::with_capacity(pairs.len());
        let mut models = Vec::new();
        for (name, raw) in pairs {
            let twice = || Err(duplicate(name));
            if let Some(own) = own.iter().find(|own| *own == name) {
                if met.contains(own) {
                    return twice();
                }
                met.push(own);
                continue;
            }
            let Some((key, opposite)) = self.keys.key(name) else {
                match unknown(name, self.keys.nearest(name, own)) {
                    Some(failure) => return Err(failure),
                    None => continue,
                }
            };
            if met.contains(&key.option.as_str()) {
                return twice();
            }
            met.push(&key.option);
            let raw = raw.get();
            match (key.kind, raw) {
                (_, "null") => {}
                (Kind::Model, _) if key.option == "MODEL" => models.push(written(name, Kind::Model, raw)?),
                (Kind::Switch, _) => match (raw, opposite, key.off) {
                    ("true", false, _) | ("false", true, _) => options.push(format!("--{}", key.option)),
                    ("false", false, Some(off)) | ("true", true, Some(off)) => options.push(format!("--{off}")),
                    ("false", false, None) => {}
                    _ => {
                        let problem = "is neither true nor false".to_owned();
                        return Err(wrong(Code::InvalidValue, name, shortened(raw), problem, "write true or false"));
                    }
                },
                (kind, _) => options.push(format!("--{}={}", key.option, written(name, kind, raw)?)),
            }
        }
        if !models.is_empty() {
            options.push("--".into());
            options.extend(models);
        }
        self.command.try_get_matches_from_mut(options).map_err(|error| super::usage::failure(&error))
    }
}

/// A key that is there a second time.
pub(super) fn duplicate(name: &str) -> Error {
    wrong(Code::DuplicateKey, &shortened(name), "it".into(), "is there twice".into(), "give it once")
}

/// The name of `known` that is nearest to `name`, if one may be meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// How alike they are then, of 1.
    const ALIKE: f64 = 0.8;
    let alike = known.map(|known| (strsim::jaro_winkler(known, name), known));
    let nearest = alike.max_by(|(a, known), (b, other)| a.total_cmp(b).then_with(|| other.cmp(known)));
    nearest.filter(|(likeness, _)| *likeness > ALIKE).map(|(_, known)| known)
}

/// A failure of several values, with what they are too many for, and what to do about it.
pub(super) fn one_only(diagnosis: Error, problem: &str, remedy: &str) -> Error {
    match diagnosis.code {
        Code::Several => Error { problem: problem.into(), remedy: remedy.into(), ..diagnosis },
        _ => diagnosis,
    }
}

/// The path of a key, under `path`, that an object of `raw` has twice: the parser would take the second in silence.
pub(super) fn twice(raw: &str, path: &str) -> Option<String> {
    /// Levels that the parser reads; what is deeper it refuses.
    const DEEPEST: usize = 128;
    twice_within(raw, path, DEEPEST)
}

fn twice_within(raw: &str, path: &str, levels: usize) -> Option<String> {
    let levels = levels.checked_sub(1)?;
    if let Ok(Pairs(pairs)) = serde_json::from_str(raw) {
        let mut met = HashSet::with_capacity(pairs.len());
        return pairs.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            if met.insert(key) { twice_within(value.get(), &path, levels) } else { Some(path) }
        });
    }
    let list: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    let mut items = list.iter().enumerate();
    items.find_map(|(index, item)| twice_within(item.get(), &format!("{path}[{index}]"), levels))
}

/// A value as an option has it.
fn written(key: &str, kind: Kind, raw: &str) -> Result<String, Error> {
    let refused =
        |problem: &str, remedy: &str| Err(wrong(Code::WrongType, key, shortened(raw), problem.to_owned(), remedy));
    match (kind, raw.bytes().next().unwrap_or_default()) {
        (Kind::Texts, b'[') => match serde_json::from_str::<Vec<String>>(raw) {
            Ok(texts) if !texts.is_empty() => Ok(texts.join(",")),
            _ => refused("is not a list of texts", "write one text or more, each in quotes"),
        },
        // Whose it is says why there can be one only.
        (_, b'[') => Err(wrong(Code::Several, key, "a list".into(), String::new(), "")),
        (Kind::Model, b'"' | b'{') | (Kind::Number | Kind::Size, b'0'..=b'9' | b'-') => Ok(raw.to_owned()),
        (Kind::Model, _) => refused("is not a model", "write its name, or an object"),
        (Kind::Number, b'"') => refused("is a text, not a number", "write the number without quotes"),
        (Kind::Text | Kind::Texts | Kind::Size, b'"') => text_of(key, raw),
        (Kind::Number, _) => refused("is not a number", "write a number"),
        (Kind::Size, _) => refused("is not a number", "write a number, or a text such as \"128K\" or \"64GiB\""),
        _ => refused("is not a text", "write it in quotes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_found_wherever_it_is() {
        for (raw, path) in [
            (r#"{"a": 1, "b": {"a": 2}, "c": [{"a": 3}, {"a": 4}]}"#, None),
            (r#"{"a": 1, "a": 1}"#, Some("m.a")),
            (r#"{"b": [null, true, 1.5, -1, "x", {"c": {"d": 1, "d": 2}}]}"#, Some("m.b[5].c.d")),
            (r#"{"a": 1, "\u0061": 2}"#, Some("m.a")),
            (r#"{"a": 1, "b": [1, {"#, None),
        ] {
            assert_eq!(twice(raw, "m").as_deref(), path, "{raw}");
        }
    }

    #[test]
    fn every_setting_is_a_key() {
        let reader = Reader::of(|command| command);
        for setting in PROFILES.iter().flat_map(|profile| profile.settings) {
            assert!(reader.keys.names.contains_key(&key_of(setting.name)), "{}", setting.name);
        }
    }
}
