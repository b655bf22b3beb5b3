//! `kvsize generate completions`: scripts for shells, each in its own form, and asked in a real shell where there is one.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::harness::kvsize;
use crate::help::commands;

const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "powershell", "elvish"];

fn script(shell: &str) -> String {
    kvsize(&format!("generate completions {shell}")).output()
}

/// A file of this content, in a directory of its own.
fn file(name: &str, content: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("kvsize-completions-{}-{name}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path
}

/// What a shell prints when it runs the file; nothing where there is no such shell.
fn run(shell: &str, arguments: &[&str], file: &std::path::Path) -> Option<String> {
    let mut command = Command::new(shell);
    command.args(arguments).arg(file).stdin(Stdio::null()).current_dir(file.parent().unwrap());
    let output = command.env("HOME", file.parent().unwrap()).output().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {}", text(&output.stderr));
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
    Some(text(&output.stdout))
}

#[test]
fn every_command_is_completed_in_each_shell_s_form() {
    for shell in SHELLS {
        let script = script(shell);
        for command in commands().iter().skip(1) {
            let form = match shell {
                "bash" => format!("            kvsize,{command})\n"),
                "zsh" => format!("\n'{command}:"),
                "fish" => format!("\"__fish_kvsize_needs_command\" -a \"{command}\" -d '"),
                "powershell" => format!(
                    "[CompletionResult]::new('{command}', '{command}', [CompletionResultType]::ParameterValue, '"
                ),
                _ => format!("\n            cand {command} '"),
            };
            assert_eq!(script.matches(&form).count(), 1, "{shell}: {form}");
        }
    }
}

#[test]
fn names_are_in_every_script() {
    for shell in SHELLS {
        let script = script(shell);
        for name in ["llama-4-scout", "h100-sxm", "vllm@0.33", "q8_0", "max-num-batched-tokens", "bytes-per-token"] {
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
}

#[test]
fn powershell_and_elvish_have_the_values_of_each_option_of_each_command() {
    for (shell, list) in [("powershell", "@('table', 'plain', 'json', "), ("elvish", "['table' 'plain' 'json' ")] {
        let script = script(shell);
        let lines: Vec<&str> = script
            .lines()
            .filter(|line| line.contains("$values[$key] = ") || line.contains("set values[$key] = "))
            .collect();
        let values = |key: &str| {
            let lines: Vec<_> = lines.iter().filter(|line| line.contains(&format!("'{key}'"))).collect();
            assert_eq!(lines.len(), 1, "{shell}: {key}");
            lines[0].split_once("values[$key] = ").unwrap().1
        };
        assert!(values("kvsize --format").starts_with(list));
        assert_eq!(values("kvsize;fit -f"), values("kvsize --format"));
        assert!(
            !values("kvsize;fit --format").contains("junit") && values("kvsize;check --format").contains("'junit'")
        );
        assert!(
            values("kvsize;fit MODEL").contains("'llama-4-scout'") && values("kvsize;fit --gpu").contains("'h200-sxm'")
        );
        assert!(values("kvsize;man MODEL").contains("'check'") && values("kvsize;explain -e").contains("'vllm@0.33'"));
        // They are looked up: the places that clap_complete's script has for it are still where they were.
        assert_eq!(script.matches("$before").count(), if shell == "elvish" { 3 } else { 4 }, "{shell}");
    }
}

/// What is mended in the scripts for zsh and fish is still where it is looked for, in a machine without these shells, too.
#[test]
fn what_the_generated_scripts_get_wrong_is_mended() {
    let zsh = script("zsh");
    for mended in [
        "\"${_arguments_options[@]}\" -A '-*' : ",
        "] || line[1]=estimate\n        case $line[1] in\n",
        "\n    compadd -- llama-3.1-8b ",
    ] {
        assert_eq!(zsh.matches(mended).count(), 1, "{mended}");
    }
    assert!(zsh.contains("\n'*:models -- ") && !zsh.contains("'*::"));
    let fish = script("fish");
    for mended in
        [" 1-v-head-dim= ", "-- $cmd '' 2>/dev/null\n    or return\n", "if contains -- \"$argv[1]\" estimate fit "]
    {
        assert_eq!(fish.matches(mended).count(), 1, "{mended}");
    }
    assert!(fish.contains("complete -c kvsize -n \"__fish_kvsize_using_subcommand fit\" -a \"$kvsize_names\"\n"));
}

/// By each shell that is here.
#[test]
fn scripts_are_read_by_their_shells() {
    for (shell, arguments, name) in
        [("bash", ["-n"], "kvsize.bash"), ("zsh", ["-n"], "_kvsize"), ("fish", ["-n"], "kvsize.fish")]
    {
        let language = if name == "_kvsize" { "zsh" } else { shell };
        run(shell, &arguments, &file(name, &script(language)));
    }
}

/// What is typed, the last word being completed, and what it becomes.
const TYPED: [(&str, &str); 11] = [
    ("kvsize llama-4-s", "llama-4-scout"),
    ("kvsize generat", "generate"),
    ("kvsize --engine vllm@0.3", "vllm@0.33"),
    ("kvsize fit llama-4-s", "llama-4-scout"),
    ("kvsize fit x --gpu h200-s", "h200-sxm"),
    ("kvsize fit x -d q8_", "q8_0"),
    ("kvsize check x --format juni", "junit"),
    ("kvsize llama-3.1-8b --gpu h200-s", "h200-sxm"),
    ("kvsize generate complet", "completions"),
    ("kvsize completions zs", "zsh"),
    ("kvsize man chec", "check"),
];

fn expected() -> String {
    TYPED.iter().map(|(_, word)| format!("{word}\n")).collect()
}

#[test]
fn bash_completes() {
    let asked: String = TYPED
        .iter()
        .map(|(typed, _)| {
            let words: Vec<&str> = typed.split(' ').collect();
            let [.., before, word] = words[..] else { panic!("{typed}") };
            let last = words.len() - 1;
            format!(
                "COMP_WORDS=({typed}); COMP_CWORD={last}; _kvsize kvsize {word} {before}; echo \"${{COMPREPLY[@]}}\"\n"
            )
        })
        .collect();
    let Some(said) = run("bash", &[], &file("ask.bash", &format!("{}\n{asked}", script("bash")))) else { return };
    assert_eq!(said, expected());
}

/// In a terminal of its own; what stands in the line after the tab is told by a widget.
#[test]
fn zsh_completes() {
    let asked: String = TYPED.iter().map(|(typed, _)| format!("ask '{typed}'\n")).collect();
    let ask = format!(
        r#"zmodload zsh/zpty zsh/zle 2>/dev/null && autoload -Uz +X compinit 2>/dev/null || exit 0
print -r 'fpath=($PWD $fpath); PS1=; autoload -Uz compinit; compinit -u -D
tell() {{ local line=$BUFFER; BUFFER=; zle -I; print -r -- "<<$line>>" }}
zle -N tell; bindkey "^T" tell; bindkey "^I" complete-word; print READY' > rc
zpty shell 'zsh -f -i'
zpty -w shell 'source ./rc'
zpty -r shell said '*READY*'
ask() {{
    zpty -w -n shell "$1"$'\t'$'\C-t'
    zpty -r shell said '*<<*>>*'
    print -r -- ${{${{said##*<<}}%%>>*}}
}}
{asked}"#
    );
    let file = file("ask.zsh", &ask);
    fs::write(file.with_file_name("_kvsize"), script("zsh")).unwrap();
    let Some(said) = run("zsh", &["-f"], &file) else { return };
    let words: String =
        said.lines().filter_map(|line| line.split_whitespace().last()).map(|word| format!("{word}\n")).collect();
    assert!(said.is_empty() || words == expected(), "{said}");
}

#[test]
fn fish_completes() {
    // What it is, if it has words about it, stands after a tab.
    let asked: String =
        TYPED.iter().map(|(typed, _)| format!("complete -C '{typed}' | string split -f 1 \\t\n")).collect();
    let file = file("ask.fish", &format!("{}\n{asked}exit 0\n", script("fish")));
    let Some(said) = run("fish", &["--no-config"], &file) else { return };
    assert_eq!(said, expected());
}

/// Without a terminal elvish has no editor: what registers with it is called by a name instead.
#[test]
fn elvish_completes() {
    let script = script("elvish")
        .replace("set edit:completion:arg-completer[kvsize] = {|@words|", "fn offered {|@words|")
        .replace("edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc", "put $text");
    let asked: String = TYPED
        .iter()
        .map(|(typed, _)| {
            let word = typed.rsplit(' ').next().unwrap();
            format!("offered {typed} | each {{|text| if (str:has-prefix $text '{word}') {{ echo $text }} }}\n")
        })
        .collect();
    let Some(said) = run("elvish", &["-norc"], &file("ask.elv", &format!("{script}\n{asked}"))) else { return };
    assert_eq!(said, expected());
}

#[test]
fn powershell_completes() {
    let asked: String = TYPED
        .iter()
        .map(|(typed, _)| {
            let matches = format!("(TabExpansion2 '{typed}' {}).CompletionMatches", typed.len());
            format!("{matches} | ForEach-Object {{ [Console]::Out.Write($_.CompletionText + \"`n\") }}\n")
        })
        .collect();
    let file = file("ask.ps1", &format!("{}\n{asked}", script("powershell")));
    let Some(said) = run("pwsh", &["-NoProfile", "-NonInteractive", "-File"], &file) else { return };
    assert_eq!(said, expected());
}

#[test]
fn a_shell_that_is_not_known_is_an_error() {
    kvsize("generate completions tcsh")
        .stderr("error: SHELL: tcsh is not one of its values; nearest: zsh; use one of bash, elvish, fish, powershell, zsh\n")
        .status(2);
}
