//! The sections `[models.NAME]`, `[ensembles.NAME]`, `[cascades.NAME]` and `[routes.NAME]`.

use std::collections::BTreeSet;
use std::path::Path;

use driftline_operators::routes::assignment::Weights;
use driftline_operators::routes::ensemble::{Ensemble, Member, Policy};
use driftline_operators::routes::table::{Cascade, Scores};
use indexmap::IndexMap;

use super::model::{NamedFeatures, check_named_model};
use super::problem::{Problem, suggestion};
use crate::config::job::Feature;
use crate::config::raw::words::PolicyWord;
use crate::config::raw::{
    CascadeSection, EnsembleSection, ModelSection, RouteSection, VariantSection,
};
use crate::config::routing::{DeclaredRoute, Pick, Routing};

/// The sections as they are typed.
pub(super) struct RawRouting {
    pub models: IndexMap<String, ModelSection>,
    pub ensembles: IndexMap<String, EnsembleSection>,
    pub cascades: IndexMap<String, CascadeSection>,
    pub routes: IndexMap<String, RouteSection>,
}

/// # Errors
/// The first thing that is wrong.
pub(super) fn check_routing(
    raw: RawRouting,
    has_model: bool,
    id: &Option<String>,
    features: &[(String, Feature)],
    folder: &Path,
    versions_kept: usize,
) -> Result<Option<Routing>, Problem> {
    let RawRouting { models, ensembles, cascades, routes } = raw;
    if models.is_empty() {
        let others = [
            ("ensembles", ensembles.keys().next()),
            ("cascades", cascades.keys().next()),
            ("routes", routes.keys().next()),
        ];
        return match others.into_iter().find_map(|(of, name)| Some((of, name?))) {
            None => Ok(None),
            Some((of, name)) => {
                let message = "it takes models by name: sections [models.NAME]";
                Err(Problem::at(format!("{of}.{name}"), message))
            }
        };
    }
    if has_model {
        let message = "the job has [models.NAME]; a [model] is for one that scores all rows";
        return Err(Problem::at("model", message));
    }
    if routes.is_empty() {
        let message =
            "the job has [models.NAME] and no [routes.NAME], which says what scores a row";
        return Err(Problem::at("routes", message));
    }
    check_unique(&models, &ensembles, &cascades)?;
    let names: Vec<String> = models.keys().cloned().collect();
    let ensembles: Vec<Ensemble> =
        ensembles.into_iter().map(|it| check_ensemble(it, &names)).collect::<Result<_, _>>()?;
    let cascades: Vec<Cascade> =
        cascades.into_iter().map(|it| check_cascade(it, &names)).collect::<Result<_, _>>()?;
    let mut routing = Routing { models: Vec::new(), ensembles, cascades, routes: Vec::new() };
    for (at, (name, section)) in models.into_iter().enumerate() {
        let members = routing.stacked_by(at).map(|ensemble| {
            ensemble.members.iter().map(|member| names[member.model].clone()).collect()
        });
        let of = NamedFeatures { name: &name, features, members: members.unwrap_or_default() };
        let model = check_named_model(section, &of, folder, versions_kept)?;
        routing.models.push((name, model));
    }
    for (name, section) in routes {
        let route = check_route(&name, section, &routing, id.as_ref())?;
        routing.routes.push(route);
    }
    check_used(&routing)?;
    Ok(Some(routing))
}

fn check_unique(
    models: &IndexMap<String, ModelSection>,
    ensembles: &IndexMap<String, EnsembleSection>,
    cascades: &IndexMap<String, CascadeSection>,
) -> Result<(), Problem> {
    let message = |of: &str| format!("[{of}] has that name, too; a route could mean either");
    if let Some(name) = ensembles.keys().find(|&name| models.contains_key(name)) {
        return Err(Problem::at(format!("ensembles.{name}"), message(&format!("models.{name}"))));
    }
    for name in cascades.keys() {
        let of = if models.contains_key(name) { "models" } else { "ensembles" };
        if models.contains_key(name) || ensembles.contains_key(name) {
            return Err(Problem::at(format!("cascades.{name}"), message(&format!("{of}.{name}"))));
        }
    }
    Ok(())
}

/// The place of a model that is named at a key.
fn model_at(key: String, name: &str, names: &[String]) -> Result<usize, Problem> {
    names.iter().position(|known| known == name).ok_or_else(|| {
        let nearest = suggestion(name, names.iter().map(String::as_str));
        Problem::at(key, format!("there is no section [models.{name}]; {nearest}"))
    })
}

fn check_ensemble(
    (name, raw): (String, EnsembleSection),
    names: &[String],
) -> Result<Ensemble, Problem> {
    let at = |key: &str| format!("ensembles.{name}.{key}");
    if raw.members.is_empty() {
        return Err(Problem::at(at("members"), "is empty; it names models and their weights"));
    }
    let member = |(model, weight): (&String, &f64)| {
        let key = at(&format!("members.{model}"));
        if !(*weight > 0.0 && weight.is_finite()) {
            return Err(Problem::at(key, format!("{weight} is no weight; it must be above 0")));
        }
        Ok(Member { model: model_at(key, model, names)?, weight: *weight })
    };
    let members = raw.members.iter().map(member).collect::<Result<Vec<_>, _>>()?;
    let policy = match (raw.policy, raw.by) {
        (PolicyWord::Stacking, Some(by)) => {
            let by = model_at(at("by"), &by, names)?;
            if members.iter().any(|member| member.model == by) {
                return Err(Problem::at(
                    at("by"),
                    "it is a member, whose scores it is to be given",
                ));
            }
            Policy::Stacking { by }
        }
        (PolicyWord::Stacking, None) => {
            return Err(Problem::at(
                at("by"),
                "policy = \"stacking\" takes the model that decides",
            ));
        }
        (_, Some(_)) => {
            return Err(Problem::at(at("by"), "has no effect; it goes with policy = \"stacking\""));
        }
        (PolicyWord::WeightedAverage, None) => Policy::WeightedAverage,
        (PolicyWord::Max, None) => Policy::Max,
        (PolicyWord::Majority, None) => Policy::Majority,
    };
    if raw.neutral.is_some_and(|neutral| !neutral.is_finite()) {
        return Err(Problem::at(at("neutral"), "it must be a number"));
    }
    Ok(Ensemble { name, policy, members, neutral: raw.neutral })
}

fn check_cascade(
    (name, raw): (String, CascadeSection),
    names: &[String],
) -> Result<Cascade, Problem> {
    let at = |key: &str| format!("cascades.{name}.{key}");
    let first = model_at(at("first"), &raw.first, names)?;
    let then = model_at(at("then"), &raw.then, names)?;
    if first == then {
        return Err(Problem::at(at("then"), "it is `first`, which would say the same again"));
    }
    if !(0.0..=1.0).contains(&raw.confidence_below) {
        return Err(Problem::at(at("confidence_below"), "must be from 0 to 1"));
    }
    Ok(Cascade { name, first, then, confidence_below: raw.confidence_below })
}

fn check_route(
    name: &str,
    raw: RouteSection,
    routing: &Routing,
    id: Option<&String>,
) -> Result<DeclaredRoute, Problem> {
    let at = |key: &str| format!("routes.{name}.{key}");
    let RouteSection { when, model, model_from, variants, by, salt, fallback, shadow } = raw;
    let has_variants = !variants.is_empty();
    for (key, is_set) in [("by", by.is_some()), ("salt", salt.is_some())] {
        if is_set && !has_variants {
            let message = "has no effect; it goes with [routes.NAME.variants]";
            return Err(Problem::at(at(key), message));
        }
    }
    let scores = |key: String, name: &str| named(routing, key, name);
    let pick = match (model, model_from, has_variants) {
        (Some(model), None, false) => Pick::One(scores(at("model"), &model)?),
        (None, Some(from), false) => Pick::From(from),
        (None, None, true) => {
            let (variants, weights) = check_variants(name, variants, routing)?;
            let salt = salt.unwrap_or_else(|| name.to_owned());
            Pick::Variants { by: by.or(id.cloned()), salt, variants, weights }
        }
        _ => {
            let message = "takes exactly one of model, model_from and variants";
            return Err(Problem::at(format!("routes.{name}"), message));
        }
    };
    let all = |key: &str, names: Vec<String>| {
        let found =
            names.iter().map(|name| scores(at(key), name)).collect::<Result<Vec<_>, _>>()?;
        match names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
            Some((_, twice)) => Err(Problem::at(at(key), format!("{twice:?} is there twice"))),
            None => Ok(found),
        }
    };
    let (fallback, shadow) = (all("fallback", fallback)?, all("shadow", shadow)?);
    if let Pick::One(own) = &pick {
        for (key, others) in [("fallback", &fallback), ("shadow", &shadow)] {
            if others.contains(own) {
                return Err(Problem::at(at(key), "it is the route's model itself"));
            }
        }
    }
    Ok(DeclaredRoute { name: name.to_owned(), when, pick, fallback, shadow })
}

/// What a name of a route is the name of.
fn named(routing: &Routing, key: String, name: &str) -> Result<Scores, Problem> {
    let Some(scores) = routing.named(name) else {
        let names = routing.names();
        let nearest = suggestion(name, names.iter().map(|(name, _)| name.as_str()));
        return Err(Problem::at(
            key,
            format!("{name:?} is no model, ensemble or cascade; {nearest}"),
        ));
    };
    match scores {
        Scores::Model(at) if routing.stacked_by(at).is_some() => {
            let message = format!("{name:?} takes scores of members (ensembles.NAME.by), not rows");
            Err(Problem::at(key, message))
        }
        _ => Ok(scores),
    }
}

type Variants = (Vec<(String, Scores)>, Weights);

fn check_variants(
    route: &str,
    variants: IndexMap<String, VariantSection>,
    routing: &Routing,
) -> Result<Variants, Problem> {
    let at = |variant: &str, key: &str| format!("routes.{route}.variants.{variant}.{key}");
    let mut weights = Vec::with_capacity(variants.len());
    let mut found = Vec::with_capacity(variants.len());
    for (variant, VariantSection { model, weight }) in variants {
        let scores = named(routing, at(&variant, "model"), &model)?;
        weights.push(weight);
        found.push((variant, scores));
    }
    let weights = Weights::new(weights)
        .map_err(|wrong| Problem::at(format!("routes.{route}.variants"), wrong.to_string()))?;
    Ok((found, weights))
}

/// A model that nothing is scored by is a mistake.
fn check_used(routing: &Routing) -> Result<(), Problem> {
    let mut used: BTreeSet<Scores> = BTreeSet::new();
    for route in &routing.routes {
        match &route.pick {
            Pick::One(scores) => drop(used.insert(*scores)),
            Pick::From(_) => return Ok(()),
            Pick::Variants { variants, .. } => {
                used.extend(variants.iter().map(|(_, scores)| *scores));
            }
        }
        used.extend(route.fallback.iter().chain(&route.shadow));
    }
    let models = |scores: &Scores| match scores {
        Scores::Model(at) => vec![*at],
        Scores::Ensemble(at) => routing.ensembles[*at].models(),
        Scores::Cascade(at) => vec![routing.cascades[*at].first, routing.cascades[*at].then],
    };
    let of_models: BTreeSet<usize> = used.iter().flat_map(models).collect();
    let message = "no route has anything scored by it";
    if let Some((name, _)) = routing
        .models
        .iter()
        .enumerate()
        .find(|(at, _)| !of_models.contains(at))
        .map(|(_, model)| model)
    {
        return Err(Problem::at(format!("models.{name}"), message));
    }
    let ensembles = routing.ensembles.iter().enumerate();
    if let Some((_, it)) =
        ensembles.into_iter().find(|(at, _)| !used.contains(&Scores::Ensemble(*at)))
    {
        return Err(Problem::at(format!("ensembles.{}", it.name), message));
    }
    let cascades = routing.cascades.iter().enumerate();
    match cascades.into_iter().find(|(at, _)| !used.contains(&Scores::Cascade(*at))) {
        Some((_, it)) => Err(Problem::at(format!("cascades.{}", it.name), message)),
        None => Ok(()),
    }
}
