//! `kvsize fit --gpu 2xh100 -- vllm serve MODEL --tensor-parallel-size 2`: the command that people already have, written as our
//! own. What each program's options are is data (`options.txt`).

use std::ffi::OsString;

use crate::engine::setting_named;
use crate::units::{Code, Error};

const OPTIONS: &str = include_str!("options.txt");

/// A program that starts a server.
struct Program {
    /// How its command begins, in the ways that it is written.
    starts: &'static [&'static str],
    /// The engine.
    engine: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program { starts: &["vllm serve", "python -m vllm.entrypoints.openai.api_server"], engine: "vllm" },
    Program { starts: &["python -m sglang.launch_server", "sglang serve"], engine: "sglang" },
    Program { starts: &["llama-server", "llama-cli", "./llama-server", "./llama-cli"], engine: "llama.cpp" },
    Program { starts: &["ollama run", "ollama serve"], engine: "ollama" },
];

/// What an option of a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning<'a> {
    /// The model.
    Model,
    /// Tokens of all slots (llama.cpp).
    Context,
    /// Slots (llama.cpp).
    Slots,
    /// Layers on the GPUs (llama.cpp).
    Layers,
    /// An option of ours.
    Option(&'a str),
    /// Nothing that memory depends on.
    None,
    /// Memory depends on it, and it is not modelled yet.
    Later,
}

/// Whether an option has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Never,
    Always,
    /// Unless an option follows.
    Maybe,
}

/// A command as our arguments, and what there is to warn of.
pub(super) struct Pasted {
    pub(super) arguments: Vec<OsString>,
    pub(super) warning: Option<String>,
}

/// The command of another program as arguments of `fit`.
///
/// # Errors
/// A program or an option that is unknown here, or a value that is not there.
pub(super) fn read(words: &[OsString]) -> Result<Pasted, Error> {
    let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let is_variable = |word: &&&str| word.split_once('=').is_some_and(|(name, _)| name.chars().all(is_of_variable));
    let variables: Vec<&str> = words.iter().take_while(|word| is_variable(word)).copied().collect();
    let command = words.get(variables.len()..).unwrap_or_default();
    let (program, rest) = program(command)?;
    let mut reading = Reading {
        program,
        ours: vec!["-e".into(), program.engine.into()],
        later: Vec::new(),
        model: None,
        context: None,
        slots: None,
    };
    for variable in variables {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        let (meaning, _) = row("environment", name).ok_or_else(|| unknown(name, program))?;
        reading.take(name, meaning, Some(value))?;
    }
    reading.options(rest)?;
    reading.end()
}

fn is_of_variable(letter: char) -> bool {
    letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
}

/// The program that a command starts, and the words after it.
fn program<'a, 'w>(command: &'a [&'w str]) -> Result<(&'static Program, &'a [&'w str]), Error> {
    let found = PROGRAMS.iter().find_map(|program| {
        program.starts.iter().find_map(|start| {
            let count = start.split(' ').count();
            let begins = command.iter().take(count).copied().eq(start.split(' '));
            begins.then(|| (program, command.get(count..).unwrap_or_default()))
        })
    });
    found.ok_or_else(|| {
        let starts: Vec<&str> = PROGRAMS.iter().filter_map(|program| program.starts.first()).copied().collect();
        let typed: Vec<&str> = command.iter().take(2).copied().collect();
        let remedy = format!("paste a command of {}", starts.join(", "));
        Error::new(Code::UnknownArgument, "--", typed.join(" "), "does not start a server that is known here", remedy)
    })
}

/// A command on its way to ours.
struct Reading {
    program: &'static Program,
    ours: Vec<String>,
    later: Vec<String>,
    model: Option<String>,
    context: Option<u64>,
    slots: Option<u64>,
}

impl Reading {
    fn options(&mut self, words: &[&str]) -> Result<(), Error> {
        let mut words = words.iter().copied().peekable();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                // The first word is the model; what comes after it is a prompt.
                self.model.get_or_insert_with(|| word.to_owned());
                continue;
            }
            let (name, glued) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let (meaning, value) = self.meaning(name)?;
            let follows = |words: &mut std::iter::Peekable<_>| {
                words.next_if(|next: &&str| !next.starts_with('-') || is_number(next))
            };
            let given = match value {
                Value::Never => None,
                _ if glued.is_some() => glued,
                Value::Maybe => follows(&mut words),
                Value::Always => {
                    let missing =
                        || Error::missing(name, format!("give its value, as {} takes it", self.program.engine));
                    Some(follows(&mut words).ok_or_else(missing)?)
                }
            };
            self.take(name, meaning, given)?;
        }
        Ok(())
    }

    /// What an option is: by its row, or by the same name here.
    fn meaning<'n>(&self, name: &'n str) -> Result<(Meaning<'n>, Value), Error>
    where
        'static: 'n,
    {
        if let Some(found) = row(self.program.engine, name) {
            return Ok(found);
        }
        let setting = setting_named(name.trim_start_matches('-')).ok_or_else(|| unknown(name, self.program))?;
        let is_switch = matches!(setting.kind, crate::engine::ValueKind::Switch { .. });
        Ok((Meaning::Option(name), if is_switch { Value::Never } else { Value::Always }))
    }

    fn take(&mut self, name: &str, meaning: Meaning, value: Option<&str>) -> Result<(), Error> {
        let number = || {
            let text = value.unwrap_or_default();
            let wrong = || Error::new(Code::NotANumber, name, text, "is not a number", "give a whole number");
            text.parse::<u64>().map_err(|_| wrong())
        };
        match meaning {
            Meaning::Model => self.model = value.map(ToOwned::to_owned),
            Meaning::Context => self.context = Some(number()?),
            Meaning::Slots => self.slots = Some(number()?),
            // All layers, however many there are.
            Meaning::Layers if value.is_some_and(|value| ["all", "auto", "-1"].contains(&value)) => {}
            Meaning::Layers => {
                if number()? < ALL_LAYERS {
                    self.later.push(name.to_owned());
                }
            }
            Meaning::Option(option) => {
                self.ours.push(option.to_owned());
                self.ours.extend(value.map(ToOwned::to_owned));
            }
            Meaning::None => {}
            Meaning::Later => self.later.push(name.to_owned()),
        }
        Ok(())
    }

    fn end(mut self) -> Result<Pasted, Error> {
        let missing = || {
            Error::missing(
                "MODEL",
                format!("name the model, as in: {} MODEL", self.program.starts.first().unwrap_or(&"")),
            )
        };
        let model = self.model.take().ok_or_else(missing)?;
        // The context is that of all slots; without their number they share it.
        if let Some(context) = self.context.filter(|&context| context > 0) {
            let slots = self.slots.unwrap_or(1).max(1);
            let each = context.checked_div(slots).unwrap_or(context);
            self.ours.extend(["-s".into(), each.to_string(), "-b".into(), slots.to_string()]);
        }
        let warning = (!self.later.is_empty())
            .then(|| format!("not counted yet, though memory depends on it: {}", self.later.join(", ")));
        let arguments = std::iter::once(model).chain(self.ours).map(OsString::from).collect();
        Ok(Pasted { arguments, warning })
    }
}

/// A number of layers that stands for all of them.
const ALL_LAYERS: u64 = 99;

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

/// The row of an option in a section of the data.
fn row(section: &str, name: &str) -> Option<(Meaning<'static>, Value)> {
    let mut lines = OPTIONS
        .lines()
        .skip_while(|line| line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) != Some(section));
    lines.next()?;
    let rows = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with('#'));
    let (left, meaning) = rows
        .filter_map(|line| line.split_once(" = "))
        .find(|(left, _)| left.split(' ').next().unwrap_or_default().split('|').any(|known| known == name))?;
    let value = match left.split_once(' ').map(|(_, value)| value) {
        None => Value::Never,
        Some("V?") => Value::Maybe,
        Some(_) => Value::Always,
    };
    let meaning = match meaning {
        "MODEL" => Meaning::Model,
        "CONTEXT" => Meaning::Context,
        "SLOTS" => Meaning::Slots,
        "LAYERS" => Meaning::Layers,
        "none" => Meaning::None,
        "later" => Meaning::Later,
        option => Meaning::Option(option),
    };
    Some((meaning, value))
}

fn unknown(name: &str, program: &Program) -> Error {
    let problem = format!("is not an option of {} that is known here", program.engine);
    Error::new(Code::UnknownArgument, "--", name, problem, "leave it out, if memory does not depend on it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(command: &str) -> Result<(String, Option<String>), Error> {
        let words: Vec<OsString> = command.split(' ').map(OsString::from).collect();
        let Pasted { arguments, warning } = read(&words)?;
        Ok((arguments.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "), warning))
    }

    #[test]
    fn commands_of_each_program_are_ours() {
        for (command, expected) in [
            (
                "vllm serve m --tensor-parallel-size=2 --max-model-len 32768 --port 80",
                "m -e vllm --tp 2 --seq-len 32768",
            ),
            ("vllm serve --model m -tp 2 --max-num-seqs 64", "m -e vllm --tp 2 --max-num-seqs 64"),
            ("python -m sglang.launch_server --model-path m --tp 4", "m -e sglang --tp 4"),
            ("llama-server -m m.gguf -c 32768 -np 4 -fa --jinja", "m.gguf -e llama.cpp --flash-attn -s 8192 -b 4"),
            ("llama-cli -m m.gguf -c 4096 -ngl 99 -fa on -p hello", "m.gguf -e llama.cpp --flash-attn on -s 4096 -b 1"),
            ("OLLAMA_NUM_PARALLEL=2 OLLAMA_HOST=0.0.0.0 ollama run m hello", "m -e ollama --batch 2"),
        ] {
            assert_eq!(ours(command), Ok((expected.to_owned(), None)), "{command}");
        }
        let (_, warning) = ours("vllm serve m --enforce-eager --cpu-offload-gb 4").unwrap();
        assert_eq!(
            warning.as_deref(),
            Some("not counted yet, though memory depends on it: --enforce-eager, --cpu-offload-gb")
        );
        assert!(ours("llama-server -m m.gguf -ngl 20").unwrap().1.unwrap().ends_with("-ngl"));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for (command, field, found) in [
            ("vllm chat m", "--", "vllm chat"),
            ("vllm serve m --no-such 3", "--", "--no-such"),
            ("llama-server -m m.gguf -c many", "-c", "many"),
            ("vllm serve --tensor-parallel-size", "--tensor-parallel-size", ""),
            ("vllm serve --port 80", "MODEL", ""),
            ("NO_SUCH=1 ollama run m", "--", "NO_SUCH"),
        ] {
            let error = ours(command).unwrap_err();
            assert_eq!((&*error.field, error.found.as_deref().unwrap_or_default()), (field, found), "{command}");
        }
    }

    #[test]
    fn each_option_that_is_ours_exists_and_each_name_stands_once_in_its_section() {
        let fields = crate::request::FIELDS;
        let mut names: Vec<&str> = Vec::new();
        for line in OPTIONS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let Some((left, meaning)) = line.split_once(" = ") else {
                assert!(line.starts_with('[') && line.ends_with(']'), "{line}");
                names.clear();
                continue;
            };
            for name in left.split(' ').next().unwrap().split('|') {
                assert!(!names.contains(&name), "{name} stands twice");
                names.push(name);
            }
            if let Some(ours) = meaning.strip_prefix("--") {
                assert!(fields.iter().any(|field| field.name == ours) || setting_named(ours).is_some(), "{ours}");
            } else {
                assert!(["none", "later", "MODEL", "CONTEXT", "SLOTS", "LAYERS"].contains(&meaning), "{meaning}");
            }
        }
    }
}
