//! Which routes there are: asked of Leptos where it knows them, read from the doors' own lines where only axum does.

use std::collections::BTreeSet;

/// Where rows are somebody's. The record is not: it grows with every refusal.
pub const TABLES_OF_AN_OWNER: [&str; 13] = [
    "owners",
    "users",
    "secrets",
    "data_keys",
    "secret_versions",
    "drafts",
    "deployment_names",
    "deployments",
    "bindings",
    "releases",
    "release_bindings",
    "log_lines",
    "tokens",
];

/// Pages, server functions and the doors' own routes, as `METHOD /path`.
pub fn routes() -> BTreeSet<String> {
    let mut routes = own_routes(include_str!("../../src/doors/mod.rs"));
    routes.extend(own_routes(include_str!("../../src/doors/web/mod.rs")));
    for page in leptos_axum::generate_route_list(sealport::app::App) {
        routes.insert(format!("GET {}", page.path()));
    }
    for (path, method) in server_fn::axum::server_fn_paths() {
        routes.insert(format!("{method} {path}"));
    }
    routes
}

/// The `.route("/path", method(…))` and `.nest_service("/path", …)` of a file, however they are wrapped.
fn own_routes(file: &str) -> BTreeSet<String> {
    let text: String = file.split_whitespace().collect();
    let route = |piece: &str| {
        let (path, rest) = piece.split_once("\",")?;
        let (method, _) = rest.split_once('(')?;
        Some(match method {
            "get" | "post" | "put" | "patch" | "delete" => {
                format!("{} {path}", method.to_uppercase())
            }
            _ => format!("ANY {path}"),
        })
    };
    let mut routes: BTreeSet<String> = text.split(".route(\"").skip(1).filter_map(route).collect();
    for piece in text.split(".nest_service(\"").skip(1) {
        let path = piece.split('"').next().unwrap_or_default();
        routes.insert(format!("GET {path}"));
    }
    assert!(
        routes.len() >= 3,
        "this reading finds the routes: {routes:?}"
    );
    routes
}
