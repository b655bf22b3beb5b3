//! `kvsize generate completions SHELL`: a script that completes commands, options, and the names of models, GPUs, engines and formats.
//! `clap_complete` writes it; what its scripts leave out or get wrong is mended here.

use clap::builder::PossibleValuesParser;
use clap::{Args, Command};
use clap_complete::Shell;

use super::{Answer, Subcommand, Visibility, help, typed};
use crate::catalogue;
use crate::engine::PROFILES;
use crate::model::{CHECKPOINT_FORMATS, FileType};
use crate::units::{FORMATS, PAIRS};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "completions",
    about: "A script that completes commands, options and names in a shell",
    arguments: CompletionsArguments::augment_args,
    run: |matches| Ok(run(&typed(matches)?)),
    visibility: Visibility::Unlisted,
    ..Subcommand::BARE
};

#[derive(Debug, Args)]
struct CompletionsArguments {
    /// The shell that the script is for
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

fn run(arguments: &CompletionsArguments) -> Answer {
    let mut whole = named(help::whole()).mut_subcommands(named);
    let commands: Vec<String> = whole.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let lists = lists(&whole);
    if arguments.shell == Shell::Zsh {
        whole = without_models(&whole);
    }
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut whole, "kvsize", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let data = match arguments.shell {
        Shell::Zsh => zsh(&script, &commands, &lists),
        Shell::PowerShell => powershell(&script, &commands, &lists),
        Shell::Elvish => elvish(&script, &commands, &lists),
        Shell::Fish => fish(&script, &commands, &lists),
        _ => script,
    };
    Answer { data, ..Answer::default() }
}

/// The program without its MODEL: where there is one, the generated script for zsh takes the second word for the command.
fn without_models(whole: &Command) -> Command {
    let options = whole.get_arguments().filter(|argument| !argument.is_positional()).cloned();
    Command::new("kvsize")
        .version("")
        .disable_help_subcommand(true)
        .args(options)
        .subcommands(whole.get_subcommands().cloned())
}

/// The first word is a command or a MODEL, after which stands what `estimate` takes. What follows a command is its own, though
/// the program has options of these names; and options may follow a MODEL where several may stand ("*::" would end them).
fn zsh(script: &str, commands: &[String], lists: &[List]) -> String {
    let models = lists.iter().find(|(places, _)| places.iter().any(|place| place == "kvsize MODEL"));
    let models = models.map(|(_, values)| values.join(" ")).unwrap_or_default();
    let describe = "    _describe -t commands 'kvsize commands' commands \"$@\"\n";
    let script = script.replacen(describe, &format!("{describe}    compadd -- {models}\n"), 1);
    let arguments = "    _arguments \"${_arguments_options[@]}\" ";
    let script = script.replacen(arguments, &format!("{arguments}-A '-*' "), 1);
    let script = script.replace("'*::", "'*:");
    let commands = commands.join("|");
    let case = "        case $line[1] in\n";
    script.replacen(case, &format!("        [[ $line[1] == ({commands}) ]] || line[1]=estimate\n{case}"), 1)
}

/// What the generated script for fish has no place for: the values of MODEL. And its call of `argparse` mended: to that,
/// "v-head-dim" is the letter v and the name "head-dim", unless another letter stands before it; an option that is still
/// without its value is a mistake; and the first word need not be a command.
fn fish(script: &str, commands: &[String], lists: &[List]) -> String {
    let mut digits = '1'..='9';
    let specified = script.split_inclusive('\n').map(|line| {
        let Some(options) = line.strip_prefix("    string join \\n ") else { return line.to_owned() };
        let options: Vec<String> = options
            .split_whitespace()
            .map(|option| match digits.clone().next() {
                Some(digit) if option.chars().nth(1) == Some('-') => {
                    digits.next();
                    format!("{digit}-{option}")
                }
                _ => option.to_owned(),
            })
            .collect();
        format!("    string join \\n {}\n", options.join(" "))
    });
    let parse = "    argparse -s (__fish_kvsize_global_optspecs) -- $cmd 2>/dev/null\n";
    let parse_or_wait = format!("{parse}    or argparse -s (__fish_kvsize_global_optspecs) -- $cmd '' 2>/dev/null\n");
    let is_command = format!("    if contains -- \"$argv[1]\" {}\n", commands.join(" "));
    let script = specified.collect::<String>().replacen(parse, &parse_or_wait, 1);
    let script = script.replacen("    if set -q argv[1]\n", &is_command, 1);
    let names = lists.iter().map(|(places, values)| {
        let places = places.iter().filter_map(|place| place.strip_suffix(" MODEL"));
        let lines = places.map(|path| {
            let condition = match path.split_once(';') {
                Some((_, command)) => format!("__fish_kvsize_using_subcommand {command}"),
                None => "__fish_kvsize_needs_command".to_owned(),
            };
            format!("complete -c kvsize -n \"{condition}\" -a \"$kvsize_names\"\n")
        });
        let lines: String = lines.collect();
        if lines.is_empty() { lines } else { format!("set -l kvsize_names {}\n{lines}", values.join(" ")) }
    });
    script + &names.collect::<String>()
}

/// What the generated script for PowerShell has no place for: the values of options and of MODEL, and options after a MODEL.
fn powershell(script: &str, commands: &[String], lists: &[List]) -> String {
    let lists = lists.iter().map(|(keys, values)| {
        format!("    foreach ($key in {}) {{ $values[$key] = @({}) }}\n", quoted(keys, ", "), quoted(values, ", "))
    });
    let lists: String = lists.collect();
    let commands = quoted(commands, ", ");
    let block = include_str!("about/completions.ps1").replace("@LISTS@", &lists).replace("@COMMANDS@", &commands);
    script.replacen("    $completions = @(switch ($command) {", block.trim_end(), 1)
}

/// The same for elvish.
fn elvish(script: &str, commands: &[String], lists: &[List]) -> String {
    let lists = lists.iter().map(|(keys, values)| {
        format!("    for key [{}] {{ set values[$key] = [{}] }}\n", quoted(keys, " "), quoted(values, " "))
    });
    let lists: String = lists.collect();
    let commands = quoted(commands, " ");
    let before =
        include_str!("about/completions-before.elv").replace("@LISTS@", &lists).replace("@COMMANDS@", &commands);
    let script = script.replacen("    var completions = [", before.trim_end(), 1);
    script.replacen("    $completions[$command]\n}\n", include_str!("about/completions-after.elv"), 1)
}

/// Values, and the places that take them: a command and an option of it, or a command and MODEL.
type List = (Vec<String>, Vec<String>);

fn lists(whole: &Command) -> Vec<List> {
    let commands = whole.get_subcommands().map(|command| (format!("kvsize;{}", command.get_name()), command));
    let mut lists: Vec<List> = Vec::new();
    for (path, command) in [("kvsize".to_owned(), whole)].into_iter().chain(commands) {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let values: Vec<String> =
                argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
            if values.is_empty() {
                continue;
            }
            let long = argument.get_long_and_visible_aliases().unwrap_or_default();
            let long = long.iter().map(|name| format!("{path} --{name}"));
            let mut keys: Vec<String> =
                long.chain(argument.get_short().map(|letter| format!("{path} -{letter}"))).collect();
            if keys.is_empty() {
                keys.push(format!("{path} MODEL"));
            }
            match lists.iter_mut().find(|(_, known)| *known == values) {
                Some((places, _)) => places.extend(keys),
                None => lists.push((keys, values)),
            }
        }
    }
    lists
}

/// Words in single quotes; both shells write a quote in them twice.
fn quoted(words: &[String], between: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "''"))).collect();
    quoted.join(between)
}

/// The command with the names that its options complete to. Only here are these possible values: elsewhere a list of them would
/// be made at each start, and a value that is none of them may be right.
fn named(command: Command) -> Command {
    let models = catalogue::models(&[]).filter_map(|entry| entry.names.into_iter().next());
    let gpus = catalogue::accelerators(&[]).map(|entry| entry.id().to_owned());
    let formats = FORMATS.iter().map(|format| format.name).chain(PAIRS.iter().map(|pair| pair.name));
    let engines = PROFILES.iter().flat_map(|profile| {
        let versions = profile.versions.iter().map(|version| format!("{}@{version}", profile.name));
        [profile.name.to_owned()].into_iter().chain(versions)
    });
    let is_file_type = |name: &str| FileType::all().any(|file_type| file_type.name().eq_ignore_ascii_case(name));
    let file_types = FileType::all().map(|file_type| file_type.name().to_ascii_lowercase());
    let elements = FORMATS.iter().map(|format| format.name).filter(|name| !is_file_type(name));
    let checkpoints = CHECKPOINT_FORMATS.iter().map(|row| row.name);
    let is_checkpoint = |name: &str| CHECKPOINT_FORMATS.iter().any(|row| row.name == name);
    let elements = checkpoints.chain(elements.filter(|name| !is_checkpoint(name)));
    // clap keeps names for the life of the program, which ends with the script.
    let kept = |name: String| -> &'static str { name.leak() };
    let values: [(&[&str], Vec<&'static str>); 5] = [
        (&["model", "draft"], models.map(kept).collect()),
        (&["gpu"], gpus.map(kept).collect()),
        (&["engine"], engines.map(kept).collect()),
        (&["kv-dtype", "k-dtype", "v-dtype"], formats.collect()),
        (&["weights-dtype", "weights_dtype"], file_types.map(kept).chain(elements).collect()),
    ];
    values.into_iter().fold(command, |command, (options, values)| {
        options.iter().fold(command, |command, option| {
            if command.get_arguments().any(|argument| argument.get_id() == *option) {
                command.mut_arg(option, |argument| argument.value_parser(PossibleValuesParser::new(&values)))
            } else {
                command
            }
        })
    })
}
