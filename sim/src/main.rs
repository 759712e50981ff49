//! `hanse-sim`: what `cargo xtask sim` starts.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hanse_sim::sweep::{self, Cloud, Stage};
use hanse_sim::{Mutant, Options, Report, run};

/// Seeds that `--mutant` tries before it gives up.
const MUTANT_SEEDS: u64 = 40;

/// Replicas in a simulated world under seeded faults. The same seed gives the same run, to the byte.
#[derive(Debug, Parser)]
#[command(name = "hanse-sim")]
struct Cli {
    #[command(subcommand)]
    kind: Option<Kind>,
    /// Run this seed alone and print its trace.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Ticks of 5 ms under faults.
    #[arg(long, default_value_t = 15_000)]
    ticks: u64,
    /// Voters at the start.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=5))]
    voters: u64,
    /// Put a mistake in, or `all` of them one after another; passes if each is found.
    #[arg(long)]
    mutant: Option<String>,
    /// How to print figures.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// The crash sweep of provisioning: each point of each step of a chain's life with each fault of the leader.
    Provisioning(Provisioning),
}

#[derive(Debug, Args)]
struct Provisioning {
    /// Only this stage; may be given again.
    #[arg(long, value_parser = stage)]
    stage: Vec<Stage>,
    /// Only clouds of this habit; may be given again.
    #[arg(long, value_parser = cloud)]
    cloud: Vec<Cloud>,
    /// Every point and fault with every habit of the cloud, and not each with one.
    #[arg(long)]
    full: bool,
    /// Every so-manieth case only.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Only this share of the cases, as `1/2` and `2/2`: two that run beside each other are the whole, and their figures add up.
    #[arg(long, default_value = "1/1", value_parser = part)]
    part: (usize, usize),
    /// Goes into the seed of each run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the case of this number; its trace on stdout.
    #[arg(long)]
    case: Option<usize>,
    /// Put this mistake in: passes only if nothing is wrong, so it must fail.
    #[arg(long)]
    mutant: Option<Mutant>,
    /// How to print figures.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn stage(text: &str) -> Result<Stage, String> {
    let names = Stage::ALL.map(Stage::name).join(", ");
    Stage::ALL.into_iter().find(|it| it.name() == text).ok_or_else(|| format!("the stages are {names}"))
}

fn part(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    parts
        .filter(|(part, parts)| (1..=*parts).contains(part))
        .ok_or_else(|| "a part is one of so many, as 1/2".to_owned())
}

fn cloud(text: &str) -> Result<Cloud, String> {
    let names = Cloud::ALL.map(Cloud::name).join(", ");
    Cloud::ALL.into_iter().find(|it| it.name() == text).ok_or_else(|| format!("a cloud's habits are {names}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Kind::Provisioning(asked)) = &cli.kind {
        return if provisioning(asked) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let passed = match (&cli.mutant, cli.seed) {
        (Some(name), _) => hunt(&cli, name),
        (None, Some(seed)) => replay(&cli, seed),
        (None, None) => many(&cli),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn provisioning(asked: &Provisioning) -> bool {
    let started = std::time::Instant::now();
    let some = |given: &[Stage]| if given.is_empty() { Stage::ALL.to_vec() } else { given.to_vec() };
    let clouds = if asked.cloud.is_empty() { Cloud::ALL.to_vec() } else { asked.cloud.clone() };
    let figures = sweep::sweep(&sweep::Options {
        stages: some(&asked.stage),
        clouds,
        full: asked.full,
        every: usize::try_from(asked.every).expect("a number of cases"),
        part: asked.part,
        seed: asked.seed,
        mutant: asked.mutant,
        tell: asked.output == Output::Text,
        only: asked.case,
    });
    let mut shown = serde_json::to_value(&figures).expect("plain data");
    shown["seconds"] = started.elapsed().as_secs().into();
    println!("{shown}");
    figures.is_good()
}

fn options(cli: &Cli, mutant: Option<Mutant>, print: bool) -> Options {
    Options { ticks: cli.ticks, voters: cli.voters, mutant, print }
}

fn replay(cli: &Cli, seed: u64) -> bool {
    let report = run(seed, &options(cli, None, true));
    eprintln!("{}", as_json(&report));
    report.violations.is_empty()
}

fn as_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data")
}

fn many(cli: &Cli) -> bool {
    let started = std::time::Instant::now();
    let mut reports = Vec::new();
    for seed in cli.first..cli.first.saturating_add(cli.seeds) {
        let report = run(seed, &options(cli, None, false));
        if cli.output == Output::Text {
            let Report { ticks, elections, acked, reads, unknown, nodes, ordered, left, deployed, trace, .. } = &report;
            println!(
                "seed {seed}: {ticks} ticks, {elections} elections, {acked} acked, {reads} reads, {unknown} unknown, {nodes} nodes, \
                 {ordered} ordered, {left} left, {deployed} deployed, trace {trace}"
            );
        }
        for violation in &report.violations {
            eprintln!(
                "seed {seed}: {violation}\n  replay: cargo xtask sim --seed {seed} --ticks {} --voters {}",
                cli.ticks, cli.voters
            );
        }
        reports.push(report);
    }
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let violations: Vec<(u64, &String)> =
        reports.iter().flat_map(|r| r.violations.iter().map(|v| (r.seed, v))).collect();
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in reports.iter().flat_map(|r| &r.faults) {
        *faults.entry(kind).or_default() += count;
    }
    let figures = serde_json::json!({
        "seeds": reports.len(), "first": cli.first, "voters": cli.voters, "ticks": sum(|r| r.ticks),
        "violations": violations.len(), "violated": violations, "elections": sum(|r| r.elections),
        "entries": sum(|r| r.entries), "acked": sum(|r| r.acked), "refused": sum(|r| r.refused),
        "reads": sum(|r| r.reads), "unknown": sum(|r| r.unknown), "replays": sum(|r| r.replays),
        "lost": sum(|r| r.lost), "nodes": sum(|r| r.nodes), "acts": sum(|r| r.acts), "started": sum(|r| r.started),
        "ordered": sum(|r| r.ordered), "turned_away": sum(|r| r.turned_away), "changes": sum(|r| r.changes),
        "inherited": sum(|r| r.inherited), "left": sum(|r| r.left), "deployed": sum(|r| r.deployed),
        "undeployed": sum(|r| r.undeployed), "faults": faults, "seconds": started.elapsed().as_secs(),
    });
    println!("{figures}");
    violations.is_empty()
}

/// Runs seeds with a mistake until one shows it.
fn hunt(cli: &Cli, name: &str) -> bool {
    let mutants = if name == "all" {
        Mutant::ALL.into_iter().filter(|it| !it.is_of_sweep()).collect()
    } else {
        match name.parse() {
            Ok(mutant) => vec![mutant],
            Err(error) => {
                eprintln!("hanse-sim: {error}");
                return false;
            }
        }
    };
    let mut all_found = true;
    for mutant in mutants {
        let seeds = cli.seed.map_or(cli.first..cli.first + MUTANT_SEEDS, |seed| seed..seed + 1);
        let found = seeds.map(|seed| run(seed, &options(cli, Some(mutant), false))).find(|r| !r.violations.is_empty());
        match &found {
            Some(report) => println!(
                "{}",
                serde_json::json!({
                    "mutant": mutant.name(), "seed": report.seed, "tick": report.ticks, "found": report.violations[0],
                })
            ),
            None => println!("{}", serde_json::json!({ "mutant": mutant.name(), "found": null })),
        }
        all_found &= found.is_some();
    }
    all_found
}
