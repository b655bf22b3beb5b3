//! The README is true: every `$ kvsize …` in it prints what it shows.

use std::fs;

use serde_json::Value;

use crate::harness::{Run, golden};
use crate::schema::{assert_valid, schema};

/// The README, and after it the topics of `kvsize help`.
fn readme() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![fs::read_to_string(format!("{root}/README.md")).unwrap()];
    let mut topics: Vec<_> =
        fs::read_dir(format!("{root}/src/cli/help")).unwrap().map(|file| file.unwrap().path()).collect();
    topics.sort();
    texts.extend(topics.iter().map(|path| fs::read_to_string(path).unwrap()));
    texts.join("\n")
}

/// Each topic is printed as it is written, and `kvsize help` lists them all.
#[test]
fn topics_are_printed_and_listed() {
    let list = crate::harness::kvsize("help").output();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/help")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ") && list.contains(&format!("  {name} ")), "{name}");
        assert_eq!(crate::harness::kvsize(&format!("help {name}")).output(), text);
    }
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(readme.lines().count() <= 250, "{}", readme.lines().count());
}

/// The arguments of a command line, single quotes honoured.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(ToOwned::to_owned));
        }
    }
    words
}

#[test]
fn every_command_prints_what_is_shown() {
    let readme = readme();
    let mut commands = 0;
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        // A command begins a line; one that is a part of an answer is indented.
        for shown in format!("\n{block}").split("\n$ kvsize").skip(1) {
            let (line, expected) = shown.split_once('\n').unwrap();
            let words = words(line);
            let text = Run::new(words.iter().map(String::as_str)).text();
            let (stdout, rest) = text.split_once("--- stderr\n").unwrap();
            let (stderr, _) = rest.split_once("--- status ").unwrap();
            assert_eq!(format!("{stdout}{stderr}").trim_end(), expected.trim_end(), "$ kvsize{line}");
            commands += 1;
        }
    }
    assert!(commands >= 5, "{commands} commands");
}

/// The lines that are shown are those of the file that is answered, and as their schema says.
#[test]
fn the_batch_that_is_shown_is_the_one_that_is_answered() {
    let lines = fs::read_to_string(golden("configs/questions.jsonl")).unwrap();
    assert!(readme().contains(&format!("```json\n{lines}```\n")));
    for line in lines.lines().filter(|line| !line.contains("typo")) {
        assert_valid(&schema("batch-line"), &serde_json::from_str(line).unwrap(), line);
    }
}

/// Every document of ours that is shown is as its schema says.
#[test]
fn the_json_that_is_shown_is_as_its_schema_says() {
    let readme = readme();
    let mut seen = Vec::new();
    let starts = readme.match_indices("\n{").map(|(start, _)| start + 1);
    for text in starts.map(|start| &readme[start..]) {
        let Some(Ok(document)) = serde_json::Deserializer::from_str(text).into_iter::<Value>().next() else { continue };
        let Some(name) = document["schema"].as_str().and_then(|name| name.strip_prefix("kvsize.")) else { continue };
        if name == "estimate/1" && document.get("estimates").is_none() {
            // A row alone, as of `-f jsonl`: held to the schema of rows elsewhere.
            continue;
        }
        assert_valid(&schema(name.trim_end_matches("/1")), &document, name);
        seen.push(name.to_owned());
    }
    for name in ["estimate/1", "batch/1", "error/1", "budgets/1"] {
        assert!(seen.iter().any(|seen| seen == name), "{name}: {seen:?}");
    }
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    let ci = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run")).unwrap();
    assert!(readme().contains("\ncargo test\n"));
    assert!(ci.contains("\ncargo test\n"));
}

/// The file that is shown is the one that is checked, and as its schema says.
#[test]
fn the_budgets_that_are_shown_are_those_that_are_checked() {
    let file = fs::read_to_string(golden("configs/ci/kv-budgets.json")).unwrap();
    assert!(readme().contains(&format!("```json\n{file}```\n")));
    assert_valid(&schema("budgets"), &serde_json::from_str(&file).unwrap(), "ci/kv-budgets.json");
    let baseline = fs::read_to_string(golden("configs/ci/base.json")).unwrap();
    assert_valid(&schema("checks"), &serde_json::from_str(&baseline).unwrap(), "ci/base.json");
}

/// The lines that put pages and completions where they are looked for.
#[test]
fn pages_and_completions_are_put_where_they_are_looked_for() {
    let readme = readme();
    let block = readme.split("```sh\n").find(|block| block.contains("kvsize generate man ")).unwrap();
    let home = std::env::temp_dir().join(format!("kvsize-home-{}", std::process::id()));
    fs::create_dir_all(&home).unwrap();
    Run::shell(&format!("set -e\n{}", block.split("```").next().unwrap())).env("HOME", &home).status(0);
    let share = home.join(".local/share");
    for (file, begins) in [
        ("man/man1/kvsize.1", ".ie "),
        ("man/man1/kvsize-check.1", ".ie "),
        ("bash-completion/completions/kvsize", "_kvsize()"),
    ] {
        assert!(fs::read_to_string(share.join(file)).unwrap().starts_with(begins), "{file}");
    }
    fs::remove_dir_all(home).unwrap();
}

/// The commands of the workflow and of the hook, as a shell runs them: a step that fails fails the job, unless it says otherwise.
#[test]
fn the_steps_of_ci_run() {
    let readme = readme();
    let blocks = readme.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap());
    let steps: Vec<&str> = blocks
        .flat_map(str::lines)
        .filter_map(|line| line.trim_start_matches([' ', '-']).split_once(": "))
        .filter(|(key, command)| {
            ["run", "entry"].contains(key) && command.contains("kvsize") && !command.starts_with("cargo ")
        })
        .map(|(_, command)| command)
        .collect();
    assert_eq!(steps.len(), 5, "{steps:?}");
    let directory = std::env::temp_dir().join(format!("kvsize-ci-{}", std::process::id()));
    for place in ["ci", "base/ci"] {
        fs::create_dir_all(directory.join(place)).unwrap();
        fs::copy(golden("configs/ci/kv-budgets.json"), directory.join(place).join("kv-budgets.json")).unwrap();
        let model = "Qwen--Qwen3-8B.json";
        fs::copy(golden("configs").join(model), directory.join(place).join("..").join(model)).unwrap();
    }
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_kvsize")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let run = |step: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-ec", step]).current_dir(&directory).env("PATH", &path).env("GITHUB_STEP_SUMMARY", "summary.md");
        shell.output().unwrap().status.code()
    };
    let statuses: Vec<_> = steps.iter().map(|step| run(step)).collect();
    assert_eq!(statuses, [Some(0); 5], "{steps:?}");
    let summary = fs::read_to_string(directory.join("summary.md")).unwrap();
    assert!(summary.starts_with("3 within") && summary.contains("| Budget | Verdict |"), "{summary}");
    // A pull request that adds too much fails where annotations are written, and still has its summary.
    let file = directory.join("ci/kv-budgets.json");
    let more = fs::read_to_string(&file).unwrap().replace("\"batch\": 8", "\"batch\": 9");
    fs::write(&file, more).unwrap();
    let statuses: Vec<_> = steps.iter().map(|step| run(step)).collect();
    assert_eq!(statuses, [Some(0), Some(0), Some(1), Some(0), Some(1)], "{steps:?}");
    // The pull request that brings the file has nothing to be compared with.
    fs::remove_dir_all(directory.join("base")).unwrap();
    fs::remove_file(directory.join("base.json")).unwrap();
    fs::copy(golden("configs/ci/kv-budgets.json"), &file).unwrap();
    let statuses: Vec<_> = steps.iter().map(|step| run(step)).collect();
    assert_eq!(statuses, [Some(0); 5], "{steps:?}");
    fs::remove_dir_all(directory).unwrap();
}
