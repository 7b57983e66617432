//! Where results go.

use std::path::Path;
use std::sync::Arc;

use driftline_operators::prediction;

use super::problem::Problem;
use crate::config::job::{Format, Output, Outputs};
use crate::config::raw::{SinkSection, SinksSection};

/// Refuses a key that only predictions can have, where another output has it.
pub(super) fn check_others_lack(
    sinks: &SinksSection,
    key: &str,
    has: impl Fn(&SinkSection) -> bool,
    message: &str,
) -> Result<(), Problem> {
    let others =
        [("drift", &sinks.drift), ("dead_letters", &sinks.dead_letters), ("alerts", &sinks.alerts)];
    match others.into_iter().find(|(_, sink)| sink.as_ref().is_some_and(&has)) {
        Some((name, _)) => Err(Problem::at(format!("sinks.{name}.{key}"), message)),
        None => Ok(()),
    }
}

/// The columns of predictions that are not among those that the job wants.
pub(super) fn left_out_of_predictions(
    sinks: &SinksSection,
    has_routes: bool,
) -> Result<Arc<[String]>, Problem> {
    let message = "only predictions have columns to choose from";
    check_others_lack(sinks, "columns", |sink| sink.columns.is_some(), message)?;
    let columns = sinks.predictions.as_ref().and_then(|sink| sink.columns.as_ref());
    let Some(columns) = columns else { return Ok(Arc::from([])) };
    let wanted: Vec<&str> = columns.iter().map(|&column| column.into()).collect();
    let key = "sinks.predictions.columns";
    if wanted.is_empty() {
        return Err(Problem::at(key, "name at least one column"));
    }
    if let Some((_, twice)) =
        (1..).zip(&wanted).find(|(behind, name)| wanted[*behind..].contains(name))
    {
        return Err(Problem::at(key, format!("{twice:?} is there twice")));
    }
    let of_routes = prediction::ROUTE_COLUMNS;
    if let Some(name) = of_routes.iter().find(|name| wanted.contains(name) && !has_routes) {
        return Err(Problem::at(key, format!("{name:?} is a column of jobs that have [routes]")));
    }
    let all = prediction::COLUMNS.iter().chain(&of_routes);
    let left_out = all.filter(|name| !wanted.contains(name));
    Ok(left_out.map(|&name| name.to_owned()).collect())
}

/// One that is not set stands below `out/JOB` beside the job file.
pub(super) fn check_sinks(raw: SinksSection, folder: &Path, job: &str) -> Result<Outputs, Problem> {
    let base = folder.join("out").join(job);
    let output = |name: &str, sink: Option<SinkSection>| {
        let Some(SinkSection { path, format, compression, .. }) = sink else {
            return Ok(Output::parquet(base.join(name)));
        };
        if format == Format::Parquet && compression.is_some() {
            let message = "has no effect on Parquet, which is compressed in itself; set format";
            return Err(Problem::at(format!("sinks.{name}.compression"), message));
        }
        let path = path.map_or_else(|| base.join(name), |path| folder.join(path));
        Ok(Output { path, format, compression })
    };
    Ok(Outputs {
        predictions: output("predictions", raw.predictions)?,
        drift: output("drift", raw.drift)?,
        dead_letters: output("dead_letters", raw.dead_letters)?,
    })
}
