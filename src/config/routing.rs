//! Several models, and which of them scores a row, as a job means it.

use driftline_operators::routes::assignment::Weights;
use driftline_operators::routes::ensemble::Ensemble;
use driftline_operators::routes::table::{Cascade, Scores};

use super::job::ModelFile;

/// The sections `[models]`, `[ensembles]`, `[cascades]` and `[routes]`, names resolved.
#[derive(Clone, Debug)]
pub struct Routing {
    /// By the names that routes know them by; never empty.
    pub models: Vec<(String, ModelFile)>,
    pub ensembles: Vec<Ensemble>,
    pub cascades: Vec<Cascade>,
    pub routes: Vec<DeclaredRoute>,
}

/// A section `[routes.NAME]`.
#[derive(Clone, Debug)]
pub struct DeclaredRoute {
    pub name: String,
    pub when: Option<String>,
    pub pick: Pick,
    pub fallback: Vec<Scores>,
    pub shadow: Vec<Scores>,
}

/// What scores the rows of a route.
#[derive(Clone, Debug)]
pub enum Pick {
    One(Scores),
    /// What a text of the row names.
    From(String),
    Variants {
        /// What an id is; the request id where there is none.
        by: Option<String>,
        salt: String,
        variants: Vec<(String, Scores)>,
        weights: Weights,
    },
}

impl Routing {
    /// What a name of a job is the name of.
    pub fn named(&self, name: &str) -> Option<Scores> {
        let model = self.models.iter().position(|(known, _)| known == name).map(Scores::Model);
        let ensemble = self.ensembles.iter().position(|known| known.name == name);
        let cascade = self.cascades.iter().position(|known| known.name == name);
        model.or(ensemble.map(Scores::Ensemble)).or(cascade.map(Scores::Cascade))
    }

    /// What ids of routes with variants are: columns, or expressions.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.routes.iter().filter_map(|route| match &route.pick {
            Pick::Variants { by, .. } => by.as_ref(),
            _ => None,
        })
    }

    /// All that can score rows, by name.
    pub fn names(&self) -> Vec<(String, Scores)> {
        let models = self.models.iter().enumerate();
        let models = models.map(|(at, (name, _))| (name.clone(), Scores::Model(at)));
        let ensembles = self.ensembles.iter().enumerate();
        let ensembles = ensembles.map(|(at, it)| (it.name.clone(), Scores::Ensemble(at)));
        let cascades = self.cascades.iter().enumerate();
        let cascades = cascades.map(|(at, it)| (it.name.clone(), Scores::Cascade(at)));
        models.chain(ensembles).chain(cascades).collect()
    }

    /// The same models, of which one scores all rows.
    #[must_use]
    pub fn with_one(&self, model: usize) -> Self {
        let route = DeclaredRoute {
            name: "all".to_owned(),
            when: None,
            pick: Pick::One(Scores::Model(model)),
            fallback: Vec::new(),
            shadow: Vec::new(),
        };
        Routing { routes: vec![route], ..self.clone() }
    }

    /// The models whose scores a model is given, by name.
    pub fn members_of(&self, model: usize) -> Vec<String> {
        let members = self.stacked_by(model).map(|ensemble| ensemble.members.as_slice());
        let members = members.unwrap_or_default().iter();
        members.map(|member| self.models[member.model].0.clone()).collect()
    }

    /// The ensemble that a model is the last word of: its features are members' scores.
    pub fn stacked_by(&self, model: usize) -> Option<&Ensemble> {
        let is_last = |ensemble: &&Ensemble| {
            ensemble.policy == driftline_operators::routes::ensemble::Policy::Stacking { by: model }
        };
        self.ensembles.iter().find(is_last)
    }
}
