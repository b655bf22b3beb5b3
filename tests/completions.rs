//! `kvsize completions`: scripts for shells.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::kvsize;

fn script(shell: &str) -> String {
    kvsize(&format!("completions {shell}")).output()
}

#[test]
fn scripts_have_every_command_and_the_names() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = script(shell);
        for command in ["explain", "fit", "plan", "check", "batch", "sweep", "weights", "gpus", "schema", "--kv-dtype"]
        {
            assert!(script.contains(command.trim_start_matches('-')), "{shell}: {command}");
        }
        // The generators of these have no place for the values of options.
        if !["powershell", "elvish"].contains(&shell) {
            for name in ["llama-4-scout", "h100-sxm", "vllm@0.33", "q8_0", "max-num-batched-tokens"] {
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }
}

/// In a real shell, where there is one.
#[test]
fn bash_completes_models_and_gpus() {
    let ask = "COMP_WORDS=(kvsize fit llama-4-s); COMP_CWORD=2; _kvsize kvsize llama-4-s fit; echo \"${COMPREPLY[@]}\"
        COMP_WORDS=(kvsize fit x --gpu h200-s); COMP_CWORD=4; _kvsize kvsize h200-s --gpu; echo \"${COMPREPLY[@]}\"";
    let Ok(mut bash) = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else { return };
    let text = format!("{}\n{ask}\n", script("bash"));
    bash.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "llama-4-scout\nh200-sxm\n");
}

#[test]
fn a_shell_that_is_not_known_is_an_error() {
    kvsize("completions tcsh")
        .stderr("error: SHELL: tcsh is not one of its values; nearest: zsh; use one of bash, elvish, fish, powershell, zsh\n")
        .status(2);
}
