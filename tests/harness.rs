//! Runs the real program; stdout, stderr and status are always checked together.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// A run of the program, and what it is expected to say. What is not stated is expected to be empty.
#[must_use = "a run happens when it ends in `status`, `text` or `output`"]
pub(crate) struct Run {
    command: Command,
    stdin: Vec<u8>,
    stdout: String,
    stderr: String,
}

/// What the program reads of the environment, which is no test's own.
const ENVIRONMENT: [&str; 26] = [
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "KVSIZE_CATALOGUE",
    "KVSIZE_ACCELERATORS",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// A run with these arguments, split at spaces.
pub(crate) fn kvsize(arguments: &str) -> Run {
    Run::new(arguments.split_whitespace())
}

impl Run {
    pub(crate) fn new<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvsize"));
        command.args(arguments);
        Self::of(command)
    }

    /// A line that a shell runs, in which `kvsize` is the program.
    pub(crate) fn shell(line: &str) -> Self {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_kvsize")).parent().expect("it is in a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PATH", format!("{}:{path}", program.display()));
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.current_dir(golden("configs"));
        for name in ENVIRONMENT {
            command.env_remove(name);
        }
        // Nobody's cache is read, and no test that forgets it reaches the network.
        command.env("HF_HOME", "/nonexistent").env("HF_ENDPOINT", "http://127.0.0.1:9");
        Self { command, stdin: Vec::new(), stdout: String::new(), stderr: String::new() }
    }

    /// In another directory.
    pub(crate) fn at(mut self, directory: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    pub(crate) fn stdout(mut self, text: &str) -> Self {
        text.clone_into(&mut self.stdout);
        self
    }

    pub(crate) fn stderr(mut self, text: &str) -> Self {
        text.clone_into(&mut self.stderr);
        self
    }

    /// Runs, and compares all three.
    pub(crate) fn status(mut self, status: i32) {
        let output = self.run();
        assert_eq!(
            (text(&output.stdout), text(&output.stderr), output.status.code()),
            (self.stdout, self.stderr, Some(status)),
            "{:?}",
            self.command
        );
    }

    /// Runs, and gives all three as one text, for a snapshot.
    pub(crate) fn text(mut self) -> String {
        let output = self.run();
        let status = output.status.code().map_or_else(|| "killed".to_owned(), |code| code.to_string());
        format!("{}--- stderr\n{}--- status {status}\n", text(&output.stdout), text(&output.stderr))
    }

    /// Runs, expects success and no words, and gives stdout.
    pub(crate) fn output(mut self) -> String {
        let output = self.run();
        assert_eq!((text(&output.stderr), output.status.code()), (String::new(), Some(0)), "{:?}", self.command);
        text(&output.stdout)
    }

    /// Runs, expects success whatever words there are, and gives stdout.
    pub(crate) fn data(self) -> String {
        self.data_with(0)
    }

    /// Runs, expects this status whatever words there are, and gives stdout.
    pub(crate) fn data_with(mut self, status: i32) -> String {
        let output = self.run();
        assert_eq!(output.status.code(), Some(status), "{:?}: {}", self.command, text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs, expects an answer, yes or no, and gives stdout.
    pub(crate) fn any_data(mut self) -> String {
        let output = self.run();
        let code = output.status.code();
        assert!(code == Some(0) || code == Some(1), "{:?}: {}", self.command, text(&output.stderr));
        text(&output.stdout)
    }

    /// The command, for what a run does not do.
    pub(crate) fn command(self) -> Command {
        self.command
    }

    fn run(&mut self) -> Output {
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = std::mem::take(&mut self.stdin);
        // Beside what is read: both pipes have an end to what they hold.
        let writer = std::thread::spawn(move || {
            // A program that does not read its input closes the pipe; that is its right.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("the program ends");
        writer.join().expect("the input is written");
        output
    }
}

/// The rows of a document's estimates without the name of their model, which tells where it was read.
pub(crate) fn figures(document: &serde_json::Value) -> Vec<serde_json::Value> {
    let mut rows = document["estimates"].as_array().expect("there are estimates").clone();
    for row in &mut rows {
        row.as_object_mut().and_then(|row| row.remove("model")).expect("a row names its model");
    }
    rows
}

/// A file of the golden data.
pub(crate) fn golden(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}
