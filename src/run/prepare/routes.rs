//! The routes of a job, compiled against its events and features.

use arrow::datatypes::DataType;
use driftline_operators::features::functions::Functions;
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::features::sql::{Expression, SqlError};
use driftline_operators::key_group::key_type;
use driftline_operators::layout::EventLayout;
use driftline_operators::routes::table::{Choice, Lane, Route, RouteTable, Scores};

use crate::config::routing::{DeclaredRoute, Pick, Routing};
use crate::config::{Problem, expression};

/// What routes are compiled against.
struct Over<'a> {
    plan: &'a FeaturePlan,
    layout: &'a EventLayout,
    functions: &'a Functions,
}

/// # Errors
/// If an expression does not compile, or is of another type.
pub fn compile_routes(
    routing: &Routing,
    plan: &FeaturePlan,
    layout: &EventLayout,
    functions: &Functions,
) -> Result<RouteTable, Problem> {
    let over = Over { plan, layout, functions };
    let mut table = RouteTable {
        models: routing.models.iter().map(|(name, _)| name.clone()).collect(),
        ensembles: routing.ensembles.clone(),
        cascades: routing.cascades.clone(),
        ..RouteTable::default()
    };
    for declared in &routing.routes {
        let route = table.routes.len();
        let when = declared.when.as_ref().map(|sql| over.condition(&declared.name, sql));
        let choice = add_lanes(&mut table, route, declared, routing, &over)?;
        table.routes.push(Route { name: declared.name.clone(), when: when.transpose()?, choice });
    }
    Ok(table)
}

fn add_lanes(
    table: &mut RouteTable,
    route: usize,
    declared: &DeclaredRoute,
    routing: &Routing,
    over: &Over,
) -> Result<Choice, Problem> {
    let mut lane = |variant: Option<String>, scores: Scores| {
        let others = |all: &[Scores]| {
            all.iter().copied().filter(|other| *other != scores).collect::<Vec<_>>()
        };
        table.lanes.push(Lane {
            route,
            variant,
            chain: [vec![scores], others(&declared.fallback)].concat(),
            shadows: others(&declared.shadow),
        });
        table.lanes.len() - 1
    };
    Ok(match &declared.pick {
        Pick::One(scores) => Choice::One(lane(None, *scores)),
        Pick::From(text) => {
            let name = over.text(&declared.name, text)?;
            let rows = |scores: &Scores| match scores {
                Scores::Model(at) => routing.stacked_by(*at).is_none(),
                _ => true,
            };
            let names = routing.names().into_iter().filter(|(_, scores)| rows(scores));
            let lanes = names.map(|(name, scores)| (name, lane(None, scores))).collect();
            Choice::ByName { name, lanes }
        }
        Pick::Variants { by, salt, variants, .. } => {
            let id = by.as_ref().map(|by| over.id(&declared.name, by)).transpose()?;
            let lanes: Vec<usize> = variants
                .iter()
                .map(|(variant, scores)| lane(Some(variant.clone()), *scores))
                .collect();
            Choice::Variants { id, salt: salt.clone(), first: lanes[0] }
        }
    })
}

impl Over<'_> {
    fn condition(&self, route: &str, sql: &str) -> Result<Expression, Problem> {
        let at = |message: String| Problem::at(format!("routes.{route}.when"), message);
        let when = self.plan.condition_of_enriched(self.layout, sql, self.functions);
        let when = when.map_err(|error| at(expression(&error.to_string())))?;
        match when.data_type() {
            DataType::Boolean => Ok(when),
            other => Err(at(format!("it is of type {other}, and must be true or false"))),
        }
    }

    /// A column or an expression of a type that keys can have.
    fn id(&self, route: &str, text: &str) -> Result<Expression, Problem> {
        let at = |message: String| Problem::at(format!("routes.{route}.by"), message);
        let id = self.of_enriched(text).map_err(|error| at(expression(&error.to_string())))?;
        match key_type(id.data_type()) {
            Some(_) => Ok(id),
            None => {
                let found = id.data_type();
                Err(at(format!("it is of type {found}, and must be a text or an integer")))
            }
        }
    }

    fn text(&self, route: &str, text: &str) -> Result<Expression, Problem> {
        let at = |message: String| Problem::at(format!("routes.{route}.model_from"), message);
        let name = self.of_enriched(text).map_err(|error| at(expression(&error.to_string())))?;
        match name.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(name),
            other => Err(at(format!("it is of type {other}, and must be a text"))),
        }
    }

    fn of_enriched(&self, text: &str) -> Result<Expression, SqlError> {
        self.plan.of_enriched(self.layout, text, self.functions)
    }
}
