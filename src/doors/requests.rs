//! What every request gets: an id, a log line, and the two questions of an orchestrator.

use std::sync::OnceLock;
use std::time::Instant;

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::Instrument;
use uuid::Uuid;

use super::quotas::Quotas;
use super::rest::problems::Problem;
use super::web::{AppState, origin};

/// Bounds of the histograms, in seconds: from one read to a page that waits.
const BUCKETS_SECS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Carries the id of a request, in the answer and in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id of ours, whatever it came with, and logs its end. The log names the route, not the
/// address: an address can hold a one-time link.
pub async fn number(mut request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    let header = HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-"));
    request.headers_mut().insert(REQUEST_ID, header.clone());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "-".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let started = Instant::now();
    let span = tracing::info_span!("request", id = %id);
    let mut response = next.run(request).instrument(span).await;
    let labels = [
        ("method", known(&method).to_owned()),
        ("route", route.clone()),
        ("status", response.status().as_u16().to_string()),
    ];
    metrics::counter!("sealport_http_requests_total", &labels).increment(1);
    metrics::histogram!("sealport_http_request_duration_seconds", &labels[..2])
        .record(started.elapsed().as_secs_f64());
    tracing::info!(
        request_id = %id,
        %method,
        route,
        status = response.status().as_u16(),
        took_ms = started.elapsed().as_millis() as u64,
        "request"
    );
    response.headers_mut().insert(REQUEST_ID, header);
    response
}

/// A method by name; of those that anybody can make up, no label is made.
fn known(method: &Method) -> &'static str {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    match known.iter().position(|known| known == method) {
        Some(place) => ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"][place],
        None => "other",
    }
}

/// What is counted of this server, for whoever has any token of the API. No owners and no paths stand in it; still, how much an
/// installation is used is not for strangers.
pub async fn metrics(
    State(state): State<AppState>,
    Extension(quotas): Extension<Quotas>,
    request: Request,
) -> Response {
    let from = origin::of(&state.config, &request);
    let admitted = match quotas.admit(&state, request.headers(), &from).await {
        Ok(admitted) => admitted,
        Err(turned) => return turned.into_response(),
    };
    if admitted.caller.is_none()
        && let Err(error) = state.db.api_token_open(&admitted.token, &from).await
    {
        let problem = Problem::from(error);
        if problem.status == StatusCode::UNAUTHORIZED.as_u16() {
            quotas.forget(&admitted, &from);
        }
        return problem.into_response();
    }
    let kind = "text/plain; version=0.0.4";
    let mut response = ([(header::CONTENT_TYPE, kind)], counters().render()).into_response();
    if let Some(left) = admitted.left {
        left.tell(response.headers_mut());
    }
    response
}

/// The counters of this process, begun when they are first asked for.
pub fn counters() -> &'static PrometheusHandle {
    static COUNTERS: OnceLock<PrometheusHandle> = OnceLock::new();
    COUNTERS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&BUCKETS_SECS)
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder stays; then there is nothing to show here.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    })
}

/// What each of them counts, for whoever reads them.
fn describe() {
    use metrics::{describe_counter, describe_histogram};
    describe_counter!(
        "sealport_http_requests_total",
        "Requests that were answered, by method, route and status."
    );
    describe_histogram!(
        "sealport_http_request_duration_seconds",
        metrics::Unit::Seconds,
        "From a request until its answer begins, by method and route."
    );
    describe_counter!(
        "sealport_secret_reads_total",
        "Values that were asked for by tokens, by outcome."
    );
    describe_counter!(
        "sealport_releases_total",
        "Releases of deployments that ended, by outcome."
    );
    describe_counter!(
        "sealport_refusals_total",
        "What was refused, by action; api.quota and api.flood are requests beyond a limit."
    );
}

/// The process answers.
pub async fn healthy() -> &'static str {
    "ok\n"
}

/// The database answers too, and whether guests are confined as they should be. Strangers ask too: what exactly is
/// open, and why, stands on Settings.
pub async fn ready(State(state): State<AppState>) -> Response {
    if let Err(error) = state.db.ready().await {
        error.into_refusal();
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "The database does not answer.\n",
        )
            .into_response();
    }
    let (sound, words) = state.deployer.confinement_in_short();
    let mark = if sound { "ok" } else { "weaker" };
    format!("ready\n{mark}: {words}\n").into_response()
}
