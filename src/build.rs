//! Links the unwinder, which only the backtrace of a panic uses, into the program: a shared library less to load at each start.
#![allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    let is = |variable: &str, value: &str| std::env::var(variable).is_ok_and(|found| found == value);
    // Elsewhere the unwinder is linked in already, or another one; and a library leaves the choice to whoever uses it.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_FEATURE_CLI", "1") {
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}
