//! JSON objects whose keys are options and settings: a line of a batch, a budget of a file.
//!
//! An object is read once, from its text into an [`Ask`], without a copy where no text has an escape.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::field::{Key, key_of};
use super::{Ask, Field, Kind, Selection};
use crate::engine::{PROFILES, ValueKind};
use crate::estimate::Workload;
use crate::units::{Code, Error};

/// A hash of short texts: a step for each eight bytes, a fifth of what std's costs. It does not withstand keys that are chosen
/// to collide, which slow their own batch down and nothing else.
#[derive(Debug, Default)]
pub struct ShortHasher(u64);

impl Hasher for ShortHasher {
    fn write(&mut self, bytes: &[u8]) {
        /// 2⁶⁴ over the golden ratio, odd.
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        let (words, rest) = bytes.as_chunks();
        let rest = rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        for word in words.iter().map(|word| u64::from_le_bytes(*word)).chain([rest]) {
            let mixed = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
            self.0 = mixed ^ (mixed >> 32);
        }
    }

    /// What ends a text, which is all that is hashed.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map by short texts.
pub type ByText<K, V> = HashMap<K, V, BuildHasherDefault<ShortHasher>>;

/// A key that is known, and its number among the keys.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// An option or a setting.
    Asked(u8, Key),
    /// A key that the caller reads itself: the number of it.
    Own(u8),
    /// Unknown.
    Unknown,
}

/// Reads objects of certain options, and of all settings of engines.
#[derive(Debug)]
pub struct ObjectReader {
    names: ByText<String, Place>,
    /// Where all keys are listed, for the message about one that is not known.
    listed: &'static str,
    /// Whether keys that are not known are passed over.
    is_lenient: bool,
}

/// An object as it was written.
#[derive(Debug, Default)]
pub struct Object<'a> {
    /// Its keys and values, in its order.
    pairs: Vec<Pair<'a>>,
}

/// A key with its value.
#[derive(Debug)]
struct Pair<'a> {
    name: Cow<'a, str>,
    place: Place,
    raw: &'a RawValue,
}

impl<'a> Object<'a> {
    /// The value of the caller's own key of this number.
    pub fn own(&self, number: u8) -> Option<&'a RawValue> {
        self.pairs.iter().find(|pair| matches!(pair.place, Place::Own(own) if own == number)).map(|pair| pair.raw)
    }

    /// What is the same in objects that differ in the values of the caller's own keys and of those that
    /// vary alone (tokens, sequences, memory), put after `text`.
    pub fn put_kind(&self, text: &mut String) {
        for Pair { place, raw, .. } in &self.pairs {
            let (sign, number, varies) = match *place {
                Place::Asked(number, Key::Field(field)) => ('f', number, field.varies.is_some() && !is_null(raw)),
                Place::Asked(number, Key::Setting { inverse: false, .. }) => ('s', number, false),
                Place::Asked(number, Key::Setting { inverse: true, .. }) => ('i', number, false),
                Place::Own(number) => ('o', number, true),
                Place::Unknown => ('u', 0, true),
            };
            text.push(sign);
            text.push(char::from(number));
            text.push_str(if varies { "" } else { raw.get() });
            // JSON has no such character, so that one value does not run into the next.
            text.push('\0');
        }
    }

    /// A workload with what is said by the keys that vary in place of its own.
    ///
    /// # Errors
    /// A value that the option does not take, or several values.
    pub fn varied(&self, workload: &Workload) -> Result<Workload, Error> {
        let (mut varied, mut rest) = (*workload, None);
        for Pair { name, place, raw } in &self.pairs {
            let Place::Asked(_, key @ Key::Field(Field { varies: Some(vary), .. })) = *place else { continue };
            match raw.get().parse() {
                Ok(number @ 1..) => vary(&mut varied, number),
                _ if is_null(raw) => {}
                _ => set(rest.get_or_insert_with(Ask::default), key, name, raw.get())?,
            }
        }
        rest.map_or(Ok(varied), |ask| ask.varied(&varied))
    }
}

impl ObjectReader {
    /// A reader of the options of a selection, of all settings of engines and of the caller's `own` keys; `listed` says where
    /// all of them are listed.
    pub fn new(selection: Selection, own: &'static [&'static str], listed: &'static str) -> Self {
        let mut names: ByText<String, Place> = ByText::default();
        let mut add = |number: usize, aliases: &[&str], key: Key| {
            let place = Place::Asked(u8::try_from(number).unwrap_or(u8::MAX), key);
            for name in aliases.iter().filter(|name| !name.is_empty()) {
                names.entry(key_of(name)).or_insert(place);
            }
        };
        let fields: Vec<&'static Field> = selection.fields().collect();
        for (number, field) in fields.iter().enumerate() {
            add(number, &[field.name], Key::Field(field));
            add(number, field.aliases, Key::Field(field));
        }
        for (number, setting) in PROFILES.iter().flat_map(|profile| profile.settings).enumerate() {
            let number = fields.len().saturating_add(number);
            // A switch that is named for what it enables is known without that word.
            let short = setting.name.strip_prefix("enable-").unwrap_or(setting.name);
            add(number, &[setting.name, setting.alias, short], Key::Setting { setting, inverse: false });
            if let ValueKind::Switch { off } = setting.kind {
                add(number, &[off], Key::Setting { setting, inverse: true });
            }
        }
        let mut reader = Self::of_own(own, listed);
        reader.names.extend(names);
        reader
    }

    /// A reader of the caller's own keys alone.
    pub fn of_own(own: &'static [&'static str], listed: &'static str) -> Self {
        let place = |index: usize| Place::Own(u8::try_from(index).unwrap_or(u8::MAX));
        let names = own.iter().enumerate().map(|(index, name)| ((*name).to_owned(), place(index))).collect();
        Self { names, listed, is_lenient: false }
    }

    /// The same reader, which passes over keys that are not known.
    #[must_use]
    pub fn lenient(self) -> Self {
        Self { is_lenient: true, ..self }
    }

    /// Reads the keys and values of an object. What was read before a mistake stays in `object`.
    ///
    /// # Errors
    /// A syntax error of JSON, as [`Code::NotJson`].
    pub fn read<'a>(&self, text: &'a str, object: &mut Object<'a>) -> Result<(), Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = Seed { reader: self, object }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        read.map_err(|error| {
            let problem = format!("is not one JSON object: {}", said_by(&error));
            let remedy = "write an object, its keys and texts in double quotes";
            Error::new(Code::NotJson, "", shortened(text.trim()), problem, remedy)
        })
    }

    /// What an object says with its options and settings; `null` is as if it were not there.
    ///
    /// # Errors
    /// The first key that is unknown or there twice, or whose value is not taken.
    pub fn ask<'a>(&self, object: &Object<'a>) -> Result<Ask<'a>, Error> {
        let mut ask = Ask::default();
        // The numbers of the keys that were met: of options and settings, and of the caller's own.
        let mut met = [0u128; 2];
        for Pair { name, place, raw } in &object.pairs {
            let (met, number) = match *place {
                Place::Unknown if self.is_lenient => continue,
                Place::Unknown => return Err(self.unknown(name)),
                Place::Asked(number, _) => (&mut met[0], number),
                Place::Own(number) => (&mut met[1], number),
            };
            let bit = 1u128.checked_shl(number.into()).unwrap_or_default();
            if *met & bit != 0 {
                return Err(duplicate(name));
            }
            *met |= bit;
            if let Place::Asked(_, key) = *place
                && !is_null(raw)
            {
                set(&mut ask, key, name, raw.get())?;
            }
        }
        Ok(ask)
    }

    fn place(&self, name: &str) -> Place {
        self.names.get(name).copied().unwrap_or(Place::Unknown)
    }

    /// The error of a key that is not known, with the nearest that is.
    fn unknown(&self, name: &str) -> Error {
        let remedy = match nearest(name, self.names.keys().map(String::as_str)) {
            Some(known) => format!("did you mean {known}?"),
            None => self.listed.into(),
        };
        Error::without_value(Code::UnknownKey, shortened(name), "unknown key", remedy)
    }
}

/// An object on its way into an [`Object`].
struct Seed<'s, 'a> {
    reader: &'s ObjectReader,
    object: &'s mut Object<'a>,
}

impl<'a> DeserializeSeed<'a> for Seed<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Seed<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        /// Few say more.
        const USUAL: usize = 8;
        self.object.pairs.reserve(USUAL);
        while let Some((name, place)) = map.next_key_seed(NameSeed(self.reader))? {
            self.object.pairs.push(Pair { name, place, raw: map.next_value()? });
        }
        Ok(())
    }
}

/// Reads a key; without a copy where it has no escape.
struct NameSeed<'s>(&'s ObjectReader);

impl<'a> DeserializeSeed<'a> for NameSeed<'_> {
    type Value = (Cow<'a, str>, Place);

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for NameSeed<'_> {
    type Value = (Cow<'a, str>, Place);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: de::Error>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok((name.into(), self.0.place(name)))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok((name.to_owned().into(), self.0.place(name)))
    }
}

/// Sets what a key names to a value of JSON.
fn set<'a>(ask: &mut Ask<'a>, key: Key, name: &str, raw: &'a str) -> Result<(), Error> {
    let kind = match key {
        Key::Field(field) => field.kind,
        Key::Setting { setting, .. } => match setting.kind {
            ValueKind::Switch { .. } => Kind::Switch,
            ValueKind::Count | ValueKind::CountOrZero | ValueKind::Ratio => Kind::Number,
            // Words that are numbers may be written as such.
            ValueKind::Choice(words) if words.iter().any(|word| word.parse::<i64>().is_ok()) => Kind::Size,
            ValueKind::Choice(_) => Kind::Text,
        },
    };
    let refused = |problem: &str, remedy: &str| Err(Error::new(Code::WrongType, name, shortened(raw), problem, remedy));
    let text = match (kind, raw.bytes().next().unwrap_or_default()) {
        (Kind::Switch, _) => match (raw, key) {
            ("true", _) | ("false", Key::Setting { .. }) => raw.into(),
            ("false", Key::Field(_)) => return Ok(()),
            _ => {
                let problem = "is neither true nor false";
                return Err(Error::new(Code::InvalidValue, name, shortened(raw), problem, "write true or false"));
            }
        },
        (Kind::Texts, b'[') => match serde_json::from_str::<Vec<String>>(raw) {
            Ok(texts) if !texts.is_empty() => {
                return texts.into_iter().try_for_each(|text| ask.put(key, name, text.into()));
            }
            _ => return refused("is not a list of texts", "write one text or more, each in quotes"),
        },
        (_, b'[') => {
            let problem = "lists several values, where one is taken";
            return Err(Error::without_value(Code::Several, name, problem, "give one value"));
        }
        (Kind::Model, b'{') | (Kind::Number | Kind::Size, b'0'..=b'9' | b'-') => raw.into(),
        (Kind::Model | Kind::Text | Kind::Texts | Kind::Size | Kind::Words(_), b'"') => text_of(name, raw)?,
        (Kind::Model, _) => return refused("is not a model", "write its name, or an object"),
        (Kind::Number, b'"') => return refused("is a text, not a number", "write the number without quotes"),
        (Kind::Number, _) => return refused("is not a number", "write a number"),
        (Kind::Size, _) => {
            return refused("is not a number", "write a number, or a text such as \"128K\" or \"64GiB\"");
        }
        (Kind::Text | Kind::Texts | Kind::Words(_), _) => return refused("is not a text", "write it in quotes"),
    };
    ask.put(key, name, text)
}

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// A key that is there a second time.
pub fn duplicate(name: &str) -> Error {
    Error::without_value(Code::DuplicateKey, shortened(name), "is there twice", "give it once")
}

/// The name of `known` that is nearest to `name`, if one may be meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// How alike they are then, of 1.
    const ALIKE: f64 = 0.8;
    let alike = known.map(|known| (strsim::jaro_winkler(known, name), known));
    let nearest = alike.max_by(|(a, known), (b, other)| a.total_cmp(b).then_with(|| other.cmp(known)));
    nearest.filter(|(likeness, _)| *likeness > ALIKE).map(|(_, known)| known)
}

/// A field of an error under the name that JSON has for it: `--kv-dtype` is `kv_dtype`.
pub fn field_of(field: &str) -> String {
    let word = |word: &str| match word.strip_prefix("--") {
        Some(option) => key_of(option),
        None if word == "MODEL" => "model".into(),
        None => word.to_owned(),
    };
    field.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// As much of a text as a message shows.
pub fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The text that a value of JSON is.
///
/// # Errors
/// [`Code::NotText`].
pub fn text_of<'a>(key: &str, raw: &'a str) -> Result<Cow<'a, str>, Error> {
    let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    if let Some(text) = inner.filter(|text| !text.contains('\\')) {
        return Ok(text.into());
    }
    serde_json::from_str::<String>(raw).map(Cow::from).map_err(|error| {
        let problem = format!("is not a text: {}", said_by(&error));
        Error::new(Code::NotText, key, shortened(raw), problem, "write it in quotes, its escapes whole")
    })
}

/// What the parser says; of the first line, which may be all there is, without its number.
pub(super) fn said_by(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (error.line(), error.column()) {
        (1, 0) => text.split(" at line ").next().unwrap_or_default().to_owned(),
        (1, _) => text.replacen(" at line 1 column ", " at column ", 1),
        _ => text,
    }
}

/// The path of a key, under `path`, that an object of `raw` has twice: the parser would take the second in silence.
pub fn twice(raw: &str, path: &str) -> Option<String> {
    let KeyThere(twice) = serde_json::from_str(raw).ok()?;
    Some(format!("{path}{}", twice?))
}

/// The path of the first key that is there twice, as `.key[0].key`, in any value.
struct KeyThere(Option<String>);

impl<'a> de::Deserialize<'a> for KeyThere {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyThere(None))
    }
}

/// A value without keys.
macro_rules! no_keys {
    ($($method:ident $value:ty),*) => {$(
        fn $method<E>(self, _: $value) -> Result<Self, E> {
            Ok(self)
        }
    )*};
}

impl<'a> Visitor<'a> for KeyThere {
    type Value = Self;

    no_keys!(visit_bool bool, visit_i64 i64, visit_u64 u64, visit_f64 f64, visit_str &str);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<S: SeqAccess<'a>>(mut self, mut items: S) -> Result<Self, S::Error> {
        for index in 0u64.. {
            let Some(Self(within)) = items.next_element()? else { break };
            self.0 = self.0.or(within.map(|path| format!("[{index}]{path}")));
        }
        Ok(self)
    }

    fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<Self, M::Error> {
        let mut met = HashSet::new();
        while let Some((key, Self(within))) = map.next_entry::<String, _>()? {
            let within = if met.contains(&key) { Some(String::new()) } else { within };
            self.0 = self.0.or(within.map(|path| format!(".{key}{path}")));
            met.insert(key);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{FIELDS, Group};
    use crate::units::once;

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
    fn every_option_and_every_setting_is_a_key_with_a_number_of_its_own() {
        let groups: Vec<Group> = FIELDS.iter().map(|field| field.group).collect();
        let all = Selection { groups: once(groups).leak(), without: "" };
        let reader = ObjectReader::new(all, &[], "");
        let number = |name: &str| match reader.names.get(&key_of(name)) {
            Some(Place::Asked(number, _)) => *number,
            other => panic!("{name}: {other:?}"),
        };
        let mut options: Vec<u8> = FIELDS.iter().map(|field| number(field.name)).collect();
        options.dedup();
        assert_eq!(options.len(), FIELDS.len());
        let settings = PROFILES.iter().flat_map(|profile| profile.settings);
        let last = settings.map(|setting| number(setting.name)).max().unwrap();
        assert!(last < 128, "each has a bit of its own");
    }
}
