//! A server of a test's own, and the program as a person or a script calls it.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use sealport::model::actors::Caller;
use sealport::model::levels::Level;
use sealport::model::paths::Folder;
use sealport::store::api_tokens::ApiTokenSpec;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::installed::{deployer, doors};
use crate::world::World;

/// Long, for it ends a test that hangs and nothing else.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The real doors on a port of their own.
pub struct Served {
    pub world: World,
    pub url: String,
    _place: TempDir,
    cancel: DropGuard,
    deploying: Option<JoinHandle<()>>,
}

impl Served {
    /// With nothing in the background.
    pub async fn up() -> Served {
        Served::with(false).await
    }

    /// With the supervisor at work.
    pub async fn deploying() -> Served {
        Served::with(true).await
    }

    async fn with(deploys: bool) -> Served {
        let world = World::new().await;
        let place = tempfile::tempdir().unwrap();
        let deployer = deployer(&world.db, place.path(), |_, _| {}).await;
        let cancel = CancellationToken::new();
        let deploying = deploys.then(|| tokio::spawn(deployer.clone().run(cancel.clone())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = doors(&world.db, deployer, &url, 0);
        tokio::spawn(sealport::doors::listening::serve(
            listener,
            router,
            cancel.clone(),
        ));
        Served {
            world,
            url,
            _place: place,
            cancel: cancel.drop_guard(),
            deploying,
        }
    }

    /// Stops every guest and waits for it.
    pub async fn close(self) {
        drop(self.cancel);
        if let Some(deploying) = self.deploying {
            let ended = tokio::time::timeout(PATIENCE, deploying).await;
            ended.expect("it stops").unwrap();
        }
    }

    /// A token of theirs, for what is their own.
    pub async fn token(&self, maker: &Caller, ceiling: Level, under: Option<&str>) -> String {
        let spec = ApiTokenSpec {
            owner: None,
            name: format!("{}-{}", ceiling.as_str(), under.unwrap_or("all")),
            ceiling,
            under: under.map(|under| Folder::parse(under).unwrap()),
            deploys: ceiling == Level::Admin,
            expires_at: None,
        };
        let made = self.world.db.api_token_create(maker, &spec).await;
        made.unwrap().token
    }

    /// A shell whose user has such a token.
    pub async fn shell(&self, maker: &Caller, ceiling: Level) -> Shell {
        let token = self.token(maker, ceiling, None).await;
        Shell::new(&self.url, &token)
    }
}

/// Where commands are called: a home of its own, and nothing of ours in the environment.
pub struct Shell {
    pub home: TempDir,
    variables: Vec<(String, String)>,
}

pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Shell {
    pub fn new(url: &str, token: &str) -> Shell {
        let mut shell = Shell::signed_out();
        shell.set("SEALPORT_URL", url);
        shell.set("SEALPORT_TOKEN", token);
        shell
    }

    pub fn signed_out() -> Shell {
        let home = tempfile::tempdir().unwrap();
        let mut shell = Shell {
            variables: Vec::new(),
            home,
        };
        let at = shell.home.path().to_str().unwrap().to_owned();
        shell.set("HOME", &at);
        shell.set("PATH", &std::env::var("PATH").unwrap());
        shell
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_sealport"), arguments)
    }

    pub fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.dir())
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "").await
    }

    /// With this on standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        ran(self.command(arguments), input).await
    }
}

pub async fn ran(mut command: Command, input: &str) -> Ran {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writes = tokio::spawn(async move {
        // It may have ended without reading.
        let _ = stdin.write_all(input.as_bytes()).await;
    });
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = ended.expect("it ends in time").unwrap();
    writes.await.unwrap();
    Ran {
        status: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

impl Ran {
    /// What it printed. Errors: it did not end with 0.
    pub fn done(self) -> String {
        assert_eq!(self.status, 0, "{}{}", self.out, self.err);
        self.out
    }
}
