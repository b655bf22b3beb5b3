//! What was said, resolved: defaults filled in, contradictions refused, models and devices looked up.

use std::collections::HashSet;
use std::slice;
use std::sync::Arc;

use super::{Ask, Named, Sources, Weigh, WeightsDtype};
use crate::engine::{Answer, Engine, OwnLengths, PROFILES, Prepared, Setting};
use crate::estimate::{Layout, Workload};
use crate::model::{DraftMethod, LayerCache, LayerGroup, Model};
use crate::units::{Bytes, Code, ElementFormat, Error, KvDtype, KvFormat, Passages, Series, Tokens, once};

/// The lengths of the article's tables.
pub const ARTICLE_LENGTHS: [Tokens; 4] = [Tokens(1_000), Tokens(10_000), Tokens(1_000_000), Tokens(10_000_000)];

/// The length of one estimate of a model that has no maximum of its own.
const USUAL_LENGTH: Tokens = Tokens(131_072);

/// One estimate.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model, with what drafts for it and with the levers on it.
    pub model: Arc<Model>,
    /// The engine, with its settings and the device that its defaults depend on.
    pub engine: Engine,
    /// Tokens, sequences, formats, layout and memory.
    pub workload: Workload,
    /// What had to be assumed of the device.
    pub assumption: Option<String>,
    /// Whether tokens and sequences decide more than the workload: an engine's own settings, or the model.
    pub is_of_its_lengths: bool,
}

impl Request {
    /// What the engine makes of it.
    ///
    /// # Errors
    /// What the engine refuses, or a result past 2⁶⁴ − 1.
    pub fn answer(&self) -> Result<Answer, Error> {
        self.engine.answer(&self.model, &self.workload)
    }

    /// What can be worked out once for many requests that differ only in tokens, sequences and memory.
    pub fn prepare(&self) -> Prepared {
        self.engine.prepare(&self.model, &self.workload)
    }
}

/// Many estimates of one model: every combination of lengths, batches, engines and formats.
pub struct Axes {
    /// Tokens of each sequence.
    pub seq_lens: Vec<Tokens>,
    /// Sequences.
    pub batches: Vec<u64>,
    /// Engines and formats.
    pub variants: Vec<Variant>,
    /// All that is the same in every workload.
    pub common: Workload,
}

/// An engine and a format, with what the engine works out once for a model in it.
pub struct Variant {
    /// The engine.
    pub engine: Engine,
    /// The format that is asked for.
    pub kv_dtype: KvDtype,
    prepared: Prepared,
}

impl Variant {
    fn new(engine: &Engine, kv_dtype: KvDtype, model: &Model, common: &Workload) -> Self {
        let prepared = engine.prepare(model, &Workload { kv_dtype, ..*common });
        Self { engine: engine.clone(), kv_dtype, prepared }
    }

    /// What the engine makes of a workload of the [`Axes`] on the same model.
    ///
    /// # Errors
    /// What the engine refuses, or a result past 2⁶⁴ − 1.
    pub fn answer(&self, model: &Model, workload: &Workload) -> Result<Answer, Error> {
        self.engine.answer_prepared(&self.prepared, model, workload)
    }
}

/// A layout and a memory, of which a sweep has many; what was not given is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Tensor parallel ranks.
    pub tp: Option<u64>,
    /// Pipeline stages.
    pub pp: Option<u64>,
    /// Replicas.
    pub dp: Option<u64>,
    /// Decode context parallel ranks.
    pub dcp: Option<u64>,
    /// Bytes for the cache on each device.
    pub memory: Option<u64>,
}

impl Place {
    /// The layout; what was not given is 1.
    pub fn layout(&self) -> Layout {
        let Self { tp, pp, dp, dcp, .. } = *self;
        Layout { tp: tp.unwrap_or(1), pp: pp.unwrap_or(1), dp: dp.unwrap_or(1), dcp: dcp.unwrap_or(1) }
    }
}

impl Axes {
    /// The article's question: its lengths, up to the model's own maximum, which is added; the 16-bit format of the
    /// checkpoint, and FP8.
    pub fn article(model: &Model) -> Self {
        let mut seq_lens = ARTICLE_LENGTHS.to_vec();
        if let Some(maximum) = model.max_position_embeddings {
            seq_lens.retain(|&seq_len| seq_len < maximum);
            seq_lens.push(maximum);
        }
        let common = Workload::of(Tokens(1), 1);
        let variants = usual(&Engine::ideal(), model, &common);
        Self { seq_lens, batches: vec![1], variants, common }
    }

    /// Every workload with its engine and format: the format changes first, then the engine, the batch and the length.
    pub fn workloads(&self) -> impl Iterator<Item = (&Variant, Workload)> {
        let lengths = self.seq_lens.iter().flat_map(|&seq_len| self.batches.iter().map(move |&batch| (seq_len, batch)));
        lengths.flat_map(move |(seq_len, batch)| {
            let workload = move |kv_dtype| Workload { seq_len, batch, kv_dtype, ..self.common };
            self.variants.iter().map(move |variant| (variant, workload(variant.kv_dtype)))
        })
    }
}

impl Ask<'_> {
    /// The one estimate that is asked about.
    ///
    /// # Errors
    /// Several values where one estimate takes one, contradictions, what is not known.
    pub fn request(&self, sources: &dyn Sources) -> Result<Request, Error> {
        self.refuse_pairs()?;
        let (engines, assumption) = self.engines(sources)?;
        let engine = only("--engine", engines)?.unwrap_or_else(Engine::ideal);
        let model = self.model(slice::from_ref(&engine), sources, Weigh::No)?;
        let (workload, is_of_its_lengths) = self.workload(&model, &engine)?;
        Ok(Request { model, engine, workload, assumption, is_of_its_lengths })
    }

    /// The one model that is asked about, as these engines run it.
    ///
    /// # Errors
    /// No model or several, or one that the rest of the question does not suit.
    pub fn model(&self, engines: &[Engine], sources: &dyn Sources, weigh: Weigh) -> Result<Arc<Model>, Error> {
        match <[_; 1]>::try_from(self.models(engines, sources, weigh)?) {
            Ok([model]) => Ok(model),
            Err(models) => {
                let (found, remedy) = (format!("{} models", models.len()), "ask about one after the other");
                Err(Error::new(Code::Several, "MODEL", found, "are more than can be asked about", remedy))
            }
        }
    }

    /// The one workload that is asked of a model, and whether an engine's settings or the length's own rules decide more.
    ///
    /// # Errors
    /// Several values where one estimate takes one, or values that a setting of the engine fixes.
    pub fn workload(&self, model: &Model, engine: &Engine) -> Result<(Workload, bool), Error> {
        let (seq_len, batch) = (self.one_seq_len()?, self.one_batch()?);
        let own = self.own_lengths(model, engine)?;
        let place = self.place()?;
        let common = self.common(&place);
        let auto = if engine.is_ideal() { model.dtype.into() } else { KvDtype::Auto };
        let kv_dtype = only("--kv-dtype or --bitwidth", self.formats(model, engine, &common))?.unwrap_or(auto);
        let retrieved = self.retrieve.and_then(Passages::tokens);
        let seq_len = own.seq_len.map(|(_, tokens)| tokens).or(retrieved).or(seq_len);
        let workload = Workload {
            seq_len: seq_len.or(model.max_position_embeddings).unwrap_or(USUAL_LENGTH),
            batch: own.sequences.map(|(_, count)| count).or(batch).unwrap_or(1),
            kv_dtype,
            ..common
        };
        Ok((workload, own != OwnLengths::default() || self.levers().streaming.is_some()))
    }

    /// A workload with the tokens, sequences and memory that are given in place of its own.
    ///
    /// # Errors
    /// Several values of one of them.
    pub fn varied(&self, workload: &Workload) -> Result<Workload, Error> {
        Ok(Workload {
            seq_len: self.one_seq_len()?.unwrap_or(workload.seq_len),
            batch: self.one_batch()?.unwrap_or(workload.batch),
            memory: one("--memory", &self.memory)?.map(Bytes).or(workload.memory),
            ..*workload
        })
    }

    /// The estimates of a model at a place.
    ///
    /// # Errors
    /// Values that a setting of an engine fixes.
    pub fn axes(&self, model: &Model, engines: &[Engine], place: &Place) -> Result<Axes, Error> {
        let mut axes = Axes { common: self.common(place), variants: Vec::new(), ..Axes::article(model) };
        if !self.seq_len.is_empty() {
            axes.seq_lens = distinct(&self.seq_len).map(Tokens).collect();
        }
        axes.seq_lens = self.retrieve.and_then(Passages::tokens).map_or(axes.seq_lens, |tokens| vec![tokens]);
        if !self.batch.is_empty() {
            axes.batches = distinct(&self.batch).collect();
        }
        for engine in engines {
            let OwnLengths { sequences, seq_len } = self.own_lengths(model, engine)?;
            axes.seq_lens = seq_len.map_or(axes.seq_lens, |(_, tokens)| vec![tokens]);
            axes.batches = sequences.map_or(axes.batches, |(_, count)| vec![count]);
        }
        let common = &Workload { seq_len: axes.seq_lens.first().copied().unwrap_or(Tokens(1)), ..axes.common };
        let of_engine = |engine: &Engine| {
            let asked = self.formats(model, engine, common).into_iter();
            let asked: Vec<_> = asked.map(|format| Variant::new(engine, format, model, common)).collect();
            if asked.is_empty() { usual(engine, model, common) } else { asked }
        };
        axes.variants = engines.iter().flat_map(of_engine).collect();
        Ok(axes)
    }

    /// The one length that was given.
    ///
    /// # Errors
    /// Several lengths.
    pub fn one_seq_len(&self) -> Result<Option<Tokens>, Error> {
        Ok(one("--seq-len", &self.seq_len)?.map(Tokens))
    }

    /// The one batch that was given.
    ///
    /// # Errors
    /// Several batches.
    pub fn one_batch(&self) -> Result<Option<u64>, Error> {
        one("--batch", &self.batch)
    }

    /// The one layout and memory that were given.
    ///
    /// # Errors
    /// Several values of one of them.
    pub fn place(&self) -> Result<Place, Error> {
        Ok(Place {
            tp: one("--tp", &self.tp)?,
            pp: one("--pp", &self.pp)?,
            dp: one("--dp", &self.dp)?,
            dcp: one("--dcp", &self.dcp)?,
            memory: one("--memory", &self.memory)?,
        })
    }

    /// All that is the same in every workload at a place.
    pub fn common(&self, place: &Place) -> Workload {
        Workload {
            layout: place.layout(),
            memory: place.memory.map(Bytes),
            encoder_len: self.encoder_len,
            shared_prefix: self.shared_prefix,
            ..Workload::of(Tokens(1), 1)
        }
    }

    /// The engines that were named, ideal without any, with the settings that are their own, on the device that was named; and
    /// what had to be assumed of that.
    ///
    /// # Errors
    /// A setting that none of them has, or a device that is not known.
    pub fn engines(&self, sources: &dyn Sources) -> Result<(Vec<Engine>, Option<String>), Error> {
        let mut engines = self.engines_anywhere()?;
        let Some((device, assumed)) = self.device(sources)? else { return Ok((engines, None)) };
        for engine in &mut engines {
            engine.device = device.clone();
        }
        let matters = engines.iter().any(|engine| !engine.is_ideal());
        Ok((engines, assumed.filter(|_| matters)))
    }

    /// The engines that were named, with their settings, on their usual device.
    ///
    /// # Errors
    /// A setting that none of them has.
    pub fn engines_anywhere(&self) -> Result<Vec<Engine>, Error> {
        let named = || once(self.engine.iter().cloned());
        self.with_settings(if self.engine.is_empty() { vec![Engine::ideal()] } else { named() })
    }

    /// Engines with those of the settings that are their own.
    pub(super) fn with_settings(&self, mut engines: Vec<Engine>) -> Result<Vec<Engine>, Error> {
        for (setting, value) in &self.settings {
            let takers = engines.iter_mut().filter(|engine| engine.setting(setting.name).is_some());
            takers.for_each(|engine| engine.settings.set(setting.name, *value));
        }
        let is_taken = |setting: &Setting| engines.iter().any(|engine| engine.setting(setting.name).is_some());
        if self.settings.iter().any(|(setting, _)| !is_taken(setting)) {
            // Of several the first in the engines' tables, in whatever order they were given.
            let given = |setting: &&Setting| self.settings.iter().any(|(given, _)| given.name == setting.name);
            let mut all = PROFILES.iter().flat_map(|profile| profile.settings);
            if let Some(setting) = all.find(|setting| given(setting) && !is_taken(setting)) {
                return Err(setting.of_other_engine(engines.first().unwrap_or(&Engine::ideal())));
            }
        }
        Ok(engines)
    }

    /// The models that were named, or the one of the dimensions, each with what drafts for it and with the levers on it.
    ///
    /// # Errors
    /// No model, one that is not known, or one that the rest of the question does not suit.
    pub fn models(&self, engines: &[Engine], sources: &dyn Sources, weigh: Weigh) -> Result<Vec<Arc<Model>>, Error> {
        let dimensions = &self.dimensions;
        let models = match self.models.as_slice() {
            [] if dimensions.is_empty() => {
                let remedy = "name one (`kvsize models` lists them), or give --layers --hidden-size --kv-heads";
                return Err(Error::without_value(Code::Model, "MODEL", "missing", remedy));
            }
            [] => vec![Arc::new(dimensions.model()?)],
            names if dimensions.is_empty() && dimensions.name.is_none() => {
                names.iter().map(|named| sources.model(named, "model", weigh)).collect::<Result<_, _>>()?
            }
            [named, ..] => {
                let (problem, remedy) =
                    ("can't be used with the flags of a model", "name a model or give its dimensions");
                return Err(Error::new(Code::Model, "MODEL", named.text(), problem, remedy));
            }
        };
        self.refuse_levers(engines)?;
        let models: Vec<Arc<Model>> =
            models.into_iter().map(|model| self.derived(model, sources)).collect::<Result<_, _>>()?;
        let crosses = |group: &LayerGroup| matches!(group.cache, LayerCache::CrossAttention { .. });
        if let Some(tokens) = self.encoder_len
            && !models.iter().any(|model| model.layer_groups.iter().any(crosses))
        {
            let problem = "applies to cross-attention, which the model does not have";
            return Err(Error::new(Code::NoEncoder, "--encoder-len", tokens.0.to_string(), problem, "leave it out"));
        }
        Ok(models)
    }

    /// The model with what drafts for it and with the levers on it.
    fn derived(&self, model: Arc<Model>, sources: &dyn Sources) -> Result<Arc<Model>, Error> {
        let levers = self.levers();
        let is_changed = levers.streaming.is_some() || levers.windows_kept || self.dtype.is_some();
        if self.speculative_method.is_none() && self.draft.is_none() && !is_changed {
            return Ok(model);
        }
        sources.derived(self, &|| {
            let model = Model { dtype: self.dtype.unwrap_or(model.dtype), ..Model::clone(&model) };
            let drafted = self.drafted(model, sources)?;
            if !is_changed {
                return Ok(drafted);
            }
            let shortest = self.seq_len.iter().filter_map(|series| series.values().next()).min().map(Tokens);
            let shortest = self.retrieve.and_then(Passages::tokens).or(shortest);
            levers.applied(&drafted, shortest.unwrap_or(Tokens(u64::MAX)))
        })
    }

    /// The model with what drafts for it.
    fn drafted(&self, model: Model, sources: &dyn Sources) -> Result<Model, Error> {
        let Some(method) = self.speculative_method else { return Ok(model) };
        let wrong = |field: &str, found: &str, problem: &str, remedy: &str| {
            Err(Error::new(Code::Speculative, field, found, problem, remedy))
        };
        let tokens = self.num_speculative_tokens.unwrap_or(1);
        match (method, &self.draft) {
            (DraftMethod::Mtp | DraftMethod::Ngram, Some(draft)) => {
                wrong("--draft", draft.text(), "is not used by a method that drafts without a model", "leave it out")
            }
            (DraftMethod::Mtp, None) if model.mtp_groups.is_empty() => {
                let problem = "needs MTP layers, which this model does not have";
                wrong("--speculative-method", "mtp", problem, "name a --draft model")
            }
            (DraftMethod::Mtp | DraftMethod::Ngram, None) => Ok(model.drafted(method, tokens, None)),
            (DraftMethod::DraftModel | DraftMethod::Eagle, None) => {
                Err(Error::without_value(Code::Speculative, "--draft", "missing", "name the draft model"))
            }
            (DraftMethod::DraftModel | DraftMethod::Eagle, Some(named)) => {
                if *named == Named::Name("-".into()) {
                    let problem = "is standard input, which is not read for a draft model";
                    return wrong("--draft", "-", problem, "name a file or a model");
                }
                Ok(model.drafted(method, tokens, Some(&*sources.model(named, "draft", Weigh::No)?)))
            }
        }
    }

    /// What an engine keeps is the engine's own rule: only the ideal takes a lever on it.
    fn refuse_levers(&self, engines: &[Engine]) -> Result<(), Error> {
        let levers = self.levers();
        let (field, found) = match levers.streaming {
            Some(streaming) => ("--sinks", streaming.sinks.to_string()),
            None if levers.windows_kept => ("--windows", "kept".into()),
            None => return Ok(()),
        };
        let Some(engine) = engines.iter().find(|engine| !engine.is_ideal()) else { return Ok(()) };
        let problem = format!("applies to the ideal estimate; {} keeps what its own rules say", engine.profile.name);
        Err(Error::new(Code::Refused, field, found, problem, "use -e ideal, or leave it out"))
    }

    /// What an engine's settings fix instead of `--seq-len` and `--batch`, which are not given then.
    fn own_lengths(&self, model: &Model, engine: &Engine) -> Result<OwnLengths, Error> {
        let first = |list: &[Series]| list.iter().find_map(|series| series.values().next());
        let fixed = |field: &str, found: String, setting: &str| {
            let problem = format!("is given together with {setting}, which fixes it");
            Err(Error::new(Code::ToldTwice, field, found, problem, "leave one of them out"))
        };
        let own = engine.own_lengths(model, first(&self.batch).unwrap_or(1));
        let mut batches = self.batch.iter().flat_map(|series| series.values());
        let (batch, another) = (batches.next(), batches.next());
        if let Some((setting, _)) = own.seq_len {
            let seq_len = self.retrieve.and_then(Passages::tokens).map(|tokens| tokens.0);
            match (seq_len.or(first(&self.seq_len)), another) {
                (Some(tokens), _) => return fixed("--seq-len", tokens.to_string(), setting),
                (None, Some(another)) => return fixed("--batch", another.to_string(), setting),
                (None, None) => {}
            }
        }
        match (own.sequences, batch) {
            (Some((setting, _)), Some(batch)) => fixed("--batch", batch.to_string(), setting),
            _ => Ok(own),
        }
    }

    /// The formats that are asked for, if any. A side that is not given is as the engine has it.
    pub fn formats(&self, model: &Model, engine: &Engine, common: &Workload) -> Vec<KvDtype> {
        match (self.k_dtype, self.v_dtype) {
            (None, None) => {
                let bits = self.bitwidth.iter().map(|&bits| ElementFormat::bitwidth(bits).into());
                once(self.kv_dtype.iter().copied().chain(bits))
            }
            (k, v) => {
                let auto = stored(model, engine, common).unwrap_or_else(|| model.dtype.into());
                vec![KvDtype::Given(KvFormat::new(k.unwrap_or(auto.k), v.unwrap_or(auto.v)))]
            }
        }
    }

    /// Refuses options that exclude each other, and those that need another.
    ///
    /// # Errors
    /// [`Code::Conflict`], or [`Code::Missing`] of the option that is needed.
    pub fn refuse_pairs(&self) -> Result<(), Error> {
        let a_format = self.k_dtype.map(|_| "--k-dtype").or(self.v_dtype.map(|_| "--v-dtype"));
        let sequences = (!self.seq_len.is_empty()).then_some("--seq-len");
        let formats = (!self.kv_dtype.is_empty()).then_some("--kv-dtype");
        let bits = (!self.bitwidth.is_empty()).then_some("--bitwidth");
        let weights_dtype = self.weights_dtype.map(|_| "--weights-dtype");
        let prefix = self.shared_prefix.map(|_| "--shared-prefix");
        let exclusive = [
            (a_format, formats.or(bits)),
            (formats, bits),
            (sequences, self.retrieve.map(|_| "--retrieve")),
            (self.sinks.map(|_| "--sinks"), prefix),
            (weights_dtype, self.weights.map(|_| "--weights")),
        ];
        if let Some((one, other)) = exclusive.into_iter().find_map(|(one, other)| one.zip(other)) {
            return Err(Error::new(Code::Conflict, one, other, "is given as well", "give one of the two"));
        }
        let method = "--speculative-method";
        let quantize = "--llama-quantize";
        if self.llama_quantize.is_some() && self.weights_dtype.and_then(WeightsDtype::file_type).is_none() {
            return Err(Error::without_value(
                Code::Missing,
                quantize,
                "applies to GGUF file types alone",
                "give one as --weights-dtype, such as q4_k_m",
            ));
        }
        let needs = [
            (self.sinks.is_some(), self.window.is_some(), "--window"),
            (self.window.is_some(), self.sinks.is_some(), "--sinks"),
            (self.num_speculative_tokens.is_some(), self.speculative_method.is_some(), method),
            (self.draft.is_some(), self.speculative_method.is_some(), method),
        ];
        match needs.into_iter().find(|(given, needed, _)| *given && !needed) {
            Some((.., needed)) => Err(Error::missing(needed, "give it as well")),
            None => Ok(()),
        }
    }
}

/// What an engine stores for a workload, whatever the memory, unless it refuses.
fn stored(model: &Model, engine: &Engine, workload: &Workload) -> Option<KvFormat> {
    Some(engine.answer(model, &Workload { memory: None, ..*workload }).ok()?.estimate.stored)
}

/// The formats without `--kv-dtype`: the 16-bit one and FP8; of an engine what it makes of `auto`, and FP8 as well where the
/// engine takes that for this model.
fn usual(engine: &Engine, model: &Model, common: &Workload) -> Vec<Variant> {
    let plain = if engine.is_ideal() { model.dtype.into() } else { KvDtype::Auto };
    let [plain, fp8] = [plain, ElementFormat::FP8.into()].map(|format| Variant::new(engine, format, model, common));
    let stored = |variant: &Variant| {
        let workload = Workload { kv_dtype: variant.kv_dtype, memory: None, ..*common };
        Some(variant.answer(model, &workload).ok()?.estimate.stored)
    };
    if engine.is_ideal() || stored(&fp8).is_some_and(|fp8| stored(&plain).is_some_and(|plain| plain != fp8)) {
        vec![plain, fp8]
    } else {
        vec![plain]
    }
}

/// The warning of a length past what the model was made for.
pub fn past_maximum(model: &Model, longest: Option<Tokens>) -> Option<String> {
    let (seq_len, max_position_embeddings) = longest.zip(model.max_position_embeddings)?;
    (seq_len > max_position_embeddings).then(|| {
        format!("{seq_len} tokens is past the model's maximum of {max_position_embeddings} (max_position_embeddings)")
    })
}

/// The one value of an option that takes a list elsewhere; `None` where it was not given.
pub(super) fn one(option: &str, list: &[Series]) -> Result<Option<u64>, Error> {
    match list {
        [] => Ok(None),
        [series] if series.count() == 1 => Ok(series.values().next()),
        list => Err(several(option, list.iter().map(Series::count).fold(0, u64::saturating_add))),
    }
}

/// The one of several values; `None` of none.
pub(super) fn only<T>(option: &str, values: Vec<T>) -> Result<Option<T>, Error> {
    let count = values.len();
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(several(option, u64::try_from(count).unwrap_or(u64::MAX))),
    }
}

fn several(option: &str, count: u64) -> Error {
    Error::new(Code::Several, option, format!("{count} values"), "are more than one estimate takes", "give one")
}

/// Each value of the ranges once, in the order of its first appearance: there may be a million.
pub fn distinct(list: &[Series]) -> impl Iterator<Item = u64> {
    let mut seen = HashSet::new();
    list.iter().flat_map(|series| series.values()).filter(move |&value| seen.insert(value))
}
