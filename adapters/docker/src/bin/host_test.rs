//! The stand-in program of conformance runs; see [`hanse_hostrun::trial`].

fn main() -> std::process::ExitCode {
    hanse_hostrun::trial::main()
}
