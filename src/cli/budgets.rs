//! A file of budgets: read, looked through from top to bottom, and answered. Its keys are the options of one check in
//! `snake_case`; an object is turned into them, as a line of a batch is.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{ArgMatches, Args};
use serde_json::value::RawValue;

use super::args::{SpecArguments, WorkloadArguments};
use super::estimate::{drafted, named_or_spec};
use super::examination::{Asked, Examined, examined};
use super::gpus::{Fleet, OfGpuArguments, counted, positive_bytes};
use super::hardware::TermArguments;
use super::objects::{self, Pairs, Reader, duplicate, field_of, nearest, said_by, shortened, text_of, wrong};
use super::shelf::Shelf;
use super::{levers, single, typed};
use crate::check::{Budget, Demand, Margin, Taken};
use crate::engine::Engine;
use crate::model::{Model, ModelSpec};
use crate::source;
use crate::units::{Bytes, Code, Error, Tokens, parse_count};

/// The shape of a file of budgets.
const SCHEMA: &str = "kvsize.budgets/1";

/// What a baseline must be.
const BASELINE_SCHEMA: &str = "kvsize.checks/1";

/// What a budget may say beside its name.
#[derive(Debug, Args)]
struct BudgetArguments {
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    #[command(flatten)]
    spec: SpecArguments,
    #[command(flatten)]
    workload: WorkloadArguments,
    /// Bytes that the cache may take over all GPUs of a replica, or a text such as 40GB
    #[arg(long, value_name = "BYTES", value_parser = positive_bytes)]
    max_bytes: Option<Bytes>,
    /// Bytes that it may take on any one GPU
    #[arg(long, value_name = "BYTES", value_parser = positive_bytes)]
    max_bytes_per_gpu: Option<Bytes>,
    /// The part of both that is kept free, as 5% [default: that of the file, or none]
    #[arg(long, value_name = "PERCENT", value_parser = Margin::from_str)]
    margin: Option<Margin>,
    /// Tokens that a request must be able to have on the GPUs, batch such requests being there at once
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str)]
    min_context: Option<Tokens>,
    /// Requests of `seq_len` tokens that must run at once on the GPUs
    #[arg(long, value_name = "N", value_parser = parse_count)]
    min_concurrent_requests: Option<u64>,
    /// GPUs that must hold it, as 8xh100, by the answer of kvsize fit; a list: each of them
    #[arg(long, value_name = "[Nx]GPU", value_delimiter = ',')]
    must_fit_on: Vec<String>,
    /// GPUs that the minima are asked of, as 8xh100, and whose defaults the engine has [default: those of `must_fit_on`]
    #[arg(long, value_name = "GPU")]
    gpu: Option<String>,
    /// Memory of each GPU that an engine is told of, in place of what is known
    #[arg(long, value_name = "BYTES", value_parser = positive_bytes)]
    gpu_memory: Option<Bytes>,
    /// A JSON file of accelerators of your own, relative to this file
    #[arg(long, value_name = "FILE")]
    accelerators: Option<PathBuf>,
    #[command(flatten)]
    terms: TermArguments,
}

/// A file of budgets.
pub(super) struct Budgets {
    /// What paths in it are relative to.
    pub(super) directory: PathBuf,
    /// The user's own models.
    pub(super) catalogue: Option<PathBuf>,
    pub(super) entries: Vec<Entry>,
}

/// A budget of the file.
pub(super) struct Entry {
    pub(super) name: String,
    arguments: BudgetArguments,
    matches: ArgMatches,
    engine: Engine,
    budget: Budget,
}

/// The keys of a file.
const KEYS: &[&str] = &["schema", "margin", "catalogue", "budgets", "$schema"];

/// The keys that are not options of the command: `name` is the budget's own.
const OWN: &[&str] = &["name"];

/// The file at a path; `-` is standard input, from which paths are relative to the working directory.
pub(super) fn read(path: &Path) -> Result<Budgets, Error> {
    let text = text_at(path, "--file", "give a file of budgets (`kvsize check --init` writes one)")?;
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let Pairs(pairs) =
        object(&text).map_err(|error| not_json(&path.display().to_string(), &text, &error.to_string()))?;
    let mut met: Vec<&str> = Vec::new();
    for (name, _) in &pairs {
        let Some(known) = KEYS.iter().find(|known| *known == name) else {
            return Err(unknown(name, nearest(name, KEYS.iter().copied())));
        };
        if met.contains(known) {
            return Err(duplicate(name));
        }
        met.push(known);
    }
    let value = |key: &str| given(&pairs, key);
    match value("schema").map(|raw| text_of("schema", raw)).transpose()?.as_deref() {
        Some(SCHEMA) => {}
        found => {
            let remedy = format!("write \"schema\": \"{SCHEMA}\"");
            let problem = if found.is_some() { "is not the shape of a file of budgets" } else { "" };
            return Err(wrong(Code::Schema, "schema", shortened(found.unwrap_or("missing")), problem.into(), &remedy));
        }
    }
    let of_all = value("margin").map(|raw| text_of("margin", raw)).transpose()?;
    let of_all = of_all.map(|text| text.parse::<Margin>()).transpose().map_err(|error| at("margin", error))?;
    let catalogue = value("catalogue").map(|raw| text_of("catalogue", raw)).transpose()?;
    let not_list = |found: String, problem: &str| {
        wrong(Code::WrongType, "budgets", found, problem.into(), "write a list of objects, each a budget")
    };
    let list = value("budgets").ok_or_else(|| not_list("missing".into(), ""))?;
    let list: Vec<&RawValue> = serde_json::from_str(list).map_err(|_| not_list(shortened(list), "is not a list"))?;
    if list.is_empty() {
        return Err(not_list("an empty list".into(), "asserts nothing"));
    }
    let mut reader = Reader::of(BudgetArguments::augment_args);
    let mut entries: Vec<Entry> = Vec::with_capacity(list.len());
    let mut names = HashMap::with_capacity(list.len());
    for (index, raw) in list.iter().enumerate() {
        let path = format!("budgets[{index}]");
        let entry = entry(&mut reader, raw.get(), of_all).map_err(|failure| within(&path, in_keys(failure)))?;
        if let Some(other) = names.insert(entry.name.clone(), index) {
            let problem = format!("is the name of budgets[{other}], too");
            let remedy = "give each a name of its own: a baseline is compared by it";
            return Err(wrong(Code::DuplicateName, &format!("{path}.name"), shortened(&entry.name), problem, remedy));
        }
        entries.push(entry);
    }
    let catalogue = catalogue.map(|path| directory.join(path));
    Ok(Budgets { directory, catalogue, entries })
}

/// A budget of the file.
fn entry(reader: &mut Reader, raw: &str, of_all: Option<Margin>) -> Result<Entry, Error> {
    // Its syntax was met before: the place of a mistake in it is its own, and means nothing in the file.
    let Pairs(pairs) = object(raw).map_err(|error| not_json("", raw, &said_by(&error)))?;
    let mut matches = reader.options(&pairs, OWN, |name, nearest| Some(unknown(name, nearest))).map_err(one_only)?;
    let value = |key: &str| given(&pairs, key);
    let missing = |key: &str, remedy: &str| wrong(Code::Missing, key, "missing".into(), String::new(), remedy);
    let name = value("name").ok_or_else(|| missing("name", "give each budget a name"))?;
    let name = text_of("name", name)?;
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        let problem = "is empty or has control characters".to_owned();
        let found = format!("{:?}", shortened(&name));
        return Err(wrong(Code::InvalidValue, "name", found, problem, "write a name of one line"));
    }
    let mut arguments: BudgetArguments = typed(&mut matches)?;
    let known = value("engine").map(|raw| text_of("engine", raw)).transpose()?;
    let known = known.ok_or_else(|| missing("engine", "name it with its version, as vllm@0.33, or ideal"))?;
    let (engine, _) = single::engine(&arguments.workload, None, &matches).map_err(one_only)?;
    if !known.contains('@') && !engine.version.is_empty() {
        let remedy = format!("write {engine}, so that an upgrade of kvsize does not move the budget");
        return Err(wrong(Code::NoVersion, "engine", known, "has no version".into(), &remedy));
    }
    levers::retrieved(&mut arguments.workload);
    let BudgetArguments { models, max_bytes, max_bytes_per_gpu, must_fit_on, gpu, gpu_memory, terms, .. } = &arguments;
    let BudgetArguments { min_context, min_concurrent_requests, .. } = &arguments;
    let margin = arguments.margin.or(of_all).unwrap_or_default();
    let budget = Budget { bytes: *max_bytes, bytes_per_gpu: *max_bytes_per_gpu, margin };
    let limited = budget.is_limited();
    let minima =
        [("min_context", min_context.is_some()), ("min_concurrent_requests", min_concurrent_requests.is_some())];
    let minimum = minima.into_iter().find_map(|(key, given)| given.then_some(key));
    if !limited && minimum.is_none() && must_fit_on.is_empty() {
        let all = "max_bytes, max_bytes_per_gpu, min_context, min_concurrent_requests and must_fit_on";
        return Err(wrong(
            Code::AssertsNothing,
            "",
            "it".into(),
            "asserts nothing".into(),
            &format!("give one or more of {all}"),
        ));
    }
    if let Some(key) = minimum.filter(|_| gpu.is_none() && must_fit_on.is_empty()) {
        let problem = "is of hardware, and none is named".to_owned();
        return Err(wrong(Code::NoGpu, key, "it".into(), problem, "name it, as \"gpu\": \"8xh100\""));
    }
    let WorkloadArguments { tp, pp, dp, .. } = &arguments.workload;
    let alone = limited && [tp, pp, dp].iter().all(|ranks| ranks.is_none());
    if let Some(gpu) = gpu.as_deref().filter(|_| alone)
        && let Ok((Some(2..), kind)) = counted(gpu)
    {
        let problem =
            "is a number of GPUs, and max_bytes and max_bytes_per_gpu are of the layout that is given".to_owned();
        let remedy = format!("give tp, pp or dp, or {kind}, or another budget for what is asserted of the GPUs");
        return Err(wrong(Code::GpuCount, "gpu", gpu.to_owned(), problem, &remedy));
    }
    if arguments.accelerators.is_some() && gpu.is_none() && must_fit_on.is_empty() {
        let problem = "is of hardware, and none is named".to_owned();
        return Err(wrong(Code::NotCounted, "accelerators", "it".into(), problem, "leave it out, or name a gpu"));
    }
    let of_hardware = terms.given().or(gpu_memory.map(|_| "--gpu-memory"));
    if let Some(option) = of_hardware.filter(|_| minimum.is_none() && must_fit_on.is_empty()) {
        let problem = "is of hardware, and nothing is asserted of that".to_owned();
        let remedy = "leave it out, or give must_fit_on, min_context or min_concurrent_requests";
        return Err(wrong(Code::NotCounted, option, "it".into(), problem, remedy));
    }
    if arguments.margin.is_some() && !limited {
        let problem = "is kept free of max_bytes or max_bytes_per_gpu, and there is neither".to_owned();
        return Err(wrong(Code::NotCounted, "margin", "it".into(), problem, "leave it out"));
    }
    if models.is_empty() && spec_of(&arguments).is_empty() {
        return Err(missing(
            "model",
            "name one (`kvsize models` lists them), write it as an object, or give its dimensions",
        ));
    }
    Ok(Entry { name, arguments, matches, engine, budget })
}

/// The dimensions of a budget's model; its name is no name of that.
fn spec_of(arguments: &BudgetArguments) -> ModelSpec {
    ModelSpec { name: None, ..arguments.spec.spec() }
}

impl Budgets {
    /// What there is to say of a budget.
    pub(super) fn examined(&self, entry: &Entry, models: &Shelf) -> Result<Examined, Error> {
        let mut examined = self.answer(entry, models).map_err(in_keys)?;
        examined.failure = examined.failure.map(in_keys);
        Ok(examined)
    }

    fn answer(&self, entry: &Entry, models: &Shelf) -> Result<Examined, Error> {
        let BudgetArguments { models: named, workload, terms, gpu, .. } = &entry.arguments;
        // A GPU that is not known is no reason not to tell of the bytes, nor of the others.
        let mut failure = None;
        let fleets = |names: &mut dyn Iterator<Item = &String>, key: &str, failure: &mut Option<Error>| -> Vec<Fleet> {
            let mut fleets: Vec<Fleet> = Vec::new();
            for name in names {
                match self.fleet(entry, name) {
                    Ok(fleet) if !fleets.contains(&fleet) => fleets.push(fleet),
                    Ok(_) => {}
                    Err(of_name) => _ = failure.get_or_insert(at(key, of_name)),
                }
            }
            fleets
        };
        let on = fleets(&mut gpu.iter(), "gpu", &mut failure);
        let must_hold = fleets(&mut entry.arguments.must_fit_on.iter(), "must_fit_on", &mut failure);
        let demands = demands(&entry.arguments, &on, &must_hold);
        let weigh = !demands.is_empty() && terms.weights.is_none();
        let read = |raw: &str, key: &str, weigh: bool| Ok(Model::clone(&*models.model(raw, key, weigh)?));
        let found = named_or_spec(named, &spec_of(&entry.arguments), |raw| read(raw, "model", weigh))?;
        let Some(model) = found.into_iter().next() else {
            return Err(wrong(Code::Model, "model", "missing".into(), String::new(), "name one"));
        };
        let model = drafted(model, workload, |raw| read(raw, "draft", false))?;
        let mut examined = examined(&Asked {
            model,
            workload,
            engine: entry.engine.clone(),
            on: on.first(),
            matches: &entry.matches,
            memory: None,
            terms,
            budget: entry.budget,
            demands,
        })?;
        examined.failure = failure.or(examined.failure);
        Ok(examined)
    }

    fn fleet(&self, entry: &Entry, name: &str) -> Result<Fleet, Error> {
        let BudgetArguments { gpu_memory, accelerators, .. } = &entry.arguments;
        let accelerators = accelerators.as_ref().map(|path| self.directory.join(path));
        OfGpuArguments { gpu_memory: *gpu_memory, accelerators, ..OfGpuArguments::default() }.fleet(name)
    }
}

/// What is asserted of hardware: `must_fit_on` of each that is named there, the minima of `gpu`, or, without it, of these.
fn demands(arguments: &BudgetArguments, gpu: &[Fleet], must_hold: &[Fleet]) -> Vec<(Demand, Fleet)> {
    let BudgetArguments { min_context, min_concurrent_requests, .. } = arguments;
    let of_minima = if arguments.gpu.is_some() { gpu } else { must_hold };
    let minima = [min_context.map(Demand::MinContext), min_concurrent_requests.map(Demand::MinConcurrentRequests)];
    let minima = minima.into_iter().flatten();
    let minima = minima.flat_map(|demand| of_minima.iter().map(move |fleet| (demand, fleet.clone())));
    must_hold.iter().map(|fleet| (Demand::Fits, fleet.clone())).chain(minima).collect()
}

/// What budgets took, by name; none of those that could not be told.
pub(super) fn baseline(path: &Path) -> Result<Vec<(String, Option<Taken>)>, Error> {
    #[derive(serde::Deserialize)]
    struct Row {
        name: String,
        bytes: Option<u64>,
        bytes_per_gpu: Option<u64>,
    }
    const REMEDY: &str = "give what `kvsize check --file … --json` wrote";
    let text = text_at(path, "--baseline", REMEDY)?;
    let file = path.display();
    let refused = |found: String, problem: &str| wrong(Code::Baseline, "--baseline", found, problem.into(), REMEDY);
    let no_document = |error: serde_json::Error| refused(file.to_string(), &format!("is no such document: {error}"));
    let Pairs(pairs) = object(&text).map_err(no_document)?;
    match given(&pairs, "schema").map(serde_json::from_str::<String>) {
        Some(Ok(schema)) if schema == BASELINE_SCHEMA => {}
        Some(Ok(schema)) => {
            return Err(refused(format!("{file}, {},", shortened(&schema)), &format!("is not {BASELINE_SCHEMA}")));
        }
        Some(Err(error)) => return Err(no_document(error)),
        None => return Err(refused(file.to_string(), "names no schema")),
    }
    let checks = given(&pairs, "checks").ok_or_else(|| refused(file.to_string(), "has no checks"))?;
    let checks: Vec<Row> = serde_json::from_str(checks).map_err(no_document)?;
    let mut met = HashSet::with_capacity(checks.len());
    let mut known = Vec::with_capacity(checks.len());
    for Row { name, bytes, bytes_per_gpu } in checks {
        if !met.insert(name.clone()) {
            return Err(refused(file.to_string(), &format!("has {} twice", shortened(&name))));
        }
        let taken = bytes.zip(bytes_per_gpu);
        known.push((name, taken.map(|(all, per_gpu)| Taken { bytes: Bytes(all), bytes_per_gpu: Bytes(per_gpu) })));
    }
    Ok(known)
}

/// The text of a file, whose errors are those of the option that named it.
fn text_at(path: &Path, option: &str, remedy: &str) -> Result<String, Error> {
    let text = if path.as_os_str() == "-" { source::text_of_stdin(&mut io::stdin()) } else { source::text(path) };
    text.map_err(|error| {
        let path = path.display().to_string();
        match error.found {
            Some(found) => Error::new(error.code, option, format!("{path}: {found}"), error.problem, remedy),
            None => Error::without_value(error.code, option, format!("{path}: {}", error.problem), remedy),
        }
    })
}

/// The keys and values of an object.
fn object(text: &str) -> Result<Pairs<'_>, serde_json::Error> {
    serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn not_json(field: &str, text: &str, said: &str) -> Error {
    let problem = format!("is not one JSON object: {said}");
    let remedy = "write an object, its keys and texts in double quotes";
    wrong(Code::NotJson, field, shortened(text.trim()), problem, remedy)
}

/// The value of a key; null is as if it were not there.
fn given<'a>(pairs: &[(String, &'a RawValue)], key: &str) -> Option<&'a str> {
    let value = pairs.iter().find(|(name, _)| name == key).map(|(_, raw)| raw.get());
    value.filter(|raw| *raw != "null")
}

fn unknown(name: &str, nearest: Option<&str>) -> Error {
    let remedy = match nearest {
        Some(known) => format!("nearest: {known}"),
        None => "`kvsize schema budgets` lists the keys".into(),
    };
    wrong(Code::UnknownKey, &shortened(name), "it".into(), "is not a key here".into(), &remedy)
}

/// Of several values: a budget is of one workload.
fn one_only(failure: Error) -> Error {
    objects::one_only(failure, "for the one workload of a budget", "give one value, and another budget for another")
}

/// A failure under the names that a file has for options: `--kv-dtype` is `kv_dtype`.
fn in_keys(diagnosis: Error) -> Error {
    let found = diagnosis.found.map(|found| if found.starts_with("--") { field_of(&found) } else { found });
    Error { field: field_of(&diagnosis.field), found, ..diagnosis }
}

/// A failure of the value of a key.
fn at(key: &str, diagnosis: Error) -> Error {
    Error { field: key.into(), ..diagnosis }
}

/// A failure inside of `path`.
fn within(path: &str, diagnosis: Error) -> Error {
    let field = match diagnosis.field.as_str() {
        "" => path.to_owned(),
        field => format!("{path}.{field}"),
    };
    Error { field, ..diagnosis }
}

/// The shape of a file, for its schema.
#[cfg(feature = "cli")]
pub(super) fn shape() -> serde_json::Value {
    use serde_json::json;
    let mut properties = Reader::of(BudgetArguments::augment_args).properties();
    let about = |text: &str| json!(text);
    properties
        .insert("name".into(), json!({"description": "Its name, by which a baseline is compared", "type": "string"}));
    properties["engine"] =
        json!({"description": "Whose allocation is checked, with its version: vllm@0.33; or ideal", "type": "string"});
    properties["model"]["description"] = about(
        "A catalogue name, a path relative to this file or an id of the hub; or an object, a config.json or kvsize.spec/1",
    );
    properties["batch"]["description"] =
        about("Sequences; on GPUs over all replicas, as kvsize fit counts them [default: 1]");
    let asserting = ["max_bytes", "max_bytes_per_gpu", "must_fit_on", "min_context", "min_concurrent_requests"];
    let budget = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "engine"],
        "anyOf": asserting.map(|key| json!({"required": [key]})),
        "properties": properties,
    });
    let all = json!({
        "schema": {"const": SCHEMA},
        "$schema": {"description": "Where an editor finds this schema; not used", "type": ["string", "null"]},
        "margin": {"description": "The part of every budget that is kept free, as 5%", "type": ["string", "null"]},
        "catalogue": {"description": "A JSON file of models of your own, relative to this file", "type": ["string", "null"]},
        "budgets": {"description": "The budgets; no two have the same name", "type": "array", "minItems": 1, "items": budget},
    });
    assert!(
        KEYS.iter().all(|key| all.get(key).is_some()) && all.as_object().is_some_and(|all| all.len() == KEYS.len())
    );
    json!({
        "description": "What `kvsize check --file` reads: budgets under the names of the options; null is as if it were not there. \
                        Each asserts one or more of max_bytes, max_bytes_per_gpu, must_fit_on, min_context and \
                        min_concurrent_requests.",
        "type": "object",
        "additionalProperties": false,
        "required": ["schema", "budgets"],
        "properties": all,
    })
}
