//! What a file of budgets says: a row a budget, and what became of it since a baseline.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::check::{Measured, amount, largest_within};
use super::ci::{Case, Cases};
use super::column::{Cell, Column, Table};
use super::grid::{Block, Page};
use super::text::{decimal, folded};
use super::{Medium, Report, clean, json};
use crate::check::{Change, Examined, Increase, Verdict};
use crate::units::{ByteUnit, Bytes, Code, Error, Notes};

/// `kvsize.checks/1`: budgets, and whether each is kept.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChecksDocument {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The worst of all: `within`, `over` or `unknown`.
    #[schemars(with = "String", extend("enum" = ["within", "over", "unknown"]))]
    pub verdict: Verdict,
    /// Budgets that are kept.
    pub within: usize,
    /// Budgets that are not.
    pub over: usize,
    /// Budgets of which it could not be told.
    pub unknown: usize,
    /// A row a budget, in the order of the file.
    pub checks: Vec<CheckRow>,
    /// Budgets of the baseline that are in the file no more.
    pub gone: Option<Vec<String>>,
    #[serde(skip)]
    increase: Option<Increase>,
    /// How a budget ends that is gone.
    #[serde(skip)]
    gone_ends: Verdict,
}

/// A budget of a [`ChecksDocument`].
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckRow {
    /// Its name.
    pub name: String,
    /// `within`, `over` or `unknown`.
    #[schemars(with = "String", extend("enum" = ["within", "over", "unknown"]))]
    pub verdict: Verdict,
    /// The model's name, unless it could not be told.
    pub model: Option<String>,
    /// What was measured; absent where there is no answer.
    #[serde(flatten)]
    pub measured: Option<Measured>,
    /// What became of it since the baseline.
    pub change: Option<Change>,
    /// Why it could not be told.
    pub error: Option<ErrorRow>,
    /// What there is to say of it.
    #[serde(flatten)]
    pub notes: Notes,
}

/// An error in its parts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorRow {
    /// A stable word for programs to branch on.
    #[schemars(with = "String")]
    pub code: Code,
    /// The flag, key or argument.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The value found.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
    /// All of it in one line.
    pub message: String,
}

impl From<&Error> for ErrorRow {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code,
            field: error.field.clone(),
            found: error.found.clone().unwrap_or_default(),
            remedy: error.remedy.clone(),
            message: error.to_string(),
        }
    }
}

impl CheckRow {
    /// The row of a budget: what was measured of its model, if anything, and why not all of it could be.
    pub fn new(name: String, examined: Result<Examined, Error>, change: Option<Change>) -> Self {
        let (answered, error) = match examined {
            Ok(mut examined) => {
                let failure = examined.failure.take();
                (Some(examined), failure)
            }
            Err(error) => (None, Some(error)),
        };
        let measured = answered.as_ref().map(Measured::new);
        let kept = measured.as_ref().is_some_and(Measured::holds) && !change.is_some_and(|change| change.too_much);
        let verdict = if error.is_some() { Verdict::Unknown } else { Verdict::of(kept) };
        let (model, notes) = answered.map(|examined| (examined.model.name.clone(), examined.notes)).unzip();
        let (error, notes) = (error.as_ref().map(Into::into), notes.unwrap_or_default());
        Self { name, verdict, model, measured, change, error, notes }
    }

    /// What there is to say of it: what is not kept, or else what is left.
    fn message(&self, unit: ByteUnit, increase: Option<Increase>) -> String {
        let mut sentences: Vec<String> = Vec::new();
        if let Some(error) = &self.error {
            sentences.push(error.message.clone());
        }
        let kept = self.verdict == Verdict::Within;
        if let Some(measured) = &self.measured {
            let limits = measured.limits.iter().filter(|limit| kept || limit.over.is_some());
            sentences.extend(limits.map(|limit| limit.sentence(unit)));
            let over = measured.limits.iter().any(|limit| limit.over.is_some());
            if over {
                sentences.push(largest_within(measured.longest_seq_len, measured.maximum));
            }
            let hardware = measured.hardware.iter().filter(|row| kept || !row.holds);
            sentences.extend(hardware.map(|row| row.sentence(unit)));
        }
        if let (Some(Change { too_much: true, .. }), Some(most)) = (&self.change, increase) {
            let excess =
                self.most_changed().map_or(0, |(before, now, _)| now.saturating_sub(most.most(Bytes(before)).0));
            let allowed = percent(most.0.into(), 1_000_000);
            sentences.push(format!(
                "changed by {}: {} more than {allowed} allow",
                self.changed(unit),
                amount(excess, unit)
            ));
        }
        sentences.join("; ")
    }

    /// What grew more, before and now: all of it, or what is on each GPU.
    fn most_changed(&self) -> Option<(u64, u64, &'static str)> {
        let (change, now) = (self.change.as_ref()?, self.measured.as_ref()?);
        let (Bytes(all), Bytes(on_gpu)) = (change.bytes_before?, change.bytes_per_gpu_before?);
        let product = |a: u64, b: u64| u128::from(a).saturating_mul(b.into());
        let more_on_gpu = product(now.bytes_per_gpu, all) > product(now.bytes, on_gpu);
        Some(if more_on_gpu { (on_gpu, now.bytes_per_gpu, " on each GPU") } else { (all, now.bytes, "") })
    }

    /// `+2.000 GB (+12.5%)`, or a word.
    fn changed(&self, unit: ByteUnit) -> String {
        let kind = self.change.as_ref().map_or("", |change| change.kind);
        match self.most_changed() {
            Some((before, now, of)) if kind != "same" => format!("{}{of}", by(before, now, unit)),
            _ => kind.to_owned(),
        }
    }
}

/// `+2.000 GB (+12.5%)`
fn by(before: u64, now: u64, unit: ByteUnit) -> String {
    let (sign, difference) = if now >= before { ("+", now.abs_diff(before)) } else { ("-", now.abs_diff(before)) };
    let share = (before > 0).then(|| format!(" ({sign}{})", percent(difference.into(), before)));
    let share = share.unwrap_or_default();
    format!("{sign}{}{share}", amount(difference, unit))
}

/// A part of a whole as `12.5%`; of what four places lose, that it is less than what they show.
fn percent(part: u128, whole: u64) -> String {
    match decimal(part.saturating_mul(100), whole, 4).as_str() {
        "0" if part > 0 => "<0.0001%".into(),
        text => format!("{text}%"),
    }
}

impl ChecksDocument {
    /// The document of these rows. Of a baseline, `gone` are the names that are in the file no more, each of which `gone_ends`
    /// so: within, with a warning, or unknown.
    pub fn new(
        checks: Vec<CheckRow>,
        gone: Option<Vec<String>>,
        increase: Option<Increase>,
        gone_ends: Verdict,
    ) -> Self {
        let missed = gone.iter().flatten().map(|_| gone_ends).filter(|&verdict| verdict != Verdict::Within);
        let verdicts: Vec<Verdict> = checks.iter().map(|row| row.verdict).chain(missed).collect();
        let count = |verdict| verdicts.iter().filter(|&&one| one == verdict).count();
        let [within, over, unknown] = [Verdict::Within, Verdict::Over, Verdict::Unknown].map(count);
        let verdict = verdicts.into_iter().max().unwrap_or_default();
        Self {
            schema: "kvsize.checks/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            verdict,
            within,
            over,
            unknown,
            checks,
            gone,
            increase,
            gone_ends,
        }
    }

    /// What is said of budgets, each text once, after the names of those that it is said of.
    pub fn said(&self, texts: impl Fn(&CheckRow) -> &Vec<String>) -> Vec<String> {
        let mut told: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for row in &self.checks {
            for text in texts(row) {
                let place = *places.entry(text).or_insert(told.len());
                match told.get_mut(place) {
                    Some((_, names)) => names.push(&row.name),
                    None => told.push((text, vec![&row.name])),
                }
            }
        }
        told.into_iter().map(|(text, names)| format!("{}: {text}", names.join(", "))).collect()
    }

    /// What is said of budgets that are gone.
    pub fn gone_warnings(&self) -> Vec<String> {
        self.gone.iter().flatten().map(|name| format!("{name}: {GONE}")).collect()
    }

    /// `1 over, 2 within`
    fn counts(&self) -> String {
        // Else these are among those that could not be told.
        let gone = self.gone.iter().flatten().filter(|_| self.gone_ends == Verdict::Within).count();
        let parts = [(self.over, "over"), (self.unknown, "could not be told"), (self.within, "within"), (gone, "gone")];
        let told = parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
        told.collect::<Vec<_>>().join(", ")
    }

    fn lines(&self, unit: ByteUnit) -> impl Iterator<Item = String> {
        self.checks.iter().map(move |row| {
            let word = if row.verdict == Verdict::Unknown { "could not be told" } else { row.verdict.name() };
            format!("{word}: {}: {}", row.name, row.message(unit, self.increase))
        })
    }
}

/// What is said of a budget that is gone.
const GONE: &str = "it is in the baseline, and no more in the file";

impl Report for ChecksDocument {
    fn table(&self, unit: ByteUnit) -> Table {
        type CheckColumn<'a> = Column<'a, CheckRow>;
        let bytes = |of: fn(&Measured) -> u64| {
            move |row: &CheckRow| row.measured.as_ref().map_or(Cell::Missing("-"), |measured| Cell::Bytes(of(measured)))
        };
        let columns = [
            CheckColumn::left("Budget", |row| row.name.clone()).key("name"),
            CheckColumn::left("Verdict", |row| row.verdict.name()).key("verdict"),
            CheckColumn::csv("model", |row| row.model.clone()),
            CheckColumn::csv("engine", |row| Some(row.measured.as_ref()?.engine.clone())),
            CheckColumn::csv("seq_len", |row| Some(row.measured.as_ref()?.seq_len)),
            CheckColumn::csv("batch", |row| Some(row.measured.as_ref()?.batch)),
            CheckColumn::right(unit.name(), bytes(|measured| measured.bytes)).key("bytes"),
            CheckColumn::right(format!("{} on a GPU", unit.name()), bytes(|measured| measured.bytes_per_gpu))
                .key("bytes_per_gpu"),
            CheckColumn::right("Since the baseline", move |row| row.changed(unit)).when(self.gone.is_some()),
            CheckColumn::csv("bytes_before", |row| row.change?.bytes_before.map(|bytes| bytes.0)),
            CheckColumn::csv("message", move |row| row.message(unit, self.increase)),
        ];
        Table::new(&self.checks, columns)
    }

    fn largest(&self) -> Bytes {
        let measured = self.checks.iter().filter_map(|row| row.measured.as_ref());
        let bytes =
            measured.flat_map(|measured| measured.limits.iter().map(|row| row.budget.0).chain([measured.bytes]));
        Bytes(bytes.max().unwrap_or_default())
    }

    fn page(&self, unit: ByteUnit, medium: Medium) -> Page {
        let gone = self.gone.iter().flatten().map(|name| format!("gone: {name}: {GONE}"));
        let fold = |line: String| match medium {
            Medium::Terminal => folded(clean(&line)),
            Medium::Markdown => vec![clean(&line)],
        };
        let lines = self.lines(unit).chain(gone).flat_map(fold).collect();
        let grid = self.table(unit).grid(unit);
        vec![Block::Text(vec![self.counts()]), Block::Grid(grid), Block::Text(lines)]
    }

    /// A line a budget.
    fn plain(&self, unit: ByteUnit) -> Vec<String> {
        self.lines(unit).map(|line| clean(&line)).collect()
    }

    fn json_lines(&self) -> String {
        json::lines(&self.checks)
    }
}

impl Cases for ChecksDocument {
    fn cases(&self, unit: ByteUnit) -> Vec<Case> {
        let case = |row: &CheckRow| Case {
            name: row.name.clone(),
            verdict: row.verdict,
            message: row.message(unit, self.increase),
            warnings: row.notes.warnings.clone(),
        };
        // It is no budget: where that is no error it is one that is kept, with a warning.
        let gone = |name: &String| {
            let (name, gone) = (name.clone(), GONE.to_owned());
            match self.gone_ends {
                Verdict::Within => {
                    Case { name, verdict: Verdict::Within, message: String::new(), warnings: vec![gone] }
                }
                verdict => Case { name, verdict, message: gone, warnings: Vec::new() },
            }
        };
        self.checks.iter().map(case).chain(self.gone.iter().flatten().map(gone)).collect()
    }
}
