//! What was said, one struct for all who ask.

use std::borrow::Cow;
use std::path::PathBuf;

use super::WeightsDtype;
use super::field::{Key, find};
use crate::engine::{Double, Engine, Setting, SettingValue};
use crate::hardware::Rate;
use crate::model::{DraftMethod, ModelSpec, Release};
use crate::strategy::{Levers, Streaming};
use crate::units::{Bytes, ElementFormat, Error, KvDtype, Margin, Passages, Series, Tokens, named};

/// What was said, nothing filled in: a list that is empty and an option that is `None` were not given. Each field is an option
/// of the command line and a key of JSON; [`FIELDS`](super::FIELDS) has their names, help and readers.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the rows of FIELDS say what each is")]
pub struct Ask<'a> {
    pub models: Vec<Named<'a>>,
    /// A model from its dimensions.
    pub dimensions: ModelSpec,
    /// The 16-bit dtype that it is loaded in.
    pub dtype: Option<ElementFormat>,
    pub seq_len: Vec<Series>,
    pub batch: Vec<Series>,
    pub kv_dtype: Vec<KvDtype>,
    pub k_dtype: Option<ElementFormat>,
    pub v_dtype: Option<ElementFormat>,
    pub bitwidth: Vec<u64>,
    pub encoder_len: Option<Tokens>,
    pub engine: Vec<Engine>,
    /// Settings of engines, under their own names.
    pub settings: Vec<(&'static Setting, SettingValue)>,
    pub shared_prefix: Option<Tokens>,
    pub sinks: Option<u64>,
    pub window: Option<Tokens>,
    pub windows: Option<Windows>,
    pub retrieve: Option<Passages>,
    pub speculative_method: Option<DraftMethod>,
    pub num_speculative_tokens: Option<u64>,
    pub draft: Option<Named<'a>>,
    pub tp: Vec<Series>,
    pub pp: Vec<Series>,
    pub dp: Vec<Series>,
    pub dcp: Vec<Series>,
    pub memory: Vec<Series>,
    pub gpu: Vec<Cow<'a, str>>,
    pub num_gpus: Option<u64>,
    pub gpu_memory: Option<Bytes>,
    pub accelerators: Option<PathBuf>,
    pub price: Option<Rate>,
    pub prices: Option<PathBuf>,
    pub max_gpus: Option<u64>,
    pub any_layout: bool,
    pub weights: Option<Bytes>,
    pub weights_dtype: Option<WeightsDtype>,
    pub llama_quantize: Option<Release>,
    pub overhead: Option<Bytes>,
    pub utilization: Option<Double>,
    pub capacity: Option<Total>,
    pub avg_seq_len: Option<Tokens>,
    pub budget: Option<Bytes>,
    pub budget_per_gpu: Option<Bytes>,
    pub margin: Option<Margin>,
    pub min_context: Option<Tokens>,
    pub min_concurrent_requests: Option<u64>,
    pub must_fit_on: Vec<Cow<'a, str>>,
    pub catalogue: Option<PathBuf>,
    pub offline: bool,
    pub strict: bool,
}

/// A model as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named<'a> {
    /// By a name, a path or an id.
    Name(Cow<'a, str>),
    /// As a JSON object.
    Object(Cow<'a, str>),
}

impl Named<'_> {
    /// The name or the object, as it was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Object(text) => text,
        }
    }

    fn into_owned(self) -> Named<'static> {
        match self {
            Self::Name(text) => Named::Name(text.into_owned().into()),
            Self::Object(text) => Named::Object(text.into_owned().into()),
        }
    }
}

named! {
    /// What becomes of windows and chunks.
    pub enum Windows {
        /// A layer keeps no more than its window or chunk.
        Honoured = "honoured",
        /// Every layer keeps every token.
        Kept = "kept",
    }
}

named! {
    /// Which total of a device counts.
    #[derive(Default)]
    pub enum Total {
        /// What CUDA reports to an engine.
        #[default]
        Visible = "visible",
        /// What the driver reports.
        Driver = "driver",
        /// What it is marketed with.
        Marketed = "marketed",
    }
}

impl<'a> Ask<'a> {
    /// About a model by its name.
    pub fn new(model: &'a str) -> Self {
        Self { models: vec![Named::Name(model.into())], ..Self::default() }
    }

    /// The same with an option or a setting of an engine under its name, as in JSON: `seq_len`, `kv_dtype`, `block_size`. The
    /// value is a text as on the command line; a list has commas.
    ///
    /// # Errors
    /// A name that no option has, or a value that the option does not take.
    pub fn set(mut self, name: &str, value: &'a str) -> Result<Self, Error> {
        self.put(find(name)?, name, value.into())?;
        Ok(self)
    }

    /// Sets what `key` names to the value of a text.
    pub(super) fn put(&mut self, key: Key, name: &str, text: Cow<'a, str>) -> Result<(), Error> {
        match key {
            Key::Field(field) => field.read(self, text).map_err(|error| error.at(name)),
            Key::Setting { setting, inverse } => {
                let value = match setting.read(&text)? {
                    SettingValue::Switch(on) => SettingValue::Switch(on != inverse),
                    value => value,
                };
                self.settings.push((setting, value));
                Ok(())
            }
        }
    }

    /// The same, which borrows nothing.
    pub fn into_owned(self) -> Ask<'static> {
        let texts = |texts: Vec<Cow<'_, str>>| texts.into_iter().map(|text| Cow::from(text.into_owned())).collect();
        Ask {
            models: self.models.into_iter().map(Named::into_owned).collect(),
            draft: self.draft.map(Named::into_owned),
            gpu: texts(self.gpu),
            must_fit_on: texts(self.must_fit_on),
            ..self
        }
    }

    /// What is changed in the model's cache, or in what it reads.
    pub fn levers(&self) -> Levers {
        let streaming = self.sinks.zip(self.window).map(|(sinks, window)| Streaming { sinks, window });
        Levers { streaming, windows_kept: self.windows == Some(Windows::Kept), retrieval: self.retrieve }
    }
}
