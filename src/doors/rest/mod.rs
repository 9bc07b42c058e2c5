//! `/api/v1`: everything for programs. Reads `Authorization` only; errors are problem details.

pub mod bearer;
mod bodies;
pub mod document;
mod misfits;
mod pages;
pub mod problems;
pub mod reference;
mod schemas;
mod times;

pub mod imports;
pub mod secrets;
pub mod values;
pub mod versions;

pub mod audit;
pub mod connections;
pub mod grants;
pub mod teams;
pub mod tokens;

pub mod deployments;
pub mod logs;
pub mod plans;
pub mod renewals;

use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Router, middleware};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;

pub use pages::Page;

use self::problems::{Problem, ProblemKind};
use super::follow::Streams;
use super::quotas::Quotas;
use super::web::AppState;
use crate::model::imports::IMPORT_LEN_BYTES;

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
        imports::import,
        grants::list,
        grants::give,
        grants::take_back,
        tokens::list,
        tokens::revoke,
        teams::list,
        teams::members,
        teams::set_member,
        teams::remove_member,
        audit::list,
        deployments::list,
        deployments::post,
        deployments::show,
        deployments::patch,
        deployments::delete,
        deployments::start,
        deployments::stop,
        deployments::redeploy,
        deployments::release,
        renewals::redeploy_using,
        logs::logs,
        connections::show,
        connections::put,
        connections::delete,
    ),
    components(schemas(logs::LineEvent, logs::StepEvent, logs::StateEvent, logs::EndEvent))
)]
pub struct Api;

pub(super) fn router(state: &AppState, quotas: Quotas) -> Router<AppState> {
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
        .route("/redeploy/{*path}", post(renewals::redeploy_using))
        .route(
            "/import",
            post(imports::import).layer(DefaultBodyLimit::max(IMPORT_LEN_BYTES * 2)),
        )
        .route("/grants", get(grants::list).post(grants::give))
        .route("/grants/{id}", delete(grants::take_back))
        .route("/tokens", get(tokens::list))
        .route("/tokens/{id}", delete(tokens::revoke))
        .route("/teams", get(teams::list))
        .route("/teams/{handle}/members", get(teams::members))
        .route(
            "/teams/{handle}/members/{member}",
            put(teams::set_member).delete(teams::remove_member),
        )
        .route("/audit", get(audit::list))
        .route(
            "/deployments",
            get(deployments::list).post(deployments::post),
        )
        .route(
            "/deployments/{name}",
            get(deployments::show)
                .patch(deployments::patch)
                .delete(deployments::delete),
        )
        .route("/deployments/{name}/start", post(deployments::start))
        .route("/deployments/{name}/stop", post(deployments::stop))
        .route("/deployments/{name}/releases", post(deployments::redeploy))
        .route(
            "/deployments/{name}/releases/{number}",
            get(deployments::release),
        )
        .route(
            "/deployments/{name}/logs",
            get(logs::logs).layer(Extension(Streams::default())),
        )
        .route("/connections/{deployment}", get(connections::show))
        .route(
            "/connections/{deployment}/{env}",
            put(connections::put).delete(connections::delete),
        )
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
        // Also of streams, which would say less.
        .layer(SetResponseHeaderLayer::overriding(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
}

async fn no_route() -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "There is no such address: /api/docs lists them.",
    )
}

async fn no_method() -> Problem {
    Problem::new(
        ProblemKind::MethodNotAllowed,
        "This address takes other methods: /api/docs lists them.",
    )
}
