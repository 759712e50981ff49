//! The program that is put on hosts: it answers requests while it is asked, and supervises one instance's process each.
//!
//! It is nothing but [`hanse_hostrun`] behind a command line, small enough to be sent over any line; `hanse-carried` holds it
//! inside the product. Of what runs on hosts it is the only part that people do not choose: ledgers' programs are artifacts.
//!
//! It never listens to a port, never parses a command line beyond these words, and never starts what it was not told to.

use std::path::Path;
use std::process::ExitCode;

/// Exit code for a command line that it does not know (`EX_USAGE` of sysexits(3)).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["host-run"] => hanse_hostrun::run_stdio(None),
        ["host-keep"] => hanse_hostrun::keep_self(),
        ["host-supervise", dir] => hanse_hostrun::supervise(Path::new(dir)),
        _ => {
            eprintln!("hanse's part on a host: host-run | host-keep | host-supervise DIR (used by the control plane)");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
