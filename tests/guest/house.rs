//! The house in which guests are tried.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sealport::deploy::sandbox::{
    FIRST_GUEST_ID, Guest, GuestNetwork, GuestSpec, Limits, Sandbox, SandboxConfig,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::left_out;

pub const PORT: u16 = 4000;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a condition, so that looking does not hold up what is waited for.
pub const BETWEEN: Duration = Duration::from_millis(5);

/// A variable that names the helper's place when a test runs itself again.
pub const AGAIN: &str = "GUEST_TEST_PLACE";

pub const LAUNCHER: &str = "GUEST_TEST_LAUNCHER";

/// Nobody in particular.
pub const NORMAL_USER: &str = "61234";

/// What these tests need to be run by a user who cannot enter the checkout.
pub struct Outfit {
    pub place: tempfile::TempDir,
    pub tests: PathBuf,
    pub launcher: PathBuf,
}

impl Outfit {
    pub fn new() -> Outfit {
        let place = open_place();
        let copy = |from: &Path, name: &str| {
            let to = place.path().join(name);
            std::fs::copy(from, &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
            to
        };
        let fixture = place.path().join("tests/fixtures/hostile-server");
        std::fs::create_dir_all(&fixture).unwrap();
        let tests = copy(&std::env::current_exe().unwrap(), "guest-tests");
        let launcher = copy(&launcher(), "sealport");
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        copy(
            &fixture_file("server.mjs"),
            "tests/fixtures/hostile-server/server.mjs",
        );
        copy(
            &fixture_file("tries.py"),
            "tests/fixtures/hostile-server/tries.py",
        );
        Outfit {
            place,
            tests,
            launcher,
        }
    }

    /// These tests as this user, in mounts of their own, after what root does for them there.
    pub fn tests_as(&self, user: &str, first: &str) -> std::process::Command {
        // Where there is no udev, only root may open the device of a user-mode network.
        let script = format!(
            "{first} || exit
             leave() {{ setpriv --reuid \"$user\" --regid \"$user\" --clear-groups -- \"$@\"; }}
             user=$1; shift
             if [ -c /dev/net/tun ] && ! leave test -w /dev/net/tun; then
                 mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 || exit
             fi
             leave \"$0\" \"$@\""
        );
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--mount", "--", "sh", "-c", &script])
            .arg(&self.tests)
            .arg(user)
            .env(LAUNCHER, &self.launcher)
            .current_dir(self.place.path());
        command
    }
}

/// Whether this is root's run, for what takes root. Otherwise says what is left out, unless root's run is what started this one.
pub fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && std::env::var_os(LAUNCHER).is_none() {
        left_out::say(&format!("{what}: only root can make one"));
    }
    is_root
}

/// A host of our own making: data with a key and a database socket, and a sandbox.
pub struct House {
    pub place: Place,
    pub sandbox: Sandbox,
    pub _database: std::os::unix::net::UnixListener,
}

impl House {
    pub async fn new(listed: &[&str]) -> House {
        Self::at(Place::Ours(open_place()), listed).await
    }

    pub async fn at(place: Place, listed: &[&str]) -> House {
        for (program, package) in [
            ("bwrap --version", "bubblewrap"),
            ("node --version", "nodejs (in /usr)"),
            ("setpriv --version", "util-linux"),
        ] {
            let mut words = program.split(' ');
            let ran = std::process::Command::new(words.next().unwrap())
                .args(words)
                .stdout(Stdio::null())
                .status();
            assert!(
                ran.is_ok_and(|ran| ran.success()),
                "install {package} to run this test"
            );
        }
        let data = place.path().join("data");
        std::fs::create_dir(&data).unwrap();
        // As a normal user the guest has our id: then only its walls keep it out.
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(data.join("master.key"), "canary-of-the-key").unwrap();
        let database = data.join("database.sock");
        let _database = std::os::unix::net::UnixListener::bind(&database).unwrap();
        let sandbox = Sandbox::probe(config(place.path(), listed)).await.unwrap();
        if let Some(why) = sandbox.report().why_none {
            panic!("no sandbox here: {why}");
        }
        House {
            place,
            sandbox,
            _database,
        }
    }

    /// A guest to be, in a home that holds the hostile server, with PORT and a way in.
    pub async fn spec(&self, name: &str, argv: &[&str]) -> GuestSpec {
        static NEXT_ID: AtomicU32 = AtomicU32::new(FIRST_GUEST_ID + 7000);
        let uid = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let home = self.place.path().join("guests").join(name);
        if home.exists() {
            std::fs::remove_dir_all(&home).unwrap();
        }
        std::fs::create_dir(&home).unwrap();
        for file in ["server.mjs", "tries.py"] {
            std::fs::copy(fixture_file(file), home.join(file)).unwrap();
        }
        self.sandbox.prepare_home(uid, &home).await.unwrap();
        let mut spec = spec(&home, uid, argv);
        spec.env = vec![("PORT".into(), PORT.to_string().into())];
        spec.listen = Some(PORT);
        spec
    }

    pub async fn guest(&self, name: &str, argv: &[&str]) -> Guest {
        let mut spec = self.spec(name, argv).await;
        spec.listen = None;
        self.sandbox.spawn(spec).await.unwrap()
    }

    pub async fn server(&self, name: &str, env: &[(&str, &str)]) -> Server {
        let mut spec = self.spec(name, &["node", "server.mjs"]).await;
        spec.env.extend(
            env.iter()
                .map(|(name, value)| ((*name).into(), SecretString::from(*value))),
        );
        self.serve(spec).await
    }

    pub async fn server_on(&self, name: &str, port: u16) -> Server {
        let mut spec = self.spec(name, &["node", "server.mjs"]).await;
        spec.env = vec![("PORT".into(), port.to_string().into())];
        spec.listen = Some(port);
        self.serve(spec).await
    }

    pub async fn serve(&self, spec: GuestSpec) -> Server {
        let home = spec.home.clone();
        let guest = self.sandbox.spawn(spec).await.unwrap();
        let mut server = Server { home, guest };
        let deadline = Instant::now() + PATIENCE;
        while server.ask(&json!({"what": "cwd"})).await.is_none() {
            if Instant::now() > deadline {
                let _ = server.guest.stop(Duration::ZERO).await;
                let mut said = String::new();
                let _ = server
                    .guest
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut said)
                    .await;
                panic!("the hostile server does not answer: {said}");
            }
            tokio::time::sleep(BETWEEN).await;
        }
        server
    }

    /// Text that occurs nowhere else on this machine.
    pub fn marker(&self, what: &str) -> String {
        let place = self.place.path().file_name().unwrap().to_str().unwrap();
        format!("{what}-{}", place.trim_start_matches('.'))
    }
}

pub enum Place {
    Ours(tempfile::TempDir),
    Given(PathBuf),
}

impl Place {
    pub fn path(&self) -> &Path {
        match self {
            Place::Ours(place) => place.path(),
            Place::Given(place) => place,
        }
    }
}

pub struct Server {
    pub home: PathBuf,
    pub guest: Guest,
}

impl Server {
    /// The try works, and this came of it.
    pub async fn does(&self, what: Value) -> Value {
        let answer = self.ask(&what).await.expect("the hostile server answers");
        assert!(answer.get("ok").is_some(), "{what} should work: {answer}");
        answer["ok"].clone()
    }

    /// The try fails, and this was the reason.
    pub async fn fails(&self, what: Value) -> String {
        let answer = self.ask(&what).await.expect("the hostile server answers");
        assert!(answer.get("no").is_some(), "{what} should fail: {answer}");
        answer["no"].as_str().unwrap().to_owned()
    }

    pub async fn ask(&self, what: &Value) -> Option<Value> {
        let socket = self.guest.http_socket.as_ref()?;
        let mut stream = UnixStream::connect(socket).await.ok()?;
        let body = what.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: guest\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .ok()?
            .ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

pub fn config(place: &Path, listed: &[&str]) -> SandboxConfig {
    SandboxConfig {
        allow_unsandboxed: false,
        private_networks: listed
            .iter()
            .map(|network| network.parse().unwrap())
            .collect(),
        runtime_dir: place.join("run"),
        guests_dir: place.join("guests"),
        private: vec![place.join("data"), place.join("custom.key")],
        tools_path: Default::default(),
        launcher: launcher(),
    }
}

pub fn spec(home: &Path, uid: u32, argv: &[&str]) -> GuestSpec {
    GuestSpec {
        uid,
        home: home.to_owned(),
        home_is_shared: false,
        cwd: None,
        data: None,
        read_only: Vec::new(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
        network: GuestNetwork::Outgoing,
        listen: None,
        limits: Limits::default(),
    }
}

pub fn launcher() -> PathBuf {
    std::env::var_os(LAUNCHER)
        .unwrap_or(env!("CARGO_BIN_EXE_sealport").into())
        .into()
}

pub fn fixture_file(name: &str) -> PathBuf {
    Path::new("tests/fixtures/hostile-server").join(name)
}

/// A place that guests' ids can pass through.
pub fn open_place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    place
}

/// Runs one of this binary's ignored tests as a process of its own; `hidden` programs are not
/// there for it.
pub fn again(test: &str, place: &Path, hidden: &[&str]) -> Again {
    let mut script = String::new();
    for program in hidden {
        script.push_str(&format!(
            "mount --bind /dev/null \"$(command -v {program})\" && "
        ));
    }
    script.push_str("exec \"$0\" --exact --ignored --nocapture \"$1\"");
    let mut command = if hidden.is_empty() {
        std::process::Command::new("sh")
    } else {
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--", "sh"]);
        command
    };
    let child = command
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(AGAIN, place)
        .spawn()
        .unwrap();
    Again(child)
}

/// A failed test leaves no second Sealport behind.
pub struct Again(pub std::process::Child);

impl Drop for Again {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn output(mut guest: Guest) -> String {
    let mut said = String::new();
    let read = guest.stdout.take().unwrap();
    let mut read = tokio::io::BufReader::new(read);
    tokio::time::timeout(PATIENCE, read.read_to_string(&mut said))
        .await
        .unwrap()
        .unwrap();
    guest.wait().await;
    said
}

pub async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < deadline, "not met in time: {what}");
        tokio::time::sleep(BETWEEN).await;
    }
}

pub fn pids() -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The processes of this host with this text in their command line, ourselves left out.
pub fn processes_with(text: &str) -> Vec<u32> {
    let mut found = pids();
    found.retain(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && String::from_utf8_lossy(&line).contains(text)
    });
    found
}

/// All processes below this one, with their names.
pub fn descendants(of: u32) -> Vec<(u32, String)> {
    let mut found: Vec<(u32, String)> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        let line = format!("PPid:\t{parent}\n");
        for pid in pids() {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if status.contains(&line) {
                let name = status.lines().next().unwrap().trim_start_matches("Name:\t");
                found.push((pid, name.to_owned()));
                parents.push(pid);
            }
        }
    }
    found
}

/// A zombie runs no more; who has to collect it is not our matter.
pub fn is_running((pid, name): &(u32, String)) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.starts_with(&format!("Name:\t{name}\n")) && !status.contains("State:\tZ")
}

pub fn addresses_of_this_host() -> Vec<String> {
    let shown = std::process::Command::new("ip")
        .args(["-4", "-o", "addr", "show", "scope", "global"])
        .output()
        .expect("install iproute2 to run this test");
    String::from_utf8(shown.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            line.split_whitespace()
                .nth(3)?
                .split('/')
                .next()
                .map(String::from)
        })
        .inspect(|address| assert!(address.parse::<Ipv4Addr>().is_ok()))
        .collect()
}
