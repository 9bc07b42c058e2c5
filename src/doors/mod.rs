//! How the world comes in. Every door is thin: identify the actor, parse into types, call one store or deploy
//! function, shape the answer. Cookies and bearers never mix: `web` reads cookies only, the others `Authorization` only.

mod impatient;
pub mod listening;
pub mod quotas;
pub mod requests;

pub mod follow;

pub mod gateway;
pub mod mcp;
pub mod rest;
pub mod web;

use axum::routing::get;
use axum::{Extension, Router, middleware};

use quotas::Quotas;
use web::{AppState, headers, origin};

/// All doors behind what every request passes.
pub fn router(state: AppState) -> Router {
    // Before anything is counted.
    requests::counters();
    // A token has one quota, whichever door it comes by.
    let quotas = Quotas::per_minute(state.config.api_requests_per_minute);
    Router::new()
        .route("/healthz", get(requests::healthy))
        .route("/readyz", get(requests::ready))
        .route(
            "/s/{name}/mcp",
            gateway::routes(state.config.calls_per_minute),
        )
        .route("/mcp", mcp::routes(quotas.clone()))
        .route(
            "/metrics",
            get(requests::metrics).layer(Extension(quotas.clone())),
        )
        .route("/api/openapi.json", get(rest::document::openapi))
        // The address that people try first.
        .route("/api", get(rest::reference::docs))
        .route("/api/docs", get(rest::reference::docs))
        .route("/problems/{slug}", get(rest::reference::problem))
        .nest("/api/v1", rest::router(&state, quotas))
        .merge(web::router(&state))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            origin::check_host,
        ))
        .layer(middleware::from_fn_with_state(state.clone(), headers::add))
        .layer(middleware::from_fn(requests::number))
        .with_state(state)
}
