//! `kvsize check MODEL -s 128K --budget 40GB`: whether a workload stays within a budget, or hardware holds it; and
//! `kvsize check --file kv-budgets.json`: whether many do.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, ValueEnum, builder::PossibleValue};

use super::args::{DeviceArguments, HubArguments, SpecArguments, WorkloadArguments, unit_choice};
use super::budgets::{self, Entry};
use super::estimate::{Places, drafted, named_or_spec, overlay, overlay_for};
use super::examination::{Asked, Examined, examined};
use super::explain::described;
use super::gpus::{OfGpuArguments, positive_bytes};
use super::hardware::TermArguments;
use super::shelf::Shelf;
use super::{Answer, CANNOT_ANSWER, NO, Subcommand, hub, levers, refuse_warnings, settings, single, typed, usage};
use crate::check::{Budget, Change, Demand, Increase, Margin, Taken, Verdict};
use crate::report::{self, CheckDocument, CheckFormat, CheckRow, ChecksDocument, Format, Measured, UnitChoice};
use crate::source;
use crate::units::{ByteUnit, Bytes, Code, Error};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "check",
    about: "Whether a workload stays within a budget: exit status 0 within, 1 over, 2 could not tell",
    arguments: |command| {
        let command = described(CheckArguments::augment_args(command), ONE_OF_EACH);
        let command = settings::augment(briefly(command));
        command.after_help("Everything else of an estimate can be given, too: --help.")
    },
    notes: "",
    examples: &[
        ("Within 200 GB, with 5 % kept free", "kvsize check llama-3.1-8b -s 128K -b 8 --budget 200GB --margin 5%"),
        (
            "What each of four GPUs may take: status 1, it is over",
            "kvsize check llama-3.1-8b -s 128K -b 8 --tp 4 --budget-per-gpu 20GB",
        ),
        (
            "It must fit on these GPUs, as `kvsize fit` says",
            "kvsize check llama-3.1-70b -s 128K --gpu 8xh100 -e vllm@0.33",
        ),
        ("A file of budgets to start from", "kvsize check --init kv-budgets.json"),
        (
            "All budgets of the file, with annotations in a workflow of GitHub",
            "kvsize check --file kv-budgets.json --format github",
        ),
        (
            "No more than 5 % above the main branch, whose answers are in a file",
            "kvsize check --file kv-budgets.json --baseline main.json --max-increase 5%",
        ),
    ],
    statuses: STATUSES,
    run,
};

/// As tools of CI read them.
const STATUSES: &[(u8, &str)] =
    &[(0, "within"), (NO, "over"), (CANNOT_ANSWER, "could not tell; of many budgets the worst")];

/// The options of the estimate that take lists, as options that take one value.
const ONE_OF_EACH: &[(&str, &str)] = &[
    ("seq_len", "Tokens of each sequence [default: the model's own maximum, or 131,072]"),
    ("batch", "Sequences; with --gpu over all replicas, as `kvsize fit` counts them [default: 1]"),
    ("kv_dtype", "Format of cached elements [default: the 16-bit format of the checkpoint, or what the engine takes]"),
    ("bitwidth", "Plain bits per element, as the article's bitwidth"),
    ("engine", "Whose allocation is checked: ideal (the live bytes, the default) or an engine (`kvsize engines`)"),
    (
        "gpu",
        "Without a budget: the GPUs that must hold it, as 8xh100 (`kvsize gpus`); with one: the device that the engine's \
         defaults depend on [default: h100-sxm]",
    ),
];

/// What the short help tells of.
const BRIEF: &[&str] = &[
    "models",
    "budget",
    "budget_per_gpu",
    "margin",
    "gpu",
    "file",
    "baseline",
    "max_increase",
    "init",
    "seq_len",
    "batch",
    "kv_dtype",
    "engine",
    "tp",
    "pp",
    "strict",
    "format",
    "json",
    "quiet",
    "unit",
];

/// The command whose short help is short.
fn briefly(command: Command) -> Command {
    command.mut_args(|arg| {
        let brief = BRIEF.contains(&arg.get_id().as_str());
        arg.hide_short_help(!brief)
    })
}

#[derive(Debug, Args)]
struct CheckArguments {
    /// A catalogue name, a config.json or GGUF file, a directory with one, - for standard input, or an id on the hub
    /// (org/name[@revision][:FILE])
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Bytes that the cache may take over all GPUs of a replica
    #[arg(long, value_name = "BYTES", value_parser = positive_bytes, allow_hyphen_values = true)]
    budget: Option<Bytes>,
    /// Bytes that it may take on any one GPU
    #[arg(long, value_name = "BYTES", value_parser = positive_bytes, allow_hyphen_values = true)]
    budget_per_gpu: Option<Bytes>,
    /// The part of the budget that is kept free [default: 0%]
    #[arg(long, value_name = "PERCENT", value_parser = Margin::from_str, allow_hyphen_values = true)]
    margin: Option<Margin>,
    /// A JSON file of models of your own, which shadow the catalogue's [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    #[command(flatten)]
    hub: HubArguments,
    /// Warnings become errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    files: FileArguments,
    #[command(flatten)]
    spec: SpecArguments,
    #[command(flatten)]
    workload: WorkloadArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// Memory of each GPU that an engine is told of, in place of what is known of --gpu
    #[arg(long, value_name = "BYTES", value_parser = positive_bytes, allow_hyphen_values = true, help_heading = "Memory")]
    gpu_memory: Option<Bytes>,
    #[command(flatten)]
    terms: TermArguments,
    #[command(flatten)]
    output: CheckOutputArguments,
}

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
    #[arg(long, value_name = "PERCENT", value_parser = Increase::from_str, allow_hyphen_values = true, requires = "baseline")]
    max_increase: Option<Increase>,
    /// Write a file of budgets to start from, to standard output or to a file that is not there yet
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    init: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct CheckOutputArguments {
    /// How the answer is written [default: table]
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    format: Option<CheckFormat>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// No notes or warnings on stderr
    #[arg(short, long)]
    quiet: bool,
    /// Unit of printed bytes: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB or auto [default: GB]
    #[arg(long, value_name = "UNIT", value_parser = unit_choice)]
    unit: Option<UnitChoice>,
}

impl CheckOutputArguments {
    fn format(&self) -> CheckFormat {
        if self.json { CheckFormat::As(Format::Json) } else { self.format.unwrap_or(CheckFormat::As(Format::Table)) }
    }

    fn unit(&self) -> UnitChoice {
        self.unit.unwrap_or(UnitChoice::Fixed(ByteUnit::Gigabytes))
    }
}

impl ValueEnum for CheckFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::As(Format::Table),
            Self::As(Format::Plain),
            Self::As(Format::Json),
            Self::As(Format::Jsonl),
            Self::As(Format::Csv),
            Self::As(Format::Markdown),
            Self::Github,
            Self::Junit,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::As(format) => format.to_possible_value(),
            Self::Github => Some(PossibleValue::new("github")),
            Self::Junit => Some(PossibleValue::new("junit")),
        }
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
    let mut arguments: CheckArguments = typed(matches)?;
    if let Some(path) = &arguments.files.init {
        return init(path, arguments.output.quiet);
    }
    let answered = if let Some(path) = &arguments.files.file {
        of_file(&arguments, path)
    } else {
        levers::retrieved(&mut arguments.workload);
        of_one(&arguments, matches)
    };
    let format = arguments.output.format();
    answered.or_else(|diagnosis| {
        // Where a CI system reads the answer, it reads there why there is none.
        let data = report::no_check(&diagnosis.to_string(), format).ok_or(diagnosis)?;
        Ok(Answer { quiet: arguments.output.quiet, data, status: CANNOT_ANSWER, ..Answer::default() })
    })
}

/// Writes the file to start from.
fn init(path: &Path, quiet: bool) -> Result<Answer, Error> {
    if path.as_os_str() == "-" {
        return Ok(Answer { quiet, data: STARTER.into(), ..Answer::default() });
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
    Ok(Answer { quiet, notes: vec![note], ..Answer::default() })
}

/// One workload.
fn of_one(arguments: &CheckArguments, matches: &ArgMatches) -> Result<Answer, Error> {
    let CheckArguments { models, budget, budget_per_gpu, margin, spec, workload: asked, device, terms, .. } = arguments;
    let budget = Budget { bytes: *budget, bytes_per_gpu: *budget_per_gpu, margin: margin.unwrap_or_default() };
    let limited = budget.is_limited();
    let fleet = match (&device.gpu, limited) {
        (Some(gpu), false) => Some(
            OfGpuArguments {
                gpu_memory: arguments.gpu_memory,
                accelerators: device.accelerators.clone(),
                ..OfGpuArguments::default()
            }
            .fleet(gpu)?,
        ),
        (None, false) => {
            let remedy = "give the bytes, as --budget 40GB, or those of one GPU, as --budget-per-gpu 10GB, or the GPUs that must \
                          hold it, as --gpu 8xh100";
            return Err(Error::without_value(Code::NoBudget, "--budget", "missing", remedy));
        }
        (_, true) => None,
    };
    let of_hardware = terms.given().or(arguments.gpu_memory.map(|_| "--gpu-memory"));
    if let Some(option) = of_hardware.filter(|_| limited) {
        let problem = "is of what GPUs hold, and with a budget they are not asked".to_owned();
        return Err(Error::new(Code::NotCounted, option, "it", problem, "leave it or the budget out"));
    }
    if margin.is_some() && !limited {
        let problem = "is kept free of a budget, and there is none".to_owned();
        let remedy = "give --budget, or the share of the memory that is taken, as --utilization 0.85";
        return Err(Error::new(Code::NotCounted, "--margin", "it", problem, remedy));
    }
    let on = Some(device).filter(|_| limited);
    let (engine, assumed) = single::engine(asked, on, matches)?;
    let names = || models.iter().chain(&asked.draft);
    let overlay = overlay_for(names(), arguments.catalogue.as_deref())?;
    let places = Places { overlay, hub: hub::settings_for(names(), &arguments.hub) };
    let weigh = !limited && terms.weights.is_none();
    let found = named_or_spec(models, &spec.spec(), |name| places.model(name, weigh))?;
    let [model] = <[_; 1]>::try_from(found).map_err(|found| {
        let (count, problem) = (format!("{} models", found.len()), "are more than a budget is checked for");
        Error::new(Code::Several, "MODEL", count, problem, "check one after the other")
    })?;
    let model = drafted(model, asked, |name| places.draft(name))?;
    let examined = examined(&Asked {
        model,
        workload: asked,
        engine,
        on: fleet.as_ref(),
        matches,
        memory: device.memory,
        terms,
        budget,
        demands: fleet.iter().map(|fleet| (Demand::Fits, fleet.clone())).collect(),
    })?;
    let Examined { model, workload, engine, checked, held, assumptions, warnings, failure } = examined;
    if let Some(failure) = failure {
        return Err(failure);
    }
    let measured = Measured::new(&model, &workload, &engine, &checked, &held);
    let document = CheckDocument::new(&model, measured, [assumptions, warnings]);
    refuse_warnings(arguments.strict, &document.warnings)?;
    let data = report::check(&document, arguments.output.format(), arguments.output.unit());
    let CheckDocument { within, assumptions, warnings, .. } = document;
    let notes = assumed.into_iter().chain(assumptions).collect();
    let status = status(Verdict::of(within));
    Ok(Answer { quiet: arguments.output.quiet, data, notes, warnings, status, ..Answer::default() })
}

fn status(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Within => 0,
        Verdict::Over => NO,
        Verdict::Unknown => CANNOT_ANSWER,
    }
}

/// The budgets of a file.
fn of_file(arguments: &CheckArguments, path: &Path) -> Result<Answer, Error> {
    let budgets = budgets::read(path)?;
    let before = arguments.files.baseline.as_deref().map(budgets::baseline).transpose()?;
    let places = Places {
        overlay: overlay(arguments.catalogue.as_deref().or(budgets.catalogue.as_deref()))?,
        hub: Some(hub::settings(&arguments.hub)),
    };
    let shelf = Shelf::new(places, budgets.directory.clone());
    let increase = arguments.files.max_increase;
    let known: Option<HashMap<&str, Option<Taken>>> =
        before.as_ref().map(|before| before.iter().map(|(name, taken)| (name.as_str(), *taken)).collect());
    let row = |entry: &Entry| match budgets.examined(entry, &shelf) {
        Err(diagnosis) => CheckRow::new(entry.name.clone(), None, Some(&diagnosis), None, [Vec::new(), Vec::new()]),
        Ok(Examined { model, workload, engine, checked, held, assumptions, mut warnings, failure }) => {
            let change = known.as_ref().map(|known| match known.get(entry.name.as_str()) {
                None => Change::New,
                Some(None) => Change::Untold,
                Some(Some(before)) => Change::of(*before, checked.taken, increase),
            });
            if change == Some(Change::Untold) {
                warnings.push("the baseline could not tell what it took, nor this by how much it grew".into());
            }
            let failure = failure.or_else(|| refuse_warnings(arguments.strict, &warnings).err());
            let measured = Measured::new(&model, &workload, &engine, &checked, &held);
            let error = failure.as_ref();
            CheckRow::new(
                entry.name.clone(),
                Some((model.name.clone(), measured)),
                error,
                change,
                [assumptions, warnings],
            )
        }
    };
    let rows: Vec<CheckRow> = budgets.entries.iter().map(row).collect();
    let there: HashSet<&str> = budgets.entries.iter().map(|entry| entry.name.as_str()).collect();
    let gone = before.as_ref().map(|before| {
        let names = before.iter().map(|(name, _)| name);
        names.filter(|name| !there.contains(name.as_str())).cloned().collect::<Vec<String>>()
    });
    let document = ChecksDocument::new(rows, gone, increase, arguments.strict);
    let data = report::checks(&document, arguments.output.format(), arguments.output.unit());
    Ok(Answer {
        quiet: arguments.output.quiet,
        data,
        notes: document.said(|row| &row.assumptions),
        warnings: document.said(|row| &row.warnings).into_iter().chain(document.gone_warnings()).collect(),
        status: status(document.worst()),
        ..Answer::default()
    })
}
