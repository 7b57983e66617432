//! The HTTP end: a thread of its own, so that no client slows the dataflow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::metrics::Metrics;
use super::steering::{self, Steering};

/// Serves `/metrics`, `/healthz`, `/readyz` and what a run is steered by until it is dropped.
pub struct Service {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// With what the run can be steered by.
    ///
    /// # Errors
    /// If nothing can listen at the address.
    pub fn start(address: SocketAddr, metrics: Metrics, steering: Steering) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address));
        let listener = listener.with_context(|| format!("service.listen: {address}"))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let served = axum::serve(listener, router(Arc::new(metrics), steering));
            runtime.block_on(async {
                tokio::select! {
                    _ = served.into_future() => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Service { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn router(metrics: Arc<Metrics>, steering: Steering) -> Router {
    let told = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(is_healthy))
        .route("/readyz", get(is_ready))
        .with_state(metrics);
    told.merge(steering::router(steering))
}

async fn show_metrics(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn is_healthy(State(metrics): State<Arc<Metrics>>) -> Response {
    answer(metrics.sickness())
}

async fn is_ready(State(metrics): State<Arc<Metrics>>) -> Response {
    match (metrics.sickness().or_else(|| metrics.unreadiness()), metrics.reserve()) {
        // A partition that stays silent does not come back by taking the job out of service.
        (None, Some(why)) => format!("ok, but {why}\n").into_response(),
        (trouble, _) => answer(trouble),
    }
}

/// 200, or 503 and why.
fn answer(trouble: Option<String>) -> Response {
    match trouble {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
