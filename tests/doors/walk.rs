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
    for (address, methods) in routes_in(&text) {
        for method in methods {
            routes.insert(format!("{method} /api/v1{address}"));
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
        for (address, methods) in routes_in(&text) {
            // What is put together elsewhere may take any.
            if methods.is_empty() {
                routes.insert(format!("ANY {address}"));
            }
            for method in methods {
                routes.insert(format!("{method} {address}"));
            }
        }
        for piece in text.split(".nest_service(").skip(1) {
            routes.insert(format!("GET {}", address_and_rest(piece).0));
        }
    }
}

/// The address of each `.route("/path", get(…).put(…))` in a text without blanks, and each of its methods, as `GET`.
fn routes_in(text: &str) -> Vec<(&str, Vec<String>)> {
    let calls = text.split(".route(").skip(1);
    calls
        .map(|piece| {
            let (address, handlers) = address_and_rest(arguments(piece));
            (address, methods_of(handlers))
        })
        .collect()
}

fn address_and_rest(arguments: &str) -> (&str, &str) {
    arguments
        .strip_prefix('"')
        .and_then(|rest| rest.split_once("\","))
        .unwrap_or_else(|| panic!("write a route's address as a literal: {arguments}"))
}

fn methods_of(handlers: &str) -> Vec<String> {
    let handlers = handlers.split(".layer(").next().unwrap_or_default();
    ["get", "post", "put", "patch", "delete"]
        .into_iter()
        .filter(|method| {
            handlers.starts_with(&format!("{method}("))
                || handlers.contains(&format!(").{method}("))
        })
        .map(str::to_uppercase)
        .collect()
}

/// What stands before the parenthesis that closes the call.
fn arguments(text: &str) -> &str {
    let mut open = 0;
    for (at, character) in text.char_indices() {
        match character {
            '(' => open += 1,
            ')' if open == 0 => return &text[..at],
            ')' => open -= 1,
            _ => {}
        }
    }
    text
}

#[test]
fn each_method_of_a_route_is_read_and_nothing_beside_it() {
    let text = r#"a.route("/a",get(one(1)).post(two).layer(x.get(3)),).route("/b",mine(3)).then(map(4).delete(5))"#;
    let read = routes_in(text);
    let of = |methods: &[&str]| {
        methods
            .iter()
            .map(|&one| one.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(read, [("/a", of(&["GET", "POST"])), ("/b", of(&[]))]);
}
