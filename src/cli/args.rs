//! Arguments as they are typed: what clap reads, and nothing that is decided.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::{Answer, refuse_warnings};
use crate::report::{self, Format, Report, UnitChoice};
use crate::request::Ask;
use crate::units::{ByteUnit, Code, Error, Notes};

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// The formats that a command writes: those of all answers, and what it has in addition.
pub(super) trait Written: ValueEnum + From<Format> + Copy + Send + Sync + 'static {}

impl<F: ValueEnum + From<Format> + Copy + Send + Sync + 'static> Written for F {}

/// What several models are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SortKey {
    /// Bytes
    Bytes,
    /// Bytes of one more token
    BytesPerToken,
    /// Name
    Name,
    /// The order they are given in
    Given,
}

/// What listed models are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ModelSort {
    /// Name
    Name,
    /// Bytes of one more token
    BytesPerToken,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArguments<F: Written = Format> {
    #[command(flatten)]
    pub(super) format: FormatArguments<F>,
    /// Unit of printed bytes: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB or auto [default: GB]
    #[arg(long, value_name = "UNIT", value_parser = unit_choice)]
    unit: Option<UnitChoice>,
}

impl<F: Written> OutputArguments<F> {
    /// The unit of an answer about hardware: drivers and engines print memory in GiB.
    pub(super) fn unit_of_hardware(&self) -> UnitChoice {
        self.unit.unwrap_or(UnitChoice::Fixed(ByteUnit::Gibibytes))
    }

    /// The same with that unit.
    pub(super) fn in_gibibytes(self) -> Self {
        Self { unit: Some(self.unit_of_hardware()), ..self }
    }

    pub(super) fn unit(&self) -> UnitChoice {
        self.unit.unwrap_or(UnitChoice::Fixed(ByteUnit::Gigabytes))
    }
}

impl OutputArguments {
    /// The answer that a report is, and what there is to say of it; under `--strict` no warning.
    pub(super) fn answer(&self, ask: &Ask, report: &impl Report, notes: Notes) -> Result<Answer, Error> {
        refuse_warnings(ask.strict, &notes.warnings)?;
        if self.format.format() == Format::Svg && report.picture().is_none() {
            let problem = "draws what fit says, and ranges of -s";
            let remedy = "use one of these, or table, json, csv or markdown";
            return Err(Error::new(Code::Format, "--format", "svg", problem, remedy));
        }
        let data = report::render(report, self.format.format(), self.unit());
        let Notes { assumptions: notes, warnings } = notes;
        Ok(Answer { quiet: self.format.quiet, data, notes, warnings, ..Answer::default() })
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct FormatArguments<F: Written = Format> {
    /// How the answer is written [default: table]
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    format: Option<F>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    // Not global: clap would copy it into every command at each start.
    /// No notes or warnings on stderr
    #[arg(short, long)]
    pub(super) quiet: bool,
}

impl<F: Written> FormatArguments<F> {
    pub(super) fn format(&self) -> F {
        if self.json { F::from(Format::Json) } else { self.format.unwrap_or(F::from(Format::Table)) }
    }
}

impl FormatArguments {
    /// Whether the answer is for programs, which get more of it.
    pub(super) fn for_programs(&self) -> bool {
        matches!(self.format(), Format::Json | Format::Jsonl)
    }
}

// Where models are looked for. (A doc comment here would be the help of the command.)
#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    /// JSON file with your own models; overrides the catalogue [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    pub(super) catalogue: Option<PathBuf>,
    /// Do not contact the Hugging Face hub [env: `HF_HUB_OFFLINE`]
    #[arg(long)]
    pub(super) offline: bool,
}

#[derive(Debug, Args)]
pub(super) struct ModelListArguments {
    #[command(flatten)]
    pub(super) list: ListArguments,
    /// Sort order [default: by use]
    #[arg(long, value_name = "KEY", value_enum)]
    pub(super) sort: Option<ModelSort>,
    /// JSON file with your own models; overrides the catalogue [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    pub(super) catalogue: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct GpuListArguments {
    #[command(flatten)]
    pub(super) list: ListArguments,
    /// JSON file with your own accelerators; overrides the catalogue's [env: `KVSIZE_ACCELERATORS`]
    #[arg(long, value_name = "FILE")]
    pub(super) accelerators: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Only names that contain this
    #[arg(value_name = "PATTERN")]
    pub(super) pattern: Option<String>,
    #[command(flatten)]
    pub(super) format: FormatArguments,
}

pub(super) fn unit_choice(text: &str) -> Result<UnitChoice, Error> {
    if text == "auto" { Ok(UnitChoice::Auto) } else { text.parse().map(UnitChoice::Fixed) }
}
