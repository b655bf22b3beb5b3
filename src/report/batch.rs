//! `kvsize.batch/1`: one estimate as one line of JSON, its fields those of a row of `kvsize.estimate/1`.
//!
//! A batch has many lines of the same kind, so what is the same in all of them is written once, into a [`BatchFrame`], and
//! the numbers are put between.
#![allow(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "floats only for printing: every one is computed from exact integers kept beside it"
)]

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;

use super::clean;
use super::document::{BytesPerTokenValue, EstimateRow};
use crate::engine::{Answer, Engine};
use crate::estimate::{GroupEstimate, Workload};
use crate::model::Model;
use crate::units::{Error, KvDtype, KvFormat};

/// `kvsize.batch/1`: an estimate as one object, a row of `kvsize.estimate/1` with its model. A line of a batch that is not
/// answered gets a `kvsize.error/1`.
///
/// The shape alone, for its schema: it is written by a [`BatchFrame`].
#[skip_serializing_none]
#[derive(Debug, JsonSchema)]
pub struct BatchRow<'a> {
    /// Name and version of this shape.
    #[schemars(extend("const" = "kvsize.batch/1"))]
    pub schema: &'static str,
    /// The line that asked; absent in a sweep.
    pub line: Option<u64>,
    /// The id that came with it.
    pub id: Option<&'a RawValue>,
    /// The model's name.
    pub model: &'a str,
    /// The estimate.
    #[serde(flatten)]
    pub row: EstimateRow,
    /// What was taken for granted, where there is something.
    pub assumptions: Option<&'a [String]>,
    /// What may make the answer wrong, where there is something.
    pub warnings: Option<&'a [String]>,
}

/// How a line begins.
pub(super) const OPENING: &[u8] = b"{\"schema\":\"kvsize.batch/1\"";

/// What is the same in every answer for a model in an engine, in one format and layout.
#[derive(Debug, Clone)]
pub struct BatchFrame {
    /// `,"model":"…","seq_len":`
    model: Vec<u8>,
    kv_dtype: KvDtype,
    /// `,"kv_dtype":"…"`
    format: Vec<u8>,
    /// `,"engine":"…","tp":…` to `"gpus":…,"bytes":`
    place: Vec<u8>,
}

impl BatchFrame {
    /// The frame of `model` in `engine` with the format and layout of `workload`.
    ///
    /// # Errors
    /// [`Code::TooLarge`](crate::units::Code::TooLarge) when the devices can't be counted.
    pub fn new(model: &Model, engine: &Engine, workload: &Workload) -> Result<Self, Error> {
        let layout = workload.layout;
        let gpus = layout.gpus()?;
        let room = || Vec::with_capacity(96);
        let mut frame = Self { model: room(), kv_dtype: workload.kv_dtype, format: room(), place: room() };
        put(&mut frame.model, ",\"model\":", &clean(&model.name));
        frame.model.extend_from_slice(b",\"seq_len\":");
        put(&mut frame.format, ",\"kv_dtype\":", &workload.kv_dtype.to_string());
        put(&mut frame.place, ",\"engine\":", &engine.to_string());
        put(&mut frame.place, ",\"tp\":", &layout.tp);
        put(&mut frame.place, ",\"pp\":", &layout.pp);
        put(&mut frame.place, ",\"dp\":", &layout.dp);
        if layout.dcp > 1 {
            put(&mut frame.place, ",\"dcp\":", &layout.dcp);
        }
        put(&mut frame.place, ",\"gpus\":", &gpus);
        frame.place.extend_from_slice(b",\"bytes\":");
        Ok(frame)
    }

    /// Writes the line of an answer to `workload`, with what was assumed and warned of. `line` and `id` are those of the
    /// line that asked.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        (line, id): (Option<u64>, Option<&RawValue>),
        workload: &Workload,
        answer: &Answer,
        [assumptions, warnings]: [&[String]; 2],
    ) {
        let Answer { estimate, details, capacity, gaps, .. } = answer;
        out.extend_from_slice(OPENING);
        if let Some(line) = line {
            put(out, ",\"line\":", &line);
        }
        if let Some(id) = id {
            out.extend_from_slice(b",\"id\":");
            out.extend_from_slice(id.get().as_bytes());
        }
        out.extend_from_slice(&self.model);
        put(out, "", &workload.seq_len.0);
        put(out, ",\"batch\":", &workload.batch);
        out.extend_from_slice(&self.format);
        if self.kv_dtype != KvDtype::Given(estimate.stored) {
            put(out, ",\"kv_dtype_resolved\":", &estimate.stored.to_string());
        }
        let KvFormat { k, v, .. } = estimate.stored;
        if k != v {
            put(out, ",\"k_dtype\":", &k.to_string());
            put(out, ",\"v_dtype\":", &v.to_string());
        }
        out.extend_from_slice(&self.place);
        put(out, "", &estimate.bytes.0);
        put(out, ",\"bytes_per_gpu\":", &estimate.bytes_per_gpu.0);
        put(out, ",\"gb\":", &(estimate.bytes.0 as f64 / 1e9));
        put(out, ",\"bytes_per_token\":", &BytesPerTokenValue::from(estimate.bytes_per_token));
        put_groups(out, &estimate.layer_groups);
        if !gaps.is_empty() {
            put(out, ",\"gaps\":", gaps);
        }
        if let Some(details) = details {
            // Its one key becomes one of ours: `{"vllm":{…}}` without the braces around it.
            let brace = out.len();
            put(out, "", details);
            if let Some(brace) = out.get_mut(brace) {
                *brace = b',';
            }
            out.pop();
        }
        if let Some(capacity) = capacity {
            put(out, ",\"capacity\":", capacity);
        }
        for (key, texts) in [(",\"assumptions\":", assumptions), (",\"warnings\":", warnings)] {
            if !texts.is_empty() {
                put(out, key, &texts);
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

/// The layer groups: most of a line of the ideal. Through serde, which looks for escapes in each key, they cost a quarter of it
/// more.
fn put_groups(out: &mut Vec<u8>, groups: &[GroupEstimate]) {
    for (index, GroupEstimate { kind, layers, entries, bytes }) in groups.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"layer_groups\":[" } else { b"," });
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(kind.as_bytes());
        put(out, "\",\"layers\":", layers);
        put(out, ",\"entries\":", entries);
        put(out, ",\"bytes\":", bytes);
        out.push(b'}');
    }
    out.extend_from_slice(if groups.is_empty() { b",\"layer_groups\":[]" } else { b"]" });
}

/// A key and its value. Serialising to memory fails only for maps with keys that are no text; there are none in our types.
fn put(out: &mut Vec<u8>, key: &str, value: &(impl Serialize + ?Sized)) {
    out.extend_from_slice(key.as_bytes());
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::estimate::Layout;
    use crate::model::ModelSpec;
    use crate::report::AnsweredEstimate;
    use crate::units::{Bytes, ElementFormat, Tokens};

    #[test]
    fn a_line_is_the_row_of_an_estimate() {
        let spec = ModelSpec {
            name: Some("a \"name\"".into()),
            layers: Some(4),
            kv_heads: Some(4),
            head_dim: Some(64),
            ..ModelSpec::default()
        };
        let model = spec.model().unwrap();
        let id: Box<RawValue> = serde_json::from_str("1.50").unwrap();
        let texts = ["one".to_owned(), "two".to_owned()];
        for engine in ["ideal", "vllm", "llama.cpp", "sglang", "transformers", "tensorrt-llm"] {
            for format in [KvDtype::Auto, ElementFormat::FP8.into()] {
                let layout = Layout { tp: 2, dp: 2, ..Layout::default() };
                let memory = Some(Bytes(1 << 30)).filter(|_| engine != "ideal");
                let workload = Workload { kv_dtype: format, layout, memory, ..Workload::of(Tokens(1000), 3) };
                let engine: Engine = engine.parse().unwrap();
                let Ok(answer) = engine.answer(&model, &workload) else { continue };
                for (line, id, assumptions) in [(None, None, &texts[..0]), (Some(7), Some(&*id), &texts[..])] {
                    let mut out = Vec::new();
                    let frame = BatchFrame::new(&model, &engine, &workload).unwrap();
                    frame.write(&mut out, (line, id), &workload, &answer, [assumptions, &answer.warnings]);
                    let mut written: Map<String, Value> = serde_json::from_slice(&out).unwrap();
                    let mut own = |key| written.remove(key);
                    assert_eq!(own("schema"), Some("kvsize.batch/1".into()));
                    assert_eq!(own("model"), Some("a \"name\"".into()));
                    assert_eq!(own("line"), line.map(Value::from));
                    assert_eq!(own("id"), id.map(|id| serde_json::from_str(id.get()).unwrap()));
                    let texts = |texts: &[String]| Some(Value::from(texts)).filter(|_| !texts.is_empty());
                    assert_eq!(own("assumptions"), texts(assumptions));
                    assert_eq!(own("warnings"), texts(&answer.warnings));
                    let row = EstimateRow::new(&AnsweredEstimate {
                        workload,
                        engine: engine.clone(),
                        answer: answer.clone(),
                        weights: None,
                    })
                    .unwrap();
                    assert_eq!(Value::from(written), serde_json::to_value(row).unwrap());
                }
            }
        }
    }
}
