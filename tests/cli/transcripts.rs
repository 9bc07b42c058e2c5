//! Transcripts as data: each file of `transcripts/` is a session at an empty installation.
//!
//! ```text
//! # what it is about
//! > name | a line of a file in the home directory
//! $ [TOKEN=level] [NAME=VALUE..] sealport ARGUMENTS
//! % a deployment that begins to run, and the path of the secret that it is given
//! < a line of standard input, its end included; <| without its end
//! a line of standard output, in which [..] stands for anything
//! ! a line of standard error
//! = the exit status, where it is not 0
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sealport::model::actors::Caller;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::SecretPath;

use crate::served::{Ran, Served, Shell};
use crate::world::{brought, own, secret};

#[derive(Default)]
struct Step {
    line: usize,
    /// What begins to run before it.
    deployed: Vec<(String, String)>,
    words: Vec<String>,
    input: String,
    out: Vec<String>,
    err: Vec<String>,
    status: i32,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_and_does_what_the_transcripts_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/transcripts");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let mut wrong = String::new();
    let mut steps = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let served = Served::up().await;
        let shell = Shell::signed_out();
        let session = Session::new(&served).await;
        for step in parse(&text, &shell) {
            steps += 1;
            let ran = session.run(&shell, &step).await;
            if let Err(why) = step.agrees(&ran) {
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                let _ = write!(
                    wrong,
                    "\n{name}:{}: {}\n{why}",
                    step.line,
                    step.words.join(" ")
                );
            }
        }
    }
    assert!(steps > 100, "the transcripts are read at all");
    assert!(wrong.is_empty(), "{wrong}");
}

/// Tokens by the word that stands for each.
struct Session<'a> {
    served: &'a Served,
    anna: Caller,
    tokens: HashMap<&'static str, String>,
}

impl Session<'_> {
    async fn new(served: &Served) -> Session<'_> {
        let anna = served.world.user("anna").await;
        desk(served, &anna).await;
        let mut tokens = HashMap::new();
        for level in Level::ALL {
            tokens.insert(level.as_str(), served.token(&anna, level, None).await);
        }
        let narrow = served.token(&anna, Level::Admin, Some("meta/ci")).await;
        tokens.insert("narrow", narrow);
        tokens.insert("wrong", format!("sp_{}", "x".repeat(43)));
        tokens.insert("none", String::new());
        Session {
            served,
            anna,
            tokens,
        }
    }

    async fn deploy(&self, name: &str, path: &str) {
        let world = &self.served.world;
        let (owner, path) = (own(&self.anna), SecretPath::parse(path).unwrap());
        let found = world.db.secret_show(&self.anna, &owner, &path).await;
        let bound = secret("KEY", found.unwrap().summary.id);
        world.running(&self.anna, name, vec![bound]).await;
    }

    async fn run(&self, shell: &Shell, step: &Step) -> Ran {
        for (name, path) in &step.deployed {
            self.deploy(name, path).await;
        }
        let mut words = step.words.as_slice();
        let mut variables = vec![
            ("SEALPORT_URL", self.served.url.clone()),
            ("SEALPORT_TOKEN", self.tokens["admin"].clone()),
        ];
        while let Some((name, value)) = words[0].split_once('=') {
            variables.push(match name {
                "TOKEN" => ("SEALPORT_TOKEN", self.tokens[value].clone()),
                _ => (name, value.to_owned()),
            });
            words = &words[1..];
        }
        assert_eq!(words[0], "sealport", "line {}", step.line);
        let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let mut command = shell.command(&arguments);
        command.envs(variables);
        crate::served::ran(command, &step.input).await
    }
}

/// Bela's server, whose callers bring `DESK_KEY`; anna may call it.
async fn desk(served: &Served, anna: &Caller) {
    let (world, handle) = (&served.world, &anna.user().unwrap().handle);
    let bela = world.user("bela").await;
    let name = world
        .running(&bela, "desk", vec![brought("DESK_KEY")])
        .await;
    let on = Shareable::Deployment { name };
    let given = world.db.share(&bela, &on, handle, Level::Use, &[]).await;
    given.unwrap();
}

/// Writes the files that stand before the steps, too.
fn parse(text: &str, shell: &Shell) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut deployed = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(file) = line.strip_prefix("> ") {
            let (name, content) = file.split_once(" | ").unwrap_or((file, ""));
            let path = shell.dir().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let before = fs::read_to_string(&path).unwrap_or_default();
            fs::write(path, format!("{before}{content}\n")).unwrap();
        } else if let Some(deployment) = line.strip_prefix("% ") {
            let (name, path) = deployment.split_once(' ').unwrap();
            deployed.push((name.to_owned(), path.to_owned()));
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                line: at + 1,
                words: shell_words::split(command).unwrap(),
                deployed: std::mem::take(&mut deployed),
                ..Step::default()
            });
        } else if let Some(step) = steps.last_mut() {
            match (line, line.split_once(' ')) {
                ("", _) => {}
                (_, Some(("#", _))) => {}
                (_, Some(("<", input))) => step.input.push_str(&format!("{input}\n")),
                (_, Some(("<|", input))) => step.input.push_str(input),
                (_, Some(("!", said))) => step.err.push(said.to_owned()),
                (_, Some(("=", status))) => step.status = status.parse().unwrap(),
                _ => step.out.push(line.to_owned()),
            }
        }
    }
    steps
}

impl Step {
    fn agrees(&self, ran: &Ran) -> Result<(), String> {
        let out: Vec<&str> = ran.out.lines().collect();
        let err: Vec<&str> = ran.err.lines().collect();
        let agrees = |expected: &[String], said: &[&str]| {
            expected.len() == said.len() && expected.iter().zip(said).all(|(e, s)| matches(e, s))
        };
        if agrees(&self.out, &out) && agrees(&self.err, &err) && self.status == ran.status {
            return Ok(());
        }
        let mut why = String::new();
        for line in out {
            let _ = writeln!(why, "{line}");
        }
        for line in err {
            let _ = writeln!(why, "! {line}");
        }
        let _ = writeln!(why, "= {}", ran.status);
        Err(why)
    }
}

/// Whether a line is as expected; `[..]` stands for anything.
fn matches(expected: &str, said: &str) -> bool {
    let mut parts = expected.split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = said.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}
