//! What a budget says of a workload: the verdict first, then the limits.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::ModelDescription;
use super::ci::{Case, Cases};
use super::column::{Cell, Column, Table};
use super::grid::{Block, Page};
use super::hardware::spread;
use super::text::{COLUMNS, in_unit};
use super::{Medium, Report, clean};
use crate::check::{Demand, Examined, Held, Limit, Verdict};
use crate::units::{ByteUnit, Bytes, KvDtype, Notes, group_thousands};

/// `kvsize.check/1`: a workload, and whether it stays within its budget.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckDocument {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The model.
    pub model: ModelDescription,
    /// Whether all limits hold.
    pub within: bool,
    /// What was measured of it.
    #[serde(flatten)]
    pub measured: Measured,
    /// What there is to say of it.
    #[serde(flatten)]
    pub notes: Notes,
}

/// What was measured of a workload.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct Measured {
    /// Tokens of each sequence.
    pub seq_len: u64,
    /// Sequences.
    pub batch: u64,
    /// The engine, with its version.
    pub engine: String,
    /// The format asked for.
    pub kv_dtype: String,
    /// What is stored, where that is not what was asked for.
    pub kv_dtype_resolved: Option<String>,
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Bytes over all devices of a replica.
    pub bytes: u64,
    /// Bytes on the device that holds most.
    pub bytes_per_gpu: u64,
    /// The limits.
    pub limits: Vec<Limit>,
    /// What is asserted of hardware, and what it holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hardware: Vec<Held>,
    /// The longest request within all limits, or on the hardware, no longer than the model's own maximum; absent where there is
    /// no end.
    pub longest_seq_len: Option<u64>,
    /// The model's own maximum.
    #[serde(skip)]
    pub(super) maximum: Option<u64>,
}

impl Measured {
    /// What was measured of a workload on a model.
    pub fn new(Examined { model, workload, engine, checked, held, .. }: &Examined) -> Self {
        let longest = match held.as_slice() {
            [held] if checked.limits.is_empty() => held.longest_seq_len_at_batch,
            _ => checked.longest,
        };
        Self {
            seq_len: workload.seq_len.0,
            batch: workload.batch,
            engine: engine.to_string(),
            kv_dtype: workload.kv_dtype.to_string(),
            kv_dtype_resolved: (KvDtype::Given(checked.stored) != workload.kv_dtype)
                .then(|| checked.stored.to_string()),
            tp: workload.layout.tp,
            pp: workload.layout.pp,
            bytes: checked.taken.bytes.0,
            bytes_per_gpu: checked.taken.bytes_per_gpu.0,
            limits: checked.limits.clone(),
            hardware: held.clone(),
            longest_seq_len: longest.map(|longest| longest.0),
            maximum: model.max_position_embeddings.map(|maximum| maximum.0),
        }
    }

    /// Whether all that is asserted holds.
    pub(super) fn holds(&self) -> bool {
        self.limits.iter().all(|limit| limit.over.is_none()) && self.hardware.iter().all(|row| row.holds)
    }

    /// The limit that is exceeded most, or else has least left.
    fn tightest(&self) -> Option<&Limit> {
        let signed = |limit: &&Limit| match (limit.left, limit.over) {
            (_, Some(over)) => i128::from(over.0).saturating_neg(),
            (left, None) => i128::from(left.unwrap_or_default().0),
        };
        self.limits.iter().min_by_key(signed)
    }
}

impl Limit {
    fn of_what(&self) -> &'static str {
        if self.kind == "bytes" { "in all" } else { "on each GPU" }
    }

    /// What is left, or with a sign what is too much; exact where the unit would show nothing.
    fn signed(&self, unit: ByteUnit) -> String {
        let Bytes(bytes) = self.over.or(self.left).unwrap_or_default();
        let text = if is_lost(bytes, unit) { amount(bytes, unit) } else { Bytes(bytes).in_unit(unit) };
        format!("{}{text}", if self.over.is_some() { "-" } else { "" })
    }

    /// `over by 2.416 GB in all`
    pub(super) fn sentence(&self, unit: ByteUnit) -> String {
        match (self.left, self.over) {
            (_, Some(over)) => format!("over by {} {}", amount(over.0, unit), self.of_what()),
            (left, None) => format!("{} left {}", amount(left.unwrap_or_default().0, unit), self.of_what()),
        }
    }
}

/// `the largest context within the budget is 120,832 tokens`, of a model made for at most `maximum`.
pub(super) fn largest_within(longest: Option<u64>, maximum: Option<u64>) -> String {
    largest_that("is within the budget", "within the budget", longest, maximum)
}

fn largest_that(holds: &str, which: &str, longest: Option<u64>, maximum: Option<u64>) -> String {
    match longest {
        Some(0) => format!("no context {holds}"),
        // There is no longer one to look for, though there may be room.
        Some(longest) if maximum == Some(longest) => {
            format!("the model's maximum of {} {holds}", tokens(longest))
        }
        Some(longest) => format!("the largest context {which} is {}", tokens(longest)),
        None => format!("a context of any length {holds}"),
    }
}

/// `120,832 tokens`
fn tokens(count: u64) -> String {
    format!("{} token{}", group_thousands(count), if count == 1 { "" } else { "s" })
}

/// `2.416 GB`; exact where that would be nothing.
pub(super) fn amount(bytes: u64, unit: ByteUnit) -> String {
    let unit = if is_lost(bytes, unit) { ByteUnit::Bytes } else { unit };
    in_unit(bytes, unit)
}

/// Whether `bytes` would be printed as none.
fn is_lost(bytes: u64, unit: ByteUnit) -> bool {
    bytes > 0 && Bytes(bytes).in_unit(unit) == Bytes(0).in_unit(unit)
}

impl Held {
    /// `4xl40s (tp 4)`
    fn configuration(&self) -> String {
        format!("{}x{} ({})", self.gpus, self.gpu, spread(self.tp, self.pp, self.dp))
    }

    /// `over by 2.416 GB on a GPU of 4xl40s (tp 4)`
    pub(super) fn sentence(&self, unit: ByteUnit) -> String {
        let on = self.configuration();
        let number = |number: Option<u64>, none: &str| number.map_or_else(|| none.to_owned(), group_thousands);
        let short = match self.missing_bytes {
            Some(bytes) if !self.holds => format!("over by {} on a GPU of {on}", amount(bytes.0, unit)),
            _ => format!("does not fit on {on}: {}", self.binding.reason),
        };
        let wanted = number(self.wanted, "");
        let (what, none) = match self.demand {
            Demand::Fits if !self.holds => return short,
            Demand::Fits => {
                let requests = if self.at_once == Some(1) { "request" } else { "requests" };
                let room = number(self.at_once, "any number of");
                return format!("fits on {on}, with room for {room} such {requests}");
            }
            Demand::MinContext(_) => ("tokens fit", format!("no context fits on {on}, {wanted} tokens")),
            Demand::MinConcurrentRequests(_) => {
                ("requests run at once", format!("no such request fits on {on}, {wanted} at once"))
            }
        };
        match self.found {
            found if self.holds => {
                format!("{} {what} on {on}, {wanted} are asserted", number(found, "any number of"))
            }
            Some(0) => format!("{none} are asserted"),
            // There would be memory: something else is in the way.
            found if matches!(self.demand, Demand::MinContext(_)) && found.is_none_or(|_| found >= self.wanted) => {
                format!("{wanted} tokens are asserted and do not fit on {on}: {}", self.binding.reason)
            }
            found => format!("no more than {} {what} on {on}, {wanted} are asserted", number(found, "0")),
        }
    }
}

impl CheckDocument {
    /// The document of what was measured of a model.
    pub fn new(examined: Examined) -> Self {
        let measured = Measured::new(&examined);
        Self {
            schema: "kvsize.check/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            model: ModelDescription::new(&examined.model),
            within: measured.holds(),
            measured,
            notes: examined.notes,
        }
    }

    /// `over by 2.416 GB: the largest context within the budget is 120,832 tokens`
    fn verdict(&self, unit: ByteUnit) -> String {
        self.halves(unit).join(" ")
    }

    /// The verdict by how much, and how long a request may be.
    fn halves(&self, unit: ByteUnit) -> [String; 2] {
        if let [row, ..] = self.measured.hardware.as_slice() {
            let longest = largest_that("fits", "in this layout", self.measured.longest_seq_len, self.measured.maximum);
            let join = if self.within { ";" } else { ":" };
            let sentence = row.sentence(unit);
            // A sentence that has a reason of its own goes on as a list does.
            let join = if sentence.contains(": ") { ";" } else { join };
            return [format!("{sentence}{join}"), longest];
        }
        let amount = |bytes: u64| amount(bytes, unit);
        let longest = largest_within(self.measured.longest_seq_len, self.measured.maximum);
        let margin = match self.measured.tightest() {
            Some(Limit { over: Some(over), .. }) => format!("over by {}", amount(over.0)),
            Some(limit) => {
                format!("within the budget: {} left {}", amount(limit.left.unwrap_or_default().0), limit.of_what())
            }
            None => "no budget".into(),
        };
        let join = if self.within { ";" } else { ":" };
        [format!("{margin}{join}"), longest]
    }
}

/// What is asserted: a limit, or of hardware, which is in no budget's bytes.
struct Asserted<'a> {
    limit: Option<&'a Limit>,
    name: String,
    over: Option<Bytes>,
    holds: bool,
    longest_seq_len: Option<u64>,
}

type AssertedColumn<'a> = Column<'a, Asserted<'a>>;

/// A column of a figure of a limit, which hardware has not.
fn of_limit<'a>(heading: impl Into<String>, figure: impl Fn(&Limit) -> Cell + 'a) -> AssertedColumn<'a> {
    AssertedColumn::right(heading, move |row| row.limit.map(&figure))
}

impl CheckDocument {
    /// The limits, then what is asserted of hardware.
    fn asserted(&self) -> Vec<Asserted<'_>> {
        let Measured { limits, hardware, longest_seq_len, .. } = &self.measured;
        let of_limits = limits.iter().map(|limit| Asserted {
            limit: Some(limit),
            name: limit.kind.to_owned(),
            over: limit.over,
            holds: self.within,
            longest_seq_len: *longest_seq_len,
        });
        let of_hardware = hardware.iter().map(|row| Asserted {
            limit: None,
            name: format!("{} {}", row.kind, row.configuration()),
            over: row.missing_bytes,
            holds: row.holds,
            longest_seq_len: row.longest_seq_len_at_batch.map(|tokens| tokens.0),
        });
        of_limits.chain(of_hardware).collect()
    }

    fn table_of(&self, rows: &[Asserted<'_>], unit: ByteUnit) -> Table {
        let left = move |limit: &Limit| {
            let exact = limit.left.map(|left| left.0.to_string()).unwrap_or_default();
            Cell::Both(limit.signed(unit), exact)
        };
        let all = self.measured.bytes;
        let taken = move |row: &Asserted<'_>| Cell::Bytes(row.limit.map_or(all, |limit| limit.taken.0));
        let columns = [
            AssertedColumn::left(unit.name(), |row| row.limit.map(Limit::of_what)),
            AssertedColumn::csv("limit", |row| row.name.clone()),
            of_limit("budget", |limit| Cell::Bytes(limit.budget.0)).key("budget"),
            of_limit("less margin", |limit| Cell::Bytes(limit.allowed.0)).key("allowed"),
            AssertedColumn::right("taken", taken).key("taken"),
            of_limit("left", left).key("left"),
            AssertedColumn::csv("over", |row| row.over.map(|bytes| bytes.0)),
            AssertedColumn::csv("within", |row| row.holds),
            AssertedColumn::csv("longest_seq_len", |row| row.longest_seq_len),
        ];
        Table::new(rows, columns)
    }
}

impl Report for CheckDocument {
    fn table(&self, unit: ByteUnit) -> Table {
        self.table_of(&self.asserted(), unit)
    }

    fn largest(&self) -> Bytes {
        let largest = self.measured.limits.iter().map(|row| row.budget.max(row.taken)).max();
        largest.unwrap_or(Bytes(self.measured.bytes))
    }

    fn page(&self, unit: ByteUnit, _: Medium) -> Page {
        let Measured { seq_len, batch, engine, .. } = &self.measured;
        let format = self.measured.kv_dtype_resolved.as_deref().unwrap_or(&self.measured.kv_dtype);
        let (seq_len, batch) = (group_thousands(*seq_len), group_thousands(*batch));
        let of = format!("{}, {seq_len} tokens x {batch} in {format}: {engine}", self.model.name);
        let limits: Vec<Asserted<'_>> = self.asserted().into_iter().filter(|row| row.limit.is_some()).collect();
        let grid = (!limits.is_empty()).then(|| Block::Grid(self.table_of(&limits, unit).grid(unit)));
        let [margin, longest] = self.halves(unit).map(|half| clean(&half));
        let word = if self.within { "YES  " } else { "NO   " };
        let line = format!("{word}{margin} {longest}");
        // A terminal would break it in the middle of a number.
        let is_short = line.chars().count() <= COLUMNS;
        let verdict = if is_short { vec![line] } else { vec![format!("{word}{margin}"), format!("     {longest}")] };
        let verdict = Block::Text(verdict);
        [verdict].into_iter().chain(grid).chain([Block::folded([of])]).collect()
    }

    /// The verdict.
    fn plain(&self, unit: ByteUnit) -> Vec<String> {
        vec![self.verdict(unit)]
    }
}

impl Cases for CheckDocument {
    fn cases(&self, unit: ByteUnit) -> Vec<Case> {
        vec![Case {
            name: self.model.name.clone(),
            verdict: Verdict::of(self.within),
            message: self.verdict(unit),
            warnings: self.notes.warnings.clone(),
        }]
    }
}
