//! A file of budgets: read, looked through from top to bottom, and answered.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::slice;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::check::{Demand, Examined, Taken, examine};
use crate::engine::Engine;
use crate::request::{Ask, BUDGET, Fleet, Object, ObjectReader, Sources, Weigh, counted, field_of, shortened, text_of};
use crate::source;
use crate::units::{Bytes, Code, Error, Margin, once};

/// The shape of a file of budgets.
pub(super) const SCHEMA: &str = "kvsize.budgets/1";

/// What a baseline must be.
const BASELINE_SCHEMA: &str = "kvsize.checks/1";

/// The keys of a file.
pub(super) const KEYS: &[&str] = &["schema", "margin", "catalogue", "budgets", "$schema"];

const LISTED: &str = "`kvsize generate schema budgets` lists the keys";

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
    ask: Ask<'static>,
    engine: Engine,
}

/// The file at a path; `-` is standard input, from which paths are relative to the working directory.
pub(super) fn read(path: &Path) -> Result<Budgets, Error> {
    let text = text_at(path, "--file", "give a file of budgets (`kvsize check --init` writes one)")?;
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut object = Object::default();
    let reader = ObjectReader::of_own(KEYS, LISTED);
    reader.read(&text, &mut object).and_then(|()| reader.ask(&object)).map_err(|error| match error.code {
        Code::NotJson => error.at(path.display().to_string()),
        _ => error,
    })?;
    let value = |key: &str| {
        let number = KEYS.iter().position(|known| *known == key)?;
        object.own(u8::try_from(number).ok()?).map(RawValue::get).filter(|raw| *raw != "null")
    };
    let text = |key: &str| value(key).map(|raw| text_of(key, raw)).transpose();
    let remedy = format!("write \"schema\": \"{SCHEMA}\"");
    match text("schema")?.as_deref() {
        Some(SCHEMA) => {}
        Some(found) => {
            let problem = "is not the shape of a file of budgets";
            return Err(Error::new(Code::Schema, "schema", shortened(found), problem, remedy));
        }
        None => return Err(Error::without_value(Code::Schema, "schema", "missing", remedy)),
    }
    let of_all = text("margin")?.map(|text| text.parse::<Margin>()).transpose();
    let of_all = of_all.map_err(|error: Error| error.at("margin"))?;
    let catalogue = text("catalogue")?.map(|path| directory.join(&*path));
    let entries = entries(value("budgets"), of_all)?;
    Ok(Budgets { directory, catalogue, entries })
}

/// The budgets of a list.
fn entries(list: Option<&str>, margin: Option<Margin>) -> Result<Vec<Entry>, Error> {
    const REMEDY: &str = "write a list of objects, each a budget";
    let list = list.ok_or_else(|| Error::without_value(Code::WrongType, "budgets", "missing", REMEDY))?;
    let list: Vec<&RawValue> = serde_json::from_str(list)
        .map_err(|_| Error::new(Code::WrongType, "budgets", shortened(list), "is not a list", REMEDY))?;
    if list.is_empty() {
        return Err(Error::without_value(Code::WrongType, "budgets", "an empty list asserts nothing", REMEDY));
    }
    let reader = ObjectReader::new(BUDGET, &["name"], LISTED);
    let mut entries: Vec<Entry> = Vec::with_capacity(list.len());
    let mut names = HashMap::with_capacity(list.len());
    for (index, raw) in list.iter().enumerate() {
        let path = format!("budgets[{index}]");
        let entry = entry(&reader, raw.get(), margin).map_err(|error| in_keys(error).within(&path))?;
        if let Some(other) = names.insert(entry.name.clone(), index) {
            let problem = format!("is the name of budgets[{other}], too");
            let remedy = "give each its own name: a baseline is compared by it";
            let field = format!("{path}.name");
            return Err(Error::new(Code::DuplicateName, field, shortened(&entry.name), problem, remedy));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// A budget of the file.
fn entry(reader: &ObjectReader, raw: &str, margin: Option<Margin>) -> Result<Entry, Error> {
    let mut object = Object::default();
    reader.read(raw, &mut object)?;
    let ask = reader.ask(&object).map_err(one_only)?;
    let name = object.own(0).map(RawValue::get).filter(|raw| *raw != "null");
    let name = text_of("name", name.ok_or_else(|| Error::missing("name", "give each budget a name"))?)?;
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        let found = format!("{:?}", shortened(&name));
        let problem = "is empty or has control characters";
        return Err(Error::new(Code::InvalidValue, "name", found, problem, "write a name of one line"));
    }
    let ask = ask.into_owned();
    ask.refuse_pairs()?;
    let engine = engine(&ask, raw)?;
    refuse_what_asserts_nothing(&ask)?;
    if ask.models.is_empty() && ask.dimensions.is_empty() {
        let remedy = "name one (`kvsize models` lists them), write it as an object, or give its dimensions";
        return Err(Error::missing("model", remedy));
    }
    let ask = Ask { margin: ask.margin.or(margin), ..ask };
    Ok(Entry { name: name.into_owned(), ask, engine })
}

/// The engine, which is named with its version: an upgrade of kvsize does not move a budget.
fn engine(ask: &Ask, raw: &str) -> Result<Engine, Error> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow)]
        engine: Cow<'a, str>,
    }
    if ask.engine.is_empty() {
        return Err(Error::missing("engine", "name it with its version, as vllm@0.33, or ideal"));
    }
    let engine = only(ask.engines_anywhere()?).map_err(one_only)?;
    match serde_json::from_str(raw) {
        Ok(Typed { engine: typed }) if !typed.contains('@') && !engine.version.is_empty() => {
            let remedy = format!("write {engine}, so that an upgrade of kvsize does not move the budget");
            Err(Error::new(Code::NoVersion, "engine", typed, "has no version", remedy))
        }
        _ => Ok(engine),
    }
}

/// The engine, of which there is one.
pub(super) fn only(engines: Vec<Engine>) -> Result<Engine, Error> {
    let [engine] = <[Engine; 1]>::try_from(engines).map_err(|engines| {
        let found = format!("{} values", engines.len());
        Error::new(Code::Several, "engine", found, "are more than one estimate takes", "give one")
    })?;
    Ok(engine)
}

/// What a budget asserts, and what it says of hardware that nothing is asserted of.
fn refuse_what_asserts_nothing(ask: &Ask) -> Result<(), Error> {
    let is_limited = ask.budget.is_some() || ask.budget_per_gpu.is_some();
    let minimum = match (ask.min_context, ask.min_concurrent_requests) {
        (Some(_), _) => Some("min_context"),
        (None, Some(_)) => Some("min_concurrent_requests"),
        (None, None) => None,
    };
    if !is_limited && minimum.is_none() && ask.must_fit_on.is_empty() {
        let remedy =
            "give one or more of max_bytes, max_bytes_per_gpu, min_context, min_concurrent_requests and must_fit_on";
        return Err(Error::without_value(Code::AssertsNothing, "", "asserts nothing", remedy));
    }
    let gpu = ask.one_gpu()?;
    if let Some(key) = minimum.filter(|_| gpu.is_none() && ask.must_fit_on.is_empty()) {
        let problem = "applies to hardware, and none is named";
        return Err(Error::without_value(Code::NoGpu, key, problem, "name it, as \"gpu\": \"8xh100\""));
    }
    let is_anywhere = ask.tp.is_empty() && ask.pp.is_empty() && ask.dp.is_empty();
    if let Some(gpu) = gpu.filter(|_| is_limited && is_anywhere)
        && let Some((2.., kind)) = counted(gpu)
    {
        let problem = "is a number of GPUs, and max_bytes and max_bytes_per_gpu apply to the layout that is given";
        let remedy = format!("give tp, pp or dp, or {kind}, or another budget for what is asserted of the GPUs");
        return Err(Error::new(Code::GpuCount, "gpu", gpu, problem, remedy));
    }
    if ask.accelerators.is_some() && gpu.is_none() && ask.must_fit_on.is_empty() {
        let problem = "applies to hardware, and none is named";
        return Err(Error::without_value(Code::NotCounted, "accelerators", problem, "leave it out, or name a gpu"));
    }
    if let Some(option) = ask.memory_term().filter(|_| minimum.is_none() && ask.must_fit_on.is_empty()) {
        let problem = "applies to hardware, of which nothing is asserted";
        let remedy = "leave it out, or give must_fit_on, min_context or min_concurrent_requests";
        return Err(Error::without_value(Code::NotCounted, option, problem, remedy));
    }
    if ask.margin.is_some() && !is_limited {
        let problem = "applies to max_bytes or max_bytes_per_gpu, and neither is given";
        return Err(Error::without_value(Code::NotCounted, "margin", problem, "leave it out"));
    }
    Ok(())
}

impl Entry {
    /// What the budget's workload takes, and what hardware holds of it.
    pub(super) fn examine(&self, sources: &dyn Sources) -> Result<Examined, Error> {
        let examined = self.examined(sources).map_err(in_keys)?;
        Ok(Examined { failure: examined.failure.map(in_keys), ..examined })
    }

    fn examined(&self, sources: &dyn Sources) -> Result<Examined, Error> {
        let ask = &self.ask;
        // A GPU that is not known is no reason not to answer about the bytes, nor about the others.
        let mut failure = None;
        let mut fleets = |names: &mut dyn Iterator<Item = &str>, key: &str| -> Vec<Fleet> {
            let mut fleets: Vec<Fleet> = Vec::new();
            for name in names {
                match ask.named_fleets([name].into_iter(), sources) {
                    Ok(found) => fleets.extend(found),
                    Err(error) => _ = failure.get_or_insert(error.at(key)),
                }
            }
            once(fleets)
        };
        let on = fleets(&mut ask.gpu.iter().map(AsRef::as_ref), "gpu");
        let must_hold = fleets(&mut ask.must_fit_on.iter().map(AsRef::as_ref), "must_fit_on");
        let demands = demands(ask, &on, &must_hold);
        let weigh = if demands.is_empty() { Weigh::No } else { ask.weigh(slice::from_ref(&self.engine)) };
        let model = ask.model(slice::from_ref(&self.engine), sources, weigh)?;
        let examined = examine(ask, model, self.engine.clone(), on.first(), &demands)?;
        Ok(Examined { failure: failure.or(examined.failure), ..examined })
    }
}

/// What is asserted of hardware: `must_fit_on` of each that is named there, the minima of `gpu`, or, without it, of these.
fn demands(ask: &Ask, gpu: &[Fleet], must_hold: &[Fleet]) -> Vec<(Demand, Fleet)> {
    let of_minima = if ask.gpu.is_empty() { must_hold } else { gpu };
    let minima =
        [ask.min_context.map(Demand::MinContext), ask.min_concurrent_requests.map(Demand::MinConcurrentRequests)];
    let minima = minima.into_iter().flatten();
    let minima = minima.flat_map(|demand| of_minima.iter().map(move |fleet| (demand, fleet.clone())));
    must_hold.iter().map(|fleet| (Demand::Fits, fleet.clone())).chain(minima).collect()
}

/// What budgets took, by name; `None` of those that have no answer.
pub(super) fn baseline(path: &Path) -> Result<Vec<(String, Option<Taken>)>, Error> {
    #[derive(Deserialize)]
    struct Document {
        schema: Option<String>,
        checks: Option<Vec<Row>>,
    }
    #[derive(Deserialize)]
    struct Row {
        name: String,
        bytes: Option<u64>,
        bytes_per_gpu: Option<u64>,
    }
    const REMEDY: &str = "give what `kvsize check --file … --json` wrote";
    let text = text_at(path, "--baseline", REMEDY)?;
    let file = path.display();
    let refused = |found: String, problem: String| Error::new(Code::Baseline, "--baseline", found, problem, REMEDY);
    if !text.trim_start().starts_with('{') {
        return Err(refused(file.to_string(), "is not one JSON object".into()));
    }
    let document: Document = serde_json::from_str(&text)
        .map_err(|error| refused(file.to_string(), format!("is no such document: {error}")))?;
    match document.schema {
        Some(schema) if schema == BASELINE_SCHEMA => {}
        Some(schema) => {
            return Err(refused(format!("{file}, {},", shortened(&schema)), format!("is not {BASELINE_SCHEMA}")));
        }
        None => return Err(refused(file.to_string(), "names no schema".into())),
    }
    let checks = document.checks.ok_or_else(|| refused(file.to_string(), "has no checks".into()))?;
    let mut met = HashSet::with_capacity(checks.len());
    let mut known = Vec::with_capacity(checks.len());
    for Row { name, bytes, bytes_per_gpu } in checks {
        if !met.insert(name.clone()) {
            return Err(refused(file.to_string(), format!("has {} twice", shortened(&name))));
        }
        let taken = bytes.zip(bytes_per_gpu);
        known.push((name, taken.map(|(all, per_gpu)| Taken { bytes: Bytes(all), bytes_per_gpu: Bytes(per_gpu) })));
    }
    Ok(known)
}

/// The text of a file, whose errors are those of the option that named it.
fn text_at(path: &Path, option: &str, remedy: &str) -> Result<String, Error> {
    let text = if path.as_os_str() == "-" { source::text_of_stdin(&mut io::stdin()) } else { source::text(path) };
    text.map(|text| text.strip_prefix('\u{feff}').map(ToOwned::to_owned).unwrap_or(text)).map_err(|error| {
        let found = format!("{}: {}", path.display(), error.found.unwrap_or_default());
        Error::new(error.code, option, found.trim_end(), error.problem, remedy)
    })
}

/// A budget is about one workload.
fn one_only(error: Error) -> Error {
    match error.code {
        Code::Several => Error { remedy: "give one value, and another budget for another".into(), ..error },
        _ => error,
    }
}

/// An error under the names that a file has for options: `--kv-dtype` is `kv_dtype`.
fn in_keys(error: Error) -> Error {
    let found = error.found.map(|found| if found.starts_with("--") { field_of(&found) } else { found });
    Error { field: field_of(&error.field), found, ..error }
}
