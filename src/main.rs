//! The program: everything it does is in [`kvsize::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    kvsize::cli::main()
}
