//! What `nvidia-smi` says of the GPUs of this machine.

use std::io::{ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::request::Card;

const PROGRAM: &str = "nvidia-smi";
const QUESTION: [&str; 2] = ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"];

/// It answers in a second or so; where a driver hangs it never does.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cards of this machine, or why they can't be told.
pub(super) fn cards() -> Result<Vec<Card>, String> {
    let started =
        Command::new(PROGRAM).args(QUESTION).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = started.map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("asks {PROGRAM}, which is not found here"),
        _ => format!("asks {PROGRAM}, which does not start: {error}"),
    })?;
    let status = ended(&mut child)?;
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(1 << 16).read_to_string(&mut text).map_err(|error| format!("asks {PROGRAM}: {error}"))?;
    }
    if !status.success() {
        let first = text.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
        return Err(format!("asks {PROGRAM}, which fails ({status}){first}"));
    }
    parse(&text)
}

fn ended(child: &mut Child) -> Result<ExitStatus, String> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                // It is of no more use, whether it can be ended or not.
                let _ = child.kill();
                return Err(format!("asks {PROGRAM}, which does not answer in {} seconds", PATIENCE.as_secs()));
            }
            Err(error) => return Err(format!("asks {PROGRAM}: {error}")),
        }
    }
}

/// `NVIDIA H100 80GB HBM3, 81559`, a line a card.
fn parse(text: &str) -> Result<Vec<Card>, String> {
    let card = |line: &str| {
        let (name, memory) = line.rsplit_once(',')?;
        let (name, memory) = (name.trim(), memory.trim());
        // What shares the machine's memory has none of its own to tell.
        let none = matches!(memory, "[N/A]" | "[Not Supported]" | "N/A");
        let memory_mib = if none { None } else { Some(memory.parse().ok().filter(|&mib| mib > 0)?) };
        Some(Card { name: name.to_owned(), memory_mib }).filter(|card| !card.name.is_empty())
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let cards: Vec<Card> = lines
        .map(|line| card(line).ok_or_else(|| format!("asks {PROGRAM}, which answers {line:?}: no name and MiB")))
        .collect::<Result<_, _>>()?;
    if cards.is_empty() { Err(format!("asks {PROGRAM}, which finds no GPU")) } else { Ok(cards) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_card() {
        let cards = parse("NVIDIA H200, 143771\nNVIDIA GB10, [N/A]\n\n").unwrap();
        assert_eq!(
            cards.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["NVIDIA H200 (143771 MiB)", "NVIDIA GB10"]
        );
        for text in ["", "\n", "H200", "H200, many", ", 143771", "H200, 0", "H200, -1", "H200, 143771 MiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
