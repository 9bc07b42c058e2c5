//! The browser's door: sessions, cross-site refusal, headers, pages and server functions.

mod bodies;
mod browsers;
mod events;
mod export;
pub mod functions;
pub mod headers;
pub mod identity;
mod imports;
pub mod links;
pub mod origin;
mod runs;
pub mod sign_in;
mod unreachable;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use axum_login::AuthManagerLayerBuilder;
use ipnet::IpNet;
use leptos::prelude::*;
use leptos_axum::{LeptosRoutes, generate_route_list};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::services::ServeDir;
use tower_sessions::cookie::SameSite;
use tower_sessions::{Expiry, SessionManagerLayer};
use url::Url;

use crate::app::once::ShownOnce;
use crate::app::{App, shell};
use crate::deploy::Deployer;
use crate::doors::follow::Streams;
use crate::store::Db;
use crate::store::sessions::Sessions;

/// What the doors know of the installation.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// Where people reach the dashboard, as in https://sealport.example.org.
    pub public_url: Url,
    /// Proxies whose forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Requests to the API that each token has in a minute, on each server; 0: as many as there come.
    pub api_requests_per_minute: u32,
    /// Calls of deployed servers that each caller has; 0: as many as there come.
    pub calls_per_minute: u32,
}

impl WebConfig {
    pub fn is_https(&self) -> bool {
        self.public_url.scheme() == "https"
    }
}

/// What every handler can reach.
#[derive(Clone)]
pub struct AppState {
    /// Each layer of each request has a copy of the state.
    pub options: Arc<LeptosOptions>,
    pub db: Db,
    pub deployer: Deployer,
    pub config: Arc<WebConfig>,
}

impl FromRef<AppState> for LeptosOptions {
    fn from_ref(state: &AppState) -> Self {
        LeptosOptions::clone(&state.options)
    }
}

/// The dashboard's routes behind what a browser's request must pass; streams of events are not under the time limit.
pub(super) fn router(state: &AppState) -> Router<AppState> {
    let secure = state.config.is_https();
    let sessions = SessionManagerLayer::new(Sessions(state.db.clone()))
        // `__Host-` binds the cookie to this host and to TLS; over plain loopback browsers would refuse it.
        .with_name(if secure {
            "__Host-sealport"
        } else {
            "sealport"
        })
        .with_secure(secure)
        .with_http_only(true)
        // Lax, not Strict: a link from a mail or a chat arrives signed in.
        .with_same_site(SameSite::Lax)
        .with_path("/")
        .with_expiry(Expiry::OnInactivity(time::Duration::days(14)));
    let auth = AuthManagerLayerBuilder::new(identity::Accounts(state.db.clone()), sessions).build();

    let context = {
        let state = state.clone();
        let shown_once = ShownOnce::default();
        move || {
            provide_context(state.db.clone());
            provide_context(state.deployer.clone());
            provide_context(state.config.public_url.clone());
            provide_context(shown_once.clone());
            headers::content_security_policy();
        }
    };
    let pages = {
        let options = state.options.clone();
        move || shell(LeptosOptions::clone(&options))
    };
    let streams = Streams::default();
    Router::new()
        .route("/sign-in", post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/welcome/{link}", post(sign_in::welcome))
        .route("/invitation/{link}", post(links::accept))
        .route("/reset/{link}", post(links::reset))
        .route("/confirm", post(links::confirm))
        .route("/settings/password", post(sign_in::change_password))
        .route("/secrets/import", post(imports::import))
        .route(
            "/deployments/{name}/events",
            get(events::events).layer(Extension(streams.clone())),
        )
        .route(
            "/runs/{id}/events",
            get(runs::events).layer(Extension(streams)),
        )
        .route("/activity/export", get(export::export))
        .leptos_routes_with_context(state, generate_route_list(App), context.clone(), pages)
        .fallback(leptos_axum::file_and_error_handler_with_context::<
            AppState,
            _,
        >(context, shell))
        .layer(middleware::from_fn(functions::keep_apart))
        .layer(middleware::from_fn(functions::give_status))
        // Only for whoever may send a form at all; server functions ask no limit of axum's.
        .layer(middleware::from_fn(bodies::bound))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            identity::require,
        ))
        .layer(auth)
        .layer(middleware::from_fn(unreachable::explain))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            origin::refuse_cross_site,
        ))
        // Pages hold no value and no token of the session, so their size tells nothing worth guessing.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .nest_service("/pkg", assets(&state.options))
        .layer(tower_http::timeout::TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs(60),
        ))
}

/// The compiled browser side; names carry hashes, so they may be kept for good. Compressed when it was built.
fn assets(options: &LeptosOptions) -> ServeDir {
    let dir = std::path::Path::new(options.site_root.as_ref()).join(options.site_pkg_dir.as_ref());
    ServeDir::new(dir).precompressed_br().precompressed_gzip()
}
