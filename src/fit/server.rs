//! A model in an engine over devices: what it holds.

use std::borrow::Cow;
use std::ops::Range;

use super::layout::widest_heads;
use super::search::{MOST, largest, longest_of};
use super::{Binding, Fit, Left, Requests};
use crate::engine::{Allocation, Answer, Capacity, Double, Engine, RequestLimit, Spread, llama_cpp};
use crate::estimate::{Layout, Workload};
use crate::hardware::Budget;
use crate::model::Model;
use crate::units::{Bytes, Code, Error, Exact, Tokens, group_thousands};

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
#[derive(Debug, Clone)]
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

#[derive(Debug, Clone)]
struct Part<'a> {
    model: Cow<'a, Model>,
    /// What the cache may take.
    pool: u64,
    /// What is missing before there is a pool.
    short: u64,
}

impl<'a> Server<'a> {
    /// The server of a question over `layout`, of whose stages `budgets` are.
    ///
    /// # Errors
    /// [`Error`] where the engine has no answer for the layout.
    pub fn of(question: Question<'a>, layout: Layout, budgets: &[Budget]) -> Result<Self, Error> {
        let mut server = Self { question, layout, parts: Vec::new(), full_first: None, usual: None };
        let Question { model, engine, .. } = question;
        let pool = |budget: &Budget| budget.pool().unwrap_or_default().0;
        let short = |budget: &Budget| budget.pool().err().unwrap_or_default().0;
        match stages(model, engine, layout)? {
            Some(mut stages) if layout.pp > 1 => {
                if let Some(last) = stages.last_mut() {
                    last.end = u32::MAX;
                }
                server.parts.extend(stages.iter().zip(budgets).map(|(layers, budget)| {
                    let model = Cow::Owned(model.of_layers(layers));
                    Part { model, pool: pool(budget), short: short(budget) }
                }));
            }
            _ => {
                let pools: Vec<u64> = budgets.iter().map(pool).collect();
                let pool = server.one_pool(&pools)?;
                let short = budgets.iter().map(short).max().unwrap_or_default();
                server.parts = vec![Part { model: Cow::Borrowed(model), pool, short }];
            }
        }
        Ok(server)
    }

    /// The memory that, were it that of every stage, would hold as much as these pools do. Of `vLLM`, whose stages all have as
    /// many blocks as the one that has fewest, that is exact; of others it is the smallest.
    fn one_pool(&mut self, pools: &[u64]) -> Result<u64, Error> {
        let least = pools.iter().copied().min().unwrap_or_default();
        if pools.iter().all(|&pool| pool == least) {
            return Ok(least);
        }
        let answer = self.ask(self.question.model, self.question.usual_len(), self.usual_batch(), None)?;
        self.usual = self.needed_by(&answer);
        let blocks = (self.question.engine.profile.blocks)(&answer);
        let blocks = blocks.map_or_else(|| vec![1; pools.len()], |blocks| blocks.bytes_by_stage);
        let counts = pools.iter().zip(&blocks).map(|(pool, &block)| pool.checked_div(block).unwrap_or(u64::MAX));
        let counts: Vec<u64> = counts.collect();
        let fewest = counts.iter().copied().min().unwrap_or_default();
        let is_full = |&count: &u64| count == fewest;
        self.full_first = counts.iter().position(is_full).filter(|_| !counts.iter().all(is_full));
        (Exact::from(blocks.iter().copied().max().unwrap_or_default()) * fewest).get()
    }

    fn ask(&self, model: &Model, seq_len: Tokens, batch: u64, memory: Option<u64>) -> Result<Answer, Error> {
        let layout = match (self.question.engine.profile.allocation, self.question.engine.profile.spread) {
            (Allocation::Pool, Spread::Ranks) => self.layout,
            // The part has the layers of its stage alone.
            (_, Spread::Ranks) => Layout { pp: 1, ..self.layout },
            _ => Layout::default(),
        };
        let layout = Layout { dp: 1, ..layout };
        let workload = Workload { seq_len, batch, layout, memory: memory.map(Bytes), ..self.question.workload };
        self.question.engine.answer(model, &workload)
    }

    /// Requests of one replica, of those that were asked for.
    fn usual_batch(&self) -> u64 {
        self.question.batch.unwrap_or(1).div_ceil(self.layout.dp.max(1))
    }

    /// Bytes that a device must have for what was answered.
    fn needed_by(&self, answer: &Answer) -> Option<u64> {
        let null_block = (self.question.engine.profile.blocks)(answer).map_or(0, |blocks| blocks.null_block_bytes);
        answer.estimate.bytes_per_gpu.0.checked_add(null_block)
    }

    fn pooled(&self) -> bool {
        self.question.engine.profile.allocation == Allocation::Pool
    }

    /// What is missing before there is a pool.
    fn short(&self) -> u64 {
        self.parts.iter().map(|part| part.short).max().unwrap_or_default()
    }

    /// The one part of an engine that fills its memory with a pool.
    fn of_pool(&self, seq_len: Tokens) -> Result<Answer, Error> {
        self.ask(self.question.model, seq_len, 1, self.parts.first().map(|part| part.pool))
    }

    /// Bytes that a device of a part must have for `batch` sequences.
    fn needed(&self, part: &Part, seq_len: Tokens, batch: u64) -> Result<u64, Error> {
        let is_usual = (seq_len, batch) == (self.question.usual_len(), self.usual_batch());
        if let Some(usual) = self.usual.filter(|_| is_usual) {
            return Ok(usual);
        }
        self.needed_by(&self.ask(&part.model, seq_len, batch, None)?).ok_or_else(Error::too_large)
    }

    /// Whether an error comes of too many tokens or sequences: an engine refuses them at a length, or integers end.
    fn is_too_much(&self, error: &Error, seq_len: Tokens, batch: u64) -> bool {
        let is_more = seq_len > self.question.usual_len() || batch > 1;
        error.code == Code::TooLarge || error.code == Code::Refused && is_more
    }

    /// What `batch` sequences need and have on the devices of each part.
    fn balances(&self, seq_len: Tokens, batch: u64) -> Result<Vec<(u64, u64)>, Error> {
        let needed = |part: &Part| (Exact::from(self.needed(part, seq_len, batch)?) + part.short).get();
        self.parts.iter().map(|part| Ok((needed(part)?, part.pool))).collect()
    }

    /// What `batch` sequences in one replica leave on the device that is full first, or what they are short of there.
    ///
    /// # Errors
    /// [`Error`] where the engine has no answer.
    pub fn left(&self, seq_len: Tokens, batch: u64) -> Result<Left, Error> {
        let balances = match self.balances(seq_len, batch) {
            Err(error) if self.is_too_much(&error, seq_len, batch) => return Ok(Left::Refused(error)),
            balances => balances?,
        };
        let short = balances.iter().filter_map(|(needed, pool)| needed.checked_sub(*pool)).max().unwrap_or_default();
        let left = balances.iter().filter_map(|(needed, pool)| pool.checked_sub(*needed)).min().unwrap_or_default();
        Ok(if short > 0 { Left::Short(Bytes(short)) } else { Left::Spare(Bytes(left)) })
    }

    /// Whether `batch` sequences fit in one replica.
    fn holds(&self, seq_len: Tokens, batch: u64) -> Result<bool, Error> {
        if self.short() > 0 {
            return Ok(false);
        }
        if self.pooled() {
            return match self.of_pool(seq_len) {
                Err(error) if self.is_too_much(&error, seq_len, batch) => Ok(false),
                found => Ok(sequences(found?.capacity.as_ref(), seq_len) >= batch),
            };
        }
        Ok(matches!(self.left(seq_len, batch)?, Left::Spare(_)))
    }

    /// What one replica has room for, and what the engine allows of it.
    fn of_replica(&self, seq_len: Tokens) -> Result<Requests, Error> {
        let of = |room| Requests { seq_len, room, at_once: room, max_concurrency: None, bound_by: None };
        if self.pooled() {
            let answer = match self.of_pool(seq_len) {
                Err(error) if self.is_too_much(&error, seq_len, 1) => return Ok(of(Some(0))),
                found => found?,
            };
            let Question { model, engine, .. } = self.question;
            let limit = (engine.profile.request_limit)(&answer, model, seq_len, engine)?;
            let room = if self.short() > 0 { 0 } else { sequences(answer.capacity.as_ref(), seq_len) };
            let max_concurrency = answer.capacity.and_then(|capacity| capacity.max_concurrency).filter(|_| room > 0);
            let limit = limit.filter(|limit| limit.most < room);
            let at_once = limit.as_ref().map_or(room, |limit| limit.most);
            let bound_by = limit.map(|RequestLimit { setting, .. }| setting);
            return Ok(Requests { at_once: Some(at_once), max_concurrency, bound_by, ..of(Some(room)) });
        }
        if !self.holds(seq_len, 1)? {
            return Ok(of(Some(0)));
        }
        // Bytes are nearly proportional to sequences: the quotient is the place to look first.
        let balances = self.balances(seq_len, 1)?;
        let guess = balances.iter().filter_map(|&(needed, pool)| pool.checked_div(needed)).min();
        let Some(guess) = guess else { return Ok(of(None)) };
        let most = (Exact::from(guess) * 2u64 + 2u64).get()?;
        largest(most, guess, |batch| self.holds(seq_len, batch)).map(|room| of(Some(room)))
    }

    /// The longest request up to `most` of which one replica holds so many as were asked for.
    fn longest(&self, most: u64) -> Result<u64, Error> {
        let batch = self.usual_batch();
        let holds = |seq_len| self.holds(Tokens(seq_len), batch);
        if !self.pooled() {
            return longest_of(self.question.model, most, holds);
        }
        let mut guess = most;
        if batch == 1 {
            match self.of_pool(Tokens(most)) {
                Err(error) if self.is_too_much(&error, Tokens(most), 1) => {}
                found => guess = found?.capacity.map_or(0, |capacity| capacity.max_seq_len),
            }
        }
        largest(most, guess, holds)
    }

    /// Requests of a length, over all replicas.
    ///
    /// # Errors
    /// [`Error`] where the engine has no answer.
    pub fn requests(&self, seq_len: Tokens) -> Result<Requests, Error> {
        let one = self.of_replica(seq_len)?;
        let of_all = |count: Option<u64>| count.map(|count| self.over_replicas(count)).transpose();
        Ok(Requests { room: of_all(one.room)?, at_once: of_all(one.at_once)?, ..one })
    }

    /// What all replicas have, of what one has.
    fn over_replicas(&self, count: u64) -> Result<u64, Error> {
        (Exact::from(count) * self.layout.dp).get()
    }

    /// Tokens in the pool of one replica, filled with requests of `seq_len`; without a pool, the longest request of all.
    fn tokens(&self, seq_len: Tokens, longest: u64, maximum: Option<u64>) -> Result<Option<u64>, Error> {
        if self.pooled() {
            let tokens = self.of_pool(seq_len)?.capacity.and_then(|capacity| capacity.tokens).unwrap_or_default();
            let Question { engine, .. } = self.question;
            let pools = (engine.profile.pools_per_replica)(engine, self.layout);
            return (Exact::from(tokens) * pools).get().map(Some);
        }
        if self.usual_batch() == 1 && maximum.is_some_and(|maximum| longest < maximum) {
            return Ok(Some(longest));
        }
        let alone = Question { batch: None, ..self.question };
        let alone = Self { question: alone, usual: None, ..self.clone() };
        let most = longest_of(self.question.model, MOST, |seq_len| alone.holds(Tokens(seq_len), 1))?;
        Ok(Some(most).filter(|&most| most < MOST))
    }

    /// What it holds.
    ///
    /// # Errors
    /// [`Error`] where the engine has no answer.
    pub fn fit(&self) -> Result<Fit, Error> {
        let Question { model, seq_len, batch, average, .. } = self.question;
        let maximum = model.max_position_embeddings.map(|tokens| tokens.0);
        let longest = if self.short() > 0 { 0 } else { self.longest(maximum.unwrap_or(MOST))? };
        let endless = maximum.is_none() && longest == MOST;
        let asked = seq_len.unwrap_or(if endless { self.question.usual_len() } else { Tokens(longest.max(1)) });
        let requests = [Some(asked), average].into_iter().flatten().map(|seq_len| self.requests(seq_len));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        let (wanted, of_asked) = (batch.unwrap_or(1), requests.first());
        let has_room =
            self.short() == 0 && of_asked.is_some_and(|requests| requests.room.is_none_or(|room| room >= wanted));
        let fits = has_room && of_asked.is_some_and(|requests| requests.run(wanted));
        let left = self.left(asked, self.usual_batch())?;
        let setting =
            of_asked.and_then(|requests| requests.bound_by.zip(requests.at_once)).filter(|_| has_room && !fits);
        let tokens = if longest == 0 { Some(0) } else { self.tokens(Tokens(asked.0.min(longest)), longest, maximum)? };
        let longest_alone =
            if self.usual_batch() == 1 { longest } else { self.longest_alone(maximum.unwrap_or(MOST))? };
        let with_end = |longest: u64| Some(Tokens(longest)).filter(|_| maximum.is_some() || longest < MOST);
        Ok(Fit {
            fits,
            missing: match left {
                Left::Short(bytes) if !has_room => Some(bytes),
                _ => None,
            },
            spare: match left {
                Left::Spare(bytes) if has_room => Some(bytes),
                _ => None,
            },
            binding: match setting {
                Some((setting, most)) => {
                    let most = group_thousands(most);
                    Binding::new("sequences", format!("{setting}: no more than {most} requests run at once"))
                }
                None if !has_room && self.short() == 0 => self.full(asked, left)?,
                None => self.binding(maximum, longest)?,
            },
            seq_len: asked,
            longest_alone: with_end(longest_alone),
            longest: with_end(longest),
            tokens: tokens.map(|tokens| self.over_replicas(tokens)).transpose()?,
            requests,
            answer: self.answer(asked)?,
            memory: Bytes(self.parts.iter().map(|part| part.pool).min().unwrap_or_default()),
        })
    }

    /// The longest request alone, up to `most` tokens.
    fn longest_alone(&self, most: u64) -> Result<u64, Error> {
        if self.short() > 0 {
            return Ok(0);
        }
        let question = Question { batch: None, ..self.question };
        Self { question, usual: None, ..self.clone() }.longest(most)
    }

    /// The engine's answer for the requests in one replica; where it refuses so many or such long ones, for a short one.
    fn answer(&self, seq_len: Tokens) -> Result<Answer, Error> {
        let (model, batch) = (self.question.model, self.usual_batch());
        match self.ask(model, seq_len, batch, None) {
            Err(error) if self.is_too_much(&error, seq_len, batch) || error.code == Code::Refused => {
                self.ask(model, self.question.usual_len().min(seq_len), 1, None)
            }
            answer => answer,
        }
    }

    /// What keeps requests from being longer than the longest.
    fn binding(&self, maximum: Option<u64>, longest: u64) -> Result<Binding, Error> {
        if self.short() > 0 {
            return Ok(Binding::new("weights", "weights and overhead leave nothing for the cache"));
        }
        if maximum == Some(longest) {
            return Ok(Binding::new("model_max_seq_len", "the model's own maximum"));
        }
        if longest == MOST {
            return Ok(Binding::new("nothing", "no token takes more"));
        }
        let longer = (Exact::from(longest) + 1u64).tokens()?;
        self.full(longer, self.left(longer, self.usual_batch())?)
    }

    /// What is full with requests of `seq_len`, which leave so much.
    fn full(&self, seq_len: Tokens, left: Left) -> Result<Binding, Error> {
        let Layout { tp, pp, .. } = self.layout;
        match left {
            Left::Short(_) => {}
            Left::Spare(_) => return Ok(Binding::new("engine", "a setting or a limit of the engine's own")),
            Left::Refused(error) if error.code == Code::TooLarge => {
                return Ok(Binding::new("refused", "it passes 2^64 - 1 bytes"));
            }
            Left::Refused(error) => return Ok(Binding::new("refused", error.to_string())),
        }
        if let Some(heads) = widest_heads(self.question.model).filter(|&heads| tp > heads) {
            let copies = tp.checked_div(heads).unwrap_or(1);
            let reason = format!("memory, and tp: {heads} KV heads on {tp} ranks are kept {copies} times");
            return Ok(Binding::new("kv_heads", reason));
        }
        Ok(match self.full_stage(seq_len)? {
            Some(index) => {
                let number = index.saturating_add(1);
                Binding::new("pipeline_stage", format!("the memory of pipeline stage {number} of {pp}"))
            }
            None => Binding::new("memory", "the memory of each GPU"),
        })
    }

    /// The stage that is full while another is not.
    fn full_stage(&self, seq_len: Tokens) -> Result<Option<usize>, Error> {
        if self.parts.len() < 2 {
            return Ok(self.full_first);
        }
        let balances = self.balances(seq_len, self.usual_batch())?;
        let full = |(needed, pool): &(u64, u64)| needed > pool;
        Ok(balances.iter().position(full).filter(|_| !balances.iter().all(full)))
    }
}

/// The layers of the devices that are looked at one after the other; none where the engine itself looks at stages.
fn stages(model: &Model, engine: &Engine, layout: Layout) -> Result<Option<Vec<Range<u32>>>, Error> {
    let layers = model.num_hidden_layers;
    Ok(match (engine.profile.allocation, engine.profile.spread) {
        (Allocation::Pool, _) | (_, Spread::Whole) => None,
        (Allocation::Workload, Spread::Ranks) => Some(layout.stages(layers)?),
        (Allocation::Workload, Spread::Layers) => Some(llama_cpp::layers_by_device(layers.into(), layout.pp)),
    })
}

/// Sequences that a pool has room for: none if not one fits, as versions count with a fraction of one, too.
fn sequences(capacity: Option<&Capacity>, seq_len: Tokens) -> u64 {
    let one = |capacity: &&Capacity| capacity.fits && capacity.max_seq_len >= seq_len.0;
    capacity.filter(one).and_then(|capacity| capacity.max_concurrency).map_or(0, Double::truncated)
}
