//! A model gets the same answers whichever way it comes: by name, from its published files, or as our own JSON.

use std::fs;
use std::path::PathBuf;

use kvsize::catalogue::{self, ModelSummary};
use kvsize::engine::{Device, Engine, PROFILES};
use kvsize::estimate::{Layout, Workload};
use kvsize::model::{DraftMethod, Model, Origin};
use kvsize::report::ModelDescription;
use kvsize::source::{of_json, resolve};
use kvsize::units::{KvDtype, Tokens};

use crate::harness::{golden, kvsize};

/// The configurations of the golden data that are read as models, and the headers of GGUF files.
fn golden_files() -> Vec<PathBuf> {
    let entries = |directory: &str| fs::read_dir(golden(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries("configs")
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "json") || path.join("config.json").exists()
        })
        .chain(entries("gguf").filter(|path| path.extension().is_some_and(|extension| extension == "gguf")))
        .collect();
    files.sort();
    files
}

fn read(path: &str) -> Option<Model> {
    resolve(path).ok()
}

/// The model, written as JSON and read again.
fn piped(model: &Model) -> Model {
    let json = serde_json::to_string(&ModelDescription::new(model)).unwrap();
    of_json(json.clone(), "standard input").unwrap_or_else(|error| panic!("{}: {error}\n{json}", model.name))
}

/// Every version of every engine, on two generations of devices.
pub(crate) fn engines() -> Vec<Engine> {
    let device = |name: &str| {
        let entry = catalogue::accelerator(name, &[]).unwrap();
        let (compute_capability, driver) = (entry.compute_capability.unwrap().value, entry.driver.unwrap().value);
        Device { id: name.to_owned().into(), compute_capability, memory_mib: driver.bytes.0 >> 20 }
    };
    let devices = ["h100-sxm", "b200-sxm"].map(device);
    let names = PROFILES.iter().flat_map(|profile| {
        let versions = profile.versions.iter().map(|version| format!("{}@{version}", profile.name));
        versions.chain(profile.versions.is_empty().then(|| profile.name.to_owned()))
    });
    names
        .flat_map(|name| {
            devices.clone().map(|device| Engine { device, ..name.parse().unwrap_or_else(|_| panic!("{name}")) })
        })
        .collect()
}

fn workloads() -> [Workload; 5] {
    let plain = Workload { encoder_len: Some(Tokens(1500)), ..Workload::of(Tokens(100_000), 3) };
    let fp8: KvDtype = "fp8".parse().unwrap();
    let on = |tp, pp| Layout { tp, pp, ..Layout::default() };
    [
        plain,
        Workload { kv_dtype: fp8, ..plain },
        Workload { layout: on(2, 2), ..plain },
        Workload { layout: on(4, 1), kv_dtype: fp8, seq_len: Tokens(8_191), ..plain },
        Workload { kv_dtype: "bf16".parse().unwrap(), encoder_len: None, seq_len: Tokens(1), ..plain },
    ]
}

/// What every engine says of a model, refusals included.
fn answers(model: &Model, engine: &Engine) -> Vec<String> {
    workloads().iter().map(|workload| format!("{:#?}", engine.answer(model, workload))).collect()
}

/// The model without what tells how it was read.
pub(crate) fn without_provenance(model: Model) -> Model {
    let (facts, assumptions, warnings) = (Vec::new(), Vec::new(), Vec::new());
    Model { origin: Origin::Spec, weights: None, facts, assumptions, warnings, ..model }
}

fn assert_round_trip(model: Model, engines: &[Engine]) {
    let again = piped(&model);
    for engine in engines {
        for (before, after) in answers(&model, engine).iter().zip(&answers(&again, engine)) {
            assert_eq!(before, after, "{} in {engine}", model.name);
        }
    }
    assert_eq!(without_provenance(again), without_provenance(model));
}

#[test]
fn json_of_a_model_gives_its_answers_in_every_engine() {
    let engines = engines();
    let mut compared = 0;
    for path in golden_files() {
        let Some(model) = read(path.to_str().unwrap()) else { continue };
        if !model.mtp_groups.is_empty() {
            assert_round_trip(model.clone().drafted(DraftMethod::Mtp, 2, None), &engines);
        }
        assert_round_trip(model, &engines);
        compared += 1;
    }
    assert!(compared > 150, "{compared}");
}

#[test]
fn json_of_a_catalogue_entry_is_the_entry() {
    for entry in catalogue::models(&[]) {
        let model = read(&entry.names[0]).unwrap();
        assert_eq!(without_provenance(piped(&model)), without_provenance(model));
    }
}

/// Through the program, by exact number: windows that the configuration lists, and an architecture of llama.cpp.
#[test]
fn a_document_is_a_model() {
    for (model, engine, bytes) in [
        ("gemma-3-27b", "tensorrt-llm", 3_120_562_176_u64),
        ("gpt-oss-20b", "tensorrt-llm", 808_452_096),
        ("gemma-3-27b", "llama.cpp", 3_338_665_984),
        ("gpt-oss-20b", "llama.cpp", 824_180_736),
        ("--layers 48 --hidden-size 5120 --kv-heads 8", "ideal", 4_026_531_840),
    ] {
        let asked = format!("-e {engine} -s 32768 -d auto --json -q");
        let document = kvsize(&format!("{model} {asked}")).output();
        let again = kvsize(&format!("- {asked}")).stdin(document.clone()).output();
        let [before, after] = [&document, &again].map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(before["estimates"][0]["bytes"], bytes, "{model} in {engine}");
        assert_eq!((&after["estimates"], &after["warnings"]), (&before["estimates"], &before["warnings"]), "{model}");
    }
}

/// The golden configuration that an entry was made from: `org--name.json`, or a directory with an `hf_quant_config.json`.
fn published(entry: &ModelSummary) -> Option<PathBuf> {
    let name = entry.label.replace('/', "--");
    let paths = [golden(&format!("configs/{name}/config.json")), golden(&format!("configs/{name}.json"))];
    paths.into_iter().find(|path| path.exists())
}

/// The engines in which two models have other bytes or are refused for something else, each with the first workload.
pub(crate) fn differences(model: &Model, other: &Model, engines: &[Engine]) -> Vec<String> {
    let figures = |model: &Model, engine: &Engine, workload: &Workload| match engine.answer(model, workload) {
        Ok(answer) => Ok((answer.estimate.bytes, answer.estimate.bytes_per_gpu, answer.estimate.stored)),
        Err(error) => Err((error.code, error.field)),
    };
    let first = |engine: &Engine| {
        let differs = |workload: &&Workload| figures(model, engine, workload) != figures(other, engine, workload);
        workloads().iter().find(differs).map(|workload| format!("{} in {engine}: {workload:?}", model.name))
    };
    engines.iter().filter_map(first).collect()
}

/// An earlier revision of a configuration, which says less than the one that the entry was made from: the engine that
/// makes a difference of it, and what it lacks.
const EARLIER: &[(&str, &str, &str)] = &[
    ("gemma-3-27b", "tensorrt-llm", "layer_types"),
    ("google/gemma-2-9b", "tensorrt-llm", "layer_types"),
    ("google/gemma-2-9b", "transformers", "layer_types"),
];

#[test]
fn a_catalogue_entry_and_its_published_files_agree() {
    let engines = engines();
    let (mut compared, mut different) = (0, Vec::new());
    for entry in catalogue::models(&[]) {
        let Some(path) = published(&entry) else { continue };
        let (by_name, by_file) = (read(&entry.names[0]).unwrap(), read(path.to_str().unwrap()).unwrap());
        let earlier =
            |engine: &Engine| EARLIER.iter().any(|(name, of, _)| entry.names[0] == *name && engine.profile.name == *of);
        for engine in engines.iter().filter(|engine| !earlier(engine)) {
            different.extend(differences(&by_name, &by_file, std::slice::from_ref(engine)));
        }
        compared += 1;
    }
    assert!(different.is_empty(), "{different:#?}");
    assert!(compared > 80, "{compared}");
    let b200 = "estimate kimi-k2.5-nvfp4 -e vllm -d auto --gpu b200-sxm -s 131072 -f csv -q";
    assert!(kvsize(b200).output().contains(",auto,fp8_e4m3,fp8_e4m3,vllm@0.33,1,1,1,1,1,4605345792,"), "{b200}");
}
