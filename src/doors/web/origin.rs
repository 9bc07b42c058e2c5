//! Where a request comes from: the Host it names, the site it was sent from, the address behind proxies.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{AppState, WebConfig};
use crate::model::actors::Origin;

/// Refuses a Host that is not ours, also on loopback: a name that was rebound to our address is another site.
pub async fn check_host(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str())
        });
    match named {
        Some(host) if is_our_host(&state.config, host) => next.run(request).await,
        _ => (
            StatusCode::MISDIRECTED_REQUEST,
            "This address does not serve that host. Set SEALPORT_PUBLIC_URL to the address that people use.",
        )
            .into_response(),
    }
}

/// Whether a `host[:port]` is the one that people use.
fn is_our_host(config: &WebConfig, host: &str) -> bool {
    if host.eq_ignore_ascii_case(&authority(&config.public_url)) {
        return true;
    }
    // On loopback the three usual names of one address are one place.
    let loopback = |name: &str| matches!(name, "127.0.0.1" | "localhost" | "[::1]");
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "80"));
    let our_port = config.public_url.port_or_known_default().unwrap_or(80);
    !config.is_https()
        && loopback(&name.to_ascii_lowercase())
        && config.public_url.host_str().is_some_and(loopback)
        && port == our_port.to_string()
}

fn authority(url: &url::Url) -> String {
    match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    }
}

/// Refuses whatever could change something and was not sent from our own pages: cookies travel with
/// cross-site requests, and these two headers tell them apart.
pub async fn refuse_cross_site(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let reads = *request.method() == Method::GET || *request.method() == Method::HEAD;
    if reads || is_from_us(&state.config, request.headers()) {
        return next.run(request).await;
    }
    (
        StatusCode::FORBIDDEN,
        "This was sent from another site, so nothing was done. Go back to Sealport and try again there.",
    )
        .into_response()
}

/// Whether the browser says that the request comes from one of our own pages.
pub fn is_from_us(config: &WebConfig, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return false;
    }
    match headers.get("origin") {
        Some(origin) => origin
            .to_str()
            .ok()
            .and_then(|origin| url::Url::parse(origin).ok())
            .is_some_and(|origin| {
                origin.scheme() == config.public_url.scheme()
                    && is_our_host(config, &authority(&origin))
            }),
        // Every browser sends at least one of the two with a POST.
        None => site.is_some(),
    }
}

/// Who calls from where, for the record. Forwarded addresses are believed from configured proxies only.
pub fn of(config: &WebConfig, request: &Request) -> Origin {
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(peer)| peer.ip().to_canonical());
    let text = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    Origin {
        address: peer.map(|peer| behind_proxies(config, peer, text("x-forwarded-for"))),
        agent: text("user-agent").map(|agent| {
            agent
                .chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect()
        }),
        request_id: text("x-request-id").map(str::to_owned),
    }
}

/// Walks the forwarded hops from the right, as far as they were written by proxies that are trusted.
fn behind_proxies(config: &WebConfig, peer: IpAddr, forwarded: Option<&str>) -> IpAddr {
    let trusted = |address: &IpAddr| {
        config
            .trusted_proxies
            .iter()
            .any(|network| network.contains(address))
    };
    let mut address = peer;
    for hop in forwarded.unwrap_or_default().rsplit(',') {
        if !trusted(&address) {
            break;
        }
        let Ok(before) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        address = before.to_canonical();
    }
    address
}
