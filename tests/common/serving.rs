//! The real program as an operator starts it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Long, for it ends a test that hangs and nothing else.
const PATIENCE: Duration = Duration::from_secs(120);

/// A directory that other users may pass through, as PostgreSQL's does when root starts it.
pub fn home() -> TempDir {
    tempfile::Builder::new()
        .prefix("sealport-serve-")
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
        .unwrap()
}

/// `sealport serve` on a free port, with these variables and no others of ours.
pub fn serve(data: &Path, variables: &[(&str, &str)]) -> Command {
    sealport(&["serve"], data, variables)
}

pub fn sealport(arguments: &[&str], data: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealport"));
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("SEALPORT_ADDR", "127.0.0.1:0")
        .env("SEALPORT_DATA", data)
        .env("SEALPORT_LOG", "warn")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts it and waits for its end.
pub async fn ended(mut command: Command) -> Output {
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    ended.expect("it did not end").unwrap()
}

/// Starts it with this line on standard input, and waits for its end.
pub async fn fed(command: &mut Command, line: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(format!("{line}\n").as_bytes())
        .await
        .unwrap();
    drop(stdin);
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    ended.expect("it did not end").unwrap()
}

pub fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that came up.
pub struct Server {
    pub child: Child,
    /// What it printed until it served.
    pub said: String,
}

impl Server {
    pub async fn up(mut command: Command) -> Server {
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = String::new();
        let up = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                said.push_str(&line);
                said.push('\n');
                if line.starts_with("Sealport is at") {
                    return;
                }
            }
            panic!("it ended: {said}");
        };
        tokio::time::timeout(PATIENCE, up).await.expect("in time");
        // Read on, so that it never waits for us.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Server { child, said }
    }

    /// Host and port.
    pub fn at(&self) -> &str {
        let (_, at) = self.said.rsplit_once("http://").unwrap();
        at.trim().trim_end_matches('/')
    }

    /// The status line's number for a page.
    pub async fn status(&self, path: &str) -> String {
        let at = self.at();
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        words(&answer).split(' ').nth(1).unwrap().to_owned()
    }

    pub async fn stop(mut self) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it stops").unwrap();
        assert!(status.success(), "{status}");
    }

    /// As `kill -9` does.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
