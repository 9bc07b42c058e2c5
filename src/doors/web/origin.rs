//! Where a request comes from: the Host it names, the site it was sent from, the address behind proxies.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;

use super::{AppState, WebConfig};
use crate::model::actors::Origin;

/// Refuses a Host that is not ours, also on loopback: a name that was rebound to our address is another site.
pub async fn check_host(State(state): State<AppState>, request: Request, next: Next) -> Response {
    // Balancers ask it by address. It says one word, the same to all.
    if request.uri().path() == "/healthz" {
        return next.run(request).await;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        // RFC 9112, section 3.2: proxies may have gone by the other one.
        return (StatusCode::BAD_REQUEST, "A request names one host.").into_response();
    }
    let named = host.and_then(|host| host.to_str().ok()).or_else(|| {
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
    origin(config, request.headers(), request.extensions())
}

/// The same, of a request whose body is on its way to somewhere else.
pub fn of_parts(config: &WebConfig, parts: &Parts) -> Origin {
    origin(config, &parts.headers, &parts.extensions)
}

fn origin(config: &WebConfig, headers: &HeaderMap, extensions: &Extensions) -> Origin {
    let peer = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(peer)| peer.ip().to_canonical());
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Some proxies append a line of their own rather than to the line that came: all of them count, the last one most.
    let forwarded: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    Origin {
        address: peer.map(|peer| behind_proxies(&config.trusted_proxies, peer, &forwarded)),
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

/// Walks the forwarded hops from the right, as far as they were written by proxies that are trusted. `lines` are the header's,
/// in the order in which they came.
fn behind_proxies(trusted: &[IpNet], peer: IpAddr, lines: &[&str]) -> IpAddr {
    let mut address = peer;
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !trusted.iter().any(|network| network.contains(&address)) {
            break;
        }
        let Some(before) = address_of(hop.trim()) else {
            break;
        };
        address = before.to_canonical();
    }
    address
}

/// A hop as proxies write it: an address, in brackets or not, some with a port after it.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    bare.unwrap_or(hop)
        .parse()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn seen(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:aaaa::/48"].map(|net| net.parse().unwrap());
        behind_proxies(&trusted, peer.parse().unwrap(), lines).to_string()
    }

    #[test]
    fn a_header_is_believed_as_far_as_trusted_proxies_wrote_it() {
        for (peer, lines, address) in [
            // Whoever is no proxy of ours may write what they like.
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("192.0.2.1", &["10.0.0.1", "10.0.0.2"], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            // What the client itself sent stands to the left of what the proxy saw.
            ("10.0.0.1", &["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["10.9.9.9,192.0.2.1"], "192.0.2.1"),
            // Two proxies of ours.
            (
                "10.0.0.1",
                &["198.51.100.7, 192.0.2.1 , 10.0.0.2"],
                "192.0.2.1",
            ),
            // HAProxy appends a line of its own.
            ("10.0.0.1", &["198.51.100.7", "192.0.2.1"], "192.0.2.1"),
            (
                "10.0.0.1",
                &["198.51.100.7", "192.0.2.1", "10.0.0.2"],
                "192.0.2.1",
            ),
            (
                "10.0.0.1",
                &["198.51.100.7, 192.0.2.1", "10.0.0.2"],
                "192.0.2.1",
            ),
        ] {
            assert_eq!(seen(peer, lines), address, "{peer} {lines:?}");
        }
    }

    #[test]
    fn hops_are_addresses_of_both_kinds_some_with_ports() {
        for (line, address) in [
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("192.0.2.1:50123", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 2001:db8:aaaa::9", "192.0.2.1"),
            ("192.0.2.1, ::ffff:10.0.0.9", "192.0.2.1"),
        ] {
            assert_eq!(seen("2001:db8:aaaa::1", &[line]), address, "{line}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_the_last_that_is_one() {
        for line in [
            "",
            ",",
            "unknown",
            "_hidden",
            "192.0.2.1, ",
            "192.0.2",
            "192.0.2.1:port",
            "[192.0.2.1",
            "[]",
            "\"192.0.2.1\"",
            "198.51.100.7;192.0.2.1",
        ] {
            assert_eq!(seen("10.0.0.1", &[line]), "10.0.0.1", "{line}");
            let after = format!("198.51.100.7, {line}, 10.0.0.2");
            assert_eq!(seen("10.0.0.1", &[&after]), "10.0.0.2", "{after}");
        }
        assert_eq!(seen("10.0.0.1", &["198.51.100.7", ""]), "10.0.0.1");
    }

    #[test]
    fn every_line_of_a_request_is_read() {
        let config = WebConfig {
            public_url: "https://sealport.example.org".parse().unwrap(),
            api_requests_per_minute: 0,
            calls_per_minute: 0,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let address = |peer: &str, last: &[u8]| {
            let mut request = Request::builder()
                .header("x-forwarded-for", "198.51.100.7")
                .header("x-forwarded-for", last)
                .body(axum::body::Body::empty())
                .unwrap();
            let peer: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(peer));
            of(&config, &request).address.unwrap().to_string()
        };
        assert_eq!(address("10.0.0.1:5000", b"192.0.2.1"), "192.0.2.1");
        assert_eq!(address("192.0.2.9:5000", b"192.0.2.1"), "192.0.2.9");
        assert_eq!(address("[::ffff:10.0.0.1]:5000", b"192.0.2.1"), "192.0.2.1");
        // A line that is no text hides nothing of what is before it.
        assert_eq!(address("10.0.0.1:5000", b"\xff"), "10.0.0.1");
    }
}
