//! The same from a package's install script, and what only an install could try.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sealport::deploy::sandbox::FIRST_GUEST_ID;
use sealport::deploy::sources::{
    InstallSettings, SourceAsk, SourceFailure, SourceHosts, WorkLimits, Workshop,
};
use sealport::model::sources::Source;
use serde_json::{Map, Value, json};
use tokio::sync::{OnceCell, mpsc};

use super::house::{fixture_file, processes_with, until};
use super::scene::{Scene, of};
use super::tries;

/// One of the tries of `tries.rs`: what came of it in the two installs that do them all.
pub async fn tried(name: &str) {
    static OUTCOMES: OnceCell<[Value; 2]> = OnceCell::const_new();
    let outcomes = OUTCOMES.get_or_init(|| async {
        let scene = Scene::shared().await;
        let orders: Map<String, Value> = tries::all(&scene.facts)
            .into_iter()
            .map(|(name, order)| (name.to_owned(), order))
            .collect();
        let orders = of(&Value::Object(orders), "/srv");
        [npm(&orders).await, pip(&orders).await]
    });
    for (by, outcomes) in ["npm", "pip"].iter().zip(outcomes.await) {
        let said = &outcomes[name];
        assert!(
            said.get("no").is_some(),
            "it worked by {by}: {name}\n{said}"
        );
    }
}

async fn npm(orders: &str) -> Value {
    let script = "python3 tries.py --all orders.json /srv/outcomes.json";
    let (home, installed) = install("npm", script, &[("orders.json", orders)]).await;
    installed.unwrap();
    outcomes(&home)
}

/// By a build backend of the project's own, which needs nothing from a registry.
async fn pip(orders: &str) -> Value {
    let project = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n\
                   [project]\nname = 'x'\nversion = '1'\n[project.scripts]\nx = 'x:main'\n";
    let backend = "import subprocess\n\
                   def build_wheel(*_):\n    \
                   subprocess.run(['python3', '/srv/app/tries.py', '--all', '/srv/app/orders.json', '/srv/outcomes.json'])\n    \
                   raise SystemExit('enough')\n";
    let files = [
        ("orders.json", orders),
        ("pyproject.toml", project),
        ("backend.py", backend),
    ];
    let (home, installed) = install_tree("pip", &files).await;
    installed.expect_err("there is no wheel");
    outcomes(&home)
}

fn outcomes(home: &Path) -> Value {
    let written = std::fs::read(home.join("outcomes.json"));
    serde_json::from_slice(&written.expect("it was built")).unwrap()
}

#[tokio::test]
async fn leaves_a_process_behind() {
    let scene = Scene::shared().await;
    let mark = scene.house.marker("installed");
    let order = json!({"what": "stay", "marker": mark}).to_string();
    // It goes on only when it was seen.
    let script =
        "python3 tries.py \"$(cat order.json)\" && until [ -e /srv/seen ]; do sleep 0.05; done";
    let seen = async {
        until("control: the process is there", || {
            !processes_with(&mark).is_empty()
        })
        .await;
        std::fs::write(scene.house.place.path().join("guests/stays/seen"), "").unwrap();
    };
    let files = [("order.json", order.as_str())];
    let (_, (_, installed)) = tokio::join!(seen, install("stays", script, &files));
    installed.unwrap();
    assert!(processes_with(&mark).is_empty(), "gone when the install is");
}

/// Removing such a tree level by level would end Sealport: a level takes room on the stack.
#[tokio::test]
async fn nests_directories_deeper_than_a_stack() {
    let nest = "import os\nos.chdir('/srv/.build')\nfor i in range(30000):\n os.mkdir('d')\n os.chdir('d')\n";
    let (home, installed) = install("deep", "python3 nest.py", &[("nest.py", nest)]).await;
    // In time it is noticed, and then the install fails.
    if let Err(failure) = installed {
        assert!(failure.sentence.contains("more room than"), "{failure:?}");
    }
    assert!(!home.join(".build").exists(), "it could not be removed");
}

/// Below a path that is longer than paths may be, and below a name that is no text.
#[tokio::test]
async fn hides_what_it_writes_from_who_counts_it() {
    let hide = |folder: &str| {
        format!(
            "import os, time\n{folder}\nwith open('big', 'wb') as f:\n for i in range(200): f.write(bytes(1 << 20))\ntime.sleep(600)\n"
        )
    };
    for (name, folder) in [
        (
            "long",
            "for i in range(20):\n os.mkdir('x' * 250)\n os.chdir('x' * 250)",
        ),
        ("odd", "os.mkdir(b'\\xff')\nos.chdir(b'\\xff')"),
    ] {
        let (_, installed) = install(name, "python3 hide.py", &[("hide.py", &hide(folder))]).await;
        let failure = installed.expect_err("it is too much");
        assert!(failure.sentence.contains("more room than"), "{failure:?}");
    }
}

/// Installs a package of ours that has this script, and returns its home.
async fn install(
    name: &str,
    script: &str,
    files: &[(&str, &str)],
) -> (PathBuf, Result<(), SourceFailure>) {
    let package = json!({"name": "x", "bin": "index.mjs", "scripts": {"postinstall": script}});
    let package = package.to_string();
    let own = [("package.json", package.as_str()), ("index.mjs", "")];
    install_tree(name, &[files, &own].concat()).await
}

async fn install_tree(name: &str, files: &[(&str, &str)]) -> (PathBuf, Result<(), SourceFailure>) {
    static NEXT_ID: AtomicU32 = AtomicU32::new(FIRST_GUEST_ID + 9000);
    let scene = Scene::shared().await;
    let place = scene.house.place.path();
    let tree = place.join("roots").join(name);
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::copy(fixture_file("tries.py"), tree.join("tries.py")).unwrap();
    for (file, text) in files {
        std::fs::write(tree.join(file), text).unwrap();
    }
    let workshop = Workshop::new(
        scene.house.sandbox.clone(),
        InstallSettings::read(),
        vec![place.join("roots")],
        SourceHosts::default(),
    )
    .with_limits(WorkLimits {
        install_timeout: Duration::from_secs(90),
        install_disk_bytes: 100 << 20,
        ..WorkLimits::default()
    });
    let home = |name: String| {
        let path = place.join("guests").join(name);
        std::fs::create_dir(&path).unwrap();
        (path, NEXT_ID.fetch_add(1, Ordering::Relaxed))
    };
    let (looked, uid) = home(format!("look-{name}"));
    let ask = SourceAsk {
        source: Source::parse(&format!("dir:{}", tree.display())).unwrap(),
        fetch_key: None,
        command: None,
        transport: None,
        administrator: true,
    };
    let found = workshop.inspect(&ask, &looked, uid, &|_| {}).await.unwrap();
    let (home, uid) = home(name.to_owned());
    let (log, mut lines) = mpsc::channel(16);
    let taking = tokio::spawn(async move { while lines.recv().await.is_some() {} });
    let installed = workshop
        .fetch_and_install(
            &found.resolved,
            &found.start,
            None,
            &home,
            uid,
            log,
            &|_| {},
        )
        .await;
    taking.await.unwrap();
    (home, installed.map(drop))
}
