//! The layouts that hold a workload: a row each, and under the rows why fewer devices do not.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::fit::PoolError;
use super::fit_page::{NO_END, requests_line};
use super::{CostRow, ServerRow, spread};
use crate::fit::{PlannedOn, Plans, Requests, Smaller, TooSmall};
use crate::model::Model;
use crate::report::ModelDescription;
use crate::report::column::{Cell, Column, Table};
use crate::report::document::notes_of;
use crate::report::grid::{Block, Page};
use crate::report::text::{hanging, in_unit};
use crate::report::{Medium, Report, once};
use crate::units::{ByteUnit, Bytes, Notes, group_thousands};

/// `kvsize.plan/1`: a model, a workload, and the layouts that hold it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanDocument {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The model.
    pub model: ModelDescription,
    /// Tokens of each request.
    pub seq_len: u64,
    /// Requests at once.
    pub batch: u64,
    /// The layouts, cheapest first where prices are known, else by devices.
    pub layouts: Vec<PlanRow>,
    /// The devices of which no number that may be holds it.
    pub too_small: Vec<TooSmall>,
    /// What there is to say of it.
    #[serde(flatten)]
    pub notes: Notes,
}

/// A layout of a [`PlanDocument`].
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanRow {
    /// The server.
    #[serde(flatten)]
    pub server: ServerRow,
    /// Whether no layout here has fewer devices.
    pub smallest: bool,
    /// Whether no layout here costs less; false where a price is not known.
    pub cheapest: bool,
    /// Requests of the length asked for, then of the average.
    pub requests: Vec<Requests>,
    /// How far off pools were that were estimated so.
    pub pool_error: Option<PoolError>,
    /// Bytes to spare on the device that is full first.
    pub slack_bytes: u64,
    /// Why fewer devices do not hold it; absent where one is the fewest.
    pub smaller: Option<Smaller>,
    /// What it costs, where a price is known.
    pub cost: Option<CostRow>,
    /// The line that starts such a server.
    pub command: Option<String>,
}

impl PlanDocument {
    /// The document of the layouts that were found for `batch` requests at once.
    pub fn new(model: &Model, batch: u64, found: Plans) -> Self {
        let mut rows: Vec<PlanRow> = found.rows.into_iter().map(PlanRow::new).collect();
        let fewest = rows.iter().map(|row| row.server.gpus).min();
        let least = rows.iter().filter_map(PlanRow::cents).min();
        for row in &mut rows {
            row.smallest = Some(row.server.gpus) == fewest;
            row.cheapest = row.cents().is_some() && row.cents() == least;
        }
        // A price that is not known is no reason to be first.
        rows.sort_by_key(|row| (row.cents().is_none(), row.cents(), row.server.gpus, row.server.dp));
        let mut notes = notes_of(model, &[]);
        notes.add(&found.notes.assumptions, &found.notes.warnings);
        Self {
            schema: "kvsize.plan/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            model: ModelDescription::new(model),
            seq_len: found.seq_len.0,
            batch,
            layouts: rows,
            too_small: found.too_small,
            notes,
        }
    }
}

impl PlanRow {
    fn new(PlannedOn { deployment, requests, slack, smaller }: PlannedOn) -> Self {
        Self {
            server: ServerRow::new(&deployment),
            smallest: false,
            cheapest: false,
            requests,
            pool_error: PoolError::of(&deployment),
            slack_bytes: slack.0,
            smaller,
            cost: CostRow::of(&deployment, None),
            command: deployment.command,
        }
    }

    /// What it costs, for putting in order.
    fn cents(&self) -> Option<u64> {
        self.cost.as_ref().map(|cost| cost.dollars_per_hour.millionths())
    }
}

type PlanColumn<'a> = Column<'a, PlanRow>;

impl Report for PlanDocument {
    fn table(&self, unit: ByteUnit) -> Table {
        let engines = once(self.layouts.iter().map(|row| &row.server.engine)).len() > 1;
        let priced = self.layouts.iter().any(|row| row.cost.is_some());
        let batch = self.batch;
        let lack = move |row: &PlanRow| row.smaller.as_ref().map(|smaller| smaller.lack(batch, unit));
        let at_once = |row: &PlanRow| Cell::or(row.requests.first().and_then(|requests| requests.at_once), NO_END);
        let smaller = |of: fn(&Smaller) -> Option<u64>| move |row: &PlanRow| of(row.smaller.as_ref()?);
        let columns = [
            PlanColumn::left("GPUs", |row| row.server.configuration()),
            PlanColumn::left("Layout", |row| row.server.spread()),
            PlanColumn::csv("gpu", |row| row.server.gpu.clone()),
            PlanColumn::csv("gpus", |row| row.server.gpus),
            PlanColumn::csv("engine", |row| row.server.engine.clone()),
            PlanColumn::left("Engine", |row| row.server.engine_name()).when(engines),
            PlanColumn::left("Format", |row| row.server.stored().to_owned()).if_differs().key("kv_dtype"),
            PlanColumn::csv("tp", |row| row.server.tp),
            PlanColumn::csv("pp", |row| row.server.pp),
            PlanColumn::csv("dp", |row| row.server.dp),
            PlanColumn::csv("smallest", |row| row.smallest),
            PlanColumn::csv("cheapest", |row| row.cheapest),
            PlanColumn::right("Requests", at_once).when(batch > 1).until(1).key("requests"),
            PlanColumn::csv("avg_seq_len", |row| Some(row.requests.get(1)?.seq_len.0)),
            PlanColumn::csv("avg_requests", |row| row.requests.get(1)?.at_once),
            PlanColumn::right(format!("Slack {}", unit.name()), |row| Cell::Bytes(row.slack_bytes)).key("slack_bytes"),
            PlanColumn::right("Fewer", smaller(|smaller| Some(smaller.gpus))).until(2).key("smaller_gpus"),
            PlanColumn::right("lack", lack).until(2),
            PlanColumn::right("Lack", lack).from(2),
            PlanColumn::csv("smaller_shortfall_bytes", smaller(|smaller| smaller.shortfall_bytes.map(|bytes| bytes.0))),
            PlanColumn::csv("smaller_requests", smaller(|smaller| smaller.requests)),
            PlanColumn::right("US$/h", |row| Cell::or(row.cost.as_ref().map(CostRow::per_hour), "-"))
                .when(priced)
                .key("dollars_per_hour"),
            PlanColumn::csv("as_of", |row| row.cost.as_ref()?.offer.as_of.clone()),
            PlanColumn::csv("command", |row| row.command.clone()),
        ];
        Table::new(&self.layouts, columns)
    }

    fn largest(&self) -> Bytes {
        Bytes(self.layouts.iter().map(|row| row.slack_bytes).max().unwrap_or_default())
    }

    fn page(&self, unit: ByteUnit, _: Medium) -> Page {
        let of = match self.batch {
            1 => String::new(),
            batch => format!(" x {}", group_thousands(batch)),
        };
        if self.layouts.is_empty() {
            // The answer comes first.
            let no = format!("no: none of these GPUs holds {} tokens{of}", group_thousands(self.seq_len));
            let small = self.too_small.iter().take(TOLD).map(|small| small.words(unit));
            let words = Block::folded([no].into_iter().chain(small));
            return vec![Block::Title(self.model.name.clone()), words];
        }
        let title = format!("{}, {} tokens{of}", self.model.name, group_thousands(self.seq_len));
        let layouts = &self.layouts;
        let told: Vec<&PlanRow> =
            layouts.iter().filter(|row| layouts.len() <= TOLD || row.smallest || row.cheapest).collect();
        let mut blocks = vec![Block::Title(title), Block::Grid(self.table(unit).grid(unit))];
        blocks.push(Block::Text(told.iter().flat_map(|row| words(row, unit)).collect()));
        let mut basis: Vec<String> = Vec::new();
        if told.len() < layouts.len() {
            basis.push(
                "slack is to spare on a GPU; what fewer GPUs lack is missing on one, or in requests that run".into(),
            );
            basis.push("the commands of all layouts are in --json and -f csv".into());
        }
        basis.extend(told.iter().filter_map(|row| Some(row.pool_error.as_ref()?.words())));
        if self.too_small.len() > TOLD {
            let names: Vec<&str> = self.too_small.iter().map(|small| small.gpu.as_str()).collect();
            basis.push(format!("not held by as many as may be of {}", names.join(", ")));
        } else {
            basis.extend(self.too_small.iter().map(|small| small.words(unit)));
        }
        basis.extend(told.iter().filter_map(|row| Some(row.cost.as_ref()?.offer_of(&row.server))));
        blocks.push(Block::folded(once(basis)));
        blocks
    }

    /// The configurations.
    fn plain(&self, _: ByteUnit) -> Vec<String> {
        self.layouts.iter().map(|row| format!("{} {}", row.server.configuration(), row.server.spread())).collect()
    }
}

/// Layouts that are told in words, each with its command: of more, only those that are smallest and cheapest.
const TOLD: usize = 8;

impl TooSmall {
    fn words(&self, unit: ByteUnit) -> String {
        let closest = self.closest.as_ref().map(|closest| format!(": with {}", closest.words(unit)));
        let most = group_thousands(self.max_gpus);
        format!("not held by up to {most} of {}{}", self.gpu, closest.unwrap_or_default())
    }
}

impl Smaller {
    /// `3 (pp 3) 21.116 GB short on a GPU`
    fn words(&self, unit: ByteUnit) -> String {
        let lacks = match (self.shortfall_bytes, self.requests) {
            (Some(bytes), _) => format!("{} short on a GPU", in_unit(bytes.0, unit)),
            (None, requests) => format!("{} requests at once", group_thousands(requests.unwrap_or_default())),
        };
        format!("{} ({}) {lacks}", self.gpus, spread(self.tp, self.pp, self.dp))
    }

    /// What it lacks on a GPU, or in requests.
    fn lack(&self, batch: u64, unit: ByteUnit) -> String {
        match (self.shortfall_bytes, self.requests) {
            (Some(bytes), _) => bytes.in_unit(unit),
            (None, requests) => {
                format!("{} runs", group_thousands(batch.saturating_sub(requests.unwrap_or_default())))
            }
        }
    }
}

/// Why fewer devices do not hold it, and the line to paste.
fn words(row: &PlanRow, unit: ByteUnit) -> Vec<String> {
    let why = match &row.smaller {
        None if row.server.gpus == 1 => "one GPU is the fewest".to_owned(),
        None => "no layout has fewer".to_owned(),
        Some(smaller) => format!("with {}", smaller.words(unit)),
    };
    let marks = [("the cheapest", row.cheapest), ("the smallest", row.smallest)];
    let marks = marks.iter().filter(|(_, is)| *is).map(|(mark, _)| (*mark).to_owned());
    let said: Vec<String> = marks.chain([why]).collect();
    let mut lines = vec![format!("{} ({}):", row.server.configuration(), row.server.spread())];
    lines.extend(hanging("  ", &said.join("; ")));
    lines.extend(row.requests.get(1).into_iter().flat_map(requests_line));
    // Not folded: it is there to be copied.
    lines.extend(row.command.as_ref().map(|command| format!("  $ {command}")));
    lines
}
