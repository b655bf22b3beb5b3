//! `kvsize completions SHELL`: a script that completes commands, options, and the names of models, GPUs, engines and formats.

use clap::builder::PossibleValuesParser;
use clap::{Args, Command};
use clap_complete::Shell;

use super::{ANSWERED, Answer, Subcommand, help, typed};
use crate::catalogue;
use crate::engine::PROFILES;
use crate::units::{FORMATS, PAIRS};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "completions",
    about: "A script that completes commands, options and names in a shell",
    arguments: CompletionsArguments::augment_args,
    notes: "",
    examples: &[
        ("bash", "kvsize completions bash > ~/.local/share/bash-completion/completions/kvsize"),
        ("zsh, where ~/.zfunc is in fpath", "kvsize completions zsh > ~/.zfunc/_kvsize"),
        ("fish", "kvsize completions fish > ~/.config/fish/completions/kvsize.fish"),
    ],
    statuses: ANSWERED,
    run: |matches| Ok(run(&typed(matches)?)),
};

#[derive(Debug, Args)]
struct CompletionsArguments {
    /// The shell that the script is for
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

fn run(arguments: &CompletionsArguments) -> Answer {
    let mut whole = named(help::whole()).mut_subcommands(named);
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut whole, "kvsize", &mut script);
    Answer { data: String::from_utf8_lossy(&script).into_owned(), ..Answer::default() }
}

/// The command with the names that its options complete to. Only here are these possible values: elsewhere a list of them would
/// be made at each start, and a value that is none of them may be right.
fn named(command: Command) -> Command {
    let models = || catalogue::models(&[]).filter_map(|entry| entry.names.into_iter().next());
    let gpus = || catalogue::accelerators(&[]).map(|entry| entry.id().to_owned());
    let formats =
        || FORMATS.iter().map(|format| format.name).chain(PAIRS.iter().map(|pair| pair.name)).map(str::to_owned);
    let engines = || {
        PROFILES.iter().flat_map(|profile| {
            let versions = profile.versions.iter().map(|version| format!("{}@{version}", profile.name));
            [profile.name.to_owned()].into_iter().chain(versions)
        })
    };
    let values: [(&[&str], Vec<String>); 4] = [
        (&["models", "model", "draft"], models().collect()),
        (&["gpu"], gpus().collect()),
        (&["engine"], engines().collect()),
        (&["kv_dtype", "k_dtype", "v_dtype", "weights_dtype"], formats().collect()),
    ];
    values.into_iter().fold(command, |command, (options, values)| {
        options.iter().fold(command, |command, option| {
            let has = command.get_arguments().any(|argument| argument.get_id() == *option);
            // clap keeps names for the life of the program, which ends with the script.
            let values: Vec<&'static str> = values.iter().map(|value| &*value.clone().leak()).collect();
            if has {
                command.mut_arg(option, |argument| argument.value_parser(PossibleValuesParser::new(values)))
            } else {
                command
            }
        })
    })
}
