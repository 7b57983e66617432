//! Routes and what scores together, in words.

use driftline_operators::routes::ensemble::{Ensemble, Policy};
use driftline_operators::routes::table::{Cascade, Scores};

use crate::config::routing::{DeclaredRoute, Pick, Routing};

/// What a job says of what scores its rows beside models, a name and a text each.
pub fn routing(routing: &Routing) -> Vec<(String, String)> {
    let name = |scores: &Scores| match scores {
        Scores::Model(at) => routing.models[*at].0.clone(),
        Scores::Ensemble(at) => routing.ensembles[*at].name.clone(),
        Scores::Cascade(at) => routing.cascades[*at].name.clone(),
    };
    let model = |at: usize| routing.models[at].0.as_str();
    let ensembles = routing.ensembles.iter().map(|Ensemble { name, policy, members, .. }| {
        let members =
            members.iter().map(|member| format!("{} × {}", member.weight, model(member.model)));
        let members = members.collect::<Vec<_>>().join(", ");
        let how = match policy {
            Policy::WeightedAverage => "weighted average of".to_owned(),
            Policy::Max => "the surest of".to_owned(),
            Policy::Majority => "the vote of".to_owned(),
            Policy::Stacking { by } => format!("{} over the scores of", model(*by)),
        };
        (format!("ensemble {name}"), format!("{how} {members}"))
    });
    let cascades =
        routing.cascades.iter().map(|Cascade { name, first, then, confidence_below }| {
            let (first, then) = (model(*first), model(*then));
            let text =
                format!("{first}, then {then} where its confidence is below {confidence_below}");
            (format!("cascade {name}"), text)
        });
    let routes =
        routing.routes.iter().map(|route| (format!("route {}", route.name), picked(route, &name)));
    ensembles.chain(cascades).chain(routes).collect()
}

fn picked(route: &DeclaredRoute, name: &impl Fn(&Scores) -> String) -> String {
    let DeclaredRoute { when, pick, fallback, shadow, .. } = route;
    let rows =
        when.as_ref().map_or_else(|| "all rows".to_owned(), |when| format!("rows where {when}"));
    let by = match pick {
        Pick::One(scores) => format!("by {}", name(scores)),
        Pick::From(text) => format!("by what {text} names"),
        Pick::Variants { by, salt, variants, weights } => {
            let shares = variants.iter().zip(weights.weights());
            let shares = shares.map(|((variant, scores), weight)| {
                format!("{variant} {} % by {}", f64::from(*weight) / 100.0, name(scores))
            });
            let by = by.as_deref().unwrap_or("the request id");
            format!("{} of {by} (salt {salt:?})", shares.collect::<Vec<_>>().join(", "))
        }
    };
    let more = [("; where that fails by", fallback), ("; beside it", shadow)];
    let more = more.into_iter().filter(|(_, all)| !all.is_empty()).map(|(what, all)| {
        format!("{what} {}", all.iter().map(name).collect::<Vec<_>>().join(", "))
    });
    format!("{rows}: {by}{}", more.collect::<String>())
}
