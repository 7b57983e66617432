//! What a live run can be told over HTTP: to ask its registries at once, and how ids are shared out over the
//! variants of a route.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::run::live::Hints;
use crate::run::switching::ModelControl;

/// Of a request, whatever it is.
const BODY_BYTES_MAX: usize = 64 << 10;

#[derive(Clone)]
pub struct Steering {
    /// Have the registries asked at once; none where no model comes from one.
    pub hints: Vec<Hints>,
    pub models: ModelControl,
}

pub(super) fn router(steering: Steering) -> Router {
    Router::new()
        .route("/v1/models/refresh", post(refresh_model))
        .route("/v1/routes", get(show_routes))
        .route("/v1/routes/{route}/weights", post(set_weights))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(steering)
}

/// A hint that the registry means another version. What it says is not believed, and not looked at: the
/// registry is asked.
async fn refresh_model(
    State(Steering { hints, .. }): State<Steering>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Err(refused) = body {
        return refused_as(refused.status(), &refused.body_text());
    }
    if hints.is_empty() {
        let why = "the model of this job comes from no registry, so there is nobody to ask for \
                   another version; one does with model.path = \"models:/NAME@ALIAS\"";
        return refused_as(StatusCode::NOT_FOUND, why);
    }
    hints.iter().for_each(Hints::give);
    said(StatusCode::ACCEPTED, &json!({"refreshing": true}))
}

/// What holds of routes for rows to come.
async fn show_routes(State(Steering { models, .. }): State<Steering>) -> Response {
    match models.routes() {
        Some(routes) => said(StatusCode::OK, &routes),
        None => refused_as(StatusCode::NOT_FOUND, NO_ROUTES),
    }
}

const NO_ROUTES: &str = "this job has no [routes]: one model scores all rows";

/// Other weights for the variants of a route: an object of variants and numbers, which add up to 10,000.
async fn set_weights(
    State(Steering { models, .. }): State<Steering>,
    Path(route): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(refused) => return refused_as(refused.status(), &refused.body_text()),
    };
    let weights: BTreeMap<String, u32> = match serde_json::from_slice(&body) {
        Ok(weights) => weights,
        Err(error) => {
            let why = format!(
                "the body is no object of variants and weights, such as {{\"control\": 9000, \"treatment\": 1000}}: {error}"
            );
            return refused_as(StatusCode::BAD_REQUEST, &why);
        }
    };
    if models.routes().is_none() {
        return refused_as(StatusCode::NOT_FOUND, NO_ROUTES);
    }
    let weights: Vec<(&str, u32)> =
        weights.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
    match models.set_weights(&route, &weights) {
        Ok(()) => {
            let weights: BTreeMap<&str, u32> = weights.into_iter().collect();
            said(StatusCode::ACCEPTED, &json!({"route": route, "weights": weights}))
        }
        Err(error) => refused_as(StatusCode::BAD_REQUEST, &format!("{error:#}")),
    }
}

fn refused_as(status: StatusCode, why: &str) -> Response {
    said(status, &json!({ "error": why }))
}

fn said(status: StatusCode, what: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], what.to_string()).into_response()
}
