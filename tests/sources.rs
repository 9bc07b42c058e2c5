//! Sources, from what someone types to a server that answers the MCP handshake, in the real sandbox: npm and PyPI
//! packages from their registries, repositories and private packages from a host of our own, directories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sealport::deploy::sandbox::{
    FIRST_GUEST_ID, GuestNetwork, GuestSpec, Limits, Sandbox, SandboxConfig,
};
use sealport::deploy::sources::{
    InstallSettings, Installed, SourceAsk, SourceFailure, SourceHosts, WorkLimits, Workshop,
};
use sealport::model::deployments::StepName;
use sealport::model::sources::{Inspection, Source, StartPlan, Transport};
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

#[path = "sources/hostile.rs"]
mod hostile;

const FETCH_KEY: &str = "canary-fetch-key-4f9a2c71d8";
const PATIENCE: Duration = Duration::from_secs(60);

// ---- Packages from the registries

#[tokio::test]
async fn an_npm_package_is_pinned_installed_and_answers() {
    let house = House::new(&[], SourceHosts::default(), InstallSettings::read()).await;
    let source = "npm:@modelcontextprotocol/server-everything@2026.8.31";
    let found = house.inspect(&ask(source)).await.unwrap();
    assert_eq!(found.resolved.to_string(), source);
    assert_eq!(
        found.start.command,
        ["node_modules/@modelcontextprotocol/server-everything/dist/index.js"]
    );
    assert_eq!(found.start.said_by, "package.json (bin)");
    assert_eq!(found.start.transport, Transport::Stdio);

    let home = house.home("everything");
    let first = house.install(&found, &home, None).await.unwrap();
    assert_eq!(first.steps, [StepName::Fetch, StepName::Install]);
    assert_eq!(
        first.installed.argv[1],
        "/srv/app/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
    );
    assert!(
        house
            .answers(&home, &first.installed, &[])
            .await
            .contains("serverInfo")
    );
    assert!(
        !home.path.join(".build").exists(),
        "caches go with the install"
    );

    // Again, by the lock, after the server has changed its own code.
    std::fs::write(home.path.join("app/package.json"), "broken").unwrap();
    let again = house.install(&found, &home, None).await.unwrap();
    assert_eq!(again.installed, first.installed);
    assert!(
        house
            .answers(&home, &again.installed, &[])
            .await
            .contains("serverInfo")
    );
    assert!(
        !again
            .lines
            .iter()
            .any(|line| line.contains("resolving anew")),
        "{:?}",
        again.lines
    );
}

#[tokio::test]
async fn real_packages_say_which_secrets_they_want() {
    let house = House::new(&[], SourceHosts::default(), InstallSettings::read()).await;
    for (package, secret, required) in [
        (
            "@modelcontextprotocol/server-gitlab",
            "GITLAB_PERSONAL_ACCESS_TOKEN",
            true,
        ),
        ("firecrawl-mcp", "FIRECRAWL_API_KEY", false),
        ("@brave/brave-search-mcp-server", "BRAVE_API_KEY", false),
        (
            "@modelcontextprotocol/server-slack",
            "SLACK_BOT_TOKEN",
            true,
        ),
        ("@notionhq/notion-mcp-server", "NOTION_TOKEN", false),
        ("tavily-mcp", "TAVILY_API_KEY", false),
        (
            "@modelcontextprotocol/server-github",
            "GITHUB_PERSONAL_ACCESS_TOKEN",
            false,
        ),
    ] {
        let found = house
            .inspect(&ask(&format!("npm:{package}")))
            .await
            .unwrap();
        let variable = found
            .variables
            .iter()
            .find(|variable| variable.name == secret);
        let variable = variable.unwrap_or_else(|| panic!("{package}: {:?}", found.variables));
        assert!(variable.secret, "{package}");
        assert_eq!(variable.required, required, "{package}");
        let others = found
            .variables
            .iter()
            .filter(|other| other.required && other.name != secret);
        let others: Vec<_> = others.map(|other| other.name.as_str()).collect();
        assert!(
            others.is_empty() || others == ["SLACK_TEAM_ID"],
            "{package}: {others:?}"
        );
        assert!(matches!(
            &found.resolved,
            Source::Npm {
                version: Some(_),
                ..
            }
        ));
        println!(
            "{package}: {:?}",
            found.variables.iter().map(|v| &v.name).collect::<Vec<_>>()
        );
    }
    let postgres = house
        .inspect(&ask("npm:@modelcontextprotocol/server-postgres"))
        .await
        .unwrap();
    assert!(
        postgres
            .notes
            .iter()
            .any(|note| note.contains("puts no secret there")),
        "{:?}",
        postgres.notes
    );
}

#[tokio::test]
async fn a_package_that_is_not_there_is_refused_with_a_sentence() {
    let house = House::new(&[], SourceHosts::default(), InstallSettings::read()).await;
    let failure = house
        .inspect(&ask("npm:@sealport-tests/there-is-no-such-package"))
        .await
        .unwrap_err();
    assert!(failure.sentence.contains("has no package"), "{failure:?}");
    let failure = house
        .inspect(&ask("npm:firecrawl-mcp@99.99.99"))
        .await
        .unwrap_err();
    assert!(
        failure.sentence.contains("not version 99.99.99"),
        "{failure:?}"
    );
    let failure = house.inspect(&ask("image:owner/name:1")).await.unwrap_err();
    assert!(failure.sentence.contains("remote targets"), "{failure:?}");
}

#[tokio::test]
async fn a_python_package_is_pinned_installed_and_answers() {
    let house = House::new(&[], SourceHosts::default(), InstallSettings::read()).await;
    let found = house.inspect(&ask("pypi:mcp-server-time")).await.unwrap();
    let Source::Pypi {
        version: Some(version),
        ..
    } = &found.resolved
    else {
        panic!("{}", found.resolved);
    };
    assert!(version.starts_with("20"), "{version}");
    assert_eq!(found.start.command, ["mcp-server-time"]);

    let home = house.home("time");
    let first = house.install(&found, &home, None).await.unwrap();
    assert_eq!(
        first.installed.argv,
        ["/srv/venv/bin/python", "/srv/venv/bin/mcp-server-time"]
    );
    assert!(
        house
            .answers(&home, &first.installed, &[])
            .await
            .contains("serverInfo")
    );
    let again = house.install(&found, &home, None).await.unwrap();
    assert!(
        house
            .answers(&home, &again.installed, &[])
            .await
            .contains("serverInfo")
    );
}

// ---- Repositories

#[tokio::test]
async fn a_repository_is_fetched_over_https_built_and_answers() {
    let host = Host::new();
    let house = host.house().await;
    let commit = host.repository("server", &|tree| {
        write(tree, "servers/echo/package.json", r#"{"name":"echo","version":"1.0.0","bin":"dist/index.mjs","scripts":{"build":"node build.mjs","postinstall":"node -e \"require('fs').writeFileSync('/srv/ran', '')\""}}"#);
        write(tree, "servers/echo/build.mjs", "import fs from 'fs'; fs.mkdirSync('dist', { recursive: true }); fs.copyFileSync('source.mjs', 'dist/index.mjs');");
        write(tree, "servers/echo/source.mjs", SERVER);
        write(tree, "servers/echo/.env.example", "# The key\nECHO_API_KEY=\n");
        write(tree, ".gitattributes", "*.bin filter=lfs\n");
    });
    let found = house
        .inspect(&ask(&format!(
            "git:https://localhost:{}/git/server.git#main:servers/echo",
            host.port
        )))
        .await
        .unwrap();
    assert_eq!(
        found.resolved.to_string(),
        format!(
            "git:https://localhost:{}/git/server.git#{commit}:servers/echo",
            host.port
        )
    );
    assert_eq!(found.start.command, ["dist/index.mjs"]);
    assert_eq!(found.variables[0].name, "ECHO_API_KEY");

    let home = house.home("echo");
    let done = house.install(&found, &home, None).await.unwrap();
    assert_eq!(done.installed.cwd, "/srv/app/servers/echo");
    assert!(home.path.join("ran").exists(), "install scripts run");
    assert!(!home.path.join("app/.git").exists(), "no history stays");
    assert!(
        house
            .answers(&home, &done.installed, &[])
            .await
            .contains("echo")
    );
}

#[tokio::test]
async fn hooks_submodules_and_links_of_a_repository_do_nothing() {
    let host = Host::new();
    let house = host.house().await;
    host.repository("hostile", &|tree| {
        write(tree, "index.js", "");
        write(
            tree,
            ".gitmodules",
            "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c touch% /srv/ran\n",
        );
        symlink("/etc/shadow", tree.join("package.json")).unwrap();
    });
    let failure = house
        .inspect(&ask(&format!(
            "git:https://127.0.0.1:{}/git/hostile.git",
            host.port
        )))
        .await
        .unwrap_err();
    assert!(failure.sentence.contains("not a plain file"), "{failure:?}");
    assert!(!format!("{failure:?}").contains("root:"), "{failure:?}");
}

#[tokio::test]
async fn a_private_repository_is_fetched_with_its_key_and_the_key_stays_nowhere() {
    let host = Host::new();
    let house = host.house().await;
    host.repository("private-server", &|tree| {
        write(tree, "package.json", r#"{"name":"p","bin":"index.mjs","scripts":{"postinstall":"node leak.mjs"}}"#);
        write(tree, "leak.mjs", "import fs from 'fs'; fs.writeFileSync('/srv/environment', JSON.stringify(process.env)); console.log(JSON.stringify(process.env));");
        write(tree, "index.mjs", SERVER);
    });
    let source = format!("git:https://localhost:{}/git/private-server.git", host.port);

    let failure = house.inspect(&ask(&source)).await.unwrap_err();
    assert!(
        failure.sentence.contains("Choose a fetch key"),
        "{failure:?}"
    );
    let mut wrong = ask(&source);
    wrong.fetch_key = Some("another-key-of-somebody".into());
    let failure = house.inspect(&wrong).await.unwrap_err();
    assert!(
        failure.sentence.contains("refused the fetch key"),
        "{failure:?}"
    );
    assert!(
        !format!("{failure:?}").contains("another-key"),
        "{failure:?}"
    );

    let mut right = ask(&source);
    right.fetch_key = Some(FETCH_KEY.into());
    let found = house.inspect(&right).await.unwrap();
    let home = house.home("private");
    let done = house.install(&found, &home, Some(FETCH_KEY)).await.unwrap();
    assert!(
        house
            .answers(&home, &done.installed, &[])
            .await
            .contains("echo")
    );
    assert!(home.path.join("environment").exists());
    assert_nowhere(house.place.path(), &done.lines);
}

#[tokio::test]
async fn redirects_unlisted_hosts_and_unknown_branches_are_refused() {
    let host = Host::new();
    host.repository("server", &|tree| write(tree, "index.js", ""));
    let house = host.house().await;
    let at = |path: &str| format!("git:https://localhost:{}{path}", host.port);
    for (source, says) in [
        (at("/elsewhere/server.git"), "redirects are not followed"),
        (
            at("/git/server.git#nowhere"),
            "no branch, tag or full commit",
        ),
        (at("/git/none.git"), "no such repository"),
        (at("/git/server.git#main:folder"), "no folder folder"),
        ("git:https://127.0.0.1/x".into(), "private network"),
    ] {
        let failure = house.inspect(&ask(&source)).await.unwrap_err();
        assert!(failure.sentence.contains(says), "{source}: {failure:?}");
    }
    let unlisted = House::new(&["127.0.0.0/8"], SourceHosts::default(), host.settings()).await;
    let before = host.asked().len();
    assert!(before > 0);
    let failure = unlisted
        .inspect(&ask(&at("/git/server.git")))
        .await
        .unwrap_err();
    assert!(
        failure.sentence.contains("SEALPORT_SOURCE_HOSTS"),
        "{failure:?}"
    );
    assert_eq!(host.asked().len(), before, "it was not even asked");
}

// ---- Private packages

#[tokio::test]
async fn a_private_npm_package_is_fetched_with_its_key_and_its_scripts_do_not_see_it() {
    let host = Host::new();
    host.package(
        "acme-server",
        &[
            ("package.json", r#"{"name":"acme-server","version":"1.2.3","bin":"index.mjs","scripts":{"postinstall":"node leak.mjs"}}"#),
            ("leak.mjs", "import fs from 'fs'; fs.writeFileSync('/srv/environment', JSON.stringify(process.env)); console.log(JSON.stringify(process.env));"),
            ("index.mjs", SERVER),
        ],
    );
    let house = host.house().await;

    let failure = house.inspect(&ask("npm:acme-server")).await.unwrap_err();
    assert!(failure.sentence.contains("fetch key"), "{failure:?}");
    let mut with_key = ask("npm:acme-server");
    with_key.fetch_key = Some(FETCH_KEY.into());
    let found = house.inspect(&with_key).await.unwrap();
    assert_eq!(found.resolved.to_string(), "npm:acme-server@1.2.3");

    let home = house.home("acme");
    let done = house.install(&found, &home, Some(FETCH_KEY)).await.unwrap();
    assert!(
        home.path.join("environment").exists(),
        "its script ran: {:?}",
        done.lines
    );
    assert!(
        house
            .answers(&home, &done.installed, &[])
            .await
            .contains("echo")
    );
    assert_nowhere(house.place.path(), &done.lines);
}

// ---- Directories

#[tokio::test]
async fn directories_are_for_administrators_below_the_roots() {
    let house = House::new(&[], SourceHosts::default(), InstallSettings::read()).await;
    let tree = house.place.path().join("roots/server");
    write(
        &tree,
        "package.json",
        r#"{"name":"local","bin":"index.mjs"}"#,
    );
    write(&tree, "index.mjs", SERVER);
    write(&tree, ".env", "KEY=canary-of-a-file");
    symlink("/etc/passwd", tree.join("passwd")).unwrap();
    let source = format!("dir:{}", tree.display());

    let failure = house.inspect(&ask(&source)).await.unwrap_err();
    assert!(
        failure.sentence.contains("for administrators"),
        "{failure:?}"
    );
    let as_administrator = |source: &str| SourceAsk {
        administrator: true,
        ..ask(source)
    };
    let failure = house
        .inspect(&as_administrator("dir:/etc"))
        .await
        .unwrap_err();
    assert!(failure.sentence.contains("below the roots"), "{failure:?}");

    let found = house.inspect(&as_administrator(&source)).await.unwrap();
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    let home = house.home("local");
    let done = house.install(&found, &home, None).await.unwrap();
    assert!(
        house
            .answers(&home, &done.installed, &[])
            .await
            .contains("echo")
    );
    assert!(!home.path.join("app/.env").exists() && !home.path.join("app/passwd").exists());
}

#[tokio::test]
async fn a_hostile_install_is_bounded_and_leaves_the_host_alone() {
    let house = House::new(&[], SourceHosts::default(), InstallSettings::read()).await;
    let outside = house.place.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "mine").unwrap();
    let tree = house.place.path().join("roots/hostile");
    write(
        &tree,
        "package.json",
        r#"{"name":"hostile","bin":"index.mjs","scripts":{"postinstall":"node install.mjs","build":"node build.mjs"}}"#,
    );
    write(
        &tree,
        "install.mjs",
        &format!("import fs from 'fs'; fs.symlinkSync('{0}', '/srv/lock'); {{0}}", outside.display()).replace("{0}", "for (let i = 0; i < 20000; i++) console.log('\\u001b[31mflood\\u0007 ' + i + 'x'.repeat(200)); console.log('y'.repeat(1e6));"),
    );
    // It puts links where Sealport writes next.
    write(
        &tree,
        "build.mjs",
        &format!(
            "import fs from 'fs'; fs.rmSync('/srv/app/index.mjs'); fs.symlinkSync('{0}/kept', '/srv/app/index.mjs');",
            outside.display()
        ),
    );
    write(&tree, "index.mjs", SERVER);
    let found = house
        .inspect(&SourceAsk {
            administrator: true,
            ..ask(&format!("dir:{}", tree.display()))
        })
        .await
        .unwrap();
    let home = house.home("hostile");

    let failure = house.install(&found, &home, None).await.unwrap_err();

    assert!(
        failure.sentence.contains("there is no index.mjs"),
        "{failure:?}"
    );
    assert_eq!(std::fs::read(outside.join("kept")).unwrap(), b"mine");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    // The next install clears what it left, and still touches nothing outside.
    let _ = house.install(&found, &home, None).await;
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn a_directory_in_typescript_is_built_with_its_development_dependencies() {
    let house = House::new(&[], SourceHosts::default(), InstallSettings::read()).await;
    let tree = house.place.path().join("roots/typescript");
    write(
        &tree,
        "package.json",
        r#"{"name":"typed","type":"module","bin":"dist/index.js","scripts":{"build":"tsc"},"devDependencies":{"typescript":"5.9.3","@types/node":"20.19.0"}}"#,
    );
    write(
        &tree,
        "tsconfig.json",
        r#"{"compilerOptions":{"module":"nodenext","target":"es2022","outDir":"dist","rootDir":"src","strict":false}}"#,
    );
    write(
        &tree,
        "src/index.ts",
        &SERVER.replace("const { id", "const answer: string = 'x'; const { id"),
    );
    let found = house
        .inspect(&SourceAsk {
            administrator: true,
            ..ask(&format!("dir:{}", tree.display()))
        })
        .await
        .unwrap();
    assert_eq!(found.start.command, ["dist/index.js"]);
    let home = house.home("typescript");
    let done = house.install(&found, &home, None).await.unwrap();
    assert!(
        house
            .answers(&home, &done.installed, &[])
            .await
            .contains("echo")
    );
    assert!(home.path.join("lock").is_dir(), "what was resolved is kept");
    let again = house.install(&found, &home, None).await.unwrap();
    assert!(
        !again
            .lines
            .iter()
            .any(|line| line.contains("resolving anew")),
        "{:?}",
        again.lines
    );
}

#[tokio::test]
async fn a_directory_in_python_gets_its_requirements() {
    let house = House::new(&[], SourceHosts::default(), InstallSettings::read()).await;
    let tree = house.place.path().join("roots/python");
    write(&tree, "requirements.txt", "shellingham==1.5.4\n");
    write(
        &tree,
        "server.py",
        "import json, sys, shellingham\nask = json.loads(sys.stdin.readline())\nprint(json.dumps({'jsonrpc': '2.0', 'id': ask['id'], 'result': {'serverInfo': {'name': 'echo'}}}), flush=True)\n",
    );
    let found = house
        .inspect(&SourceAsk {
            administrator: true,
            ..ask(&format!("dir:{}", tree.display()))
        })
        .await
        .unwrap();
    let home = house.home("python");
    let done = house.install(&found, &home, None).await.unwrap();
    assert_eq!(
        done.installed.argv,
        ["/srv/venv/bin/python", "/srv/app/server.py"]
    );
    assert!(
        house
            .answers(&home, &done.installed, &[])
            .await
            .contains("echo")
    );
    let again = house.install(&found, &home, None).await.unwrap();
    assert!(
        house
            .answers(&home, &again.installed, &[])
            .await
            .contains("echo")
    );
}

#[tokio::test]
async fn an_install_that_does_not_end_or_fills_the_disk_is_stopped() {
    let mut house = House::new(&[], SourceHosts::default(), InstallSettings::read()).await;
    for (name, script, says) in [
        ("slow", "setInterval(() => {}, 1000)", "took too long"),
        (
            "daemon",
            "import { spawn } from 'child_process'; spawn('sleep', ['1000'], { detached: true, stdio: 'inherit' }).unref();",
            "",
        ),
        (
            "large",
            "import fs from 'fs'; const f = fs.openSync('big', 'w'); const b = Buffer.alloc(1 << 20, 1); for (let i = 0; i < 200; i++) fs.writeSync(f, b); setInterval(() => {}, 1000)",
            "more room than",
        ),
    ] {
        let tree = house.place.path().join("roots").join(name);
        write(
            &tree,
            "package.json",
            r#"{"name":"x","bin":"index.mjs","scripts":{"postinstall":"node install.mjs"}}"#,
        );
        write(&tree, "install.mjs", script);
        write(&tree, "index.mjs", SERVER);
        let found = house
            .inspect(&SourceAsk {
                administrator: true,
                ..ask(&format!("dir:{}", tree.display()))
            })
            .await
            .unwrap();
        let home = house.home(name);
        house.workshop = house.workshop.clone().with_limits(WorkLimits {
            install_timeout: Duration::from_secs(20),
            install_disk_bytes: 100 << 20,
            ..WorkLimits::default()
        });
        match house.install(&found, &home, None).await {
            Ok(done) => {
                assert_eq!(says, "", "{name}");
                assert!(
                    house
                        .answers(&home, &done.installed, &[])
                        .await
                        .contains("echo")
                );
            }
            Err(failure) => assert!(
                !says.is_empty() && failure.sentence.contains(says),
                "{name}: {failure:?}"
            ),
        }
        assert!(!home.path.join(".build").exists(), "{name}");
    }
}

// ---- The house

/// A server that answers the handshake and does nothing else.
const SERVER: &str = r#"
import { createInterface } from 'node:readline';
for await (const line of createInterface({ input: process.stdin })) {
    const { id, method } = JSON.parse(line);
    if (method === 'initialize') {
        const result = { protocolVersion: '2025-11-25', capabilities: {}, serverInfo: { name: 'echo', version: '1' } };
        console.log(JSON.stringify({ jsonrpc: '2.0', id, result }));
    }
}
"#;

const HANDSHAKE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;

struct House {
    place: tempfile::TempDir,
    sandbox: Sandbox,
    workshop: Workshop,
}

struct Home {
    path: PathBuf,
    /// What outlives it.
    data: PathBuf,
    uid: u32,
}

#[derive(Debug)]
struct Done {
    installed: Installed,
    steps: Vec<StepName>,
    lines: Vec<String>,
}

impl House {
    async fn new(listed: &[&str], hosts: SourceHosts, settings: InstallSettings) -> House {
        let place = open_place();
        std::fs::create_dir(place.path().join("roots")).unwrap();
        let sandbox = Sandbox::probe(SandboxConfig {
            allow_unsandboxed: false,
            private_networks: listed
                .iter()
                .map(|network| network.parse().unwrap())
                .collect(),
            runtime_dir: place.path().join("run"),
            guests_dir: place.path().join("guests"),
            private: Vec::new(),
            tools_path: Default::default(),
            launcher: env!("CARGO_BIN_EXE_sealport").into(),
        })
        .await
        .unwrap();
        let roots = vec![place.path().join("roots")];
        let workshop = Workshop::new(sandbox.clone(), settings, roots, hosts);
        House {
            place,
            sandbox,
            workshop,
        }
    }

    fn home(&self, name: &str) -> Home {
        static NEXT_ID: AtomicU32 = AtomicU32::new(FIRST_GUEST_ID + 8000);
        let path = self.place.path().join("guests").join(name);
        std::fs::create_dir(&path).unwrap();
        Home {
            data: path.with_file_name(format!("{name}-data")),
            path,
            uid: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        }
    }

    async fn inspect(&self, ask: &SourceAsk) -> Result<Inspection, SourceFailure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let home = self.home(&format!("look-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let told = Mutex::new(Vec::new());
        let found = self
            .workshop
            .inspect(ask, &home.path, home.uid, &|line| {
                told.lock().unwrap().push(line)
            })
            .await;
        if let Ok(found) = &found {
            assert!(!told.into_inner().unwrap().is_empty());
            assert!(!found.start.command.is_empty());
            assert_eq!(
                std::fs::read_dir(&home.path).unwrap().count(),
                0,
                "nothing of a look stays"
            );
        }
        found
    }

    async fn install(
        &self,
        found: &Inspection,
        home: &Home,
        key: Option<&str>,
    ) -> Result<Done, SourceFailure> {
        let (log, mut lines) = mpsc::channel(16);
        let taken = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(line) = lines.recv().await {
                all.push(line);
            }
            all
        });
        let steps = Mutex::new(Vec::new());
        let key = key.map(SecretString::from);
        // The plan as the database gives it back.
        let start: StartPlan =
            serde_json::from_value(serde_json::to_value(&found.start).unwrap()).unwrap();
        let installed = self
            .workshop
            .fetch_and_install(
                &found.resolved,
                &start,
                key.as_ref(),
                &home.path,
                home.uid,
                log,
                &|step| steps.lock().unwrap().push(step),
            )
            .await;
        let lines = taken.await.unwrap();
        assert!(lines.len() <= 5_001, "{}", lines.len());
        assert!(
            lines
                .iter()
                .all(|line| line.len() <= 8 * 1024 && !line.chars().any(char::is_control))
        );
        Ok(Done {
            installed: installed?,
            steps: steps.into_inner().unwrap(),
            lines,
        })
    }

    /// The first line that the server answers to the handshake.
    async fn answers(&self, home: &Home, installed: &Installed, env: &[(&str, &str)]) -> String {
        let made = self.sandbox.prepare_home(home.uid, &home.data);
        made.await.unwrap();
        let mut guest = self
            .sandbox
            .spawn(GuestSpec {
                uid: home.uid,
                home: home.path.clone(),
                home_is_shared: false,
                cwd: Some(installed.cwd.clone().into()),
                data: Some(home.data.clone()),
                read_only: Vec::new(),
                argv: installed.argv.clone(),
                env: env
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), SecretString::from(*value)))
                    .collect(),
                network: GuestNetwork::None,
                listen: None,
                limits: Limits::default(),
            })
            .await
            .unwrap();
        let mut stdin = guest.stdin.take().unwrap();
        stdin
            .write_all(format!("{HANDSHAKE}\n").as_bytes())
            .await
            .unwrap();
        let mut stdout = tokio::io::BufReader::new(guest.stdout.take().unwrap());
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stdout.read_line(&mut answer))
            .await
            .unwrap()
            .unwrap();
        drop(stdin);
        guest.stop(Duration::from_secs(2)).await;
        answer
    }
}

/// A host of ours: see `fixtures/sources/host.py`.
struct Host {
    place: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Host {
    fn new() -> Host {
        let place = open_place();
        let path = |name: &str| place.path().join(name).display().to_string();
        run(
            place.path(),
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=a host for tests",
                "-addext",
                "subjectAltName=DNS:localhost,DNS:host.sealport.internal,IP:127.0.0.1",
                "-keyout",
                "key.pem",
                "-out",
                "ca.pem",
            ],
        );
        for folder in ["git", "npm"] {
            std::fs::create_dir(place.path().join(folder)).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sources/host.py");
        let mut process = Command::new("python3")
            .arg(script)
            .args([path(""), path("ca.pem"), path("key.pem"), FETCH_KEY.into()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("install python3 to run this test");
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        let port = port.trim().parse().unwrap();
        Host {
            place,
            port,
            process,
        }
    }

    fn settings(&self) -> InstallSettings {
        let ca = self.place.path().join("ca.pem").display().to_string();
        let registry = format!("https://host.sealport.internal:{}/npm/", self.port);
        let env: BTreeMap<String, String> = [
            ("GIT_SSL_CAINFO", ca.clone()),
            ("npm_config_cafile", ca),
            ("npm_config_registry", registry),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        InstallSettings::from_parts(&env, &[], &[])
    }

    async fn house(&self) -> House {
        let hosts = SourceHosts::new([
            format!("localhost:{}", self.port),
            format!("127.0.0.1:{}", self.port),
        ]);
        let opened: Vec<String> = hosts
            .private_networks()
            .await
            .iter()
            .map(ToString::to_string)
            .collect();
        let opened: Vec<&str> = opened.iter().map(String::as_str).collect();
        House::new(&opened, hosts, self.settings()).await
    }

    /// A bare repository with one commit on main. Returns the commit.
    fn repository(&self, name: &str, fill: &dyn Fn(&Path)) -> String {
        let tree = self.place.path().join(format!("tree-{name}"));
        std::fs::create_dir(&tree).unwrap();
        fill(&tree);
        run(&tree, "git", &["init", "--quiet", "--initial-branch=main"]);
        run(&tree, "git", &["add", "--all"]);
        run(
            &tree,
            "git",
            &[
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t.example",
                "commit",
                "--quiet",
                "--message=one",
            ],
        );
        let bare = self
            .place
            .path()
            .join("git")
            .join(format!("{name}.git"))
            .display()
            .to_string();
        run(&tree, "git", &["clone", "--quiet", "--bare", ".", &bare]);
        run(&tree, "git", &["rev-parse", "HEAD"])
    }

    /// A package of the private registry, in one version.
    fn package(&self, name: &str, files: &[(&str, &str)]) {
        let tree = self.place.path().join(format!("package-{name}"));
        for (path, content) in files {
            write(&tree, path, content);
        }
        let packed = run(&tree, "npm", &["pack", "--json", "--ignore-scripts"]);
        let packed: serde_json::Value = serde_json::from_str(&packed).unwrap();
        let (file, integrity, version) = (
            &packed[0]["filename"],
            &packed[0]["integrity"],
            packed[0]["version"].as_str().unwrap(),
        );
        let file = file.as_str().unwrap();
        std::fs::rename(tree.join(file), self.place.path().join("npm").join(file)).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_str(files[0].1).unwrap();
        manifest["dist"] = serde_json::json!({ "integrity": integrity, "tarball": format!("https://@HOST@/npm/{file}") });
        manifest["hasInstallScript"] = true.into();
        let packument = serde_json::json!({ "name": name, "dist-tags": { "latest": version }, "versions": { version: manifest } });
        std::fs::write(
            self.place.path().join("npm").join(format!("{name}.json")),
            packument.to_string(),
        )
        .unwrap();
    }

    fn asked(&self) -> Vec<String> {
        let asked = std::fs::read_to_string(self.place.path().join("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ask(source: &str) -> SourceAsk {
    SourceAsk {
        source: Source::parse(source).unwrap(),
        fetch_key: None,
        command: None,
        transport: None,
        administrator: false,
    }
}

fn open_place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    place
}

fn write(tree: &Path, path: &str, content: &str) {
    let path = tree.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn run(cwd: &Path, program: &str, words: &[&str]) -> String {
    let done = Command::new(program)
        .args(words)
        .current_dir(cwd)
        .output()
        .unwrap_or_else(|_| panic!("install {program} to run this test"));
    assert!(
        done.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// The fetch key, plain or as base64 of a sign-in, is in no file below and in no line.
fn assert_nowhere(place: &Path, lines: &[String]) {
    use base64::Engine as _;
    let pair =
        base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{FETCH_KEY}"));
    let holds = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        // The middle of the pair is the key's own, whatever its neighbours.
        text.contains(FETCH_KEY) || text.contains(&pair[24..pair.len() - 4])
    };
    assert!(holds(FETCH_KEY.as_bytes()) && holds(pair.as_bytes()));
    assert!(
        !lines.iter().any(|line| holds(line.as_bytes())),
        "{lines:?}"
    );
    let mut files = 0;
    let mut waiting = vec![place.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                assert!(
                    !holds(&std::fs::read(entry.path()).unwrap()),
                    "{}",
                    entry.path().display()
                );
            }
        }
    }
    assert!(files > 3);
}
