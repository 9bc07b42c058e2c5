//! How a tree of files starts, and which variables it wants. Most trusted first: what was typed, `server.json`,
//! an MCPB manifest, `Procfile`, `package.json`, `pyproject.toml`, a Python script by a usual name; a Dockerfile's
//! command only where nothing else says anything, for its paths are those of an image.

use crate::deploy::json;
use crate::model::sources::{Runtime, Transport};

use super::command::{self, Program};
use super::package_json::PackageJson;
use super::python::PythonProject;
use super::tree::{Tree, TreeError};
use super::variables::{self, Wanted};
use super::{code, mcpb, server_json, text};

/// A source's files, and what they are.
pub(super) struct Project<'a> {
    pub tree: &'a Tree,
    pub kind: Kind,
}

/// Where the files will stand when they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A published npm package: below `node_modules`.
    NpmPackage,
    /// A published Python package: only its scripts and modules are there.
    PypiPackage(PythonFacts),
    /// A repository or a directory, built where it stands.
    Tree,
}

/// `METADATA` and `entry_points.txt` of a package, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PythonFacts {
    pub metadata: String,
    pub entry_points: String,
}

#[derive(Debug)]
pub(super) struct Detected {
    pub name: String,
    pub version: String,
    pub title: String,
    pub description: String,
    pub runtime: Runtime,
    /// As `StartPlan::command`.
    pub command: Vec<String>,
    pub said_by: String,
    pub transport: Option<Transport>,
    pub notes: Vec<String>,
    pub wanted: Vec<crate::model::sources::WantedVariable>,
}

/// Errors: a sentence a person can act on.
pub(super) fn detect(project: &Project<'_>, typed: Option<&[String]>) -> Result<Detected, String> {
    let mut wanted = Wanted::default();
    let mut notes = Vec::new();
    let tree = project.tree;

    let node = match read(tree, "package.json")? {
        Some(content) => Some(PackageJson::parse(&content)?),
        None => None,
    };
    let python = match &project.kind {
        Kind::PypiPackage(facts) => Some(PythonProject::parse_metadata(
            &facts.metadata,
            &facts.entry_points,
        )),
        _ => match read(tree, "pyproject.toml")? {
            Some(content) => Some(PythonProject::parse_pyproject(&content)?),
            None => None,
        },
    };
    let facts = Facts {
        project,
        node,
        python,
    };

    let server = match read(tree, "server.json")? {
        Some(content) => server_json::parse(&content, facts.identifier(), &mut wanted)?,
        None => server_json::ServerJson::default(),
    };
    let bundle = match read(tree, "manifest.json")? {
        Some(content) => mcpb::parse(&content, &mut wanted),
        None => None,
    };
    for example in [
        ".env.example",
        ".env.sample",
        ".env.template",
        "env.example",
    ] {
        if let Ok(Some(content)) = tree.manifest(example) {
            variables::from_env_example(&content, &mut wanted);
        }
    }
    let code = code::scan(tree, &mut wanted);

    let start = match typed {
        Some(words) => {
            refuse_secrets_in(words)?;
            let program = command::program(words)?;
            let (runtime, command) = facts.resolve(program, 0)?;
            Start {
                runtime,
                command,
                said_by: "what was typed".into(),
                transport: None,
            }
        }
        None => {
            let mut start = facts.start(&server, bundle.as_ref(), &mut notes)?;
            start.command.extend(server.arguments.iter().cloned());
            if let Some(refusal) = server
                .refusal
                .as_ref()
                .or(bundle.as_ref().and_then(|bundle| bundle.refusal.as_ref()))
            {
                return Err(format!(
                    "{refusal} Choose a server that reads it from a variable."
                ));
            }
            notes.extend(server.notes.iter().cloned());
            notes.extend(bundle.iter().flat_map(|bundle| bundle.notes.clone()));
            start
        }
    };
    if code.wants_argument {
        notes.push("Its code seems to take an address or a key as an argument of its command. Arguments can be read by other programs, so Sealport puts no secret there: choose a server that reads it from a variable.".into());
    }
    let said_transport = server.transport.or(start.transport);
    if code.only_http && said_transport.is_none() {
        notes.push("Its code only speaks Streamable HTTP, so it is started as an HTTP server that listens on PORT.".into());
    }
    if matches!(project.kind, Kind::Tree) && has_lfs(tree) {
        notes.push("The repository keeps some files in Git LFS; these are left out.".into());
    }

    let first = |candidates: &[&str]| {
        candidates
            .iter()
            .find(|text| !text.is_empty())
            .map(|text| (*text).to_owned())
            .unwrap_or_default()
    };
    let (node, python) = (facts.node.as_ref(), facts.python.as_ref());
    let name = first(&[
        node.map_or("", |node| &node.name),
        python.map_or("", |python| &python.name),
    ]);
    Ok(Detected {
        version: first(&[
            node.map_or("", |node| &node.version),
            python.map_or("", |python| &python.version),
        ]),
        title: first(&[
            &server.title,
            bundle.as_ref().map_or("", |bundle| &bundle.title),
            &name,
        ]),
        description: first(&[
            &server.description,
            bundle.as_ref().map_or("", |bundle| &bundle.description),
            node.map_or("", |node| &node.description),
            python.map_or("", |python| &python.description),
        ]),
        name,
        runtime: start.runtime,
        command: start.command,
        said_by: start.said_by,
        transport: said_transport.or_else(|| {
            code.only_http.then(|| Transport::Http {
                path: "/mcp".into(),
            })
        }),
        notes,
        wanted: wanted.into_list(),
    })
}

struct Start {
    runtime: Runtime,
    command: Vec<String>,
    said_by: String,
    transport: Option<Transport>,
}

struct Facts<'a> {
    project: &'a Project<'a>,
    node: Option<PackageJson>,
    python: Option<PythonProject>,
}

impl Facts<'_> {
    fn identifier(&self) -> Option<&str> {
        self.node
            .as_ref()
            .map(|node| node.name.as_str())
            .or(self.python.as_ref().map(|python| python.name.as_str()))
            .filter(|name| !name.is_empty())
    }

    fn start(
        &self,
        server: &server_json::ServerJson,
        bundle: Option<&mcpb::Mcpb>,
        notes: &mut Vec<String>,
    ) -> Result<Start, String> {
        let mut choices: Vec<String> = Vec::new();
        if let Some(bundle) = bundle
            && let Some(start) = self.try_words(&bundle.command, "manifest.json (mcp_config)", None)
        {
            return Ok(start);
        }
        if let Some(line) = self.procfile() {
            let http = Some(Transport::Http {
                path: "/mcp".into(),
            });
            match command::split(&line).and_then(|words| self.resolve(command::program(&words)?, 0))
            {
                Ok((runtime, command)) => {
                    return Ok(Start {
                        runtime,
                        command,
                        said_by: "Procfile (web)".into(),
                        transport: http,
                    });
                }
                Err(reason) => notes.push(format!("The Procfile was passed over: {reason}")),
            }
        }
        if let Some(node) = &self.node {
            match self.node_start(node) {
                Ok(Some(start)) => return Ok(self.said_with(start, server)),
                Ok(None) => {}
                Err(names) => choices.extend(names),
            }
        }
        if let Some(python) = &self.python {
            match python.chosen_script() {
                Ok(script) => {
                    let said_by = match self.project.kind {
                        Kind::PypiPackage(_) => "entry_points.txt (console_scripts)",
                        _ => "pyproject.toml (project.scripts)",
                    };
                    let start = Start {
                        runtime: Runtime::Python,
                        command: vec![script.to_owned()],
                        said_by: said_by.into(),
                        transport: None,
                    };
                    return Ok(self.said_with(start, server));
                }
                Err(names) => choices.extend(names.into_iter().map(str::to_owned)),
            }
        }
        if let Some(start) = self.python_file() {
            return Ok(start);
        }
        if let Some(words) = self.dockerfile()
            && let Some(start) = self.try_words(&words, "Dockerfile (CMD)", None)
        {
            notes.push("Only the Dockerfile says how it starts, and its paths are those of an image: look at the command.".into());
            return Ok(start);
        }
        Err(match choices.is_empty() {
            true => self.nothing_found(),
            false => format!(
                "It has several programs ({}). Type the one that starts the server.",
                text::line(&choices.join(", "), 300)
            ),
        })
    }

    /// Folders below that have a manifest of their own, such as the servers of a monorepo.
    fn folders_with_servers(&self) -> Vec<String> {
        if self.project.kind != Kind::Tree {
            return Vec::new();
        }
        let enter = |path: &str, name: &str| {
            path.matches('/').count() < 3
                && !name.starts_with('.')
                && !matches!(name, "node_modules" | "venv" | "tests" | "docs")
        };
        let entries = self.project.tree.walk(20_000, &enter).unwrap_or_default();
        let mut folders: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry.path.rsplit_once('/'))
            .filter(|(_, name)| matches!(*name, "package.json" | "pyproject.toml"))
            .map(|(folder, _)| folder.to_owned())
            .collect();
        folders.dedup();
        folders.truncate(12);
        folders
    }

    fn said_with(&self, mut start: Start, server: &server_json::ServerJson) -> Start {
        if !server.arguments.is_empty() {
            start.said_by = format!("server.json and {}", start.said_by);
        }
        start
    }

    fn nothing_found(&self) -> String {
        let folders = self.folders_with_servers();
        if !folders.is_empty() {
            return format!(
                "Nothing here says how a server starts, but these folders may hold one: {}. Choose a folder, or type the command.",
                text::line(&folders.join(", "), 400)
            );
        }
        match (&self.node, &self.python) {
            (None, None) => "There is no package.json, pyproject.toml or requirements.txt with a server.py here, so nothing says how the server starts. Type the command, or choose the folder that holds the server.".into(),
            _ => "Its manifest names no program, so nothing says how the server starts. Type the command, as in node dist/index.js.".into(),
        }
    }

    /// Errors: the names of several programs, none of which stands out.
    fn node_start(&self, node: &PackageJson) -> Result<Option<Start>, Vec<String>> {
        let published = self.project.kind == Kind::NpmPackage;
        let script = || {
            let words = command::split(node.script("start")?).ok()?;
            let program = command::program(&words).ok()?;
            // Only what runs a file of its own: `vite` or `tsc --watch` would not be the server.
            let own = match &program {
                Program::Runtime(Runtime::Node, _) => true,
                Program::Named(name, _) => matches!(name.as_str(), "tsx" | "ts-node"),
                _ => false,
            };
            let (runtime, command) = self.resolve(program, 1).ok()?;
            own.then(|| Start {
                runtime,
                command,
                said_by: "package.json (scripts.start)".into(),
                transport: None,
            })
        };
        // The program of a published package is what it is for; a repository's start script knows its build.
        if !published && let Some(start) = script() {
            return Ok(Some(start));
        }
        let several = match node.chosen_bin() {
            Ok(file) => {
                return Ok(Some(self.node_file(file, "package.json (bin)")));
            }
            Err(names) => names.into_iter().map(str::to_owned).collect::<Vec<_>>(),
        };
        if !several.is_empty() {
            return Err(several);
        }
        if published && let Some(start) = script() {
            return Ok(Some(start));
        }
        if let Some(main) = &node.main
            && has_extension(main, &["js", "mjs", "cjs"])
        {
            return Ok(Some(self.node_file(main, "package.json (main)")));
        }
        let usual = ["index.js", "index.mjs", "server.js"];
        Ok(usual
            .into_iter()
            .find(|file| self.project.tree.is_file(file))
            .map(|file| self.node_file(file, file)))
    }

    fn node_file(&self, file: &str, said_by: &str) -> Start {
        Start {
            runtime: Runtime::Node,
            command: vec![self.below(file)],
            said_by: said_by.into(),
            transport: None,
        }
    }

    /// Where a file of the source stands when it runs.
    fn below(&self, file: &str) -> String {
        match (&self.project.kind, &self.node) {
            (Kind::NpmPackage, Some(node)) => format!("node_modules/{}/{file}", node.name),
            _ => file.to_owned(),
        }
    }

    fn python_file(&self) -> Option<Start> {
        let tree = self.project.tree;
        if self.project.kind != Kind::Tree
            || !(tree.is_file("requirements.txt") || self.python.is_some())
        {
            return None;
        }
        let file = [
            "main.py",
            "app.py",
            "server.py",
            "src/main.py",
            "src/server.py",
        ]
        .into_iter()
        .find(|file| tree.is_file(file))?;
        Some(Start {
            runtime: Runtime::Python,
            command: vec![file.to_owned()],
            said_by: file.to_owned(),
            transport: None,
        })
    }

    fn try_words(
        &self,
        words: &[String],
        said_by: &str,
        transport: Option<Transport>,
    ) -> Option<Start> {
        let (runtime, command) = self.resolve(command::program(words).ok()?, 0).ok()?;
        Some(Start {
            runtime,
            command,
            said_by: said_by.into(),
            transport,
        })
    }

    fn procfile(&self) -> Option<String> {
        let content = self.project.tree.manifest("Procfile").ok()??;
        content
            .lines()
            .take(100)
            .find_map(|line| line.strip_prefix("web:"))
            .map(|line| line.trim().to_owned())
    }

    /// The last ENTRYPOINT and CMD in their exec form, in JSON.
    fn dockerfile(&self) -> Option<Vec<String>> {
        let content = self.project.tree.manifest("Dockerfile").ok()??;
        let last = |instruction: &str| {
            content
                .lines()
                .filter_map(|line| {
                    let (word, rest) = line.trim().split_once(char::is_whitespace)?;
                    word.eq_ignore_ascii_case(instruction).then_some(rest)
                })
                .next_back()
        };
        let exec = |rest: &str| -> Option<Vec<String>> {
            let list = json::tree(rest.as_bytes()).ok()?;
            let list = list.as_array()?;
            list.iter()
                .map(|word| Some(word.as_str()?.trim_start_matches("/app/").to_owned()))
                .collect()
        };
        let mut words = last("ENTRYPOINT").and_then(exec).unwrap_or_default();
        words.extend(last("CMD").and_then(exec).unwrap_or_default());
        (!words.is_empty()).then_some(words)
    }

    /// The runtime and the words after it. Errors: a sentence.
    fn resolve(&self, program: Program, depth: u8) -> Result<(Runtime, Vec<String>), String> {
        match program {
            Program::Runtime(Runtime::Node, words) => self.resolve_node(words),
            Program::Runtime(Runtime::Python, words) => resolve_python(words),
            Program::Package(runtime, name, arguments) => {
                self.resolve_package(runtime, &name, arguments)
            }
            Program::Script(name, arguments) => {
                let line = self
                    .node
                    .as_ref()
                    .and_then(|node| node.script(&name))
                    .ok_or_else(|| {
                        format!(
                            "package.json has no script named {}.",
                            text::line(&name, 60)
                        )
                    })?;
                if depth > 0 {
                    return Err("A script that runs another script is not followed. Type the program that starts the server.".into());
                }
                let mut words = command::split(line)?;
                words.extend(arguments);
                self.resolve(command::program(&words)?, depth + 1)
            }
            Program::Named(name, arguments) => self.resolve_named(name, arguments),
        }
    }

    fn resolve_node(&self, mut words: Vec<String>) -> Result<(Runtime, Vec<String>), String> {
        let evaluates = |word: &String| {
            matches!(
                word.as_str(),
                "-e" | "--eval" | "-p" | "--print" | "-i" | "--interactive" | "-"
            )
        };
        let at = command::file_position(&words)
            .ok_or("Name the file that node starts, as in node dist/index.js.")?;
        if words[..at].iter().any(evaluates) {
            return Err("node is started with a file, not with code on its command line.".into());
        }
        let file = match words[at].as_str() {
            "." => self
                .node
                .as_ref()
                .and_then(|node| node.main.clone())
                .unwrap_or_else(|| "index.js".into()),
            file => command::relative_file(file.strip_prefix("/app/").unwrap_or(file)).ok_or(
                "The file that node starts is named by its path inside the source, as in node dist/index.js.",
            )?,
        };
        words[at] = self.below(&file);
        Ok((Runtime::Node, words))
    }

    fn resolve_package(
        &self,
        runtime: Runtime,
        name: &str,
        arguments: Vec<String>,
    ) -> Result<(Runtime, Vec<String>), String> {
        let own = self
            .identifier()
            .is_some_and(|own| own.eq_ignore_ascii_case(name));
        let bin = self.node.as_ref().and_then(|node| node.bin(name));
        let mut command = match runtime {
            Runtime::Node => match (&self.node, bin) {
                (Some(_), Some(file)) => vec![self.below(file)],
                (Some(node), None) if own => vec![self.below(node.chosen_bin().map_err(|_| {
                    "Type the name of the program that starts the server.".to_owned()
                })?)],
                _ => return Err(other_package("npm", name)),
            },
            Runtime::Python => match &self.python {
                Some(python) if python.scripts.iter().any(|script| script == name) => {
                    vec![name.to_owned()]
                }
                Some(python) if own => vec![
                    python
                        .chosen_script()
                        .map_err(|_| {
                            "Type the name of the script that starts the server.".to_owned()
                        })?
                        .to_owned(),
                ],
                _ => return Err(other_package("pypi", name)),
            },
        };
        command.extend(arguments);
        Ok((runtime, command))
    }

    fn resolve_named(
        &self,
        name: String,
        arguments: Vec<String>,
    ) -> Result<(Runtime, Vec<String>), String> {
        let with = |first: String| {
            let mut command = vec![first];
            command.extend(arguments.iter().cloned());
            command
        };
        if let Some(file) = self.node.as_ref().and_then(|node| node.bin(&name)) {
            return Ok((Runtime::Node, with(self.below(file))));
        }
        if let Some(python) = &self.python
            && python.scripts.contains(&name)
        {
            return Ok((Runtime::Python, with(name)));
        }
        if let Some(file) = command::relative_file(&name) {
            if has_extension(&file, &["js", "mjs", "cjs"]) && self.node.is_some() {
                return Ok((Runtime::Node, with(self.below(&file))));
            }
            if has_extension(&file, &["py"]) {
                return Ok((Runtime::Python, with(file)));
            }
        }
        if !super::package_json::is_program_name(&name) {
            return Err(format!(
                "{} is not a program that Sealport starts. Type node or python with a file, or a program of the package by its name.",
                text::line(&name, 100)
            ));
        }
        // A program of something that it depends on, such as tsx or uvicorn.
        let python = self.python.is_some() || self.project.tree.is_file("requirements.txt");
        match (&self.node, python) {
            (Some(node), _)
                if self.project.kind == Kind::Tree
                    && node.dependencies.iter().any(|known| known == &name) =>
            {
                Ok((Runtime::Node, with(format!("node_modules/.bin/{name}"))))
            }
            (None, true) => Ok((Runtime::Python, with(name))),
            _ => Err(format!(
                "{} is no program of this source. Type node or python with a file, or one of its programs by name.",
                text::line(&name, 100)
            )),
        }
    }
}

fn other_package(registry: &str, name: &str) -> String {
    let name = text::line(name, 100);
    format!(
        "The command runs another package, {name}. Choose {registry}:{name} as the source instead."
    )
}

fn resolve_python(mut words: Vec<String>) -> Result<(Runtime, Vec<String>), String> {
    let Some(at) = words
        .iter()
        .position(|word| word == "-m" || !word.starts_with('-'))
    else {
        return Err("Name what python starts, as in python server.py or python -m package.".into());
    };
    let flag = |word: &String| {
        matches!(
            word.as_str(),
            "-u" | "-O" | "-OO" | "-B" | "-I" | "-s" | "-E"
        )
    };
    if !words[..at].iter().all(flag) {
        return Err(
            "python is started with a file or a module, not with code on its command line.".into(),
        );
    }
    // -u and the like change nothing that a server needs, and the file comes first that way.
    words.drain(..at);
    if words[0] == "-m" {
        let module = words.get(1).map(String::as_str).unwrap_or_default();
        let plain = !module.is_empty()
            && module.len() <= 200
            && !module.starts_with('-')
            && module
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        return match plain {
            true => Ok((Runtime::Python, words)),
            false => Err("Name the module after -m, as in python -m package.".into()),
        };
    }
    let file = words[0].strip_prefix("/app/").unwrap_or(&words[0]);
    words[0] = command::relative_file(file)
        .filter(|file| has_extension(file, &["py"]))
        .ok_or("The file that python starts is named by its path inside the source, as in python server.py.")?;
    Ok((Runtime::Python, words))
}

fn has_extension(file: &str, extensions: &[&str]) -> bool {
    file.rsplit_once('.')
        .is_some_and(|(_, extension)| extensions.contains(&extension))
}

/// Errors: a sentence, when a word of a command line looks like a secret.
pub(super) fn refuse_secrets_in(words: &[String]) -> Result<(), String> {
    let shown = |(i, word): (usize, &String)| {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value),
            None => (
                i.checked_sub(1)
                    .and_then(|i| words.get(i))
                    .map_or("", String::as_str),
                word.as_str(),
            ),
        };
        let name = if name.starts_with('-') {
            name.trim_start_matches('-')
        } else {
            ""
        };
        // A file or a package is no secret, whatever it is called.
        let file = i < 2 && command::relative_file(value).is_some();
        !value.starts_with('-') && !file && variables::looks_like_secret(name, value)
    };
    match words.iter().enumerate().any(shown) {
        true => Err("The command seems to hold a secret. Arguments can be read by other programs: store it as a secret and bind it as a variable.".into()),
        false => Ok(()),
    }
}

fn has_lfs(tree: &Tree) -> bool {
    tree.excerpt(".gitattributes", 64 * 1024)
        .is_some_and(|content| content.contains("filter=lfs"))
}

fn read(tree: &Tree, path: &str) -> Result<Option<String>, String> {
    tree.manifest(path).map_err(|error| match error {
        TreeError::Io(path, _) => format!("{path} could not be read."),
        other => other.to_string(),
    })
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;
