//! Which matrices a quantizer takes, and how it stores each.

use std::collections::{BTreeMap, BTreeSet};

use super::encoding::Encoding;
use super::pattern::{Pattern, parents};
use super::shape::{Kind, Shape};
use crate::model::Place;

/// What a quantizer makes of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quantizer {
    /// The first one that names a matrix decides.
    pub(crate) rules: Vec<Rule>,
    /// The encodings of single modules, by name; none of those that rules name is among them.
    pub(crate) by_module: BTreeMap<String, Encoding>,
    /// What is left in the checkpoint's own dtype.
    pub(crate) left_out: Vec<Pattern>,
}

/// How matrices are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) takes: Takes,
    /// Only those with these names.
    pub(crate) named: Option<Vec<Pattern>>,
    pub(crate) encoding: Encoding,
}

/// Which matrices a rule takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Linear layers of blocks, those of experts included.
    Linears,
    /// Linear layers of blocks, but not experts, whose matrices are stacked in one parameter.
    LinearsWithoutExperts,
    Experts,
    /// The head, where it is not the embedding.
    Head,
    /// All matrices: embedding, head and routers, too.
    Matrices,
    Routers,
}

impl Quantizer {
    /// One that stores all that it takes alike.
    pub(crate) fn new(takes: Takes, encoding: Encoding) -> Self {
        Self { rules: vec![Rule { takes, named: None, encoding }], by_module: BTreeMap::new(), left_out: Vec::new() }
    }

    /// With another rule, after those that there are.
    pub(crate) fn with(mut self, takes: Takes, encoding: Encoding) -> Self {
        self.rules.push(Rule { takes, named: None, encoding });
        self
    }

    /// The tensors with the encoding of each: layers that differ are apart.
    pub(crate) fn applied(&self, shapes: &[Shape]) -> Vec<Shape> {
        let mut all = Vec::with_capacity(shapes.len());
        let mut rest = shapes;
        while let Some(first) = rest.first() {
            let joined = rest.iter().skip(1).take_while(|shape| first.is_joined_with(shape)).count();
            let (run, others) = rest.split_at(joined.saturating_add(1));
            rest = others;
            match &first.place {
                Place::Layers(layers) => {
                    for (encodings, layers) in self.by_encodings(run, layers) {
                        all.extend(run.iter().zip(encodings).map(|(shape, encoding)| Shape {
                            place: Place::Layers(layers.clone()),
                            encoding,
                            ..shape.clone()
                        }));
                    }
                }
                Place::Embedding | Place::Head | Place::Beside => {
                    all.extend(run.iter().map(|shape| Shape { encoding: self.encoding(shape, None), ..shape.clone() }));
                }
            }
        }
        all
    }

    /// The same of MTP layers, which some quantizers leave out as a whole.
    pub(crate) fn applied_to_mtp(&self, shapes: &[Shape]) -> Vec<Shape> {
        const MTP: &str = "mtp.layers.0";
        if self.left_out.iter().any(|pattern| pattern.matches(MTP)) { shapes.to_vec() } else { self.applied(shapes) }
    }

    /// The layers that are alike, in the order of the first of each kind.
    fn by_encodings(&self, run: &[Shape], layers: &[u32]) -> Vec<(Vec<Option<Encoding>>, Vec<u32>)> {
        // Without names all layers are alike.
        let alike =
            self.left_out.is_empty() && self.by_module.is_empty() && self.rules.iter().all(|rule| rule.named.is_none());
        if alike {
            let encodings = run.iter().map(|shape| self.encoding(shape, None)).collect();
            return vec![(encodings, layers.to_vec())];
        }
        let mut kinds: Vec<(Vec<Option<Encoding>>, Vec<u32>)> = Vec::new();
        for &layer in layers {
            let encodings: Vec<_> = run.iter().map(|shape| self.encoding(shape, Some(layer))).collect();
            match kinds.iter_mut().find(|(known, _)| *known == encodings) {
                Some((_, layers)) => layers.push(layer),
                None => kinds.push((encodings, vec![layer])),
            }
        }
        kinds
    }

    fn encoding(&self, shape: &Shape, layer: Option<u32>) -> Option<Encoding> {
        let names: BTreeSet<String> = shape.modules().iter().map(|module| named(module, layer)).collect();
        let is_named =
            |patterns: &[Pattern]| patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches(name)));
        if is_named(&self.left_out) {
            return None;
        }
        let of_module = || names.iter().flat_map(|name| parents(name)).find_map(|name| self.by_module.get(name));
        let is_matrix = matches!(shape.kind, Kind::Linear | Kind::Expert);
        let takes = |takes: Takes| match takes {
            Takes::Linears => is_matrix,
            Takes::LinearsWithoutExperts => shape.kind == Kind::Linear,
            Takes::Experts => shape.kind == Kind::Expert,
            Takes::Head => shape.place == Place::Head && shape.gguf.is_some(),
            Takes::Matrices => is_matrix || is_table(shape),
            Takes::Routers => shape.gguf.as_deref() == Some(ROUTER),
        };
        let mut rules = self.rules.iter();
        let rule = rules
            .find(|rule| takes(rule.takes) && rule.named.as_ref().is_none_or(|patterns| is_named(patterns.as_slice())));
        let encoding = of_module().copied().filter(|_| is_matrix).or(rule.map(|rule| rule.encoding));
        encoding.filter(|encoding| encoding.takes(shape.columns))
    }
}

const ROUTER: &str = "ffn_gate_inp";

/// Matrices that few quantizers take.
fn is_table(shape: &Shape) -> bool {
    let tables = ["token_embd", "output", ROUTER, "per_layer_token_embd", "per_layer_model_proj"];
    shape.gguf.as_deref().is_some_and(|name| tables.contains(&name))
}

fn named(module: &str, layer: Option<u32>) -> String {
    layer.map_or_else(|| module.to_owned(), |layer| format!("layers.{layer}.{module}"))
}
