//! The program as it is handed to operators: profile `dist`, and laid out by what a replica really runs.
//!
//! A replica runs a fifth of the program's code, scattered over all of it, and the kernel maps 64 KB around each page that is touched: two
//! thirds of the code lay in the memory of an idle replica for a fifth (docs/benchmarks.md). So the program is linked twice. What the
//! first link gives is run as a cluster of three under valgrind's callgrind, by the same benchmark that measures it; the
//! second link puts the functions that ran beside each other, the hottest first. Names of functions change with every dependency, so
//! the order is found anew each time and not kept in the repository.
//!
//! The linker that rustc is given is this very program ([`link`]): all that is linked is there only while rustc waits for its
//! linker. What this never does: change what is linked, or hand out a program whose run failed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Where [`link`] finds the benchmark and may write; set for rustc, which hands it on.
const BENCH: &str = "HANSE_LAYOUT_BENCH";
const FOLDER: &str = "HANSE_LAYOUT_FOLDER";
/// A run that names fewer functions was none of a replica.
const FUNCTIONS_MIN: usize = 2_000;

/// Builds `hanse` and the benchmark of its core; gives the folder in which both are.
///
/// # Errors
/// Whatever kept them from being built; `dist/hanse` is then the former one, or none.
pub(crate) fn build() -> Result<PathBuf> {
    crate::parts::valgrind()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let target = std::path::absolute(target).context("find the target folder")?;
    let built = target.join("dist");
    let profile = ["--profile", "dist", "--locked", "--package"];
    // Both packages are named, so that what they share is built once, with the features that both ask for.
    let mut bench = crate::cargo(&["build"]);
    bench.args(profile).args(["hanse", "--package", "hanse-bench", "--bin", "hanse-bench"]);
    crate::step("build the benchmark", bench)?;
    let folder = built.join("layout");
    std::fs::create_dir_all(&folder).context("make a folder for the layout")?;
    let linker = folder.join("linker");
    let own = std::env::current_exe().context("find this program")?;
    script(&linker, &format!("exec {} link \"$@\"", quoted(&own)))?;
    let mut product = crate::cargo(&["rustc"]);
    product.args(profile).args(["hanse", "--bin", "hanse", "--"]);
    product.arg("-C").arg(format!("linker={}", linker.display()));
    product.env(BENCH, built.join("hanse-bench")).env(FOLDER, &folder);
    crate::step("build the program", product)?;
    Ok(built)
}

/// Links as `cc` would with these arguments, twice.
///
/// # Errors
/// What failed; rustc then removes what was linked.
pub(crate) fn link(arguments: &[String]) -> Result<()> {
    let folder = PathBuf::from(std::env::var_os(FOLDER).context("only `cargo xtask dist` links this way")?);
    let bench = PathBuf::from(std::env::var_os(BENCH).context("only `cargo xtask dist` links this way")?);
    let output = arguments.iter().skip_while(|argument| *argument != "-o").nth(1).context("no output is named")?;
    cc(arguments, &[])?;
    let runs = tempfile::tempdir_in(&folder).context("make a folder for the runs")?;
    trace(Path::new(output), &bench, runs.path())?;
    let functions = hottest_first(runs.path())?;
    if functions.len() < FUNCTIONS_MIN {
        bail!("only {} functions ran: that was no replica", functions.len());
    }
    let order = folder.join("order.txt");
    std::fs::write(&order, functions.join("\n")).context("write the order of functions")?;
    let ordered = format!("-Wl,--symbol-ordering-file={}", order.display());
    // Among what ran are functions of the C library, which is not linked but loaded.
    cc(arguments, &[ordered.into(), "-Wl,--no-warn-symbol-ordering".into()])
}

fn cc(arguments: &[String], further: &[OsString]) -> Result<()> {
    let status = Command::new("cc").args(arguments).args(further).status().context("start cc")?;
    if !status.success() {
        bail!("cc: {status}");
    }
    Ok(())
}

/// Runs a cluster of the program through its start, a load, its end and a start once more; two of three replicas are watched.
fn trace(program: &Path, bench: &Path, runs: &Path) -> Result<()> {
    let watched = runs.join("watched");
    let program = quoted(&std::path::absolute(program).context("find the program")?);
    let out = quoted(&runs.join("callgrind"));
    script(
        &watched,
        &format!(
            "case \"$*\" in\n  server*/n[12]/*) exec valgrind --quiet --tool=callgrind --demangle=no \
             --callgrind-out-file={out}.%p {program} \"$@\" ;;\n  *) exec {program} \"$@\" ;;\nesac"
        ),
    )?;
    let mut run = Command::new(bench);
    run.arg("--hanse").arg(&watched).arg("--dir").arg(runs);
    run.args(["--no-etcd", "--rounds", "1", "--seconds", "3", "--kills", "0", "--clients", "1,16", "-o", "json"]);
    let output = run.output().context("start the benchmark")?;
    if !output.status.success() {
        bail!("the run of the program: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Names of the functions that ran, by the instructions spent in each.
fn hottest_first(runs: &Path) -> Result<Vec<String>> {
    let mut spent = HashMap::new();
    for entry in std::fs::read_dir(runs).context("look for what the runs wrote")? {
        let path = entry.context("look for what the runs wrote")?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("callgrind.")) {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            add(&text, &mut spent);
        }
    }
    let mut functions: Vec<(String, u64)> = spent.into_iter().collect();
    functions.sort_by(|(a, spent_a), (b, spent_b)| spent_b.cmp(spent_a).then_with(|| a.cmp(b)));
    Ok(functions.into_iter().map(|(name, _)| name).collect())
}

/// Adds what a file of callgrind tells (its manual, "Callgrind Format Specification"): `fn=(id) name` opens a function, of which the
/// name stands only at its first mention; a line after `calls=` is of the function called.
fn add(text: &str, spent: &mut HashMap<String, u64>) {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut current, mut of_a_call) = (None, false);
    for line in text.lines() {
        if let Some((kind, rest)) = line.split_once("fn=").filter(|(kind, _)| matches!(*kind, "" | "c")) {
            let (id, name) = rest.split_once(' ').unwrap_or((rest, ""));
            if !name.is_empty() {
                // `name'2` is the second level of a recursion.
                names.insert(id, name.split('\'').next().unwrap_or(name));
            }
            if kind.is_empty() {
                current = names.get(id).copied();
            }
        } else if line.starts_with("calls=") {
            of_a_call = true;
        } else if line.starts_with(['+', '-', '*']) || line.starts_with(|c: char| c.is_ascii_digit()) {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
            if let Some(name) = current.filter(|_| !std::mem::take(&mut of_a_call)) {
                *spent.entry(name.to_owned()).or_insert(0) += cost;
            }
        }
    }
}

/// Writes a shell script of one command.
fn script(path: &Path, command: &str) -> Result<()> {
    let mut text = String::new();
    writeln!(text, "#!/bin/sh\n{command}").context("write a script")?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).context("make a script executable")
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    #[test]
    fn what_a_function_spends_itself_is_counted_and_what_it_calls_is_not() {
        let text = "events: Ir\n\nfl=(1) ???\nfn=(1) one\n0 5\n+3 2\ncfn=(2) two\ncalls=1 0\n* 100\n-1 1\n\nfn=(2)\n7 90\n\nfn=(3) two'2\n8 10\n";
        let mut spent = HashMap::new();
        super::add(text, &mut spent);
        super::add("fn=(9) one\n0 4\n", &mut spent);
        assert_eq!(spent, HashMap::from([("one".into(), 12), ("two".into(), 100)]));
    }
}
