//! What a run says of its routes: what scored how many rows, how variants differ, what shadows say.

use std::collections::BTreeMap;

use driftline_operators::accounting::{Counters, LaneFigures, Moments, ShadowFigures};
use driftline_operators::numeric::confidence_sequence::{ConfidenceSequence, Sample};
use driftline_operators::routes::table::{Choice, Lane, RouteTable};

use super::numbers::thousands;

/// Sequences are narrowest about so many rows; their level is 95 %.
const ROWS_OF_INTEREST: u64 = 1_000;
const ALPHA: f64 = 0.05;

/// Lines of the summary, by what they are about.
pub fn lines(routes: &RouteTable, counters: &Counters) -> Vec<(&'static str, String)> {
    let figures = counters.lanes();
    let mut lines = Vec::new();
    for (at, route) in routes.routes.iter().enumerate() {
        let lanes = routes.lanes.iter().enumerate().filter(|(_, lane)| lane.route == at);
        let lanes: Vec<(usize, &Lane)> = lanes.collect();
        let by_name = matches!(route.choice, Choice::ByName { .. });
        for (place, lane) in &lanes {
            let of = figures.get(place).cloned().unwrap_or_default();
            // Of those that rows may name most are named by none.
            if by_name && of.rows == 0 {
                continue;
            }
            lines.push(("route", lane_line(routes, &route.name, lane, &of)));
        }
        lines.extend(differences(&route.name, &lanes, &figures).map(|text| ("difference", text)));
        for (place, lane) in &lanes {
            let Some(of) = figures.get(place) else { continue };
            let shadows = of.shadows.iter();
            lines.extend(shadows.map(|(shadow, said)| {
                let beside = named(&route.name, lane);
                let text = shadow_line(routes.name_of(*shadow), &beside, said, of.shed);
                ("shadow", text)
            }));
        }
    }
    for (model, of) in counters.batches_by_model() {
        let causes = of.causes.iter().map(|(cause, count)| {
            (
                "failed",
                format!("{} version {}: {}: {cause}", model.name, model.version, rows(*count)),
            )
        });
        lines.extend(causes);
        let told: u64 = of.causes.values().sum();
        if of.failed > told {
            let more = format!(
                "{} version {}: {} for other causes",
                model.name,
                model.version,
                rows(of.failed - told)
            );
            lines.push(("failed", more));
        }
    }
    let skipped = counters.without_route();
    if skipped > 0 {
        lines.push(("no route", format!("{} skipped: no route takes them", rows(skipped))));
    }
    lines
}

fn named(route: &str, lane: &Lane) -> String {
    match &lane.variant {
        Some(variant) => format!("{route}/{variant}"),
        None => route.to_owned(),
    }
}

fn rows(count: u64) -> String {
    let noun = if count == 1 { "row" } else { "rows" };
    format!("{} {noun}", thousands(count))
}

fn lane_line(routes: &RouteTable, route: &str, lane: &Lane, of: &LaneFigures) -> String {
    let (name, scores) = (named(route, lane), routes.name_of(lane.chain[0]));
    let mut text = format!("{name}: {} by {scores}", rows(of.rows));
    if of.degraded > 0 {
        text += &format!(", {} of them degraded", thousands(of.degraded));
    }
    if of.scores.count > 0 {
        text += &format!(", mean score {:.4}", of.scores.mean());
    }
    if of.confidences.count > 0 {
        text += &format!(", mean confidence {:.4}", of.confidences.mean());
    }
    text
}

/// By how much the second and further variants of a route differ from the first.
fn differences(
    route: &str,
    lanes: &[(usize, &Lane)],
    figures: &BTreeMap<usize, LaneFigures>,
) -> impl Iterator<Item = String> {
    let mut texts = Vec::new();
    let sequence = ConfidenceSequence::tuned_for(ROWS_OF_INTEREST, ALPHA);
    let variants = lanes.iter().filter_map(|(place, lane)| Some((*place, lane.variant.as_ref()?)));
    let variants: Vec<(usize, &String)> = variants.collect();
    let Some((first, others)) = variants.split_first() else { return texts.into_iter() };
    let of = |place: usize| figures.get(&place).cloned().unwrap_or_default();
    let base = of(first.0);
    for (place, name) in others {
        let other = of(*place);
        for (what, one, two) in [
            ("score", &other.scores, &base.scores),
            ("confidence", &other.confidences, &base.confidences),
        ] {
            if one.count == 0 || two.count == 0 {
                continue;
            }
            let Some(found) = sequence.difference(sample(one), sample(two)) else { continue };
            let (low, high) = found.bounds();
            let verdict = if found.is_not_zero() { "they differ" } else { "it may be none" };
            texts.push(format!(
                "{route}: {what} of {name} − {}: {:+.4}, at 95 % within {low:+.4} and {high:+.4}: {verdict}",
                first.1, found.value
            ));
        }
    }
    texts.into_iter()
}

fn sample(moments: &Moments) -> Sample {
    let n = moments.count;
    let variance = moments.variance() * n as f64 / n.saturating_sub(1).max(1) as f64;
    Sample { n, mean: moments.mean(), variance }
}

fn shadow_line(shadow: &str, beside: &str, of: &ShadowFigures, shed: u64) -> String {
    let mut text = format!("{shadow} beside {beside}: {}", rows(of.rows));
    for (count, what) in [(of.failed, "failed"), (shed, "left out under load")] {
        if count > 0 {
            text += &format!(", {} {what}", thousands(count));
        }
    }
    if of.compared > 0 {
        let share = of.different as f64 / of.compared as f64;
        text += &format!(
            ", {:.2} % decide otherwise, scores differ by {:.4} on average and {:.4} at most",
            share * 100.0,
            of.distance.mean(),
            of.largest_distance
        );
    }
    text
}
