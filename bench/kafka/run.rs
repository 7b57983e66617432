//! A live run of the flights job as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::broker::Broker;
use crate::root;

pub const EVENTS: &str = "bench-events";
pub const PREDICTIONS: &str = "bench-predictions";
const DEAD_LETTERS: &str = "bench-dead-letters";
const ALERTS: &str = "bench-alerts";
pub const WEATHER: &str = "bench-weather";

pub struct Run {
    child: Child,
    lines: BufReader<std::process::ChildStderr>,
}

/// What is known of a process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub cpu_s: f64,
    pub said: String,
}

/// Makes the topics that results go to empty.
pub fn empty_results(broker: &Broker, partitions: i32) -> Result<()> {
    broker.empty_topic(PREDICTIONS, partitions)?;
    broker.empty_topic(DEAD_LETTERS, 1)?;
    broker.empty_topic(ALERTS, 1)
}

impl Run {
    /// Starts it with a model and what runs that; `start` is where the events begin.
    pub fn start(
        broker: &Broker,
        model: (&str, &str),
        start: &str,
        options: &[&str],
    ) -> Result<Self> {
        Run::start_program(&program()?, broker, model, start, options)
    }

    /// The same, of another program than [`program`].
    pub fn start_program(
        program: &str,
        broker: &Broker,
        (model, engine): (&str, &str),
        start: &str,
        options: &[&str],
    ) -> Result<Self> {
        let data = root().join("data/flights");
        let group = format!("bench-{}", std::process::id());
        let drift = std::env::temp_dir().join(format!("driftline-bench-{}", std::process::id()));
        let mut command = Command::new(program);
        // Of a job of one's own, such as one with several models, the models are its own, too.
        let own = std::env::var_os("DRIFTLINE_BENCH_JOB").map(PathBuf::from);
        let has_own_models = own.is_some();
        let job = own.unwrap_or_else(|| root().join("jobs/flights-live.toml"));
        command.arg("run").arg(job).args(options);
        for (key, value) in [
            ("KAFKA__BOOTSTRAP_SERVERS", broker.servers.as_str()),
            ("SOURCES__DEPARTURES__TOPIC", EVENTS),
            ("SOURCES__DEPARTURES__GROUP", &group),
            ("SOURCES__DEPARTURES__START", start),
            ("TABLES__WEATHER__TOPIC", WEATHER),
            ("SINKS__PREDICTIONS__TOPIC", PREDICTIONS),
            ("SINKS__DEAD_LETTERS__TOPIC", DEAD_LETTERS),
            ("SINKS__ALERTS__TOPIC", ALERTS),
            ("SINKS__DRIFT__PATH", &drift.display().to_string()),
            ("MODEL__ENGINE", engine),
            ("MODEL__PATH", &data.join(format!("models/{model}.onnx")).display().to_string()),
            (
                "DRIFT__BASELINE",
                &data.join(format!("baseline-{model}.parquet")).display().to_string(),
            ),
        ] {
            if !(has_own_models && key.starts_with("MODEL__")) {
                command.env(format!("STREAMING_{key}"), value);
            }
        }
        let mut child = command.stderr(Stdio::piped()).spawn().context("the program")?;
        let mut lines = BufReader::new(child.stderr.take().context("its standard error")?);
        let mut line = String::new();
        while !line.starts_with("running") {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                bail!("the run did not start");
            }
            if line.starts_with("error") {
                bail!("{line}");
            }
        }
        Ok(Run { child, lines })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop.
    pub fn stop(self) -> Result<Ended> {
        Command::new("kill").arg(self.id().to_string()).status()?;
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub fn wait(mut self) -> Result<Ended> {
        let (mut said, mut line) = (String::new(), String::new());
        while self.lines.read_line(&mut line)? > 0 {
            said.push_str(&line);
            line.clear();
        }
        // What it used is known until it is waited for.
        let cpu_s = cpu_s(self.id()).unwrap_or_default();
        if !self.child.wait()?.success() {
            bail!("the run failed: {said}");
        }
        Ok(Ended { cpu_s, said })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that is measured.
pub fn program() -> Result<String> {
    std::env::var("DRIFTLINE_BIN").context("DRIFTLINE_BIN names no program")
}

/// CPU time of a process.
pub fn cpu_s(process: u32) -> Result<f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let behind_name = stat.rsplit_once(')').context("a name")?.1;
    let ticks = behind_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_A_SECOND)
}

/// Resident memory of a process, in MiB: now, and at most.
pub fn memory_mib(process: u32) -> Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let value = status.lines().find_map(|line| line.strip_prefix(name)).context("a field")?;
        Ok(value.trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// How long something may take that should take no time.
pub const PATIENCE: Duration = Duration::from_secs(60);
