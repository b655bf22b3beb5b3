//! `kvsize check MODEL -s 128K --budget 40GB`: whether a workload stays within a budget, or hardware holds it; and
//! `kvsize check --file kv-budgets.json`: whether many do.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueEnum, builder::PossibleValue};

use super::args::OutputArguments;
use super::budgets::{self, Entry};
use super::hardware::GROUPS;
use super::options::{Models, Options};
use super::sources::{Places, SharedModels, ThreadModels};
use super::{Answer, CANNOT_ANSWER, NO, Subcommand, Visibility, refuse_warnings, typed, usage};
use crate::check::{Change, Demand, Examined, Increase, Taken, Verdict, examine};
use crate::report::{self, CheckDocument, CheckFormat, CheckRow, ChecksDocument, Format};
use crate::request::{Ask, Fleet, Selection, Sources, Weigh};
use crate::source;
use crate::units::{Code, Error, Notes, parse_percentage};

const OPTIONS: Options = Options {
    selection: Selection { groups: GROUPS, without: "price prices avg-seq-len max-gpus" },
    models: Models::Several,
    lists: &[],
    about: include_str!("about/check.txt"),
    brief: "model budget budget-per-gpu margin gpu seq-len batch kv-dtype engine tp pp strict",
};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "check",
    about: "Whether a workload stays within a budget: exit status 0 within, 1 over, 2 could not tell",
    options: Some(&OPTIONS),
    arguments: |command| {
        let command = CheckOutput::augment_args(FileArguments::augment_args(command));
        command.after_help("Everything else of an estimate can be given, too: --help.")
    },
    statuses: STATUSES,
    visibility: Visibility::Listed,
    run,
};

/// As tools of CI read them.
const STATUSES: &[(u8, &str)] =
    &[(0, "within"), (NO, "over"), (CANNOT_ANSWER, "could not tell; of many budgets the worst")];

// Many budgets. (A doc comment here would be the help of the command.)
#[derive(Debug, Args)]
#[command(next_help_heading = "A file of budgets")]
struct FileArguments {
    /// A JSON file of budgets, or - for standard input; all are checked, and the worst is the exit status
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What an earlier `--file FILE --json` wrote: tells by how much each budget grew
    #[arg(long, value_name = "FILE", requires = "file")]
    baseline: Option<PathBuf>,
    /// A budget that grew by more than this since the baseline is over
    #[arg(long, value_name = "PERCENT", value_parser = |text: &str| parse_percentage(text).map(Increase), allow_hyphen_values = true, requires = "baseline")]
    max_increase: Option<Increase>,
    /// Write a file of budgets to start from, to standard output or to a file that is not there yet
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    init: Option<PathBuf>,
}

type CheckOutput = OutputArguments<CheckFormat>;

impl From<Format> for CheckFormat {
    fn from(format: Format) -> Self {
        Self::As(format)
    }
}

impl ValueEnum for CheckFormat {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// Options that would be lost in silence beside `option`, which takes those of `with` alone.
fn refuse_beside(matches: &ArgMatches, option: &str, with: &[&str], remedy: &str) -> Result<(), Error> {
    let Some(found) = usage::typed_beside(matches, with) else { return Ok(()) };
    Err(Error::new(Code::Conflict, option, found, "is given as well", remedy))
}

/// What `--file` takes beside it.
const WITH_FILE: &[&str] =
    &["file", "baseline", "max_increase", "catalogue", "offline", "strict", "format", "json", "quiet", "unit"];

/// A file of budgets to start from.
const STARTER: &str = include_str!("starter.json");

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if given("init") {
        refuse_beside(matches, "--init", &["init", "quiet"], "give it alone")?;
    } else if given("file") {
        refuse_beside(matches, "--file", WITH_FILE, "write it into the file, as a key of its budgets")?;
    }
    let files: FileArguments = typed(matches)?;
    let output: CheckOutput = typed(matches)?;
    if let Some(path) = &files.init {
        return init(path).map(|answer| Answer { quiet: output.format.quiet, ..answer });
    }
    let ask = OPTIONS.ask(matches)?;
    let answered = match &files.file {
        Some(path) => of_file(&ask, &files, path, &output),
        None => of_one(&ask, &output),
    };
    answered.or_else(|error| {
        // Where a CI system reads the answer, it reads there why there is none.
        let data = report::no_check(&error.to_string(), output.format.format()).ok_or(error)?;
        Ok(Answer { quiet: output.format.quiet, data, status: CANNOT_ANSWER, ..Answer::default() })
    })
}

/// Writes the file to start from.
fn init(path: &Path) -> Result<Answer, Error> {
    if path.as_os_str() == "-" {
        return Ok(Answer { data: STARTER.into(), ..Answer::default() });
    }
    source::create(path, STARTER).map_err(|error| {
        let (found, remedy) = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                ("it is there already, and is not overwritten".to_owned(), "name another file")
            }
            _ => (error.to_string(), "name a file that can be written"),
        };
        let field = format!("--init: {}", path.display());
        Error::new(Code::Io, &field, found, String::new(), remedy)
    })?;
    let note = format!("{} is written; `kvsize check --file` checks it", path.display());
    Ok(Answer { notes: vec![note], ..Answer::default() })
}

/// One workload.
fn of_one(ask: &Ask, output: &CheckOutput) -> Result<Answer, Error> {
    ask.refuse_pairs()?;
    let is_limited = ask.budget.is_some() || ask.budget_per_gpu.is_some();
    let places = Places::new(ask)?;
    let fleet = if is_limited { None } else { Some(fleet(ask, &places)?) };
    if let Some(option) = ask.memory_term().filter(|_| is_limited) {
        let problem = "has no effect with --budget";
        return Err(Error::without_value(Code::NotCounted, option, problem, "drop one of them"));
    }
    if ask.margin.is_some() && !is_limited {
        let problem = "applies to a budget, and none is given";
        let remedy = "give --budget, or the share of the memory that is taken, as --utilization 0.85";
        return Err(Error::without_value(Code::NotCounted, "--margin", problem, remedy));
    }
    let (engines, assumed) = match &fleet {
        Some(fleet) => (ask.engines_for(fleet)?, None),
        None => ask.engines(&places)?,
    };
    let engine = budgets::only(engines).map_err(|error| error.at("--engine"))?;
    let weigh = if is_limited { Weigh::No } else { ask.weigh(slice::from_ref(&engine)) };
    let model = ask.model(slice::from_ref(&engine), &places, weigh)?;
    let demands: Vec<(Demand, Fleet)> = fleet.iter().map(|fleet| (Demand::Fits, fleet.clone())).collect();
    let mut examined = examine(ask, model, engine, fleet.as_ref(), &demands)?;
    if let Some(failure) = examined.failure.take() {
        return Err(failure);
    }
    let document = CheckDocument::new(examined);
    refuse_warnings(ask.strict, &document.notes.warnings)?;
    let unit = if fleet.is_some() { output.unit_of_hardware() } else { output.unit() };
    let data = report::render_check(&document, output.format.format(), unit);
    let CheckDocument { within, notes: Notes { assumptions, warnings }, .. } = document;
    let notes = assumed.into_iter().chain(assumptions).collect();
    let status = status(Verdict::of(within));
    Ok(Answer { quiet: output.format.quiet, data, notes, warnings, status, ..Answer::default() })
}

/// The GPUs that must hold a workload that has no budget.
fn fleet(ask: &Ask, sources: &dyn Sources) -> Result<Fleet, Error> {
    if ask.one_gpu()?.is_some() {
        return ask.fleets(sources)?.into_iter().next().ok_or_else(|| Error::missing("--gpu", "name the GPUs"));
    }
    let remedy = "give the bytes, as --budget 40GB, or those of one GPU, as --budget-per-gpu 10GB, or the GPUs that must hold it, as \
                  --gpu 8xh100";
    Err(Error::without_value(Code::NoBudget, "--budget", "missing", remedy))
}

fn status(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Within => 0,
        Verdict::Over => NO,
        Verdict::Unknown => CANNOT_ANSWER,
    }
}

/// The budgets of a file.
fn of_file(ask: &Ask, files: &FileArguments, path: &Path, output: &CheckOutput) -> Result<Answer, Error> {
    let budgets = budgets::read(path)?;
    let before = files.baseline.as_deref().map(budgets::baseline).transpose()?;
    let catalogue = ask.catalogue.as_deref().or(budgets.catalogue.as_deref());
    let places = Places::of_file(budgets.directory.clone(), catalogue, ask.offline)?;
    let models = ThreadModels::new(Arc::new(SharedModels::new(places)));
    let increase = files.max_increase;
    let known: Option<HashMap<&str, Option<Taken>>> =
        before.as_ref().map(|before| before.iter().map(|(name, taken)| (name.as_str(), *taken)).collect());
    let row = |entry: &Entry| {
        let mut examined = entry.examine(&models);
        let mut change = None;
        if let Ok(Examined { checked, notes, failure, .. }) = &mut examined {
            change = known.as_ref().map(|known| match known.get(entry.name.as_str()) {
                None => Change::NEW,
                Some(None) => Change::UNKNOWN,
                Some(Some(before)) => Change::since(*before, checked.taken, increase),
            });
            if change == Some(Change::UNKNOWN) {
                notes.warn("the baseline has no figure for it, so its growth is unknown");
            }
            *failure = failure.take().or_else(|| refuse_warnings(ask.strict, &notes.warnings).err());
        }
        CheckRow::new(entry.name.clone(), examined, change)
    };
    let rows: Vec<CheckRow> = budgets.entries.iter().map(row).collect();
    let there: HashSet<&str> = budgets.entries.iter().map(|entry| entry.name.as_str()).collect();
    let gone = before.as_ref().map(|before| {
        let names = before.iter().map(|(name, _)| name);
        names.filter(|name| !there.contains(name.as_str())).cloned().collect::<Vec<String>>()
    });
    let gone_ends = if ask.strict { Verdict::Unknown } else { Verdict::Within };
    let document = ChecksDocument::new(rows, gone, increase, gone_ends);
    let data = report::render_check(&document, output.format.format(), output.unit());
    Ok(Answer {
        quiet: output.format.quiet,
        data,
        notes: document.said(|row| &row.notes.assumptions),
        warnings: document.said(|row| &row.notes.warnings).into_iter().chain(document.gone_warnings()).collect(),
        status: status(document.verdict),
        ..Answer::default()
    })
}
