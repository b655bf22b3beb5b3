//! A model in an engine over devices: what it holds.

use std::borrow::Cow;

use super::layout::widest_heads;
use crate::engine::{Allocation, Answer, Capacity, Details, Double, Engine, Spread, llama_cpp, vllm};
use crate::estimate::{BytesPerToken, EstimateError, Layout, Workload};
use crate::hardware::Budget;
use crate::model::Model;
use crate::units::{Bytes, KvFormat, Tokens};

/// What is asked of hardware.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The model.
    pub model: &'a Model,
    /// The engine, with the device that its defaults depend on.
    pub engine: &'a Engine,
    /// The format, and what else is alike at every length; its length, batch, layout and memory are not read.
    pub workload: Workload,
    /// Tokens of a request; without it, the longest that fits.
    pub seq_len: Option<Tokens>,
    /// Requests at once, over all replicas; without it, one.
    pub batch: Option<u64>,
    /// Tokens that requests have on average.
    pub average: Option<Tokens>,
}

impl Question<'_> {
    /// A length at which the engine must have an answer: the one asked for, or one that the model was made for.
    pub(super) fn usual_len(&self) -> Tokens {
        const USUAL: Tokens = Tokens(8192);
        self.seq_len.unwrap_or_else(|| self.model.max_position_embeddings.map_or(USUAL, |maximum| maximum.min(USUAL)))
    }
}

/// A model in an engine over devices whose budgets are known.
#[derive(Debug)]
pub struct Server<'a> {
    question: Question<'a>,
    layout: Layout,
    /// What each group of devices with the same layers has, and may keep.
    parts: Vec<Part<'a>>,
    /// The stage whose pool is full while another is not.
    full_first: Option<usize>,
    /// What the usual request needs on a device, where that had to be asked for already.
    usual: Option<u64>,
}

#[derive(Debug)]
struct Part<'a> {
    model: Cow<'a, Model>,
    pool: Bytes,
}

/// What keeps a server from holding more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Weights and overhead leave nothing.
    Weights,
    /// The memory of every device.
    Memory,
    /// The memory of the devices of one pipeline stage, counted from 0.
    Stage {
        /// Which.
        index: usize,
        /// Of how many.
        stages: usize,
    },
    /// Memory, of which more ranks than KV heads use copies.
    KvHeads {
        /// KV heads.
        num_key_value_heads: u64,
        /// Ranks.
        tp: u64,
    },
    /// The requests that the engine runs at once, of which memory would hold more.
    Sequences {
        /// The setting that says how many.
        setting: &'static str,
        /// How many, over all replicas.
        most: u64,
    },
    /// The model's own maximum.
    Maximum,
}

/// Requests of a length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requests {
    /// Tokens of each.
    pub seq_len: Tokens,
    /// How many there is room for, over all replicas.
    pub room: u64,
    /// The same of one replica, as the engine counts.
    pub max_concurrency: Option<Double>,
    /// The most that the engine runs at once, over all replicas, and the setting that says so.
    pub at_most: Option<(&'static str, u64)>,
}

impl Requests {
    /// How many run at once.
    pub fn at_once(&self) -> u64 {
        self.at_most.map_or(self.room, |(_, most)| self.room.min(most))
    }
}

/// What a server holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Whether what was asked for fits: requests of the length given, else a request at all.
    pub fits: bool,
    /// Bytes that are missing on the device that is full first, where memory does not suffice.
    pub shortfall: Option<Bytes>,
    /// What keeps it from holding more.
    pub binding: Binding,
    /// The longest request, no longer than the model's own maximum.
    pub longest: Tokens,
    /// Tokens in the pools of all replicas, as the engine counts them; without a pool, the longest request that memory
    /// holds, times the replicas. None where there is no end.
    pub tokens: Option<u64>,
    /// Requests at the length asked for, or at the longest; then at the average.
    pub requests: Vec<Requests>,
    /// One more token of one sequence, over all devices of a replica.
    pub bytes_per_token: BytesPerToken,
    /// What is stored.
    pub stored: KvFormat,
    /// What `--memory` must be for an estimate of the same: the bytes of the device that is full first.
    pub memory: Bytes,
    /// What the engine's rules took for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

/// The longest that is looked for where a model has no maximum of its own, and memory no end.
const MOST: u64 = 1 << 40;

impl<'a> Server<'a> {
    /// The server of a question over `layout`, of whose stages `budgets` are.
    ///
    /// # Errors
    /// [`EstimateError`] where the engine has no answer for the layout.
    pub fn of(question: Question<'a>, layout: Layout, budgets: &[Budget]) -> Result<Self, EstimateError> {
        let pools = budgets.iter().map(|budget| budget.pool().unwrap_or_default());
        let mut server = Self { question, layout, parts: Vec::new(), full_first: None, usual: None };
        let Question { model, engine, .. } = question;
        let layers = u64::from(model.num_hidden_layers);
        let stages = match (engine.profile.allocation, engine.profile.spread) {
            (Allocation::Pool, _) | (_, Spread::Whole) => None,
            (Allocation::Workload, Spread::Ranks) => Some(layout.stages(model.num_hidden_layers)?),
            (Allocation::Workload, Spread::Layers) => Some(llama_cpp::layers_by_device(layers, layout.pp)),
        };
        match stages {
            Some(mut stages) if layout.pp > 1 => {
                if let Some(last) = stages.last_mut() {
                    last.end = u32::MAX;
                }
                let part = |(layers, pool)| Part { model: Cow::Owned(model.of_layers(layers)), pool };
                server.parts = stages.iter().zip(pools).map(part).collect();
            }
            _ => {
                let pools: Vec<Bytes> = pools.collect();
                let pool = server.one_pool(&pools)?;
                server.parts = vec![Part { model: Cow::Borrowed(model), pool }];
            }
        }
        Ok(server)
    }

    /// The memory that, were it that of every stage, would hold as much as these pools do. Of `vLLM`, whose stages all have as
    /// many blocks as the one that has fewest, that is exact; of others it is the smallest.
    fn one_pool(&mut self, pools: &[Bytes]) -> Result<Bytes, EstimateError> {
        let least = pools.iter().copied().min().unwrap_or_default();
        if pools.iter().all(|&pool| pool == least) {
            return Ok(least);
        }
        let answer = self.ask(self.question.model, self.question.usual_len(), self.usual_batch(), None)?;
        self.usual = needed_by(&answer);
        let blocks: Vec<u64> = match answer.details {
            Some(Details::Vllm(stages)) => stages.stages.iter().map(|stage| stage.bytes_per_block).collect(),
            _ => vec![1; pools.len()],
        };
        let counts = pools.iter().zip(&blocks).map(|(pool, &block)| pool.0.checked_div(block).unwrap_or(u64::MAX));
        let counts: Vec<u64> = counts.collect();
        let fewest = counts.iter().copied().min().unwrap_or_default();
        let is_full = |&count: &u64| count == fewest;
        self.full_first = counts.iter().position(is_full).filter(|_| !counts.iter().all(is_full));
        Ok(Bytes(blocks.iter().copied().max().unwrap_or_default().saturating_mul(fewest)))
    }

    fn ask(&self, model: &Model, seq_len: Tokens, batch: u64, memory: Option<Bytes>) -> Result<Answer, EstimateError> {
        let layout = match (self.question.engine.profile.allocation, self.question.engine.profile.spread) {
            (Allocation::Pool, Spread::Ranks) => self.layout,
            // The part has the layers of its stage alone.
            (_, Spread::Ranks) => Layout { pp: 1, ..self.layout },
            _ => Layout::default(),
        };
        let layout = Layout { dp: 1, ..layout };
        let workload = Workload { seq_len, batch, layout, memory, ..self.question.workload };
        self.question.engine.answer(model, &workload)
    }

    /// Requests of one replica, of those that were asked for.
    fn usual_batch(&self) -> u64 {
        self.question.batch.unwrap_or(1).div_ceil(self.layout.dp.max(1))
    }

    fn pooled(&self) -> bool {
        self.question.engine.profile.allocation == Allocation::Pool
    }

    /// The one part of an engine that fills its memory with a pool.
    fn of_pool(&self, seq_len: Tokens) -> Result<(Answer, Capacity), EstimateError> {
        let pool = self.parts.first().map(|part| part.pool);
        let mut answer = self.ask(self.question.model, seq_len, 1, pool)?;
        let capacity = answer.capacity.take();
        let memory = pool.unwrap_or_default().0;
        let none = Capacity {
            memory,
            fits: false,
            holds_batch: None,
            blocks: None,
            tokens: None,
            max_concurrency: None,
            max_seq_len: 0,
        };
        Ok((answer, capacity.unwrap_or(none)))
    }

    /// Bytes that a device of a part must have for `batch` sequences; none past 2⁶⁴ − 1, or where the engine refuses so many.
    fn needed(&self, part: &Part, seq_len: Tokens, batch: u64) -> Result<Option<u64>, EstimateError> {
        if let Some(usual) = self.usual
            && (seq_len, batch) == (self.question.usual_len(), self.usual_batch())
        {
            return Ok(Some(usual));
        }
        match self.ask(&part.model, seq_len, batch, None) {
            Ok(answer) => Ok(needed_by(&answer)),
            Err(error) => self.too_much(error, seq_len, batch).map(|()| None),
        }
    }

    /// Nothing, where an error comes of too many tokens or sequences: an engine refuses them at a length, or integers end.
    fn too_much(&self, error: EstimateError, seq_len: Tokens, batch: u64) -> Result<(), EstimateError> {
        let usual = self.question.usual_len();
        match error {
            EstimateError::TooLarge => Ok(()),
            EstimateError::Refused { .. } if seq_len > usual || batch > 1 => Ok(()),
            error => Err(error),
        }
    }

    /// Bytes on the devices of each part that `batch` sequences need beyond their pools; 0 where they fit.
    fn missing(&self, seq_len: Tokens, batch: u64) -> Result<Vec<u64>, EstimateError> {
        let of_part = |part: &Part| {
            let needed = self.needed(part, seq_len, batch)?;
            Ok(needed.map_or(u64::MAX, |needed| needed.saturating_sub(part.pool.0)))
        };
        self.parts.iter().map(of_part).collect()
    }

    /// Whether `batch` sequences fit in one replica.
    fn holds(&self, seq_len: Tokens, batch: u64) -> Result<bool, EstimateError> {
        if self.pooled() {
            return match self.of_pool(seq_len) {
                Ok((_, capacity)) => Ok(sequences(&capacity, seq_len) >= batch),
                Err(error) => self.too_much(error, seq_len, batch).map(|()| false),
            };
        }
        Ok(self.missing(seq_len, batch)?.iter().all(|&missing| missing == 0))
    }

    /// What one replica has room for.
    fn of_replica(&self, seq_len: Tokens) -> Result<Requests, EstimateError> {
        let of = |room| Requests { seq_len, room, max_concurrency: None, at_most: None };
        if self.pooled() {
            let (answer, capacity) = self.of_pool(seq_len)?;
            let at_most = match answer.details {
                Some(Details::Vllm(_)) => {
                    let limits = vllm::batch_limits(self.question.model, seq_len, self.question.engine);
                    Some(("max_num_seqs", limits.max_num_seqs))
                }
                Some(Details::Sglang(facts)) => facts.max_running_requests.map(|most| ("max_running_requests", most)),
                _ => None,
            };
            let max_concurrency = capacity.max_concurrency;
            return Ok(Requests { max_concurrency, at_most, ..of(sequences(&capacity, seq_len)) });
        }
        if !self.holds(seq_len, 1)? {
            return Ok(of(0));
        }
        // Bytes are nearly proportional to sequences: the quotient is the place to look first.
        let needed = |part: &Part| Ok((part.pool.0, self.needed(part, seq_len, 1)?.unwrap_or(u64::MAX)));
        let needed = self.parts.iter().map(needed).collect::<Result<Vec<_>, EstimateError>>()?;
        let guess = needed.iter().filter_map(|&(pool, each)| pool.checked_div(each)).min();
        let Some(guess) = guess else { return Ok(of(u64::MAX)) };
        let most = guess.saturating_mul(2).saturating_add(2);
        Ok(of(largest(most, guess, |batch| self.holds(seq_len, batch))?))
    }

    /// The longest request up to `most` that fits.
    fn longest(&self, most: u64) -> Result<u64, EstimateError> {
        let guess = if self.pooled() {
            match self.of_pool(Tokens(most)) {
                Ok((_, capacity)) => capacity.max_seq_len,
                Err(error) => self.too_much(error, Tokens(most), 1).map(|()| 0)?,
            }
        } else {
            most
        };
        largest(most, guess, |seq_len| self.holds(Tokens(seq_len), 1))
    }

    /// What `batch` sequences leave on the device that is full first, or what they are short of there.
    ///
    /// # Errors
    /// [`EstimateError`] where the engine has no answer.
    pub fn left(&self, seq_len: Tokens, batch: u64) -> Result<Result<Bytes, Bytes>, EstimateError> {
        let of_part = |part: &Part| Ok((self.needed(part, seq_len, batch)?.unwrap_or(u64::MAX), part.pool.0));
        let parts = self.parts.iter().map(of_part).collect::<Result<Vec<_>, EstimateError>>()?;
        let short = parts.iter().map(|(needed, pool)| needed.saturating_sub(*pool)).max().unwrap_or_default();
        let left = parts.iter().map(|(needed, pool)| pool.saturating_sub(*needed)).min().unwrap_or_default();
        Ok(if short > 0 { Err(Bytes(short)) } else { Ok(Bytes(left)) })
    }

    /// Requests of a length, over all replicas.
    ///
    /// # Errors
    /// [`EstimateError`] where the engine has no answer.
    pub fn requests(&self, seq_len: Tokens) -> Result<Requests, EstimateError> {
        let one = self.of_replica(seq_len)?;
        let over_replicas = |count: u64| count.saturating_mul(self.layout.dp);
        let at_most = one.at_most.map(|(name, most)| (name, over_replicas(most)));
        Ok(Requests { room: over_replicas(one.room), at_most, ..one })
    }

    /// Tokens in the pool of one replica, filled with requests of `seq_len`; without a pool, the longest request of all.
    fn tokens(&self, seq_len: Tokens, longest: u64, maximum: Option<u64>) -> Result<Option<u64>, EstimateError> {
        if self.pooled() {
            return Ok(self.of_pool(seq_len)?.1.tokens);
        }
        if maximum.is_some_and(|maximum| longest < maximum) {
            return Ok(Some(longest));
        }
        let most = self.longest(MOST)?;
        Ok(Some(most).filter(|&most| most < MOST))
    }

    /// What it holds.
    ///
    /// # Errors
    /// [`EstimateError`] where the engine has no answer.
    pub fn fit(&self, budgets: &[Budget]) -> Result<Fit, EstimateError> {
        let Question { model, seq_len, batch, average, .. } = self.question;
        let maximum = model.max_position_embeddings.map(|tokens| tokens.0);
        let short = budgets.iter().map(|budget| budget.pool().err().unwrap_or_default()).max().unwrap_or_default();
        let longest = if short > Bytes(0) { 0 } else { self.longest(maximum.unwrap_or(MOST))? };
        let asked = seq_len.unwrap_or(Tokens(longest.max(1)));
        let requests = [Some(asked), average].into_iter().flatten().map(|seq_len| self.requests(seq_len));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        let (wanted, of_asked) = (batch.unwrap_or(1), requests.first());
        let has_room = longest > 0 && of_asked.is_some_and(|requests| requests.room >= wanted);
        let fits = has_room && of_asked.is_some_and(|requests| requests.at_once() >= wanted);
        let described = self.ask(model, asked, 1, None)?;
        let shortfall = if has_room {
            None
        } else {
            let missing = self.left(asked, self.usual_batch())?.err().unwrap_or_default();
            Some(Bytes(missing.0.saturating_add(short.0)))
        };
        let tokens = if longest == 0 { Some(0) } else { self.tokens(Tokens(asked.0.min(longest)), longest, maximum)? };
        Ok(Fit {
            fits,
            shortfall,
            binding: match of_asked.and_then(|requests| requests.at_most) {
                Some((setting, most)) if has_room && !fits => Binding::Sequences { setting, most },
                _ => self.binding(short > Bytes(0), maximum, longest)?,
            },
            longest: Tokens(longest),
            tokens: tokens.map(|tokens| tokens.saturating_mul(self.layout.dp)),
            requests,
            bytes_per_token: described.estimate.bytes_per_token,
            stored: described.estimate.stored,
            memory: self.parts.iter().map(|part| part.pool).min().unwrap_or_default(),
            assumptions: described.assumptions,
            warnings: described.warnings,
        })
    }

    fn binding(&self, nothing_left: bool, maximum: Option<u64>, longest: u64) -> Result<Binding, EstimateError> {
        let tp = self.layout.tp;
        let copies = widest_heads(self.question.model).filter(|&heads| tp > heads);
        Ok(match copies {
            _ if nothing_left => Binding::Weights,
            _ if maximum == Some(longest) => Binding::Maximum,
            Some(num_key_value_heads) => Binding::KvHeads { num_key_value_heads, tp },
            None => match self.full_first(longest)? {
                Some(index) => Binding::Stage { index, stages: usize::try_from(self.layout.pp).unwrap_or(usize::MAX) },
                None => Binding::Memory,
            },
        })
    }

    /// The stage that is full while another is not.
    fn full_first(&self, longest: u64) -> Result<Option<usize>, EstimateError> {
        if self.parts.len() < 2 {
            return Ok(self.full_first);
        }
        let missing = self.missing(Tokens(longest.saturating_add(1)), 1)?;
        let full = |&missing: &u64| missing > 0;
        Ok(missing.iter().position(full).filter(|_| !missing.iter().all(full)))
    }
}

/// Sequences that a pool has room for: none if not one fits, as versions count with a fraction of one, too.
fn sequences(capacity: &Capacity, seq_len: Tokens) -> u64 {
    let one = capacity.fits && capacity.max_seq_len >= seq_len.0;
    capacity.max_concurrency.filter(|_| one).map_or(0, Double::truncated)
}

/// Bytes that a device must have for what was answered.
fn needed_by(answer: &Answer) -> Option<u64> {
    let null_block = match &answer.details {
        Some(Details::Vllm(plan)) => plan.null_block_bytes,
        _ => 0,
    };
    answer.estimate.bytes_per_gpu.0.checked_add(null_block)
}

/// The largest number up to `most` that `holds`, 0 if none does; what holds, holds for less. `guess` is looked at first.
fn largest(most: u64, guess: u64, holds: impl Fn(u64) -> Result<bool, EstimateError>) -> Result<u64, EstimateError> {
    let (mut low, mut high) = (0, most);
    let guess = guess.min(most);
    if guess == 0 || holds(guess)? {
        if guess == most || !holds(guess.saturating_add(1))? {
            return Ok(guess);
        }
        low = guess.saturating_add(1);
    } else {
        high = guess.saturating_sub(1);
    }
    while low < high {
        let middle = high.saturating_sub(high.saturating_sub(low) / 2);
        if holds(middle)? {
            low = middle;
        } else {
            high = middle.saturating_sub(1);
        }
    }
    Ok(low)
}
