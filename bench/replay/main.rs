//! What a replay of the flights year takes, and what its parts would take without the engine: on one
//! core and on two, from Parquet and from JSON lines, with two models. `scripts/bench.sh replay`

mod alone;
mod case;
mod empty;

use std::path::Path;

use anyhow::{Context, Result, bail};

use case::{Case, Figures, Input, What};

/// As the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MODELS: [&str; 2] = ["trees", "logistic"];
/// The core of pinned runs.
const CORE: usize = 0;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo tells every benchmark that it is one.
    arguments.retain(|argument| argument != "--bench");
    match arguments.first().map(String::as_str) {
        Some("case") => {
            let case = Case::from_arguments(&arguments[1..])?;
            println!("{}", serde_json::to_string(&case.run()?)?);
            Ok(())
        }
        Some("stages") => print_stages(),
        Some("--runs") => compare(arguments.get(1).context("--runs N")?.parse()?),
        None => compare(5).and_then(|()| print_stages()),
        Some(other) => bail!("unknown: {other}; there are --runs N and stages"),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for model in MODELS {
        for input in [Input::Parquet, Input::JsonLines] {
            let case = |what, workers, core| Case { what, model, input, workers, core };
            cases.extend([
                case(What::Engine, 1, Some(CORE)),
                case(What::Engine, 1, None),
                case(What::Engine, 2, None),
                case(What::EmptyModel, 1, Some(CORE)),
            ]);
            if input == Input::Parquet {
                cases.push(case(What::Alone, 1, Some(CORE)));
            }
            if model == "trees" {
                cases.push(case(What::OnnxRuntime, 1, Some(CORE)));
            }
        }
    }
    cases
}

/// Runs the cases in turn, so that a slow minute of the machine falls on all of them alike.
fn compare(runs: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cases = cases();
    let mut measured: Vec<Vec<Figures>> = vec![Vec::new(); cases.len()];
    for run in 0..runs {
        for (case, measured) in cases.iter().zip(&mut measured) {
            eprint!("\rrun {} of {runs}: {case:<60}", run + 1);
            measured.push(case.spawn(folder.path())?);
        }
    }
    eprintln!();
    println!(
        "| model | input | what | cores | events/s | of the pinned engine | events per CPU-second | peak MiB | rows a batch |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let medians: Vec<Figures> = measured.iter().map(|runs| Figures::median(runs)).collect();
    for (case, figures) in cases.iter().zip(&medians) {
        let pinned = cases.iter().position(|other| {
            other.what == What::Engine
                && other.core.is_some()
                && (other.model, other.input) == (case.model, case.input)
        });
        let pinned = &medians[pinned.context("a pinned engine")?];
        println!("{}", row(case, figures, figures.rate() / pinned.rate()));
    }
    Ok(())
}

fn row(case: &Case, figures: &Figures, ratio: f64) -> String {
    let cores = if case.core.is_some() { "1" } else { "2" };
    format!(
        "| {} | {} | {} | {cores} | {:.0} | {ratio:.2} | {:.0} | {:.0} | {:.0} |",
        case.model,
        case.input,
        case.described(),
        figures.rate(),
        figures.rows / figures.cpu_s,
        figures.peak_mib,
        figures.batch_rows,
    )
}

/// Where the engine spends its time.
fn print_stages() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for model in MODELS {
        for input in [Input::Parquet, Input::JsonLines] {
            println!("\n{model} from {input}, ns an event:");
            let case = Case { what: What::Stages, model, input, workers: 1, core: Some(CORE) };
            for (stage, ns) in case.spawn(folder.path())?.stages {
                println!("| {stage} | {ns:.0} |");
            }
        }
    }
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
