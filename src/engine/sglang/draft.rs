//! Speculative decoding: what drafts tokens, how many, and with how many layers
//! (`arg_groups/speculative_hook.py`; `mem_cache/allocation_sizing.py`).

use serde::Deserialize;

use super::arguments::Resolver;
use super::classes::Trait;
use crate::model::{DraftMethod, Drafter};
use crate::units::{Error, Exact, named};

named! {
    /// What drafts tokens; NEXTN is another name of EAGLE.
    pub(super) enum Algorithm {
        Eagle = "EAGLE", Eagle3 = "EAGLE3", Nextn = "NEXTN", Standalone = "STANDALONE", Ngram = "NGRAM",
    }
}

/// How tokens are drafted: branches of steps.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DraftTree {
    /// Steps of drafting (`speculative-num-steps`).
    pub(super) steps: u64,
    /// Branches of a step (`speculative-eagle-topk`).
    pub(super) topk: u64,
    /// Tokens to verify (`speculative-num-draft-tokens`).
    pub(super) tokens: u64,
}

impl DraftTree {
    /// One branch, whose tokens are verified with the one before them.
    fn chain(steps: u64) -> Result<Self, Error> {
        Ok(Self { steps, topk: 1, tokens: (Exact::from(steps) + 1u64).get()? })
    }
}

/// A drafter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft {
    pub(super) tree: DraftTree,
    /// Layers that the pools are priced with.
    pub(super) layers: u64,
    /// Of them, those that slide.
    pub(super) sliding: u64,
    /// Whether it has a cache: n-grams have none.
    pub(super) has_cache: bool,
}

impl Draft {
    /// Tokens that a decode step may allocate (`get_alloc_len_per_decode`).
    pub(super) fn allocation(self, page: u64) -> Exact {
        let DraftTree { steps, topk, tokens } = self.tree;
        if page == 1 || topk == 1 || !self.has_cache {
            return (Exact::from(steps) * topk).max(tokens);
        }
        let pages = (Exact::from(page) * 2u64 - 2u64 + steps) / page;
        (pages * page * topk).max(tokens)
    }

    /// The same without overlap scheduling: whole pages of what one step takes.
    pub(super) fn allocation_without_overlap(self, page: u64) -> Exact {
        let DraftTree { steps, topk, tokens } = self.tree;
        let branch = if page > 1 && topk > 1 { Exact::from(steps) + page } else { steps.into() };
        (branch.round_up_to(page) * topk).max(Exact::from(tokens).round_up_to(page))
    }
}

impl Resolver<'_> {
    /// What drafts tokens.
    pub(super) fn draft_algorithm(&self) -> Result<Option<Algorithm>, Error> {
        let of_drafter = |drafter: &Drafter| match drafter.method {
            DraftMethod::Mtp => Algorithm::Eagle,
            DraftMethod::Eagle => Algorithm::Eagle3,
            DraftMethod::DraftModel => Algorithm::Standalone,
            DraftMethod::Ngram => Algorithm::Ngram,
        };
        let given =
            self.choice("speculative-algorithm", Algorithm::named).or(self.model.drafter.as_ref().map(of_drafter));
        let Some(algorithm) = given else { return Ok(None) };
        let algorithm = if algorithm == Algorithm::Nextn { Algorithm::Eagle } else { algorithm };
        let taken = algorithm == Algorithm::Eagle || !self.class.is(Trait::Compressed);
        let reason = "is not supported for DeepseekV4ForCausalLM";
        self.engine.require(taken, "--speculative-algorithm", algorithm.name(), reason, "use EAGLE")?;
        Ok(Some(algorithm))
    }

    /// The drafter (`_handle_eagle_family`, `_handle_ngram`; `model_runner_components/spec_aux_hidden_state.py`).
    pub(super) fn draft(&mut self, window: Option<u64>) -> Result<Option<Draft>, Error> {
        let Some(algorithm) = self.algorithm else { return Ok(None) };
        let tree = self.draft_tree(algorithm)?;
        if algorithm == Algorithm::Ngram {
            return Ok(Some(Draft { tree, layers: 0, sliding: 0, has_cache: false }));
        }
        let model_of_its_own = |drafter: &&Drafter| drafter.method != DraftMethod::Mtp;
        let of_drafter = self.model.drafter.as_ref().filter(model_of_its_own).map(|_| self.model.drafter_layers());
        let layers = of_drafter.or(self.model.checkpoint.num_nextn_predict_layers).unwrap_or_default();
        if layers == 0 && !self.class.is(Trait::Compressed) {
            self.notes.assume(
                "the number of draft layers is unknown (no draft model, no num_nextn_predict_layers): none is priced",
            );
        }
        let sliding = if window.is_some() && of_drafter.is_none() { layers } else { 0 };
        Ok(Some(Draft { tree, layers, sliding, has_cache: true }))
    }

    fn draft_tree(&self, algorithm: Algorithm) -> Result<DraftTree, Error> {
        let steps = self.count("speculative-num-steps");
        let topk = self.count("speculative-eagle-topk");
        let tokens = self.count("speculative-num-draft-tokens");
        if algorithm == Algorithm::Ngram {
            let tokens = tokens.unwrap_or(12);
            return Ok(DraftTree { steps: steps.unwrap_or(tokens / 10), topk: 10, tokens });
        }
        match (steps, topk, tokens) {
            (Some(steps), Some(1), _) => DraftTree::chain(steps),
            (Some(steps), Some(topk), Some(tokens)) => Ok(DraftTree { steps, topk, tokens }),
            (None, None, None) => match (&self.model.drafter, self.class.draft) {
                (Some(drafter), _) => DraftTree::chain(drafter.tokens),
                (None, Some(tree)) if algorithm != Algorithm::Standalone => Ok(tree),
                _ => DraftTree::chain(3),
            },
            _ => {
                let reason = "is set without all three of steps, topk and draft tokens";
                let remedy =
                    "give --speculative-num-steps, --speculative-eagle-topk and --speculative-num-draft-tokens";
                Err(self.engine.refusal("--speculative-algorithm", algorithm.name(), reason, remedy))
            }
        }
    }
}
