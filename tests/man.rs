//! `kvsize generate man`: pages that a formatter takes.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::kvsize;
use crate::help::commands;

#[test]
fn every_command_has_a_page() {
    for command in commands() {
        let page = kvsize(&format!("generate man {command}")).output();
        let name = if command.is_empty() { "kvsize".to_owned() } else { format!("kvsize-{command}") };
        let title = format!(".TH {name} 1 \"\" \"kvsize {}\" kvsize\n", env!("CARGO_PKG_VERSION"));
        assert!(page.contains(&title), "{page}");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "\"EXIT STATUS\"", "EXAMPLES"] {
            assert_eq!(page.matches(&format!(".SH {section}\n")).count(), 1, "{command}: {section}");
        }
        assert_eq!(page.matches(".ds Aq").count(), 2, "{command}");
        assert_eq!(page, kvsize(&format!("generate man {command}")).output(), "{command}");
    }
}

#[test]
fn the_page_of_the_program_lists_the_commands_and_all_options() {
    let page = kvsize("generate man").output();
    for command in commands().iter().skip(1) {
        assert!(page.contains(&format!("\n.TP\nkvsize\\-{command}(1)\n")), "{command}");
    }
    // The short help leaves settings out, and the help of an option its other names.
    for told in [
        "\\fB\\-\\-max\\-num\\-batched\\-tokens\\fR \\fI<N>\\fR\nMaximum tokens",
        "[also: \\-c, \\-\\-ctx, \\-\\-context, \\-\\-max\\-model\\-len]",
        "\\fBHF_ENDPOINT\\fR\nthe hub, or a mirror",
        "\\fB1\\fR\nit does not fit (fit, plan, check)\n",
    ] {
        assert!(page.contains(told), "{told}");
    }
    insta::assert_snapshot!("check", kvsize("generate man check").output());
}

#[test]
fn a_page_that_there_is_not_is_an_error() {
    let names = commands()[1..].join(", ");
    kvsize("generate man chek")
        .stderr(&format!("error: COMMAND: chek is not one of its values; nearest: check; use one of {names}\n"))
        .status(2);
    kvsize("generate man 7zip")
        .stderr(&format!("error: COMMAND: 7zip is not one of its values; use one of {names}\n"))
        .status(2);
}

/// By a real formatter, where there is one: no warning, and words where they belong.
#[test]
fn groff_formats_the_pages() {
    for command in commands() {
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-Kutf8", "-ww", "-P-cbou"]);
        groff.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut groff) = groff.spawn() else { return };
        let page = kvsize(&format!("generate man {command}")).output();
        groff.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let output = groff.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("\nEXIT STATUS\n") && text.contains("\nEXAMPLES\n"), "{command}: {text}");
        assert!(!text.contains("\\f") && !text.contains("Aq"), "{command}: {text}");
    }
}
