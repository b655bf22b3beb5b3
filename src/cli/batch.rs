//! `kvsize batch [FILE]`: JSON Lines in, JSON Lines out, a line for a line and in order.
//!
//! The first part of the input is answered as it is read: what has come is answered before more is waited for, so nothing is
//! held back when the input pauses. A large input goes on to several threads, which take blocks of lines in turn and give
//! them back in the same turn. What is held is a few blocks, however long the input.

use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read, Write};
use std::mem::take;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use clap::Args;
use memchr::{memchr, memchr_iter, memrchr};

use super::args::SourceArguments;
use super::lines::{LineOptions, LineReader, Outcome, refuse_long};
use super::sources::{Places, SharedModels};
use super::{Answer, CANNOT_ANSWER, Subcommand, line, typed};
use crate::source;
use crate::units::{Code, Error, group_thousands, parse_count};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "batch",
    about: "JSON Lines in, JSON Lines out: an estimate a line, in constant memory",
    arguments: BatchArguments::augment_args,
    statuses: STATUSES,
    run: |matches| run(typed(matches)?),
    ..Subcommand::BARE
};

const STATUSES: &[(u8, &str)] = &[(0, "all lines were answered"), (CANNOT_ANSWER, "one or more were not")];

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct BatchArguments {
    /// A file of JSON Lines, or - for standard input [default: -]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Stop after the first line that gets an error
    #[arg(long)]
    fail_fast: bool,
    /// Ignore unknown keys
    #[arg(long)]
    lenient: bool,
    /// Turn warnings into errors, line by line
    #[arg(long)]
    strict: bool,
    /// Threads that answer a large input [default: one a core]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    threads: Option<u64>,
    #[command(flatten)]
    sources: SourceArguments,
    /// No words on stderr
    #[arg(short, long)]
    quiet: bool,
}

/// The longest line that is read: as long as the longest configuration is, since a line may hold one.
const MAX_LINE_BYTES: usize = 4 << 20;

/// How much is read at a time.
const BLOCK_BYTES: usize = 128 << 10;

/// An input that goes on past this is given to several threads.
const LARGE_INPUT_BYTES: usize = 1 << 20;

/// More threads than this would wait for the one that writes.
const MOST_THREADS: usize = 64;

/// Blocks that wait for a thread, and answers that wait to be written, at most.
const BLOCKS_AHEAD: usize = 2;

fn run(arguments: BatchArguments) -> Result<Answer, Error> {
    let BatchArguments { file, fail_fast, lenient, strict, threads, sources, quiet } = arguments;
    let input: Box<dyn Read + Send> = if let Some(path) = file.filter(|path| path.as_os_str() != "-") {
        Box::new(source::open(&path)?)
    } else {
        if io::stdin().is_terminal() && !quiet {
            let text = "reading JSON Lines from standard input, a question a line; Ctrl-D ends them";
            let _ = io::stderr().write_all(line(super::NOTE, "note", text).as_bytes());
        }
        Box::new(io::stdin())
    };
    let places = Places::of_file(PathBuf::new(), sources.catalogue.as_deref(), sources.offline)?;
    let threads = threads.and_then(|threads| usize::try_from(threads).ok());
    let threads = threads.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let pool = Pool {
        options: LineOptions { lenient, strict },
        models: Arc::new(SharedModels::new(places)),
        threads: threads.min(MOST_THREADS),
        fail_fast,
    };
    let stream = move |out: &mut dyn Write| {
        let mut tally = Tally::default();
        pool.answer(Blocks::new(input), out, &mut tally)?;
        let warnings = match tally.refused {
            0 => Vec::new(),
            refused => {
                let [refused, all] = [refused, tally.lines].map(group_thousands);
                vec![format!("{refused} of {all} lines were not answered; each has an object that says why")]
            }
        };
        let status = if tally.refused == 0 { 0 } else { CANNOT_ANSWER };
        Ok(Answer { quiet, warnings, status, ..Answer::default() })
    };
    Ok(Answer { stream: Some(Box::new(stream)), ..Answer::default() })
}

/// Lines that were not empty, and those of them that got an error.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    lines: u64,
    refused: u64,
}

/// Whole lines of the input, and the number of the first.
struct Block {
    first: u64,
    lines: Lines,
}

enum Lines {
    /// As they were read.
    Read(Vec<u8>),
    /// One, which is longer than is read.
    TooLong,
    /// The input can't be read further.
    Broken(io::Error),
}

/// The input in blocks of whole lines.
struct Blocks {
    input: BufReader<Box<dyn Read + Send>>,
    /// The start of an incomplete line.
    begun: Vec<u8>,
    /// The number of that line.
    line: u64,
    /// The rest of a line that is too long is being passed over.
    passing_over: bool,
    /// Bytes read.
    read: usize,
    ended: bool,
}

impl Blocks {
    fn new(input: Box<dyn Read + Send>) -> Self {
        let input = BufReader::with_capacity(BLOCK_BYTES, input);
        Self { input, begun: Vec::new(), line: 1, passing_over: false, read: 0, ended: false }
    }

    /// The lines that have come; waits only if there is none.
    fn next(&mut self) -> Option<Block> {
        while !self.ended {
            let come = match self.input.fill_buf() {
                Ok(come) => come,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.ended = true;
                    return Some(Block { first: self.line, lines: Lines::Broken(error) });
                }
            };
            let first_end = memchr(b'\n', come);
            let of_first = first_end.unwrap_or(come.len());
            let after = |end: Option<usize>| end.map_or(come.len(), |end| end.saturating_add(1));
            let mut taken = after(memrchr(b'\n', come));
            let mut lines = None;
            if come.is_empty() {
                // A last line may have no end.
                self.ended = true;
                lines = (!self.begun.is_empty()).then(|| Lines::Read(take(&mut self.begun)));
            } else if self.passing_over {
                taken = after(first_end);
                self.passing_over = first_end.is_none();
            } else if self.begun.len().saturating_add(of_first) > MAX_LINE_BYTES {
                taken = of_first;
                self.begun.clear();
                self.passing_over = true;
                lines = Some(Lines::TooLong);
            } else {
                self.begun.extend_from_slice(come.get(..taken).unwrap_or_default());
                lines = first_end.map(|_| Lines::Read(take(&mut self.begun)));
            }
            self.input.consume(taken);
            self.read = self.read.saturating_add(taken);
            if let Some(lines) = lines {
                let first = self.line;
                let count = match &lines {
                    Lines::Read(lines) => u64::try_from(memchr_iter(b'\n', lines).count()).unwrap_or(u64::MAX),
                    Lines::TooLong | Lines::Broken(_) => 1,
                };
                self.line = first.saturating_add(count);
                return Some(Block { first, lines });
            }
        }
        None
    }
}

/// What became of a block.
struct Answered {
    data: Vec<u8>,
    tally: Tally,
    /// Whether the rest is still to be answered; what stood in the way of reading on.
    go_on: io::Result<bool>,
}

/// Who answers, and how.
#[derive(Clone)]
struct Pool {
    options: LineOptions,
    models: Arc<SharedModels>,
    threads: usize,
    fail_fast: bool,
}

impl Pool {
    /// Answers all blocks, in order.
    fn answer(self, mut blocks: Blocks, out: &mut dyn Write, tally: &mut Tally) -> anyhow::Result<()> {
        let mut reader = self.reader();
        while self.threads == 1 || blocks.read < LARGE_INPUT_BYTES {
            let Some(block) = blocks.next() else { return Ok(()) };
            if !deliver(reader.answer(block), out, tally)? {
                return Ok(());
            }
        }
        self.share(blocks, out, tally)
    }

    /// Answers blocks on several threads: each takes one in turn, and gives its answers back in the same turn.
    fn share(&self, mut blocks: Blocks, out: &mut dyn Write, tally: &mut Tally) -> anyhow::Result<()> {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        let mut to: Vec<SyncSender<Block>> = Vec::new();
        let mut from: Vec<Receiver<Answered>> = Vec::new();
        for _ in 0..self.threads {
            let (give, take) = sync_channel(BLOCKS_AHEAD);
            let (give_back, take_back) = sync_channel(BLOCKS_AHEAD);
            let pool = self.clone();
            threads.push(thread::spawn(move || {
                let mut reader = pool.reader();
                for block in take {
                    if give_back.send(reader.answer(block)).is_err() {
                        break;
                    }
                }
            }));
            to.push(give);
            from.push(take_back);
        }
        threads.push(thread::spawn(move || {
            for to in to.iter().cycle() {
                // One whose receiver is gone is not waited for: the answers have nowhere to go.
                if blocks.next().is_none_or(|block| to.send(block).is_err()) {
                    break;
                }
            }
        }));
        for from in from.iter().cycle() {
            let Ok(answered) = from.recv() else { break };
            if !deliver(answered, out, tally)? {
                return Ok(());
            }
        }
        for thread in threads {
            if thread.join().is_err() {
                anyhow::bail!("a thread ended before its lines were answered");
            }
        }
        Ok(())
    }

    fn reader(&self) -> BlockReader {
        let lines = LineReader::new(self.options, Arc::clone(&self.models));
        BlockReader { lines, fail_fast: self.fail_fast, usual: 0 }
    }
}

/// Writes the answers to a block. Whether the rest is still to be answered.
fn deliver(answered: Answered, out: &mut dyn Write, tally: &mut Tally) -> anyhow::Result<bool> {
    tally.lines = tally.lines.saturating_add(answered.tally.lines);
    tally.refused = tally.refused.saturating_add(answered.tally.refused);
    out.write_all(&answered.data)?;
    out.flush()?;
    answered.go_on.map_err(|error| {
        // Not as an error of the output: a pipe that breaks there is no failure.
        let (field, found, remedy) = ("FILE".into(), error.to_string(), "make it readable".into());
        Error { code: Code::Io, field, found: Some(found), problem: String::new(), remedy }.into()
    })
}

/// Answers blocks, one at a time.
struct BlockReader {
    lines: LineReader,
    fail_fast: bool,
    /// Bytes of the last answers.
    usual: usize,
}

impl BlockReader {
    fn answer(&mut self, block: Block) -> Answered {
        let mut data = Vec::with_capacity(self.usual);
        let mut tally = Tally::default();
        let go_on = match block.lines {
            Lines::Broken(error) => Err(error),
            Lines::TooLong => {
                refuse_long(block.first, MAX_LINE_BYTES, &mut data);
                tally = Tally { lines: 1, refused: 1 };
                Ok(!self.fail_fast)
            }
            Lines::Read(lines) => Ok(self.answer_lines(block.first, &lines, &mut data, &mut tally)),
        };
        self.usual = data.len();
        Answered { data, tally, go_on }
    }

    /// Whether the rest is still to be answered.
    fn answer_lines(&mut self, first: u64, lines: &[u8], data: &mut Vec<u8>, tally: &mut Tally) -> bool {
        let mut rest = match first {
            // The mark that some systems put before a text.
            1 => lines.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(lines),
            _ => lines,
        };
        let mut number = first;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            let outcome = self.lines.answer(number, line, data);
            tally.lines = tally.lines.saturating_add(u64::from(outcome != Outcome::Skipped));
            tally.refused = tally.refused.saturating_add(u64::from(outcome == Outcome::Refused));
            if self.fail_fast && outcome == Outcome::Refused {
                return false;
            }
            rest = after.get(1..).unwrap_or_default();
            number = number.saturating_add(1);
        }
        true
    }
}
