//! The house rules that a compiler does not know: which room may name which, what a room never touches,
//! and that the files which describe the build agree with each other. See ARCHITECTURE.md.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "house/reading.rs"]
mod reading;

use reading::{Gate, Place, Source};

/// From the bottom up: a room may name itself and what stands before it.
const ROOMS: [&str; 6] = ["model", "store", "deploy", "app", "doors", "cli"];

/// Crates and modules that a room must not name, and why.
const ABSENT: &[(&str, &[&str], &str)] = &[
    (
        "model",
        &[
            "sqlx",
            "tokio",
            "axum",
            "reqwest",
            "leptos",
            "std::fs",
            "std::process",
            "std::env",
            "std::thread",
        ],
        "model does no I/O and is compiled for the browser too",
    ),
    (
        "store",
        &[
            "axum",
            "leptos",
            "leptos_axum",
            "tower_http",
            "reqwest",
            "hyper",
        ],
        "store knows no HTTP",
    ),
    (
        "deploy",
        &["sqlx", "axum_login", "leptos", "leptos_axum"],
        "SQL lives in store, pages in app",
    ),
    (
        "app",
        &["sqlx", "tokio"],
        "SQL lives in store; pages are compiled for the browser",
    ),
    ("doors", &["sqlx"], "SQL lives in store"),
    ("cli", &["sqlx"], "SQL lives in store"),
];

/// Where an `ssr` gate stands outside lib.rs, and what for. A new one needs a reason here.
const GATES: &[(&str, &str)] = &[
    ("src/app/mod.rs", "modules that only server functions use"),
    (
        "src/app/wire.rs",
        "what server functions share, and its re-export",
    ),
    (
        "src/app/deploy/steps.rs",
        "what the wizard's server functions share",
    ),
    ("src/app/connection/mod.rs", "where answers to its forms go"),
    ("src/app/deployments.rs", "what its server functions import"),
    ("src/app/secret/mod.rs", "where answers to its forms go"),
    (
        "src/app/secret/rotation.rs",
        "what is said after a rule was set",
    ),
];

#[test]
fn arrows_between_rooms_run_one_way() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = rank(&source.room) else {
            continue;
        };
        for place in source.rooms_named() {
            let Some(named) = rank(&place.name) else {
                continue;
            };
            if named > own {
                wrong.push(line(&source, &place, "runs against the arrows"));
            }
            if source.room == "app"
                && ["store", "deploy"].contains(&place.name.as_str())
                && place.gate == Gate::None
            {
                wrong.push(line(
                    &source,
                    &place,
                    "stands outside a server function's body",
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} is the way:\n{}",
        ROOMS.iter().rev().copied().collect::<Vec<_>>().join(" → "),
        wrong.join("\n")
    );
}

#[test]
fn rooms_do_not_touch_what_is_not_theirs() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (room, names, why) in ABSENT.iter().filter(|rule| rule.0 == source.room) {
            for place in source.paths_named(names) {
                wrong.push(line(&source, &place, &format!("is not for {room}: {why}")));
            }
        }
        // The gateway and `sealport bridge` both use it, the second without any store.
        if source.path.starts_with("src/deploy/relay") {
            for place in source.rooms_named() {
                if place.name == "store" {
                    wrong.push(line(
                        &source,
                        &place,
                        "is not for the relay, which knows no store",
                    ));
                }
            }
        }
        // They are given what they send, and are asked what there is.
        if source.path.starts_with("src/deploy/providers") {
            for place in source.rooms_named() {
                if place.name == "store" {
                    wrong.push(line(
                        &source,
                        &place,
                        "is not for the providers' adapters, which know no store",
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn one_gate_a_room() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for room in ROOMS {
        let gated = lib.contains(&format!("#[cfg(feature = \"ssr\")]\npub mod {room};"));
        let open = !gated && lib.contains(&format!("pub mod {room};"));
        let for_the_browser = ["model", "app"].contains(&room);
        assert!(
            if for_the_browser { open } else { gated },
            "lib.rs {} {room}",
            if for_the_browser {
                "must not gate"
            } else {
                "must gate"
            }
        );
    }
    let gates: BTreeSet<String> = sources()
        .into_iter()
        .filter(|source| source.room != "main.rs" && source.room != "lib.rs")
        .filter(Source::has_ssr_gate)
        .map(|source| source.path)
        .collect();
    let listed: BTreeSet<String> = GATES.iter().map(|gate| gate.0.to_owned()).collect();
    assert_eq!(
        gates, listed,
        "files with an ssr gate, and the list of those with a reason"
    );
}

#[test]
fn leptos_toml_agrees_with_cargo_toml() {
    let section = |file: &str| -> toml::Table {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let table: toml::Table = text.parse().unwrap();
        table["package"]["metadata"]["leptos"]
            .as_table()
            .unwrap()
            .clone()
    };
    let (build, run) = (section("Cargo.toml"), section("Leptos.toml"));
    for (key, value) in &run {
        // At run time alone: cargo-leptos' live reload is not for those who use the dashboard.
        if key != "env" {
            assert_eq!(Some(value), build.get(key), "{key}, in Cargo.toml");
        }
    }
    for key in [
        "output-name",
        "site-root",
        "site-pkg-dir",
        "hash-files",
        "server-fn-prefix",
        "disable-server-fn-hash",
        "server-fn-mod-path",
    ] {
        assert_eq!(build.get(key), run.get(key), "{key}, in Leptos.toml");
    }

    let text = fs::read_to_string(root().join(".cargo/config.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let env = &config["env"];
    assert_eq!(env["LEPTOS_OUTPUT_NAME"], build["output-name"]);
    assert_eq!(env["SERVER_FN_PREFIX"], build["server-fn-prefix"]);
    assert_eq!(env["DISABLE_SERVER_FN_HASH"].as_str(), Some("true"));
    assert_eq!(build["disable-server-fn-hash"].as_bool(), Some(true));
    assert_eq!(env["SQLX_OFFLINE"].as_str(), Some("true"));
}

#[test]
fn documents_name_targets_and_files_that_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| !line.starts_with(['\t', '#', '.', ' ']))
        .filter_map(|line| line.split_once(':').map(|(target, _)| target))
        .collect();
    let mut commands = 0;
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "docs/agents.md",
        "docs/guide.md",
        "docs/cli.md",
        "docs/keys.md",
        "docs/backup.md",
        "docs/speed.md",
        "docs/troubleshooting.md",
        "packaging/README.md",
    ] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for target in make_targets(&text) {
            commands += 1;
            assert!(targets.contains(target), "{document} says `make {target}`");
        }
        for link in links(&text) {
            let beside = root().join(document).parent().unwrap().join(link);
            // Made by a command, and kept once it ran.
            if !link.contains("screenshots/") {
                assert!(beside.exists(), "{document} links to {link}");
            }
        }
    }
    assert!(commands >= 2, "the README's two commands are read at all");
}

#[test]
fn the_guide_names_every_variable() {
    let config = fs::read_to_string(root().join("src/cli/config.rs")).unwrap();
    // A flag's variable, or one that is no flag.
    let declared: BTreeSet<&str> = ["env = \"", "env::var(\""]
        .into_iter()
        .flat_map(|begin| config.split(begin).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let guide = fs::read_to_string(root().join("docs/guide.md")).unwrap();
    let described: BTreeSet<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split('`').next())
        .filter(|name| name.starts_with("SEALPORT_") || name.starts_with("DATABASE_"))
        .collect();
    assert!(declared.len() > 5, "the configuration is read at all");
    assert_eq!(
        described, declared,
        "the guide's table, and src/cli/config.rs"
    );
}

#[test]
fn wasm_bindgen_is_pinned() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let wanted = manifest["dependencies"]["wasm-bindgen"]["version"]
        .as_str()
        .unwrap();
    assert!(
        wanted.starts_with('='),
        "the program of the same name must be of the same version"
    );
}

/// No machine of ours builds the images, so what can be read is held.
#[test]
fn the_images_are_built_of_what_is_here() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let rust = manifest["package"]["rust-version"].as_str().unwrap();
    let dockerfile = fs::read_to_string(root().join("packaging/Dockerfile")).unwrap();
    assert!(dockerfile.contains(&format!("ARG RUST={rust}\n")));
    for stage in ["bridge", "bridge-node", "bridge-python", "sealport"] {
        assert!(dockerfile.contains(&format!(" AS {stage}\n")), "{stage}");
    }
    let ignored = fs::read_to_string(root().join("packaging/Dockerfile.dockerignore")).unwrap();
    let kept: BTreeSet<&str> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let copied = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from=") && !line.starts_with(". "));
    let mut count = 0;
    for line in copied {
        let (files, _to) = line.rsplit_once(' ').unwrap();
        for file in files.split(' ') {
            count += 1;
            assert!(kept.contains(file), "{file} does not reach the build");
            assert!(root().join(file).exists(), "{file}");
        }
    }
    assert!(count > 5, "the copies are read at all");
}

/// The reading above is worth as much as what it would catch.
#[test]
fn wrong_arrows_are_seen() {
    let named = |path: &str, text: &str| -> Vec<(String, Gate)> {
        Source::parse(path, text)
            .rooms_named()
            .into_iter()
            .map(|place| (place.name, place.gate))
            .collect()
    };
    let one = |name: &str, gate: Gate| vec![(name.to_owned(), gate)];
    let open = Gate::None;

    let store = "src/store/secrets.rs";
    assert_eq!(named(store, "use crate::doors::web;"), one("doors", open));
    assert_eq!(
        named(store, "fn f() { crate::cli::run() }"),
        one("cli", open)
    );
    assert_eq!(
        named(store, "use super::super::deploy::x;"),
        one("deploy", open)
    );
    assert_eq!(
        named(store, "mod tests { use super::super::super::deploy::x; }"),
        one("deploy", open)
    );
    assert_eq!(
        named(store, "use super::keys; use super::super::store::keys;"),
        one("store", open)
    );
    assert_eq!(
        named("src/store/mod.rs", "use super::app;"),
        one("app", open)
    );
    let several = named(store, "use crate::{model::{paths, errors}, app, r#\"x\"#};");
    assert_eq!(
        several[..2],
        [("model".to_owned(), open), ("app".to_owned(), open)]
    );
    for nothing in [
        "// use crate::cli;",
        "/* crate::cli /* crate::cli */ crate::cli */",
        "let a = \"crate::cli\"; let b = '\"'; let c = r##\"crate::cli \"# \"##;",
        "pub(crate) fn f<'a>(x: &'a str, y: char) { let q = '\\''; }",
    ] {
        assert_eq!(named(store, nothing), [], "{nothing}");
    }
    assert_eq!(
        named(store, "let q = '\\''; crate::cli::run()"),
        one("cli", open)
    );
    assert_eq!(
        named(
            store,
            "fn f<'a>(q: &'a str) { 'x: loop { crate::cli::run() } }"
        ),
        one("cli", open)
    );

    let page = "src/app/secrets.rs";
    assert_eq!(named(page, "use crate::store::Db;"), one("store", open));
    assert_eq!(
        named(page, "view! { <p>{crate::store::name()}</p> }"),
        one("store", open)
    );
    assert_eq!(
        named(
            page,
            "#[server(prefix = \"/_fn\")] pub async fn f() -> Result<(), E> { use crate::store::Db; }"
        ),
        one("store", Gate::ServerFunction)
    );
    assert_eq!(
        named(
            page,
            "#[server] pub async fn f(db: crate::store::Db) -> Result<(), E> {} fn g() {}"
        ),
        one("store", open)
    );
    assert_eq!(
        named(
            page,
            "#[server] async fn f() { if a { b() } } fn g() { crate::store::x() }"
        ),
        one("store", open)
    );
    assert_eq!(
        named(
            page,
            "#[cfg(feature = \"ssr\")] mod server { fn f() {} use crate::store::Db; }"
        ),
        one("store", Gate::Feature)
    );

    let sql = Source::parse(
        "src/doors/web.rs",
        "use sqlx; fn f() { x.sqlx(); sqlx::query(a) }",
    );
    assert_eq!(sql.paths_named(&["sqlx"]).len(), 2);
    let files = Source::parse(
        "src/model/paths.rs",
        "use std::{fs, net}; fn f() { std::fs::read() }",
    );
    assert_eq!(files.paths_named(&["std::fs"]).len(), 2);
}

fn line(source: &Source, place: &Place, what: &str) -> String {
    format!("{}:{}: {} {what}", source.path, place.line, place.name)
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|name| *name == room)
}

/// What the hostile server tries is listed for people who decide whether to trust the walls.
#[test]
fn every_try_of_the_list_in_security_md_is_a_test_and_every_try_is_in_the_list() {
    let security = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let (_, list) = security
        .split_once("## What the hostile server tries")
        .unwrap();
    let list = list.split("\n## ").next().unwrap();
    let names = list
        .lines()
        .filter(|line| line.starts_with("- "))
        .map(|line| {
            let name = line
                .strip_suffix('`')
                .and_then(|line| line.rsplit_once(": `"));
            name.unwrap_or_else(|| panic!("a try without its test: {line}"))
                .1
        });
    let names: BTreeSet<&str> = names.collect();
    assert!(names.len() > 70, "the list is found: {names:?}");

    let mut tests = String::new();
    for folder in ["src", "tests"] {
        for file in rust_below(&root().join(folder)) {
            tests.push_str(&fs::read_to_string(file).unwrap());
        }
    }
    let missing = names
        .iter()
        .filter(|name| !tests.contains(&format!("fn {name}(")));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());

    // Those by which the hostile server is ordered about: each has a line.
    let tries = fs::read_to_string(root().join("tests/guest/tries.rs")).unwrap();
    let tries = tries.split("\ntries! {").nth(1).unwrap();
    let ordered = tries.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("fn ")?;
        Some(rest.split('(').next().unwrap_or_default())
    });
    let unlisted = ordered.filter(|name| !names.contains(name));
    assert_eq!(unlisted.collect::<Vec<_>>(), Vec::<&str>::new());
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a directory, in order.
fn rust_below(dir: &Path) -> Vec<PathBuf> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(dir, &mut files);
    files.sort();
    files
}

fn sources() -> Vec<Source> {
    let files = rust_below(&root().join("src"));
    assert!(files.len() > 20, "the walk finds the source");
    let mut sources: Vec<Source> = files
        .iter()
        .map(|file| Source::read(&root(), file))
        .collect();
    reading::mark_gated_files(&mut sources);
    sources
}

/// The words after `make ` in code: in backquotes, or at the start of a line of a block.
fn make_targets(text: &str) -> Vec<&str> {
    let at_line_start = text.lines().filter_map(|line| line.strip_prefix("make "));
    let quoted = text.split("`make ").skip(1);
    at_line_start
        .chain(quoted)
        .filter_map(|rest| {
            rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
                .next()
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// Where a document links to within the repository.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|link| link.split('#').next().unwrap_or_default())
        .filter(|link| !link.is_empty() && !link.contains("://"))
        .collect()
}
