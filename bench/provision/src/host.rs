//! The program that the benchmark puts on hosts: `host-run`, `host-supervise` and `listen PORT`, as in conformance runs.

fn main() -> std::process::ExitCode {
    hanse_hostrun::trial::main()
}
