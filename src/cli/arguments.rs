//! The arguments as people type them, written as the parser reads them.

use std::ffi::OsString;
#[cfg(unix)]
use std::io::{self, BufRead};
#[cfg(unix)]
use std::path::Path;
#[cfg(unix)]
use std::sync::mpsc;
#[cfg(unix)]
use std::thread;
#[cfg(unix)]
use std::time::Duration;

use super::{help, pasted};
use crate::units::Error;

/// Options of other programs with one dash and several letters, and what they are here.
const ONE_DASH: &[(&str, &str)] = &[
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-ngl", "--n-gpu-layers"),
    ("-np", "--parallel"),
    ("-ub", "--ubatch-size"),
    ("-fa", "--flash-attn"),
    ("-tp", "--tp"),
    ("-pp", "--pp"),
    ("-dp", "--dp"),
];

/// Commands by their old names, and how they are typed now.
const OLD_NAMES: &[(&str, &[&str])] = &[
    ("sweep", &["estimate"]),
    ("strategies", &["levers"]),
    ("schema", &["generate", "schema"]),
    ("man", &["generate", "man"]),
    ("completions", &["generate", "completions"]),
];

/// What `generate` writes: commands that help does not list.
const GENERATED: &[&str] = &["man", "completions", "schema"];

/// The options that make a question one of hardware.
const OF_HARDWARE: &[&str] = &["--gpu", "--num-gpus", "--gpu-memory", "--vram"];

/// Where the program is asked for nothing but what it is.
const OF_HELP: &[&str] = &["--help", "-h", "--version", "-V"];

/// Arguments as the parser reads them, and what there is to say of how they were typed.
pub(super) struct Rewritten {
    pub(super) arguments: Vec<OsString>,
    pub(super) note: Option<String>,
    pub(super) warning: Option<String>,
}

/// The arguments with what people leave out or spell otherwise: `--model X` is X; `kvsize MODEL --gpu 2xh100` is
/// `kvsize fit MODEL --gpu 2xh100`, unless `--memory` says how much the cache has.
///
/// # Errors
/// A command of another program that cannot be read.
pub(super) fn rewritten(typed: impl Iterator<Item = OsString>, commands: &[&str]) -> Result<Rewritten, Error> {
    let mut arguments: Vec<OsString> = Vec::new();
    let (mut pasted, mut rest) = (Vec::new(), typed);
    while let Some(argument) = rest.next() {
        match argument.to_str().map(|text| (text, text.split_once('='))) {
            // What follows belongs to another program: its command says which model is meant.
            Some(("--", _)) => pasted.extend(rest.by_ref()),
            Some(("--model", _)) => arguments.extend(rest.next()),
            Some((_, Some(("--model", model)))) => arguments.push(model.into()),
            Some((text, _)) => {
                let long = ONE_DASH.iter().find(|(dash, _)| *dash == text);
                arguments.push(long.map_or(argument.clone(), |(_, long)| (*long).into()));
            }
            None => arguments.push(argument),
        }
    }
    let names = |argument: &OsString, options: &[&str]| {
        argument.to_str().is_some_and(|text| options.contains(&text.split_once('=').map_or(text, |(name, _)| name)))
    };
    let any = |options: &[&str]| arguments.iter().skip(1).any(|argument| names(argument, options));
    let is_old = |argument: &OsString| OLD_NAMES.iter().any(|(old, _)| argument == old);
    let has_verb = any(commands) || arguments.get(1).is_some_and(is_old);
    if !has_verb && !any(OF_HELP) && any(OF_HARDWARE) && !any(&["--memory"]) {
        arguments.insert(1, "fit".into());
    }
    let note = renamed(&mut arguments, commands);
    let mut warning = None;
    if !pasted.is_empty() {
        let command = pasted::read(&pasted)?;
        warning = command.warning;
        arguments.extend(command.arguments);
        if !any_of_hardware(&arguments) {
            arguments.extend(["--gpu", "local"].map(OsString::from));
        }
    }
    Ok(Rewritten { arguments, note, warning })
}

fn any_of_hardware(arguments: &[OsString]) -> bool {
    let is_one = |argument: &OsString| {
        argument.to_str().is_some_and(|text| OF_HARDWARE.iter().any(|option| text.split('=').next() == Some(*option)))
    };
    arguments.iter().any(is_one)
}

/// Writes the verb as it is parsed: an old name, what `generate` writes, `help COMMAND`. The note on an old name.
fn renamed(arguments: &mut Vec<OsString>, commands: &[&str]) -> Option<String> {
    let word = |index: usize| arguments.get(index).and_then(|word| word.to_str()).unwrap_or_default().to_owned();
    let (verb, object) = (word(1), word(2));
    if verb == "generate" && GENERATED.contains(&object.as_str()) {
        arguments.remove(1);
    } else if verb == "help" && object != "help" && !help::is_topic(&object) && commands.contains(&object.as_str()) {
        arguments.splice(1..3, [OsString::from(object), "--help".into()]);
    } else if let Some((_, now)) = OLD_NAMES.iter().find(|(old, _)| *old == verb) {
        let [.., last] = now else { return None };
        arguments.splice(1..2, [OsString::from(last)]);
        return Some(format!("kvsize {verb} is kvsize {} now", now.join(" ")));
    }
    None
}

/// Whether something is piped in: a model, where none is named. A terminal or a device is not waited for.
pub(super) fn is_piped_in() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = Path::new("/dev/stdin").metadata().map(|found| found.file_type());
        kind.is_ok_and(|kind| kind.is_fifo() || kind.is_file()) && comes_soon()
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// Whether anything comes within two seconds: a pipe that stays open and empty is not waited for. What came is left to be read.
#[cfg(unix)]
fn comes_soon() -> bool {
    const PATIENCE: Duration = Duration::from_secs(2);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(io::stdin().lock().fill_buf().is_ok_and(|piped| !piped.is_empty())));
    receiver.recv_timeout(PATIENCE).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(typed: &str) -> String {
        let typed = std::iter::once("kvsize").chain(typed.split(' ')).map(OsString::from);
        let words = super::rewritten(typed, &["fit", "plan", "estimate", "levers", "help", "man"]);
        words.unwrap().arguments.iter().skip(1).map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_question_of_hardware_needs_no_verb() {
        assert_eq!(rewritten("qwen3-8b --gpu 4090"), "fit qwen3-8b --gpu 4090");
        assert_eq!(rewritten("qwen3-8b --vram=24GB"), "fit qwen3-8b --vram=24GB");
        for alike in ["qwen3-8b", "plan qwen3-8b --gpu 4090", "qwen3-8b --gpu l4 --memory 4GB", "--help --gpu l4"] {
            assert_eq!(rewritten(alike), alike);
        }
    }

    #[test]
    fn old_names_of_commands_are_the_new_ones() {
        assert_eq!(rewritten("sweep qwen3-8b -s 1k..8k*2"), "estimate qwen3-8b -s 1k..8k*2");
        assert_eq!(rewritten("strategies article"), "levers article");
        assert_eq!(rewritten("generate man fit"), "man fit");
        assert_eq!(rewritten("man fit"), "man fit");
        assert_eq!(rewritten("help fit"), "fit --help");
        assert_eq!(rewritten("help ci"), "help ci");
        let note = |verb: &str| super::rewritten(["kvsize", verb].map(OsString::from).into_iter(), &[]).unwrap().note;
        assert_eq!(note("schema").as_deref(), Some("kvsize schema is kvsize generate schema now"));
        assert_eq!(note("fit"), None);
    }

    #[test]
    fn other_programs_spellings_are_ours() {
        assert_eq!(rewritten("--model qwen3-8b -ctk q8_0 -ngl 20"), "qwen3-8b --cache-type-k q8_0 --n-gpu-layers 20");
        assert_eq!(rewritten("--model=qwen3-8b -c 8k"), "qwen3-8b -c 8k");
    }
}
