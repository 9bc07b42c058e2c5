//! `/api/v1`: everything for programs. Reads `Authorization` only; errors are problem details.

pub mod bearer;
mod bodies;
mod pages;
pub mod problems;
mod schemas;
mod times;

pub mod secrets;
pub mod values;
pub mod versions;

use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;

pub use pages::Page;

use self::bearer::Quotas;
use self::problems::Problem;
use super::web::AppState;

/// The largest body, in bytes: a value of 64 KiB whose every character JSON escapes, and what stands beside it.
const BODY_LEN_BYTES: usize = 512 * 1024;

/// What programs can read of the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sealport",
        description = "Seal your secrets, ship your servers."
    ),
    paths(
        secrets::list,
        secrets::post,
        secrets::show,
        secrets::put,
        secrets::patch,
        secrets::delete,
        values::read,
        values::read_many,
        values::check,
        versions::list,
        versions::roll_back,
    )
)]
pub struct Api;

pub(super) fn router(state: &AppState) -> Router<AppState> {
    let quotas = Quotas::per_minute(state.config.api_requests_per_minute);
    Router::new()
        .route("/secrets", get(secrets::list).post(secrets::post))
        .route(
            "/secrets/{*path}",
            get(secrets::show)
                .put(secrets::put)
                .patch(secrets::patch)
                .delete(secrets::delete),
        )
        .route("/values", post(values::read_many))
        .route("/values/{*path}", get(values::read))
        .route("/check/{*path}", post(values::check))
        .route("/versions/{*path}", get(versions::list))
        .route("/rollback/{*path}", post(versions::roll_back))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_LEN_BYTES))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs(60),
        ))
        .layer(middleware::from_fn_with_state(
            (state.clone(), quotas),
            bearer::require,
        ))
}

async fn no_route() -> Problem {
    Problem::new(
        "not-found",
        "There is no such address: /api/docs lists them.",
    )
}

async fn no_method() -> Problem {
    Problem::new(
        "method-not-allowed",
        "This address takes other methods: /api/docs lists them.",
    )
}
