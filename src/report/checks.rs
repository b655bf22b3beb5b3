//! What a file of budgets says: a row a budget, and what became of it since a baseline.

use serde::Serialize;

use super::check::{HardwareRow, LimitRow, amount, largest_within, once};
use super::ci::{self, Case};
use super::grid::{Align, Block, Grid, Page};
use super::text::{COLUMNS, wrapped};
use super::{CheckFormat, Format, UnitChoice, clean, csv, json, markdown, table};
use crate::check::{Change, Checked, Held, Increase, Verdict};
use crate::engine::Engine;
use crate::estimate::Workload;
use crate::model::Model;
use crate::units::{ByteUnit, Bytes, Diagnosis, KvDtype, fixed_point};

/// `kvsize.checks/1`: budgets, and whether each is kept.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChecksDocument {
    /// Name and version of this shape.
    #[cfg_attr(test, schemars(extend("const" = "kvsize.checks/1")))]
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The worst of all: `within`, `over` or `unknown`.
    #[cfg_attr(test, schemars(extend("enum" = ["within", "over", "unknown"])))]
    pub verdict: &'static str,
    /// Budgets that are kept.
    pub within: usize,
    /// Budgets that are not.
    pub over: usize,
    /// Budgets of which it could not be told.
    pub unknown: usize,
    /// A row a budget, in the order of the file.
    pub checks: Vec<CheckRow>,
    /// Budgets of the baseline that are in the file no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<Vec<String>>,
    #[serde(skip)]
    increase: Option<Increase>,
    #[serde(skip)]
    worst: Verdict,
    #[serde(skip)]
    strict: bool,
}

/// A budget of a [`ChecksDocument`].
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CheckRow {
    /// Its name.
    pub name: String,
    /// `within`, `over` or `unknown`.
    #[cfg_attr(test, schemars(extend("enum" = ["within", "over", "unknown"])))]
    pub verdict: &'static str,
    /// What was measured; absent where there is no answer.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// What became of it since the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeRow>,
    /// Why it could not be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRow>,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
    #[serde(skip)]
    worst: Verdict,
}

/// What was measured of a budget.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Measured {
    /// The model's name.
    pub model: String,
    /// Tokens of each sequence.
    pub seq_len: u64,
    /// Sequences.
    pub batch: u64,
    /// The engine, with its version.
    pub engine: String,
    /// The format asked for.
    pub kv_dtype: String,
    /// What is stored, where that is not what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    pub limits: Vec<LimitRow>,
    /// What is asserted of hardware, and what it holds.
    pub hardware: Vec<HardwareRow>,
    /// The longest request within all limits, no longer than the model's own maximum; absent where there is no limit or no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_len: Option<u64>,
    /// The model's own maximum.
    #[serde(skip)]
    maximum: Option<u64>,
}

/// What became of a budget since the baseline.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChangeRow {
    /// `new`, `same`, `grown` or `shrunk`.
    #[cfg_attr(test, schemars(extend("enum" = ["new", "same", "grown", "shrunk"])))]
    pub kind: &'static str,
    /// Bytes over all devices, then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_before: Option<u64>,
    /// Bytes on the device that held most, then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_gpu_before: Option<u64>,
    /// Whether it grew by more than may be.
    pub too_much: bool,
}

/// Why a budget could not be told of, as the parts of an error.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorRow {
    /// A stable word.
    pub code: &'static str,
    /// The key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
    /// All of it, as a sentence.
    pub message: String,
}

impl From<&Diagnosis> for ErrorRow {
    fn from(diagnosis: &Diagnosis) -> Self {
        let Diagnosis { code, field, found, remedy, .. } = diagnosis.clone();
        Self { code, field, found, remedy, message: diagnosis.to_string() }
    }
}

impl Measured {
    /// What was measured of a workload.
    pub fn new(model: &Model, workload: &Workload, engine: &Engine, checked: &Checked, held: &[Held]) -> Self {
        Self {
            model: model.name.clone(),
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
            limits: checked.limits.iter().map(LimitRow::of).collect(),
            hardware: held.iter().map(HardwareRow::of).collect(),
            max_seq_len: checked.longest.map(|longest| longest.0),
            maximum: model.max_position_embeddings.map(|maximum| maximum.0),
        }
    }

    fn holds(&self) -> bool {
        self.limits.iter().all(|limit| limit.over.is_none()) && self.hardware.iter().all(|row| row.holds)
    }
}

impl CheckRow {
    /// The row of a budget: what was measured of it, if anything, and why not all of it could be.
    pub fn new(
        name: String,
        measured: Option<Measured>,
        error: Option<&Diagnosis>,
        change: Option<Change>,
        [assumptions, warnings]: [Vec<String>; 2],
    ) -> Self {
        let kept = measured.as_ref().is_some_and(Measured::holds) && !change.is_some_and(Change::is_too_much);
        let worst = if error.is_some() || measured.is_none() { Verdict::Unknown } else { Verdict::of(kept) };
        let change = change.map(|change| match (change, &measured) {
            (Change::Since { before, too_much }, Some(now)) => {
                let was = [before.bytes.0, before.bytes_per_gpu.0];
                let is = [now.bytes, now.bytes_per_gpu];
                let grown = is.iter().zip(&was).any(|(now, before)| now > before);
                let kind = match (grown, is == was) {
                    (true, _) => "grown",
                    (false, true) => "same",
                    (false, false) => "shrunk",
                };
                let [bytes_before, bytes_per_gpu_before] = was.map(Some);
                ChangeRow { kind, bytes_before, bytes_per_gpu_before, too_much }
            }
            _ => ChangeRow { kind: "new", bytes_before: None, bytes_per_gpu_before: None, too_much: false },
        });
        let (assumptions, warnings) = (once(assumptions.into_iter()), once(warnings.into_iter()));
        let error = error.map(ErrorRow::from);
        Self { name, verdict: worst.name(), measured, change, error, assumptions, warnings, worst }
    }

    /// What there is to say of it: what is not kept, or else what is left.
    fn message(&self, unit: ByteUnit, increase: Option<Increase>) -> String {
        let mut sentences: Vec<String> = Vec::new();
        if let Some(error) = &self.error {
            sentences.push(error.message.clone());
        }
        let kept = self.worst == Verdict::Within;
        if let Some(measured) = &self.measured {
            let limits = measured.limits.iter().filter(|limit| kept || limit.over.is_some());
            sentences.extend(limits.map(|limit| limit.sentence(unit)));
            let over = measured.limits.iter().any(|limit| limit.over.is_some());
            if over {
                sentences.push(largest_within(measured.max_seq_len, measured.maximum));
            }
            let hardware = measured.hardware.iter().filter(|row| kept || !row.holds);
            sentences.extend(hardware.map(|row| row.sentence(unit)));
        }
        if self.change.as_ref().is_some_and(|change| change.too_much) {
            let allowed =
                increase.map_or_else(String::new, |most| format!(", {} allowed", percent(most.0.into(), 1_000_000)));
            sentences.push(format!("changed by {}{allowed}", self.changed(unit)));
        }
        sentences.join("; ")
    }

    /// `+2.000 GB (+12.5%)`, of what grew more: all of it, or what is on each GPU.
    fn changed(&self, unit: ByteUnit) -> String {
        let (Some(change), Some(now)) = (&self.change, &self.measured) else { return String::new() };
        let (Some(all), Some(on_gpu)) = (change.bytes_before, change.bytes_per_gpu_before) else {
            return change.kind.to_owned();
        };
        let product = |a: u64, b: u64| u128::from(a).saturating_mul(b.into());
        let more_on_gpu = product(now.bytes_per_gpu, all) > product(now.bytes, on_gpu);
        match change.kind {
            "same" => change.kind.to_owned(),
            _ if more_on_gpu => format!("{} on each GPU", by(on_gpu, now.bytes_per_gpu, unit)),
            _ => by(all, now.bytes, unit),
        }
    }
}

/// `+2.000 GB (+12.5%)`
fn by(before: u64, now: u64, unit: ByteUnit) -> String {
    let (sign, difference) = if now >= before { ("+", now.abs_diff(before)) } else { ("-", now.abs_diff(before)) };
    let share = (before > 0).then(|| format!(" ({sign}{})", percent(difference.into(), before.into())));
    let share = share.unwrap_or_default();
    format!("{sign}{}{share}", amount(difference, unit))
}

/// A part of a whole as `12.5%`; of what four places lose, that it is less than what they show.
fn percent(part: u128, whole: u128) -> String {
    let text = fixed_point(part.saturating_mul(100), whole, 4);
    match text.trim_end_matches('0').trim_end_matches('.') {
        "0" if part > 0 => "<0.0001%".into(),
        text => format!("{text}%"),
    }
}

impl ChecksDocument {
    /// The document of these rows. Of a baseline, `gone` are the names that are in the file no more: a warning, which
    /// `strict` makes one that could not be told.
    pub fn new(checks: Vec<CheckRow>, gone: Option<Vec<String>>, increase: Option<Increase>, strict: bool) -> Self {
        let count = |verdict| checks.iter().filter(|row| row.worst == verdict).count();
        let missed = if strict { gone.iter().flatten().count() } else { 0 };
        let (within, over) = (count(Verdict::Within), count(Verdict::Over));
        let unknown = count(Verdict::Unknown).saturating_add(missed);
        let least = if missed > 0 { Verdict::Unknown } else { Verdict::Within };
        let worst = checks.iter().map(|row| row.worst).chain([least]).max().unwrap_or_default();
        Self {
            schema: "kvsize.checks/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            verdict: worst.name(),
            within,
            over,
            unknown,
            checks,
            gone,
            increase,
            worst,
            strict,
        }
    }

    /// The worst of all.
    pub fn worst(&self) -> Verdict {
        self.worst
    }

    /// What is said of budgets, each text once, after the names of those that it is said of.
    pub fn said(&self, texts: impl Fn(&CheckRow) -> &Vec<String>) -> Vec<String> {
        let all = once(self.checks.iter().flat_map(|row| texts(row).iter().cloned()));
        let named = |text: String| {
            let of = self.checks.iter().filter(|row| texts(row).contains(&text)).map(|row| row.name.as_str());
            format!("{}: {text}", of.collect::<Vec<_>>().join(", "))
        };
        all.into_iter().map(named).collect()
    }

    /// What is said of budgets that are gone.
    pub fn gone_warnings(&self) -> Vec<String> {
        self.gone.iter().flatten().map(|name| format!("{name}: {GONE}")).collect()
    }

    /// `1 over, 2 within`
    fn verdict(&self) -> String {
        // Under strict these are among those that could not be told.
        let gone = if self.strict { 0 } else { self.gone.iter().flatten().count() };
        let parts = [(self.over, "over"), (self.unknown, "could not be told"), (self.within, "within"), (gone, "gone")];
        let told = parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
        told.collect::<Vec<_>>().join(", ")
    }

    fn lines(&self, unit: ByteUnit) -> impl Iterator<Item = String> {
        self.checks.iter().map(move |row| {
            let word = if row.worst == Verdict::Unknown { "could not be told" } else { row.verdict };
            format!("{word}: {}: {}", row.name, row.message(unit, self.increase))
        })
    }
}

/// What is said of a budget that is gone.
const GONE: &str = "it is in the baseline, and no more in the file";

/// Budgets in `format`; plain is a line a budget.
pub fn checks(document: &ChecksDocument, format: CheckFormat, unit: UnitChoice) -> String {
    let bytes = document.checks.iter().filter_map(|row| row.measured.as_ref()).flat_map(|measured| {
        let limits = measured.limits.iter().map(|limit| limit.budget);
        limits.chain([measured.bytes])
    });
    let unit = unit.resolve(Bytes(bytes.max().unwrap_or_default()));
    let cases = || -> Vec<Case> {
        let case = |row: &CheckRow| Case {
            name: row.name.clone(),
            verdict: row.worst,
            message: row.message(unit, document.increase),
            warnings: row.warnings.clone(),
        };
        // It is no budget: where that is no error it is one that is kept, with a warning.
        let gone = |name: &String| match document.strict {
            true => Case { name: name.clone(), verdict: Verdict::Unknown, message: GONE.into(), warnings: Vec::new() },
            false => Case {
                name: name.clone(),
                verdict: Verdict::Within,
                message: String::new(),
                warnings: vec![GONE.into()],
            },
        };
        document.checks.iter().map(case).chain(document.gone.iter().flatten().map(gone)).collect()
    };
    match format {
        CheckFormat::Github => ci::github(&cases()),
        CheckFormat::Junit => ci::junit(&cases()),
        CheckFormat::As(Format::Table) => table::render(&page(document, unit, |line| wrapped(line, COLUMNS))),
        CheckFormat::As(Format::Markdown) => markdown::render(&page(document, unit, |line| vec![line.to_owned()])),
        CheckFormat::As(Format::Json) => json::pretty(document),
        CheckFormat::As(Format::Jsonl) => json::lines(&document.checks),
        CheckFormat::As(Format::Csv) => csv::grid(&exact(document, unit)),
        CheckFormat::As(Format::Plain) => document.lines(unit).map(|line| format!("{}\n", clean(&line))).collect(),
    }
}

fn page(document: &ChecksDocument, unit: ByteUnit, fold: impl Fn(&str) -> Vec<String>) -> Page {
    let compared = document.gone.is_some();
    let mut columns = vec![
        ("Budget".to_owned(), Align::Left),
        ("Verdict".into(), Align::Left),
        (unit.name().into(), Align::Right),
        (format!("{} on a GPU", unit.name()), Align::Right),
    ];
    columns.extend(compared.then(|| ("Since the baseline".to_owned(), Align::Right)));
    let row = |row: &CheckRow| {
        let figure = |of: fn(&Measured) -> u64| {
            row.measured.as_ref().map_or_else(|| "-".into(), |measured| Bytes(of(measured)).in_unit(unit))
        };
        let mut cells = vec![
            row.name.clone(),
            row.verdict.to_owned(),
            figure(|measured| measured.bytes),
            figure(|measured| measured.bytes_per_gpu),
        ];
        cells.extend(compared.then(|| row.changed(unit)));
        cells
    };
    let grid = Grid { columns, rows: document.checks.iter().map(row).collect() };
    let gone = document.gone.iter().flatten().map(|name| format!("gone: {name}: {GONE}"));
    let lines = document.lines(unit).chain(gone).flat_map(|line| fold(&clean(&line))).collect();
    Page { blocks: vec![Block::Text(vec![document.verdict()]), Block::Grid(grid), Block::Text(lines)] }
}

/// Every figure, for a spreadsheet.
fn exact(document: &ChecksDocument, unit: ByteUnit) -> Grid {
    let names =
        ["name", "verdict", "model", "engine", "seq_len", "batch", "bytes", "bytes_per_gpu", "bytes_before", "message"];
    let columns = names.iter().map(|name| ((*name).to_owned(), Align::Left)).collect();
    let row = |row: &CheckRow| {
        let text = |of: &dyn Fn(&Measured) -> String| row.measured.as_ref().map(of).unwrap_or_default();
        let before = row.change.as_ref().and_then(|change| change.bytes_before);
        vec![
            row.name.clone(),
            row.verdict.to_owned(),
            text(&|measured| measured.model.clone()),
            text(&|measured| measured.engine.clone()),
            text(&|measured| measured.seq_len.to_string()),
            text(&|measured| measured.batch.to_string()),
            text(&|measured| measured.bytes.to_string()),
            text(&|measured| measured.bytes_per_gpu.to_string()),
            before.map(|bytes| bytes.to_string()).unwrap_or_default(),
            row.message(unit, document.increase),
        ]
    };
    Grid { columns, rows: document.checks.iter().map(row).collect() }
}
