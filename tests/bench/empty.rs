//! The floor of a process: a program that does nothing.

fn main() {}
