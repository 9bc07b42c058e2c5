#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use super::*;

struct Files(tempfile::TempDir);

fn files(list: &[(&str, &str)]) -> Files {
    let place = tempfile::tempdir().unwrap();
    for (path, content) in list {
        let path = place.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    Files(place)
}

impl Files {
    fn detect_as(&self, kind: Kind, typed: Option<&str>) -> Result<Detected, String> {
        let tree = Tree::open(self.0.path()).unwrap();
        let typed: Option<Vec<String>> =
            typed.map(|line| line.split(' ').map(str::to_owned).collect());
        detect(&Project { tree: &tree, kind }, typed.as_deref())
    }

    fn detect(&self) -> Result<Detected, String> {
        self.detect_as(Kind::Tree, None)
    }

    fn typed(&self, line: &str) -> Result<Vec<String>, String> {
        self.detect_as(Kind::Tree, Some(line))
            .map(|found| found.command)
    }
}

const PACKAGE: &str = r#"{"name":"@x/server-y","version":"1.2.3","description":"Y","bin":{"server-y":"dist/index.js"},
    "scripts":{"build":"tsc","start:http":"node dist/index.js http"},"devDependencies":{"tsx":"1"}}"#;

#[test]
fn an_npm_package_starts_with_its_program() {
    let source = files(&[
        ("package.json", PACKAGE),
        (
            "dist/index.js",
            "if (!process.env.Y_TOKEN) { process.exit(1) }",
        ),
    ]);
    let found = source.detect_as(Kind::NpmPackage, None).unwrap();
    assert_eq!(found.command, ["node_modules/@x/server-y/dist/index.js"]);
    assert_eq!(found.said_by, "package.json (bin)");
    assert_eq!(
        (found.name.as_str(), found.version.as_str()),
        ("@x/server-y", "1.2.3")
    );
    assert_eq!(found.transport, None);
    assert_eq!(
        (
            found.wanted[0].name.as_str(),
            found.wanted[0].secret,
            found.wanted[0].required,
            found.wanted[0].suggested
        ),
        ("Y_TOKEN", true, true, true)
    );

    for (typed, command) in [
        (
            "server-y http",
            vec!["node_modules/@x/server-y/dist/index.js", "http"],
        ),
        (
            "npx -y @x/server-y@2 a",
            vec!["node_modules/@x/server-y/dist/index.js", "a"],
        ),
        (
            "node --enable-source-maps ./dist/index.js",
            vec![
                "--enable-source-maps",
                "node_modules/@x/server-y/dist/index.js",
            ],
        ),
        (
            "npm run start:http",
            vec!["node_modules/@x/server-y/dist/index.js", "http"],
        ),
    ] {
        assert_eq!(
            source
                .detect_as(Kind::NpmPackage, Some(typed))
                .unwrap()
                .command,
            command,
            "{typed}"
        );
    }
}

#[test]
fn a_repository_starts_with_its_start_script_program_main_or_usual_file() {
    assert_eq!(
        files(&[("package.json", PACKAGE)])
            .detect()
            .unwrap()
            .command,
        ["dist/index.js"]
    );
    let script = files(&[(
        "package.json",
        r#"{"bin":"cli.js","scripts":{"start":"node build/server.js --http"}}"#,
    )])
    .detect()
    .unwrap();
    assert_eq!(script.command, ["build/server.js", "--http"]);
    assert_eq!(script.said_by, "package.json (scripts.start)");
    let shell = files(&[(
        "package.json",
        r#"{"bin":"cli.js","scripts":{"start":"npm run build && node x.js"}}"#,
    )])
    .detect()
    .unwrap();
    assert_eq!(shell.command, ["cli.js"]);
    let tsx = files(&[(
        "package.json",
        r#"{"scripts":{"start":"tsx src/index.ts"},"devDependencies":{"tsx":"4"}}"#,
    )])
    .detect()
    .unwrap();
    assert_eq!(tsx.command, ["node_modules/.bin/tsx", "src/index.ts"]);
    let main = files(&[("package.json", r#"{"main":"./lib/main.js"}"#)])
        .detect()
        .unwrap();
    assert_eq!(
        (main.command, main.said_by),
        (
            vec!["lib/main.js".to_owned()],
            "package.json (main)".to_owned()
        )
    );
    let usual = files(&[("package.json", "{}"), ("index.js", "")])
        .detect()
        .unwrap();
    assert_eq!(usual.command, ["index.js"]);
    let several = files(&[("package.json", r#"{"bin":{"a":"a.js","b":"b.js"}}"#)])
        .detect()
        .unwrap_err();
    assert!(several.contains("a, b"), "{several}");
}

#[test]
fn python_projects() {
    let scripts = files(&[
        (
            "pyproject.toml",
            "[project]\nname = \"p\"\ndescription = \"P\"\n[project.scripts]\np = \"p:main\"\n",
        ),
        ("src/p.py", "os.environ[\"P_KEY\"]"),
    ])
    .detect()
    .unwrap();
    assert_eq!(
        (scripts.runtime, scripts.command, scripts.said_by),
        (
            Runtime::Python,
            vec!["p".to_owned()],
            "pyproject.toml (project.scripts)".to_owned()
        )
    );
    assert_eq!(scripts.wanted[0].name, "P_KEY");
    let file = files(&[("requirements.txt", "mcp"), ("server.py", "")])
        .detect()
        .unwrap();
    assert_eq!(
        (file.command, file.said_by),
        (vec!["server.py".to_owned()], "server.py".to_owned())
    );
    let facts = PythonFacts {
        metadata: "Name: mcp-server-time\nVersion: 1\n".into(),
        entry_points: "[console_scripts]\nmcp-server-time = m:main\n".into(),
    };
    let package = files(&[("m/__init__.py", "")]);
    let found = package
        .detect_as(Kind::PypiPackage(facts.clone()), None)
        .unwrap();
    assert_eq!(
        (found.command, found.version),
        (vec!["mcp-server-time".to_owned()], "1".to_owned())
    );
    let typed = package
        .detect_as(
            Kind::PypiPackage(facts),
            Some("uvx mcp-server-time --local-timezone UTC"),
        )
        .unwrap();
    assert_eq!(
        typed.command,
        ["mcp-server-time", "--local-timezone", "UTC"]
    );
}

#[test]
fn what_is_typed_comes_first_and_is_checked() {
    let node = files(&[("package.json", PACKAGE)]);
    assert_eq!(node.typed("node other.js a").unwrap(), ["other.js", "a"]);
    assert_eq!(
        node.typed("tsx src/x.ts").unwrap(),
        ["node_modules/.bin/tsx", "src/x.ts"]
    );
    for refused in [
        "bash -c x",
        "node -e 1",
        "node ../x.js",
        "node /etc/passwd",
        "ls",
        "/bin/ls",
        "npx other-package",
        "node",
        "python -c 1",
        "node dist/index.js postgresql://me:hunter2hunter2@db/app",
        "node dist/index.js --api-key abcdefgh",
        "node dist/index.js --token=ghp_0123456789abcdefghij0123",
    ] {
        let refusal = node.typed(refused);
        assert!(refusal.is_err(), "{refused}: {refusal:?}");
    }
    let python = files(&[("requirements.txt", "uvicorn"), ("x.py", "")]);
    assert_eq!(python.typed("python3 -u x.py a").unwrap(), ["x.py", "a"]);
    assert_eq!(python.typed("python -m x.y").unwrap(), ["-m", "x.y"]);
    assert_eq!(python.typed("uvicorn x:app").unwrap(), ["uvicorn", "x:app"]);
    for refused in [
        "python -m -x",
        "python x.txt",
        "python -m",
        "python -c 1 x.py",
    ] {
        assert!(python.typed(refused).is_err(), "{refused}");
    }
}

#[test]
fn server_json_adds_arguments_transport_and_variables() {
    let found = files(&[
        ("package.json", PACKAGE),
        ("server.json", r#"{"title":"The Y","packages":[{"registryType":"npm","identifier":"@x/server-y","transport":{"type":"streamable-http","url":"http://localhost/y"},
            "packageArguments":[{"type":"positional","value":"http"}],"environmentVariables":[{"name":"Y_KEY","isSecret":true}]}]}"#),
    ])
    .detect()
    .unwrap();
    assert_eq!(found.command, ["dist/index.js", "http"]);
    assert_eq!(found.said_by, "server.json and package.json (bin)");
    assert_eq!(found.transport, Some(Transport::Http { path: "/y".into() }));
    assert_eq!(found.title, "The Y");
    assert!(!found.wanted[0].suggested && found.wanted[0].secret);
    let refused = files(&[
        ("package.json", PACKAGE),
        (
            "server.json",
            r#"{"packages":[{"registryType":"npm","transport":{"type":"stdio"},"packageArguments":[{"type":"positional","valueHint":"url","isSecret":true,"isRequired":true}]}]}"#,
        ),
    ]);
    assert!(
        refused
            .detect()
            .unwrap_err()
            .contains("puts no secret there")
    );
}

#[test]
fn bundles_procfiles_and_dockerfiles() {
    let bundle = files(&[
        ("package.json", PACKAGE),
        (
            "manifest.json",
            r#"{"server":{"mcp_config":{"command":"node","args":["${__dirname}/b.js"]}}}"#,
        ),
    ])
    .detect()
    .unwrap();
    assert_eq!(
        (bundle.command, bundle.said_by),
        (
            vec!["b.js".to_owned()],
            "manifest.json (mcp_config)".to_owned()
        )
    );
    let web = files(&[
        ("package.json", PACKAGE),
        ("Procfile", "release: x\nweb: node web.js --a\n"),
    ])
    .detect()
    .unwrap();
    assert_eq!(
        (web.command, web.transport),
        (
            vec!["web.js".to_owned(), "--a".to_owned()],
            Some(Transport::Http {
                path: "/mcp".into()
            })
        )
    );
    let shell = files(&[
        ("package.json", PACKAGE),
        ("Procfile", "web: node web.js --port $PORT\n"),
    ])
    .detect()
    .unwrap();
    assert_eq!(shell.command, ["dist/index.js"]);
    assert!(
        shell.notes[0].contains("Procfile was passed over"),
        "{:?}",
        shell.notes
    );
    let docker = files(&[
        (
            "Dockerfile",
            "FROM x\nENTRYPOINT [\"python\", \"/app/run.py\"]\nCMD [\"--http\"]\n",
        ),
        ("requirements.txt", ""),
    ])
    .detect()
    .unwrap();
    assert_eq!(docker.command, ["run.py", "--http"]);
    assert_eq!(docker.notes.len(), 1);
}

#[test]
fn hostile_trees_are_refused_with_a_sentence() {
    assert!(
        files(&[])
            .detect()
            .unwrap_err()
            .contains("nothing says how the server starts")
    );
    assert!(files(&[("package.json", "not json")]).detect().is_err());
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(2 * 1024 * 1024));
    assert!(
        files(&[("package.json", &huge)])
            .detect()
            .unwrap_err()
            .contains("larger")
    );
    let place = files(&[]);
    std::os::unix::fs::symlink("/etc/shadow", place.0.path().join("package.json")).unwrap();
    assert!(place.detect().unwrap_err().contains("not a plain file"));
    let outside = files(&[(
        "package.json",
        r#"{"name":"x","bin":"../../../../bin/sh","main":"/etc/passwd"}"#,
    )]);
    assert!(outside.detect().is_err());
    let markup = files(&[(
        "package.json",
        "{\"name\":\"x\",\"description\":\"<script>\\u001b[2Jalert(1)</script>\",\"bin\":\"x.js\"}",
    )])
    .detect()
    .unwrap();
    assert_eq!(markup.description, "<script>alert(1)</script>");
}

#[test]
fn a_server_that_only_speaks_http_is_started_as_one() {
    let http = "const transport = new StreamableHTTPServerTransport({});";
    let only = files(&[("package.json", PACKAGE), ("index.ts", http)])
        .detect()
        .unwrap();
    assert_eq!(
        only.transport,
        Some(Transport::Http {
            path: "/mcp".into()
        })
    );
    assert!(
        only.notes[0].contains("listens on PORT"),
        "{:?}",
        only.notes
    );
    let both = files(&[
        ("package.json", PACKAGE),
        ("http.ts", http),
        ("stdio.ts", "new StdioServerTransport()"),
    ])
    .detect()
    .unwrap();
    assert_eq!(both.transport, None);
    let python = files(&[
        ("requirements.txt", ""),
        ("server.py", "mcp.run(transport=\"streamable-http\")"),
    ])
    .detect()
    .unwrap();
    assert!(matches!(python.transport, Some(Transport::Http { .. })));
}

#[test]
fn a_monorepo_names_its_folders() {
    let said = files(&[
        ("package.json", r#"{"private":true,"workspaces":["src/*"]}"#),
        ("src/a/package.json", "{}"),
        ("src/b/pyproject.toml", ""),
        ("src/b/node_modules/c/package.json", "{}"),
    ])
    .detect()
    .unwrap_err();
    assert!(said.contains("src/a, src/b. Choose"), "{said}");
}
