//! The stand-in for the one binary in this crate's tests: the supervisor. An example, because only examples and tests
//! may use what the tests depend on.

fn main() -> std::process::ExitCode {
    hanse_hostrun::trial::main()
}
