//! What a run says when it is over.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftline_operators::accounting::{Account, Counters, TableState, WindowState};
use driftline_operators::control::Since;
use driftline_operators::drift::baseline::ReferenceKind;
use driftline_operators::features::refusals::Refused;
use driftline_operators::features::validity::OnFail;
use driftline_operators::latency::LatencyFigures;
use driftline_operators::model::ModelIdentity;
use driftline_operators::partition_names::PartitionNames;

use super::baseline_file::BaselineFile;
use super::engine::Ended;
use super::letters;
use super::loading::{LoadedModel, describe};
use super::numbers::thousands;
use super::outputs::{Target, Targets};
use super::performance::{latency, latency_target, success, throughput_target};
use super::route_lines;
use super::scoring::ScoringParts;
use super::served;
use super::switching::{ModelSwitched, RouteChange, RouteChanged, RouteWeights, breaker_name};
use crate::config::Job;
use crate::config::duration::instant_rfc3339;
use crate::config::job::{Compression, Format, Output};

/// The closing words of a run.
pub struct Summary {
    what: &'static str,
    pub account: Account,
    /// Of the predictions of a replay.
    pub latency: Option<LatencyFigures>,
    pub took: Duration,
    pub workers: usize,
    /// Micro-batches that were scored.
    pub batches: u64,
    /// The most CPU time that a turn of each operator took, while which the others of its worker waited.
    pub turns: Vec<(&'static str, Duration)>,
    /// By rule, what became of rows that failed it and how many did.
    pub failed_rules: Vec<(String, OnFail, u64)>,
    lines: Vec<(&'static str, String)>,
    lateness: Vec<(&'static str, String)>,
    /// What was found strange in the data, and what results depend on that they should not.
    pub warnings: Vec<String>,
    /// Rows that are null because SQL failed on them, by feature.
    pub refused: Vec<(String, Refused)>,
    /// Drifted columns by window, filled in from the snapshots.
    pub drift: Vec<String>,
    next: Vec<String>,
    /// Why the run has failed all the same: more records are dead letters than the job allows.
    pub too_many_dead_letters: Option<String>,
}

impl Summary {
    fn new(what: &'static str, counters: &Counters, ended: &Ended) -> Self {
        Summary {
            what,
            account: counters.account(),
            latency: None,
            took: ended.took,
            workers: ended.workers,
            batches: counters.batch_sizes().batches(),
            turns: ended.turns.clone(),
            failed_rules: ended.failed_rules.clone(),
            lines: Vec::new(),
            lateness: ended.lateness.clone(),
            warnings: ended.warnings.clone(),
            refused: ended.refused.clone(),
            drift: Vec::new(),
            next: Vec::new(),
            too_many_dead_letters: None,
        }
    }

    pub fn of_replay(
        job: &Job,
        parts: &ScoringParts,
        counters: &Counters,
        ended: &Ended,
        targets: &Targets,
    ) -> Self {
        let mut summary = Summary::new("predictions", counters, ended);
        let sizes = counters.batch_sizes();
        let model = |model: &LoadedModel| {
            let ModelIdentity { name, version } = &model.identity;
            ("model", format!("{name} version {version} ({})", describe(model.dependence)))
        };
        summary.lines = parts.all().map(model).collect();
        summary.lines.extend([(
            "batches",
            format!(
                "{}, median {} rows, {:.1} µs a row in the model, longest wait {:.1} ms",
                thousands(sizes.batches()),
                sizes.median(),
                counters.inference_time().as_secs_f64() * 1e6
                    / counters.scored_rows().max(1) as f64,
                counters.longest_wait().as_secs_f64() * 1e3
            ),
        )]);
        summary.lines.extend(longest_turns(&ended.turns).map(|text| ("longest turn", text)));
        let said = served::inference(&job.realtime, &parts.model.file.card);
        summary.lines.extend(said);
        let switched = parts.switched();
        let switched = switched.iter().map(|to| ("switched", switched_line(to)));
        summary.lines.extend(switched);
        let changed = parts.models().routes_changed();
        summary.lines.extend(changed.iter().map(|to| ("changed", changed_line(to))));
        let of_models = parts.all().flat_map(|model| {
            let run_by = model.why_not_compiled.iter().map(|why| ("run by", why.clone()));
            run_by.chain(model.parity.iter().map(|found| ("parity", found.clone())))
        });
        summary.lines.extend(of_models);
        let routes = parts.routes.iter();
        summary.lines.extend(routes.flat_map(|routes| route_lines::lines(routes, counters)));
        let latencies = parts.latencies.figures();
        summary.latency = Some(latencies);
        summary
            .lines
            .extend([("success", success(&summary.account)), ("latency", latency(&latencies))]);
        let throughput = throughput_target(job, &summary.account, ended.took);
        summary.lines.extend(throughput.map(|text| ("throughput", text)));
        let target = latency_target(parts.max_latency_ms, &latencies);
        summary.lines.extend(target.map(|text| ("max latency", text)));
        summary.state(counters);
        if counters.late() > 0 {
            summary.lines.push(("late", format!("{} rows", thousands(counters.late()))));
        }
        let late_for_drift = counters.late_for_drift().rows;
        if late_for_drift > 0 {
            let rows = thousands(late_for_drift);
            let text = format!("{rows} late rows, in windows that were final");
            summary.lines.push(("not in drift", text));
        }
        summary.output("predictions", Some(&targets.predictions));
        if job.drift.is_some() {
            summary.output("drift", targets.drift.as_ref());
        } else if targets.predictions.files().is_some() {
            let advice = "add a section [drift] to the job, and run `driftline baseline`";
            summary.next.push(advice.to_owned());
        }
        if summary.account.dead_letters > 0 {
            summary.output("letters in", Some(&targets.dead_letters));
        }
        summary
    }

    /// Where an output is: its topic, or its files and how to look at them.
    fn output(&mut self, name: &'static str, target: Option<&Target>) {
        match target {
            Some(Target::Files(output)) => {
                self.lines.push((name, shown(&output.path)));
                self.next.push(look_at(output));
            }
            Some(Target::Topic(topic)) => self.lines.push((name, format!("topic {topic}"))),
            _ => {}
        }
    }

    /// What there is to say of the input.
    #[must_use]
    pub fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.lines.extend(notes.into_iter().map(|note| ("note", note)));
        self
    }

    /// What there is to say of dead letters; more than `share_max` of the records read are too many.
    #[must_use]
    pub fn with_letters(
        mut self,
        counters: &Counters,
        names: &PartitionNames,
        share_max: Option<f64>,
    ) -> Self {
        self.lines.extend(letters::lines(counters, names));
        self.too_many_dead_letters = letters::too_many(counters, share_max);
        self
    }

    /// What the graph held to keep rows in order and features at hand.
    fn state(&mut self, counters: &Counters) {
        let waited = counters.gate_rows_most();
        if waited > 0 {
            self.lines.push(("order gate", format!("{} rows at most", thousands(waited))));
        }
        self.lines.extend(window_state(counters).map(|state| ("windows", state)));
        self.lines.extend(table_state(counters).map(|state| ("tables", state)));
        self.lines.extend(sorted_tables(counters).map(|files| ("sorted", files)));
    }

    pub fn of_export(
        counters: &Counters,
        ended: &Ended,
        features: &Target,
        dead_letters: &Target,
    ) -> Self {
        let mut summary = Summary::new("feature rows", counters, ended);
        summary.state(counters);
        summary.output("features", Some(features));
        if summary.account.dead_letters > 0 {
            summary.lines.extend(letters::not_kept(dead_letters));
            summary.output("letters in", Some(dead_letters));
        }
        summary
    }

    pub fn of_baseline(
        counters: &Counters,
        ended: &Ended,
        path: &Path,
        file: &BaselineFile,
    ) -> Self {
        let mut summary = Summary::new("predictions", counters, ended);
        summary.lines.push(("baseline", shown(path)));
        let rows = thousands(file.rows);
        let reference = match file.kind {
            ReferenceKind::Full => format!("all {rows} rows"),
            ReferenceKind::Sample => {
                format!("a sample of {} of {rows} rows", thousands(file.rows_held))
            }
        };
        summary.lines.push(("reference", reference));
        let infinite = file.baseline.references.iter().filter_map(|(name, reference)| {
            let values = match reference.moments.infinite {
                0 => return None,
                1 => "1 infinite value".to_owned(),
                several => format!("{} infinite values", thousands(several)),
            };
            Some(("infinite", format!("{name}: {values}, left out of mean and deviation")))
        });
        summary.lines.extend(infinite);
        summary.next.push("`driftline replay` measures drift against it".to_owned());
        summary
    }
}

/// How many keys have window state, by worker, and how many rows they held at most.
fn window_state(counters: &Counters) -> Option<String> {
    let mut by_key: BTreeMap<String, Vec<WindowState>> = BTreeMap::new();
    for (key, _, state) in counters.window_states() {
        by_key.entry(key).or_default().push(state);
    }
    let texts = by_key.into_iter().map(|(key, states)| {
        let keys: Vec<String> = states.iter().map(|state| thousands(state.keys_most)).collect();
        let rows = thousands(states.iter().map(|state| state.rows_most).sum());
        let forgotten = match states.iter().map(|state| state.forgotten).sum() {
            0 => String::new(),
            forgotten => format!("; {} forgotten, over max_keys", thousands(forgotten)),
        };
        format!("{} keys by {key} ({rows} rows at most{forgotten})", keys.join(" + "))
    });
    let text = texts.collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(text)
}

/// How many versions of as-of tables were read and held.
fn table_state(counters: &Counters) -> Option<String> {
    let texts = counters.table_states().into_iter().map(|(name, state)| {
        let held = thousands(state.versions_most.values().sum());
        let late = match state.rows_late {
            0 => String::new(),
            late => format!(", {} late", thousands(late)),
        };
        format!("{name}: {} versions{late}, {held} held at most", thousands(state.rows_read))
    });
    let text = texts.collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then_some(text)
}

/// The files of tables whose rows were not in order of time, by table.
fn sorted_tables(counters: &Counters) -> Option<String> {
    let sorted = counters.table_states().into_iter().filter(|(_, state)| !state.sorted.is_empty());
    let texts = sorted.map(|(name, state)| format!("{name}: {}", not_in_order(&state.sorted)));
    let text = texts.collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then_some(text)
}

/// That files are not in order of time, some of them by name.
pub fn not_in_order(files: &[String]) -> String {
    match files {
        [one] => format!("{} is not in order of time", shown(Path::new(one))),
        [first, more @ ..] => {
            let first = shown(Path::new(first));
            format!("{first} and {} more files are not in order of time", more.len())
        }
        [] => String::new(),
    }
}

/// Versions that came behind the watermark of their table: what events found of it depends on what had
/// come by then.
pub fn late_versions(counters: &Counters) -> Vec<String> {
    let late = counters.table_states().into_iter().filter(|(_, state)| state.rows_late > 0);
    let text = |(name, state): (String, TableState)| {
        let (rows, behind) = (thousands(state.rows_late), state.behind_ms_most);
        let rows = if state.rows_late == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
        format!(
            "tables.{name}: {rows} came later than allowed_lateness_ms has events wait for them, up to \
             {behind} ms behind: features that read the table depend on how its input was cut; \
             tables.{name}.allowed_lateness_ms = {behind} would have them all in time"
        )
    };
    late.map(text).collect()
}

pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|folder| folder.canonicalize());
    let whole = path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    match here.ok().and_then(|here| whole.strip_prefix(here).map(Path::to_owned).ok()) {
        Some(short) if !short.as_os_str().is_empty() => short.display().to_string(),
        _ => whole.display().to_string(),
    }
}

fn look_at(output: &Output) -> String {
    let path = shown(&output.path);
    match (output.format, output.compression) {
        (Format::Parquet, _) => {
            format!("python3 -c \"import pandas; print(pandas.read_parquet('{path}'))\"")
        }
        (_, None) => format!("head {path}/*"),
        (_, Some(Compression::Gzip)) => format!("zcat {path}/* | head"),
        (_, Some(Compression::Zstd)) => format!("zstdcat {path}/* | head"),
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Account { read, predictions, skipped, dead_letters, pending } = self.account;
        let seconds = self.took.as_secs_f64();
        let workers = if self.workers == 1 {
            "1 worker".to_owned()
        } else {
            format!("{} workers", self.workers)
        };
        writeln!(
            f,
            "{} events in {seconds:.2} s, {} events/s, {workers}",
            thousands(read),
            thousands((read as f64 / seconds) as u64)
        )?;
        writeln!(
            f,
            "  account       {} = {} {} + {} skipped + {} dead letters + {pending} pending",
            thousands(read),
            thousands(predictions),
            self.what,
            thousands(skipped),
            thousands(dead_letters)
        )?;
        for (name, value) in self.lines.iter().chain(&self.lateness) {
            writeln!(f, "  {name:<13} {value}")?;
        }
        for (name, on_fail, rows) in &self.failed_rules {
            let became = match on_fail {
                OnFail::DeadLetter => "not scored",
                OnFail::Default => "set to the default",
                OnFail::Clip => "clipped",
                OnFail::Flag => "flagged",
            };
            let rows = thousands(*rows);
            let noun = if rows == "1" { "row" } else { "rows" };
            writeln!(f, "  {:<13} {name}: {rows} {noun} {became}", "failed rule")?;
        }
        for (name, Refused { rows, why }) in &self.refused {
            let rows = thousands(*rows);
            let null = if rows == "1" { "row null" } else { "rows null" };
            writeln!(f, "  {:<13} {name}: {rows} {null} ({why})", "sql errors")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning       {warning}")?;
        }
        if !self.drift.is_empty() {
            writeln!(f, "drifted columns, by window")?;
            for line in &self.drift {
                writeln!(f, "  {line}")?;
            }
        }
        for (at, step) in self.next.iter().enumerate() {
            writeln!(f, "{} {step}", if at == 0 { "next:" } else { "     " })?;
        }
        Ok(())
    }
}

/// The CPU time of the longest turn of each operator.
fn longest_turns(turns: &[(&'static str, Duration)]) -> Option<String> {
    let turn = |(of, took): &(&str, Duration)| format!("{of} {:.1} ms", took.as_secs_f64() * 1e3);
    let turns: Vec<String> = turns.iter().map(turn).collect();
    (!turns.is_empty()).then(|| turns.join(", "))
}

/// A version that took the place of the one before.
fn switched_line(to: &ModelSwitched) -> String {
    let of = to.of.as_ref().map(|of| format!("{of} ")).unwrap_or_default();
    format!("{of}to version {} from {}", to.model.version, since_text(to.since))
}

/// What has been changed of routes.
fn changed_line(to: &RouteChanged) -> String {
    let what = match &to.change {
        RouteChange::Weights(RouteWeights { route, weights }) => {
            let weights = weights.iter().map(|(variant, weight)| format!("{variant}={weight}"));
            format!("{route}:{}", weights.collect::<Vec<_>>().join(","))
        }
        RouteChange::Breaker { model, breaker } => {
            format!("circuit breaker of {model} to {}", breaker_name(*breaker))
        }
    };
    format!("{what} from {}", since_text(to.since))
}

fn since_text(since: Since) -> String {
    match since {
        // Before any event.
        Since::EventTime(i64::MIN) => "the beginning on".to_owned(),
        Since::EventTime(i64::MAX) => "the end on, for late events".to_owned(),
        // As --model-since takes it.
        Since::EventTime(time) => format!("{} on", instant_rfc3339(time)),
        Since::Epoch(epoch) => format!("epoch {epoch} on"),
    }
}
