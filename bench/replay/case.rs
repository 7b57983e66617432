//! One case that is measured, in a process of its own: so its peak memory is its own, too.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use arrow::json::LineDelimitedWriter;
use driftline::config::job::ModelEngine;
use driftline::run::options::RunOptions;
use driftline::run::prepare::read_parquet;
use driftline::run::replay;
use driftline::{Job, Pipeline};
use driftline_operators::stage_clock::StageClock;
use serde::{Deserialize, Serialize};

use crate::empty::Empty;
use crate::{alone, root};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Engine,
    /// The engine with its trees run by ONNX Runtime.
    OnnxRuntime,
    /// The engine with a model that does nothing.
    EmptyModel,
    /// The engine with a clock around every stage.
    Stages,
    /// ONNX Runtime over the feature rows, at its best batch.
    Alone,
}

const WHATS: [(&str, What); 5] = [
    ("engine", What::Engine),
    ("onnxruntime", What::OnnxRuntime),
    ("empty", What::EmptyModel),
    ("stages", What::Stages),
    ("alone", What::Alone),
];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    Parquet,
    JsonLines,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub what: What,
    pub model: &'static str,
    pub input: Input,
    pub workers: usize,
    /// The only core it may use.
    pub core: Option<usize>,
}

/// What a process measures of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    pub rows: f64,
    pub wall_s: f64,
    pub cpu_s: f64,
    pub peak_mib: f64,
    pub batch_rows: f64,
    /// ns an event.
    pub stages: Vec<(String, f64)>,
}

impl Figures {
    pub fn rate(&self) -> f64 {
        self.rows / self.wall_s
    }

    /// Of each figure by itself.
    pub fn median(runs: &[Figures]) -> Figures {
        let median = |figure: fn(&Figures) -> f64| {
            let mut figures: Vec<f64> = runs.iter().map(figure).collect();
            figures.sort_unstable_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Figures {
            rows: median(|run| run.rows),
            wall_s: median(|run| run.wall_s),
            cpu_s: median(|run| run.cpu_s),
            peak_mib: median(|run| run.peak_mib),
            batch_rows: median(|run| run.batch_rows),
            stages: Vec::new(),
        }
    }
}

impl Case {
    /// Measures it in a process of its own.
    pub fn spawn(&self, folder: &Path) -> Result<Figures> {
        if self.input == Input::JsonLines {
            make_json_lines(&json_lines(folder))?;
        }
        let program = std::env::current_exe()?;
        let mut command = match self.core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(core.to_string()).arg(program);
                command
            }
            None => Command::new(program),
        };
        let (what, _) = WHATS.iter().find(|(_, what)| *what == self.what).context("a case")?;
        command.args(["case", what, self.model]).arg(self.workers.to_string()).arg(folder);
        command.arg(if self.input == Input::Parquet { "parquet" } else { "jsonl" });
        let output = command.stderr(Stdio::inherit()).output().context("taskset or the case")?;
        if !output.status.success() {
            bail!("{self} failed");
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// As [`Case::spawn`] writes them, with the folder of `Case::run` last but one.
    pub fn from_arguments(arguments: &[String]) -> Result<Alone> {
        let [what, model, workers, folder, input] = arguments else { bail!("not a case") };
        let (_, what) = WHATS.iter().find(|(name, _)| name == what).context("no such case")?;
        let model =
            crate::MODELS.into_iter().find(|name| name == model).context("no such model")?;
        let input = if input == "parquet" { Input::Parquet } else { Input::JsonLines };
        let case = Case { what: *what, model, input, workers: workers.parse()?, core: None };
        Ok(Alone { case, folder: folder.into() })
    }

    pub fn described(&self) -> String {
        match (self.what, self.workers) {
            (What::Engine, 1) => "the engine, one worker".to_owned(),
            (What::Engine, workers) => format!("the engine, {workers} workers"),
            (What::OnnxRuntime, _) => "the engine, trees run by ONNX Runtime".to_owned(),
            (What::EmptyModel, _) => "the engine with an empty model".to_owned(),
            (What::Stages, _) => "the engine, by stage".to_owned(),
            (What::Alone, _) => "ONNX Runtime alone, at its best batch".to_owned(),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} from {}, {}", self.model, self.input, self.described())
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(if *self == Input::Parquet { "Parquet" } else { "JSON lines" })
    }
}

/// A case in the process that is measured.
pub struct Alone {
    case: Case,
    folder: PathBuf,
}

impl Alone {
    pub fn run(&self) -> Result<Figures> {
        let (case, folder) = (&self.case, &self.folder);
        let mut figures = match case.what {
            What::Alone => return alone::measure(&self.job()?, case.model, folder),
            What::Engine | What::OnnxRuntime | What::EmptyModel => {
                timed(|figures| self.engine(figures))?
            }
            What::Stages => {
                let (job, stages) = (Arc::new(self.job()?), StageClock::on());
                let options = RunOptions {
                    workers: 1,
                    input: self.input(),
                    stages: stages.clone(),
                    overwrite: true,
                    ..RunOptions::default()
                };
                let mut figures = timed(|figures| {
                    figures.rows = replay(&job, &options)?.account.read as f64;
                    Ok(())
                })?;
                figures.stages = per_event(&stages, &figures);
                figures
            }
        };
        figures.peak_mib = peak_mib()?;
        Ok(figures)
    }

    fn engine(&self, figures: &mut Figures) -> Result<()> {
        let mut pipeline =
            Pipeline::new(self.job()?).workers(self.case.workers).out(self.folder.join("results"));
        if let Some(input) = self.input() {
            pipeline = pipeline.input(input);
        }
        if self.case.what == What::EmptyModel {
            pipeline = pipeline.model(|_features| Ok(Box::new(Empty)));
        }
        let summary = pipeline.run()?;
        figures.rows = summary.account.read as f64;
        figures.batch_rows = summary.account.predictions as f64 / summary.batches.max(1) as f64;
        Ok(())
    }

    fn job(&self) -> Result<Job> {
        let (model, folder) = (self.case.model, &self.folder);
        let mut job = Job::load(&root().join("jobs/flights.toml"))?;
        let data = root().join("data/flights");
        let file = job.model.as_mut().context("a model")?;
        file.path = data.join(format!("models/{model}.onnx"));
        if self.case.what == What::OnnxRuntime {
            file.engine = ModelEngine::OnnxRuntime;
        }
        job.drift.as_mut().context("drift")?.baseline =
            data.join(format!("baseline-{model}.parquet"));
        job.outputs = job.outputs.below(folder);
        Ok(job)
    }

    fn input(&self) -> Option<PathBuf> {
        (self.case.input == Input::JsonLines).then(|| json_lines(&self.folder))
    }
}

/// ns an event of each stage, of what is in none of them, and of all.
fn per_event(stages: &StageClock, figures: &Figures) -> Vec<(String, f64)> {
    let ns = |seconds: f64| seconds * 1e9 / figures.rows;
    let spent = stages.spent().into_iter();
    let mut rows: Vec<(String, f64)> =
        spent.map(|(name, took)| (name.to_owned(), ns(took.as_secs_f64()))).collect();
    let others = ns(figures.wall_s) - rows.iter().map(|(_, ns)| ns).sum::<f64>();
    rows.push(("start, end and what is between".to_owned(), others));
    rows.push(("all".to_owned(), ns(figures.wall_s)));
    rows
}

/// Wall and CPU time of the process while it measures.
pub fn timed(run: impl FnOnce(&mut Figures) -> Result<()>) -> Result<Figures> {
    let mut figures = Figures::default();
    let (started, cpu) = (Instant::now(), cpu_s()?);
    run(&mut figures)?;
    figures.wall_s = started.elapsed().as_secs_f64();
    figures.cpu_s = cpu_s()? - cpu;
    Ok(figures)
}

fn cpu_s() -> Result<f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind_name = stat.rsplit_once(')').context("a name")?.1;
    let ticks = behind_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_A_SECOND)
}

pub fn peak_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kib: f64 = peak.trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

fn json_lines(folder: &Path) -> PathBuf {
    folder.join("departures.jsonl")
}

/// The departures as JSON lines, unless they are there.
fn make_json_lines(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let rows = read_parquet(&root().join("data/flights/departures.parquet"))?;
    let mut writer = LineDelimitedWriter::new(BufWriter::new(File::create(path)?));
    writer.write(&rows)?;
    Ok(writer.finish()?)
}
