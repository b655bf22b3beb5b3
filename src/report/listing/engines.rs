//! The engines.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Item, Page, entry};
use crate::engine::{Profile, Setting, ValueKind};
use crate::report::{Column, Medium};
use crate::units::ByteUnit;

/// An engine of a [`Listing`](super::Listing): a row of `kvsize.engines/1`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EngineItem {
    /// Its name.
    name: &'static str,
    /// The versions whose rules are known, the newest first.
    versions: &'static [&'static str],
    /// What is told of it.
    about: &'static str,
    /// What it was held against.
    replayed: &'static str,
    /// What it does where nothing is said.
    defaults: Vec<DefaultItem>,
    /// What it can be set to.
    settings: Vec<SettingItem>,
}

/// A default of an [`EngineItem`].
#[derive(Debug, Serialize, JsonSchema)]
pub struct DefaultItem {
    /// The setting.
    name: &'static str,
    /// Its value.
    value: &'static str,
}

/// A setting of an [`EngineItem`].
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct SettingItem {
    /// The option.
    name: &'static str,
    /// Another name of it.
    alias: Option<&'static str>,
    /// What is written for it.
    value: &'static str,
    /// The words of a choice.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    choices: &'static [&'static str],
    /// What it is.
    about: &'static str,
}

impl From<&Profile> for EngineItem {
    fn from(profile: &Profile) -> Self {
        Self {
            name: profile.name,
            versions: profile.versions,
            about: profile.about,
            replayed: profile.replayed,
            defaults: profile.defaults.iter().map(|&(name, value)| DefaultItem { name, value }).collect(),
            settings: profile.settings.iter().map(SettingItem::from).collect(),
        }
    }
}

impl From<&Setting> for SettingItem {
    fn from(setting: &Setting) -> Self {
        let (value, choices): (_, &[&str]) = match setting.kind {
            ValueKind::Switch { .. } => ("switch", &[]),
            ValueKind::Count => ("count", &[]),
            ValueKind::CountOrZero => ("count_or_zero", &[]),
            ValueKind::Ratio => ("ratio", &[]),
            ValueKind::Choice(words) => ("choice", words),
        };
        let alias = (!setting.alias.is_empty()).then_some(setting.alias);
        Self { name: setting.name, alias, value, choices, about: setting.about }
    }
}

impl Item for EngineItem {
    const SCHEMA: &'static str = "kvsize.engines/1";

    fn columns(_: Medium) -> Vec<Column<'static, Self>> {
        let defaults = |item: &Self| {
            let defaults = item.defaults.iter().map(|DefaultItem { name, value }| format!("{name}: {value}"));
            defaults.collect::<Vec<_>>().join("; ")
        };
        vec![
            Column::left("Engine", |item: &Self| item.name).key("Engine"),
            Column::left("Versions", |item: &Self| item.versions.join(" ")).key("Versions"),
            Column::left("What it is", |item: &Self| item.about).key("What it is"),
            Column::left("Replayed", |item: &Self| item.replayed).key("Replayed"),
            Column::left("Defaults", defaults).key("Defaults"),
        ]
    }

    fn plain(&self) -> String {
        self.name.into()
    }

    fn entries(items: &[Self], _: ByteUnit) -> Page {
        let of_item = |item: &Self| {
            let about = [
                ("versions", item.versions.join(", ")),
                ("bytes", item.about.to_owned()),
                ("replayed", item.replayed.to_owned()),
            ];
            let defaults = item.defaults.iter().map(|default| (default.name.to_owned(), default.value.to_owned()));
            entry(item.name, about, "defaults", defaults)
        };
        items.iter().flat_map(of_item).collect()
    }
}
