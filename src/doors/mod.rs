//! How the world comes in. Every door is thin: identify the actor, parse into types, call one store or deploy
//! function, shape the answer. Cookies and bearers never mix: `web` reads cookies only, the others `Authorization` only.

mod impatient;
pub mod listening;
mod nowhere;
pub mod quotas;
pub mod requests;

pub mod follow;

pub mod gateway;
pub mod mcp;
pub mod rest;
pub mod web;

use axum::routing::{any, get};
use axum::{Extension, Router, middleware};

use quotas::Quotas;
use web::{AppState, headers, origin};

/// All doors behind what every request passes.
pub fn router(state: AppState) -> Router {
    // Before anything is counted.
    requests::counters();
    // A token has one quota, whichever door it comes by.
    let quotas = Quotas::per_minute(state.config.api_requests_per_minute);
    // With a slash at the end or without one, a caller has one quota.
    let servers = gateway::routes(state.config.calls_per_minute);
    let tools = mcp::routes(quotas.clone());
    Router::new()
        .route("/healthz", get(requests::healthy))
        .route("/readyz", get(requests::ready))
        .route("/s/{name}/mcp", servers.clone())
        .route("/s/{name}/mcp/", servers)
        .nest("/s", nowhere::without_server())
        .route("/mcp", tools.clone())
        .route("/mcp/", tools)
        .nest("/mcp", nowhere::without_oauth())
        .nest("/.well-known", nowhere::without_oauth())
        .route("/register", any(nowhere::no_oauth))
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
