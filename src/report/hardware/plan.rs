//! The layouts that hold a workload: a row each, and under the rows why fewer devices do not.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::fit::AssumedRow;
use super::fit::PoolError;
use super::fit_page::{NO_END, subject};
use super::{CostRow, ServerRow, in_dollars, spread};
use crate::fit::{PlannedOn, Plans, Requests, Smaller, TooSmall};
use crate::hardware::day;
use crate::model::Model;
use crate::report::column::{Cell, Column, Table};
use crate::report::document::notes_of;
use crate::report::grid::{Block, Page};
use crate::report::text::{hanging, in_unit};
use crate::report::{Detail, Medium, Report, once};
use crate::units::{ByteUnit, Bytes, Notes, fixed_point, group_thousands};

/// `kvsize.plan/1`: a model, a workload, and the layouts that hold it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanDocument {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The layouts, cheapest first where prices are known, else by devices.
    pub plans: Vec<PlanRow>,
    /// The devices of which no number that may be holds it.
    pub too_small: Vec<TooSmall>,
    /// What there is to say of it.
    #[serde(flatten)]
    pub notes: Notes,
    /// What was asked.
    #[serde(skip)]
    asked: Asked,
    /// How much of it people read.
    #[serde(skip)]
    detail: Detail,
}

/// What was asked of all layouts.
#[derive(Debug)]
struct Asked {
    model: String,
    seq_len: u64,
    batch: u64,
}

/// A layout of a [`PlanDocument`].
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanRow {
    /// The model's name.
    pub model: String,
    /// Tokens of each request.
    pub seq_len: u64,
    /// Requests at once.
    pub batch: u64,
    /// What was not given and decides the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<AssumedRow>,
    /// The format of the weights; absent where their bytes are given.
    pub weights_dtype: Option<String>,
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
    pub error: Option<PoolError>,
    /// Bytes to spare on the device that is full first.
    pub spare_bytes: u64,
    /// Why fewer devices do not hold it; absent where one is the fewest.
    pub smaller: Option<Smaller>,
    /// What it costs, where a price is known.
    #[serde(flatten)]
    pub cost: Option<CostRow>,
    /// The line that starts such a server.
    pub command: Option<String>,
}

impl PlanDocument {
    /// The document of the layouts that were found for `batch` requests at once.
    pub fn new(model: &Model, batch: u64, found: Plans, detail: Detail) -> Self {
        let asked = Asked { model: model.name.clone(), seq_len: found.seq_len.0, batch };
        let mut rows: Vec<PlanRow> = found.rows.into_iter().map(|row| PlanRow::new(&asked, row)).collect();
        // A price that is unknown or old is no reason to be first.
        let newest = rows.iter().filter_map(PlanRow::day).max();
        let is_old = |day: u64| newest.is_some_and(|newest| newest.saturating_sub(day) > FRESH_DAYS);
        let fresh = |row: &PlanRow| row.cents().filter(|_| !row.day().is_some_and(is_old));
        let fewest = rows.iter().map(|row| row.server.gpus).min();
        let least = rows.iter().filter_map(fresh).min();
        for row in &mut rows {
            row.smallest = Some(row.server.gpus) == fewest;
            row.cheapest = least.is_some() && fresh(row) == least;
        }
        let order =
            |row: &PlanRow| (fresh(row).is_none(), row.cents().is_none(), row.cents(), row.server.gpus, row.server.dp);
        rows.sort_by_key(order);
        let mut notes = notes_of(model, &[]);
        notes.add(&found.notes.assumptions, &found.notes.warnings);
        Self {
            schema: "kvsize.plan/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            plans: rows,
            asked,
            detail,
            too_small: found.too_small,
            notes,
        }
    }
}

impl PlanRow {
    fn new(asked: &Asked, PlannedOn { request, deployment, requests, slack, smaller }: PlannedOn) -> Self {
        Self {
            assumed: request.assumed.iter().map(|assumed| AssumedRow::new(assumed.option, &assumed.value)).collect(),
            weights_dtype: request.weights_dtype.clone(),
            model: asked.model.clone(),
            seq_len: asked.seq_len,
            batch: asked.batch,
            server: ServerRow::new(&deployment),
            smallest: false,
            cheapest: false,
            requests,
            error: PoolError::of(&deployment),
            spare_bytes: slack.0,
            smaller,
            cost: CostRow::of(&deployment, None),
            command: deployment.command,
        }
    }

    /// The day of its price, counted.
    fn day(&self) -> Option<u64> {
        day(self.cost.as_ref()?.price.as_of.as_deref()?)
    }

    /// What it costs, for putting in order.
    fn cents(&self) -> Option<u64> {
        self.cost.as_ref().map(|cost| cost.usd_per_hour.millionths())
    }
}

type PlanColumn<'a> = Column<'a, PlanRow>;

impl PlanDocument {
    /// What a row is and holds.
    fn columns<'a>(&self, unit: ByteUnit) -> Vec<PlanColumn<'a>> {
        let engines = once(self.plans.iter().map(|row| &row.server.engine)).len() > 1;
        let priced = self.plans.iter().any(|row| row.cost.is_some());
        let batch = self.asked.batch;
        let free = move |row: &PlanRow| {
            Cell::Both(fixed_point(row.spare_bytes.into(), unit.bytes().into(), 1), row.spare_bytes.to_string())
        };
        let at_once = |row: &PlanRow| Cell::or(row.requests.first().and_then(|requests| requests.at_once), NO_END);
        let smaller = |of: fn(&Smaller) -> Option<u64>| move |row: &PlanRow| of(row.smaller.as_ref()?);
        vec![
            PlanColumn::left("GPUs", |row| row.server.configuration()),
            PlanColumn::left("Layout", |row| row.server.spread()),
            PlanColumn::csv("gpu", |row| row.server.gpu.clone()),
            PlanColumn::csv("gpus", |row| row.server.gpus),
            PlanColumn::csv("model", |row| row.model.clone()),
            PlanColumn::csv("seq_len", |row| row.seq_len),
            PlanColumn::csv("batch", |row| row.batch),
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
            PlanColumn::right(format!("{} free", unit.name()), free).key("spare_bytes"),
            PlanColumn::csv("smaller_gpus", smaller(|smaller| Some(smaller.gpus))),
            PlanColumn::csv("smaller_missing_bytes", smaller(|smaller| smaller.missing_bytes.map(|bytes| bytes.0))),
            PlanColumn::csv("smaller_requests", smaller(|smaller| smaller.requests)),
            PlanColumn::right("US$/h", |row| Cell::or(row.cost.as_ref().map(CostRow::per_hour), "-"))
                .when(priced)
                .key("usd_per_hour"),
            PlanColumn::csv("as_of", |row| row.cost.as_ref()?.price.as_of.clone()),
            PlanColumn::csv("command", |row| row.command.clone()),
        ]
    }
}

impl Report for PlanDocument {
    fn table(&self, unit: ByteUnit) -> Table {
        Table::new(&self.plans, self.columns(unit))
    }

    fn largest(&self) -> Bytes {
        Bytes(self.plans.iter().map(|row| row.spare_bytes).max().unwrap_or_default())
    }

    fn page(&self, unit: ByteUnit, _: Medium) -> Page {
        let all = self.detail == Detail::Everything;
        let asked = match self.asked.batch {
            1 => format!("{} tokens", group_thousands(self.asked.seq_len)),
            batch => format!("{} x {} tokens", group_thousands(batch), group_thousands(self.asked.seq_len)),
        };
        let Some(best) = self.plans.first() else {
            let small = self.too_small.iter().take(if all { usize::MAX } else { SHOWN });
            let mut lines = hanging("NO   ", &format!("none of these GPUs holds {asked} of {}", self.asked.model));
            lines.extend(small.flat_map(|small| hanging("     ", &small.words(unit))));
            return vec![Block::Text(lines)];
        };
        let cost = best.cost.as_ref().map(|cost| format!(", US$ {} an hour", in_dollars(cost.usd_per_hour)));
        let answer = format!("{} holds {asked}{}", best.server.configuration(), cost.unwrap_or_default());
        let mut lines = hanging("YES  ", &answer);
        let of_best = subject(&self.asked.model, &best.server, best.weights_dtype.as_deref(), &best.assumed);
        lines.extend(of_best.iter().skip(1).flat_map(|line| hanging("     ", line)));
        let shown = if all { &self.plans[..] } else { self.plans.get(..SHOWN).unwrap_or(&self.plans) };
        let grid = Table::new(shown, self.columns(unit)).grid(unit);
        let mut blocks = vec![Block::Text(lines), Block::Grid(grid)];
        // Not folded: it is there to be copied.
        blocks.extend(best.command.as_ref().map(|command| Block::Text(vec![format!("     $ {command}")])));
        let mut rest = Vec::new();
        if shown.len() < self.plans.len() {
            rest.push(format!("{} more with -v and in --json", self.plans.len().saturating_sub(shown.len())));
        }
        if !self.too_small.is_empty() && !all {
            let names: Vec<&str> = self.too_small.iter().map(|small| small.gpu.as_str()).collect();
            rest.push(format!("too small: {}", names.join(", ")));
        }
        if all {
            rest.extend(self.plans.iter().filter_map(|row| row.why(unit)));
            rest.extend(self.too_small.iter().map(|small| small.words(unit)));
            rest.extend(self.plans.iter().filter_map(|row| Some(row.error.as_ref()?.words())));
            rest.extend(self.plans.iter().filter_map(|row| Some(row.cost.as_ref()?.offer_of(&row.server))));
        }
        let rest = once(rest).into_iter().flat_map(|line| hanging("     ", &line));
        blocks.push(Block::Text(rest.collect()));
        blocks
    }

    /// The configurations.
    fn plain(&self, _: ByteUnit) -> Vec<String> {
        self.plans.iter().map(|row| format!("{} {}", row.server.configuration(), row.server.spread())).collect()
    }
}

/// Layouts that are shown without `-v`.
const SHOWN: usize = 8;

/// Days before the newest price in the data up to which another is as good.
const FRESH_DAYS: u64 = 180;

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
        let lacks = match (self.missing_bytes, self.requests) {
            (Some(bytes), _) => format!("{} short on a GPU", in_unit(bytes.0, unit)),
            (None, requests) => format!("{} requests at once", group_thousands(requests.unwrap_or_default())),
        };
        format!("{} ({}) {lacks}", self.gpus, spread(self.tp, self.pp, self.dp))
    }
}

impl PlanRow {
    /// Why fewer GPUs do not hold it.
    fn why(&self, unit: ByteUnit) -> Option<String> {
        Some(format!("{}: with {}", self.server.configuration(), self.smaller.as_ref()?.words(unit)))
    }
}
