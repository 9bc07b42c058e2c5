//! Which routes there are: asked of Leptos where it knows them, read from the doors' own lines where only axum does.

use std::collections::BTreeSet;
use std::path::Path;

/// Where rows are somebody's. The record is not: it grows with every refusal.
pub const TABLES_OF_AN_OWNER: [&str; 18] = [
    "grants",
    "team_members",
    "owners",
    "users",
    "secrets",
    "data_keys",
    "secret_versions",
    "pending_imports",
    "rotation_rules",
    "drafts",
    "deployment_names",
    "deployments",
    "bindings",
    "connections",
    "releases",
    "release_bindings",
    "log_lines",
    "tokens",
];

/// Pages, server functions and the doors' own routes, as `METHOD /path`.
pub fn routes() -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    own_routes(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doors"),
        &mut routes,
    );
    assert!(routes.len() > 8, "the doors were not read: {routes:?}");
    let doors = routes.len();
    for page in leptos_axum::generate_route_list(sealport::app::App) {
        routes.insert(format!("GET {}", page.path()));
    }
    assert!(routes.len() > doors, "the pages were not read");
    for (path, method) in server_fn::axum::server_fn_paths() {
        routes.insert(format!("{method} {path}"));
    }
    routes
}

/// The routes of the API, as `METHOD /path`: each method of each `.route("/path", get(…).put(…))` of its door.
pub fn api_routes() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doors/rest/mod.rs");
    let text = std::fs::read_to_string(file).unwrap();
    let text: String = text.split_whitespace().collect();
    let mut routes = BTreeSet::new();
    for piece in text.split(".route(\"").skip(1) {
        let (address, rest) = piece.split_once("\",").unwrap();
        let handlers = rest.split(".layer(").next().unwrap_or_default();
        for method in ["get", "post", "put", "patch", "delete"] {
            let begins = handlers.starts_with(&format!("{method}("));
            if begins || handlers.contains(&format!(").{method}(")) {
                routes.insert(format!("{} /api/v1{address}", method.to_uppercase()));
            }
        }
    }
    assert!(routes.len() > 20, "the API was not read: {routes:?}");
    routes
}

/// The `.route("/path", method(…))` and `.nest_service("/path", …)` of each file of the doors, however they are wrapped.
fn own_routes(dir: &Path, routes: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // The API has a table of its own.
        if path.ends_with("rest") {
            continue;
        }
        if path.is_dir() {
            own_routes(&path, routes);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text: String = text.split_whitespace().collect();
        let literal = |rest: &'_ str| -> (String, String) {
            rest.strip_prefix('"')
                .and_then(|rest| rest.split_once("\","))
                .map(|(path, rest)| (path.to_owned(), rest.to_owned()))
                .unwrap_or_else(|| {
                    panic!("{}: write a route's address as a literal", path.display())
                })
        };
        for piece in text.split(".route(").skip(1) {
            let (address, rest) = literal(piece);
            let method = match rest.split('(').next().unwrap_or_default() {
                one @ ("get" | "post" | "put" | "patch" | "delete") => one.to_uppercase(),
                _ => "ANY".into(),
            };
            routes.insert(format!("{method} {address}"));
        }
        for piece in text.split(".nest_service(").skip(1) {
            routes.insert(format!("GET {}", literal(piece).0));
        }
    }
}
