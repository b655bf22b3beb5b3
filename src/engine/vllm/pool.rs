//! The groups over the pipeline stages, for a request: what it takes, the steps to that from the live bytes, and
//! what a memory holds.

use super::groups::{Group, Kind, Spec};
use super::planner::Planner;
use super::release::Rule;
use super::{Alike, Plan, Request, Shape};
use crate::engine::{Answer, Capacity, Details, Double, Gap, Steps, longest};
use crate::estimate::{BytesPerToken, Estimate, GroupEstimate, Workload, estimate, ideal};
use crate::model::{LayerCache, LayerGroup};
use crate::units::{Bytes, ElementFormat, Error, Exact, KvDtype, group_thousands};

/// A shape and a request.
pub(super) struct Pool<'a> {
    pub(super) planner: &'a Planner<'a>,
    pub(super) shape: &'a Shape,
    pub(super) request: Request,
    pub(super) blocks_per_request: u64,
    /// Bytes of a block on the widest stage.
    widest_block: u64,
}

impl<'a> Pool<'a> {
    pub(super) fn new(planner: &'a Planner<'a>, shape: &'a Shape) -> Result<Self, Error> {
        let request = planner.request()?;
        let blocks_per_request = shape.groups.blocks_per_request(&request)?;
        let widest_block = shape.bytes_per_block.iter().copied().max().unwrap_or_default();
        Ok(Self { planner, shape, request, blocks_per_request, widest_block })
    }

    pub(super) fn answer(&self) -> Result<Answer, Error> {
        let tp = self.planner.workload.layout.tp;
        let blocks = self.blocks_of_batch()?;
        let of_all_stages: Exact = self.shape.bytes_per_block.iter().copied().sum();
        let bytes = (of_all_stages * blocks * tp).bytes()?;
        let estimate = Estimate {
            bytes,
            bytes_per_gpu: (Exact::from(self.widest_block) * blocks).bytes()?,
            bytes_per_token: self.bytes_per_token()?,
            layer_groups: self.layer_groups()?,
            stored: self.shape.stored,
        };
        let memory = self.planner.workload.memory;
        Ok(Answer {
            capacity: memory.map(|memory| self.capacity(memory, blocks)).transpose()?,
            gaps: self.gaps(bytes)?,
            details: Some(Details::Vllm(self.plan()?.into())),
            assumptions: self.shape.layers.assumptions.clone(),
            ..Answer::of(estimate)
        })
    }

    /// Blocks of all requests of the batch: a prefix that they share is kept once, in whole blocks, where every token is
    /// kept.
    fn blocks_of_batch(&self) -> Result<u64, Error> {
        let workload = self.planner.workload;
        let all = Exact::from(self.blocks_per_request) * workload.batch;
        let Some(prefix) = workload.shared_prefix else { return all.get() };
        let (engine, field, seq_len) = (self.planner.engine, "--shared-prefix", workload.seq_len);
        let reason = format_args!("is longer than the sequences ({seq_len})");
        engine.require(prefix <= seq_len, field, prefix, reason, "give at most --seq-len")?;
        let reason = "is shared only with prefix caching, which is off";
        engine.require(self.planner.caches_prefixes(), field, prefix, reason, "give --enable-prefix-caching")?;
        let tokens = prefix.0.checked_div(self.request.dcp).unwrap_or(prefix.0);
        let whole_blocks = |group: &Group| {
            let spec = group.specs.first().filter(|spec| spec.kind.keeps_all())?;
            tokens.checked_div(spec.block_size)
        };
        let shared: Exact = self.shape.groups.groups.iter().filter_map(whole_blocks).sum();
        (all - shared * Exact::from(workload.batch).less(1u64)).get()
    }

    fn plan(&self) -> Result<Plan, Error> {
        let mut groups = self.shape.pool_groups.clone();
        for (reported, group) in groups.iter_mut().zip(&self.shape.groups.groups) {
            reported.blocks = group.blocks(&self.request).get()?;
        }
        Ok(Plan {
            version: self.planner.release.read,
            gpu: self.planner.engine.device.id.clone(),
            attention_backend: self.shape.layers.backend,
            block_size: self.shape.layers.block_size,
            null_block_bytes: if self.keeps_null_block() { self.widest_block } else { 0 },
            in_flight_tokens: self.request.in_flight,
            bytes_per_block: self.widest_block,
            blocks_per_request: self.blocks_per_request,
            groups,
            stages: self.shape.stages.clone(),
        })
    }

    fn keeps_null_block(&self) -> bool {
        self.planner.release.has(Rule::NULL_BLOCK)
    }

    /// What fits in `memory` bytes on each device; the batch takes `of_batch` blocks.
    fn capacity(&self, memory: Bytes, of_batch: u64) -> Result<Capacity, Error> {
        let bytes_per_block = &self.shape.bytes_per_block;
        // A stage that caches nothing binds nobody.
        let blocks = bytes_per_block.iter().filter_map(|&block| memory.0.checked_div(block)).min().unwrap_or_default();
        let null_blocks = u64::from(self.keeps_null_block());
        let holds = |blocks: u64| {
            let needed = |&block: &u64| ((Exact::from(blocks) + null_blocks) * block).get();
            bytes_per_block.iter().all(|block| needed(block).is_ok_and(|needed| needed <= memory.0))
        };
        let fits = |len: u64| self.shape.groups.blocks_per_request(&Request { len, ..self.request }).is_ok_and(holds);
        let len = self.request.len;
        let whole = holds(self.blocks_per_request);
        let concurrency = Double::ratio(blocks, self.blocks_per_request);
        let tokens = if self.planner.release.has(Rule::TOKENS_BY_CONCURRENCY) {
            concurrency.times(Double::whole(len)).truncated()
        } else {
            // ⌊blocks / groups⌋ × the smallest block, on all context parallel ranks.
            let groups = &self.shape.pool_groups;
            let smallest = groups.iter().map(|group| group.block_size).min().unwrap_or_default();
            (Exact::from(blocks) / groups.len().max(1) * smallest * self.request.dcp).get()?
        };
        Ok(Capacity {
            memory: memory.0,
            fits: whole,
            holds_batch: self.planner.workload.of_several(holds(of_batch)),
            blocks: Some(blocks),
            tokens: whole.then_some(tokens),
            max_concurrency: whole.then_some(concurrency),
            max_seq_len: if whole { len } else { longest(len, fits) },
        })
    }

    /// One more token of one sequence, over all devices, before blocks.
    fn bytes_per_token(&self) -> Result<BytesPerToken, Error> {
        let mut slope = BytesPerToken { numerator: 0, denominator: 1 };
        for Alike { spec, cache, entry, .. } in &self.shape.alike {
            let keeps_all = spec.kind.keeps_all();
            let bound = cache.bound().filter(|_| !keeps_all);
            let compressor =
                spec.kind.slides() && matches!(cache, LayerCache::Compressed { .. } | LayerCache::Indexer { .. });
            if !cache.follows_the_sequence() || compressor || bound.is_some_and(|bound| self.request.len >= bound.0) {
                continue;
            }
            let dcp = if keeps_all { self.request.dcp } else { 1 };
            let numerator = (*entry * self.planner.workload.layout.tp).wide()?;
            let denominator = (Exact::from(spec.tokens_per_entry) * dcp).wide()?;
            slope = slope.checked_add(BytesPerToken { numerator, denominator }).ok_or_else(Error::too_large)?;
        }
        Ok(slope)
    }

    /// The pages of each of the model's layer groups; what blocks have beyond them is in the gaps.
    fn layer_groups(&self) -> Result<Vec<GroupEstimate>, Error> {
        let copies = Exact::from(self.planner.workload.batch) * self.planner.workload.layout.tp;
        let of_group = |(index, group): (usize, &LayerGroup)| {
            let (mut entries, mut bytes) = (Exact::ZERO, Exact::ZERO);
            for Alike { spec, page, .. } in self.shape.alike.iter().filter(|alike| alike.source == index) {
                bytes = bytes + *page * spec.blocks(&self.request);
                if !matches!(spec.kind, Kind::State { .. }) {
                    entries = spec.reserved(&self.request).div_ceil(spec.tokens_per_entry).max(entries);
                }
            }
            let (kind, layers) = (group.cache.kind(), group.layers.len());
            Ok(GroupEstimate { kind, layers, entries: entries.tokens()?, bytes: (bytes * copies).bytes()? })
        };
        self.planner.model.layer_groups.iter().enumerate().map(of_group).collect()
    }

    /// The steps from the ideal figure to `bytes`.
    pub(super) fn gaps(&self, bytes: Bytes) -> Result<Vec<Gap>, Error> {
        let workload = self.planner.workload;
        let layers = &self.shape.layers;
        // The ideal figure has no packed layouts.
        let format = layers.dtype.row().packed_latent.map_or(self.shape.stored, |_| ElementFormat::FP8.into());
        let asked = Workload { kv_dtype: KvDtype::Given(format), ..*workload };
        let ideal_of = |workload: &Workload| Ok::<_, Error>(Exact::from(estimate(self.planner.model, workload)?.bytes));
        let shared = ideal_of(&asked)?;
        let apart = match asked.shared_prefix {
            Some(_) => ideal_of(&Workload { shared_prefix: None, ..asked })?,
            None => shared,
        };
        let mut levels = [Exact::ZERO; 6];
        for alike in &self.shape.alike {
            for (level, of_alike) in levels.iter_mut().zip(self.levels(alike)?) {
                *level = *level + of_alike;
            }
        }
        let ranks = Exact::from(workload.batch) * workload.layout.tp;
        let [live, unbounded, reserved, copied, blocked, padded] = levels.map(|of_request| of_request * ranks);
        let of_all_stages: Exact = self.shape.bytes_per_block.iter().copied().sum();
        let unshared = of_all_stages * self.blocks_per_request * ranks;
        // What sharing saves of the blocks is taken off first, against what it saves of the live bytes.
        let saved = unshared - bytes;
        let (in_flight, groups) = (self.request.in_flight, self.shape.groups.groups.len());
        let of_flight =
            format_args!("windows, chunks and encoders reserve for {} tokens in flight", group_thousands(in_flight));
        let of_pages = format_args!("whole blocks of {} tokens and more", layers.block_size);
        let steps = Steps::from(shared + saved)
            .to("shared_prefix", apart, "of the prefix whole blocks are kept once, and no windows")?
            .to("format", live, "scales, packed layouts and the formats of states")?
            .to("windows", unbounded, "windows and chunks keep every token")?
            .to("in_flight_reserve", reserved, of_flight)?
            .to("state_copies", copied, "states held for prefix caching, checkpoints and drafts")?
            .to("pages", blocked, of_pages)?
            .to("page_padding", padded, "pages padded to one size or alignment")?
            .to("grouping", unshared, format_args!("{groups} groups share blocks as wide as the widest"))?;
        Ok(steps.gaps)
    }

    /// What one request takes of caches that are alike, as each rule leaves it: the live entries as they are stored; with
    /// windows and chunks that keep every token; with room for what is in flight; with every copy of a state; in whole blocks;
    /// in pages as they are padded.
    fn levels(&self, alike: &Alike) -> Result<[Exact; 6], Error> {
        let Alike { spec, entry, page, unpadded_page, .. } = *alike;
        let blocks = spec.blocks(&self.request);
        let (blocked, padded) = (unpadded_page * blocks, page * blocks);
        if let Kind::State { copies } = spec.kind {
            return Ok([entry, entry, entry, entry * copies, blocked, padded]);
        }
        let bytes = |tokens: Exact| entry * tokens.div_ceil(spec.tokens_per_entry);
        let (live, reserved) =
            (bytes(self.live_tokens(&spec, &alike.cache)?.into()), bytes(spec.reserved(&self.request)));
        let unbounded = if spec.kind.keeps_all() { reserved } else { live };
        Ok([live, unbounded, reserved, reserved, blocked, padded])
    }

    /// Tokens of a cache that can still be attended to.
    fn live_tokens(&self, spec: &Spec, cache: &LayerCache) -> Result<u64, Error> {
        let compressed = matches!(cache, LayerCache::Compressed { .. } | LayerCache::Indexer { .. });
        Ok(match spec.kind {
            // A compressor's open rows.
            Kind::SlidingLatent { window, .. } if compressed => window,
            kind if kind.keeps_all() && cache.bound().is_none() => self.request.len.div_ceil(self.request.dcp.max(1)),
            _ if compressed => self.request.len,
            _ => ideal(cache, self.planner.workload)?.entries.0,
        })
    }
}

// The steps from the live bytes to those that vLLM reserves.
