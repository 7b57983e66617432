//! What is counted of the routes of a job.

use std::collections::BTreeMap;

use driftline_operators::accounting::{Counters, LaneFigures, Moments, ShadowFigures};
use driftline_operators::routes::table::{Breaker, Lane, RouteTable};
use prometheus::proto::MetricType;

use super::metrics::{Family, Values};
use crate::run::switching::RunModels;

const LANE: &[&str] = &["route", "variant"];

/// Metrics of a run that has routes; none otherwise.
pub(super) fn families(models: &RunModels, counters: &Counters) -> Vec<Family> {
    let Some(routes) = models.route_table() else { return Vec::new() };
    let figures = counters.lanes();
    let of = Of { routes, figures: &figures };
    let total = Family::new(MetricType::COUNTER);
    let size = Family::new(MetricType::GAUGE);
    let settings = models.settings();
    let weight = |(at, lane): (usize, &Lane)| {
        let first = routes.lanes.iter().position(|other| other.route == lane.route)?;
        let weights = settings.weights.get(lane.route)?.as_ref()?;
        Some((names(routes, lane), f64::from(*weights.weights().get(at - first)?)))
    };
    let breakers = routes.models.iter().zip(&settings.breakers).map(|(model, breaker)| {
        let state = match breaker {
            Breaker::Closed => 0.0,
            Breaker::HalfOpen(_) => 1.0,
            Breaker::Open => 2.0,
        };
        (vec![model.clone()], state)
    });
    vec![
        total(
            "driftline_route_rows_total",
            "Rows that were scored, by route and variant.",
            &["route", "variant", "status"],
            of.rows(),
        ),
        size(
            "driftline_route_score_mean",
            "Mean of the scores of a route and variant.",
            LANE,
            of.means(|figures| &figures.scores),
        ),
        size(
            "driftline_route_confidence_mean",
            "Mean of the confidences of a route and variant.",
            LANE,
            of.means(|figures| &figures.confidences),
        ),
        size(
            "driftline_route_weight",
            "Of how many of 10,000 ids rows have a variant.",
            LANE,
            routes.lanes.iter().enumerate().filter_map(weight).collect(),
        ),
        total(
            "driftline_events_without_route_total",
            "Events that no route takes; they are skipped.",
            &[],
            vec![(Vec::new(), counters.without_route() as f64)],
        ),
        total(
            "driftline_shadow_rows_total",
            "Rows of shadows, by what became of them.",
            &["route", "variant", "shadow", "outcome"],
            of.shadow_rows(),
        ),
        total(
            "driftline_shadow_other_decisions_total",
            "Rows that a shadow decides otherwise than the prediction does.",
            &["route", "variant", "shadow"],
            of.shadows(|figures| figures.different as f64),
        ),
        size(
            "driftline_shadow_score_distance_mean",
            "Mean distance of a shadow's scores from those of predictions.",
            &["route", "variant", "shadow"],
            of.shadows(|figures| match figures.distance.count {
                0 => 0.0,
                _ => figures.distance.mean(),
            }),
        ),
        size(
            "driftline_breaker_state",
            "Whether rows are kept from a model: 0 none, 1 most, 2 all.",
            &["model"],
            breakers.collect(),
        ),
    ]
}

struct Of<'a> {
    routes: &'a RouteTable,
    figures: &'a BTreeMap<usize, LaneFigures>,
}

fn names(routes: &RouteTable, lane: &Lane) -> Vec<String> {
    let route = routes.routes[lane.route].name.clone();
    vec![route, lane.variant.clone().unwrap_or_default()]
}

impl Of<'_> {
    fn lanes(&self) -> impl Iterator<Item = (Vec<String>, &LaneFigures)> {
        self.figures.iter().map(|(at, of)| (names(self.routes, &self.routes.lanes[*at]), of))
    }

    fn rows(&self) -> Values {
        let of_lane = |(names, of): (Vec<String>, &LaneFigures)| {
            let with = |status: &str| [names.clone(), vec![status.to_owned()]].concat();
            [(with("ok"), (of.rows - of.degraded) as f64), (with("degraded"), of.degraded as f64)]
        };
        self.lanes().flat_map(of_lane).collect()
    }

    fn means(&self, of: fn(&LaneFigures) -> &Moments) -> Values {
        let all = self.lanes().map(|(names, figures)| (names, of(figures)));
        all.filter(|(_, of)| of.count > 0).map(|(names, of)| (names, of.mean())).collect()
    }

    fn shadow_rows(&self) -> Values {
        let mut values = Vec::new();
        for (at, of) in self.figures {
            let lane = &self.routes.lanes[*at];
            for shadow in &lane.shadows {
                let said = of.shadows.get(shadow).cloned().unwrap_or_default();
                let named =
                    [names(self.routes, lane), vec![self.routes.name_of(*shadow).to_owned()]];
                for (outcome, rows) in
                    [("scored", said.rows), ("failed", said.failed), ("shed", of.shed)]
                {
                    let labels = [named.concat(), vec![outcome.to_owned()]].concat();
                    values.push((labels, rows as f64));
                }
            }
        }
        values
    }

    fn shadows(&self, figure: impl Fn(&ShadowFigures) -> f64) -> Values {
        let mut values = Vec::new();
        for (at, of) in self.figures {
            for (shadow, said) in &of.shadows {
                let mut labels = names(self.routes, &self.routes.lanes[*at]);
                labels.push(self.routes.name_of(*shadow).to_owned());
                values.push((labels, figure(said)));
            }
        }
        values
    }
}
