//! Sealport's own end, hosts that have less, and a Sealport that is not root.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sealport::deploy::sandbox::{
    FIRST_GUEST_ID, GuestNetwork, Isolation, Outside, Sandbox, SandboxError,
};
use serde_json::json;
use tokio::net::{TcpListener, UnixStream};

use super::house::{
    AGAIN, House, NORMAL_USER, Outfit, PORT, Place, again, config, is_root, launcher, open_place,
    output, spec, until,
};
use crate::programs;

#[tokio::test]
async fn a_launcher_that_guests_cannot_reach_is_copied_for_them() {
    let place = open_place();
    let hidden = place.path().join("hidden");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut config = config(place.path(), &[]);
    config.launcher = hidden.join("sealport");
    programs::copied(&launcher(), &config.launcher);
    let shelf = config.guests_dir.join(".launcher");
    for _ in 0..2 {
        let report = Sandbox::probe(config.clone()).await.unwrap().report();
        assert_eq!(report.isolation, Isolation::Bubblewrap, "{report}");
        let copies = std::fs::read_dir(&shelf).map_or(0, Iterator::count);
        // A normal user's guests have that user's rights outside, and need no copy.
        let expected = usize::from(rustix::process::geteuid().is_root());
        assert_eq!(copies, expected);
        // Another version comes: its copy takes the place of the first.
        programs::copied(&launcher(), &hidden.join("next"));
        std::fs::rename(hidden.join("next"), &config.launcher).unwrap();
    }
}

#[tokio::test]
async fn sealports_own_process_is_closed_to_its_own_user() {
    let harden = || {
        sealport::deploy::sandbox::harden_self().unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        assert!(
            core.unwrap()
                .split_whitespace()
                .filter(|word| *word == "1")
                .count()
                == 2
        );
    };
    harden();
    let mut other = tokio::process::Command::new("sleep")
        .arg("600")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let reads = |pid: u32| {
        let path = format!("/proc/{pid}/environ");
        let ran = std::process::Command::new("cat")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ran.unwrap().success()
    };
    let pid = other.id().unwrap();
    until("control: another process of ours can be read", || {
        reads(pid)
    })
    .await;
    if !rustix::process::geteuid().is_root() {
        assert!(!reads(std::process::id()), "ours after hardening");
    }
    // And guests still start.
    let house = House::new(&[]).await;
    house.server("after", &[]).await;
    other.kill().await.unwrap();
}

#[tokio::test]
async fn without_bubblewrap_nothing_runs_unless_it_is_allowed() {
    if !is_root("a host without some of its programs") {
        return;
    }
    let place = open_place();
    let mut ran = again("hosts::helper_has_no_bubblewrap", place.path(), &["bwrap"]);
    assert!(ran.0.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "run by without_bubblewrap_nothing_runs_unless_it_is_allowed"]
async fn helper_has_no_bubblewrap() {
    let place = PathBuf::from(std::env::var(AGAIN).expect("run by another test"));
    let mut allowed = config(&place, &[]);
    let sandbox = Sandbox::probe(allowed.clone()).await.unwrap();
    let report = sandbox.report();
    assert!(!report.runs_guests, "{report}");
    let said = report.to_string();
    assert!(said.starts_with("No servers run here"), "{said}");
    assert!(
        said.contains("bubblewrap") && said.contains("network is open"),
        "{said}"
    );
    let home = place.join("guests/one");
    sandbox.prepare_home(FIRST_GUEST_ID, &home).await.unwrap();
    let refused = sandbox
        .spawn(spec(&home, FIRST_GUEST_ID, &["id", "-u"]))
        .await;
    assert!(
        matches!(refused, Err(SandboxError::Unsandboxed(_))),
        "{refused:?}"
    );

    allowed.allow_unsandboxed = true;
    let sandbox = Sandbox::probe(allowed).await.unwrap();
    std::fs::create_dir(place.join("data")).unwrap();
    std::fs::write(place.join("data/readable"), "by everyone\n").unwrap();
    let left = format!("guest-was-here-{}", place.file_name().unwrap().display());
    let script = "id -u; cat $HOME/note $TMPDIR/note; cat $HOME/../../data/readable /etc/shadow; \
                  ls /tmp /etc; touch /tmp/$0 /dev/shm/$0; pwd";
    std::fs::write(home.join("note"), "mine\n").unwrap();
    let guest = sandbox
        .spawn(spec(&home, FIRST_GUEST_ID, &["sh", "-c", script, &left]))
        .await
        .unwrap();
    let said = output(guest).await;
    let expected = format!("{FIRST_GUEST_ID}\nmine\nmine\n{}\n", home.display());
    assert_eq!(said, expected, "not root, and no more than its home");
    assert!(!Path::new("/tmp").join(&left).exists());
    assert!(!Path::new("/dev/shm").join(&left).exists());

    // Landlock cannot hide a part of what it shows.
    let mut among = config(&place, &[]);
    among.allow_unsandboxed = true;
    among.private.push("/usr/bin".into());
    let exposed = Sandbox::probe(among).await.unwrap();
    assert!(!exposed.report().runs_guests, "{}", exposed.report());
    let refused = exposed
        .spawn(spec(&home, FIRST_GUEST_ID, &["true"]))
        .await
        .unwrap_err();
    assert!(matches!(refused, SandboxError::Exposed(_)), "{refused}");

    // Allowed or not, one that listens has no network of its own here.
    let mut http = spec(&home, FIRST_GUEST_ID, &["true"]);
    http.listen = Some(PORT);
    let refused = sandbox.spawn(http).await.unwrap_err();
    assert!(
        matches!(refused, SandboxError::NoNetwork { .. })
            && refused.to_string().contains("bubblewrap, slirp4netns"),
        "{refused}"
    );
}

#[tokio::test]
async fn without_a_stack_the_open_network_is_said() {
    if !is_root("a host without some of its programs") {
        return;
    }
    let place = open_place();
    let mut ran = again("hosts::helper_has_no_stack", place.path(), &["slirp4netns"]);
    assert!(ran.0.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "run by without_a_stack_the_open_network_is_said"]
async fn helper_has_no_stack() {
    let place = std::env::var(AGAIN).expect("run by another test");
    let house = House::at(Place::Given(place.into()), &[]).await;
    let report = house.sandbox.report();
    assert_eq!(report.isolation, Isolation::Bubblewrap, "{report}");
    assert_eq!(report.network, Outside::Open, "{report}");
    assert!(
        report
            .to_string()
            .contains("network is open (not installed: slirp4netns)")
    );
    assert!(
        report.to_string().contains("speak HTTP do not run"),
        "{report}"
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = house.place.path().join("data/master.key");
    let script = "const [port, key] = process.argv.slice(1);
        try { require('fs').readFileSync(key); console.log('read'); } catch { console.log('closed'); }
        require('net').connect(port, '127.0.0.1')
            .on('connect', function () { console.log('connected'); this.destroy(); })
            .on('error', (error) => console.log(error.code));";
    let port = port.to_string();
    let argv = ["node", "-e", script, &port, key.to_str().unwrap()];
    let said = output(house.guest("open", &argv).await).await;
    assert_eq!(said, "closed\nconnected\n", "open, and walled even so");
    // One that wants no network is given none even so.
    let mut spec = house.spec("closed", &argv).await;
    spec.listen = None;
    spec.network = GuestNetwork::None;
    let said = output(house.sandbox.spawn(spec).await.unwrap()).await;
    assert_eq!(said, "closed\nECONNREFUSED\n");

    // Two that listen would meet on the host's loopback.
    let spec = house.spec("http", &["node", "server.mjs"]).await;
    let refused = house.sandbox.spawn(spec).await.unwrap_err();
    assert!(
        matches!(refused, SandboxError::NoNetwork { .. }),
        "{refused}"
    );
    let said = refused.to_string();
    assert!(
        said.contains("install slirp4netns and iproute2") && !said.contains("bubblewrap"),
        "{said}"
    );
}

#[test]
fn what_is_sealports_own_is_hidden_among_the_programs_too() {
    if !is_root("data among the programs that guests see") {
        return;
    }
    let outfit = Outfit::new();
    for user in ["0", NORMAL_USER] {
        // As in a container whose working directory is /usr/src/app.
        let place = "mount -t tmpfs none /usr/src && install -d -o \"$1\" /usr/src/app";
        let test = [
            "--exact",
            "--ignored",
            "--nocapture",
            "hosts::helper_lives_among_the_programs",
        ];
        let ran = outfit
            .tests_as(user, place)
            .args(test)
            .env(AGAIN, "/usr/src/app")
            .status()
            .unwrap();
        assert!(ran.success(), "as {user}");
    }
}

#[tokio::test]
#[ignore = "run by what_is_sealports_own_is_hidden_among_the_programs_too"]
async fn helper_lives_among_the_programs() {
    let place = PathBuf::from(std::env::var(AGAIN).expect("run by another test"));
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(place.join("custom.key"), "canary-of-the-key").unwrap();
    std::fs::write(place.join("program"), "not ours").unwrap();
    let house = House::at(Place::Given(place.clone()), &[]).await;
    let server = house.server("neighbour", &[]).await;
    let read = |name: &str| json!({"what": "read", "path": place.join(name)});
    assert_eq!(
        server.does(read("program")).await,
        "not ours",
        "control: what lies beside is seen"
    );
    server.fails(read("data/master.key")).await;
    server.fails(read("custom.key")).await;
    for folder in ["data", "run", "guests"] {
        let path = place.join(folder);
        let seen = server.does(json!({"what": "list", "path": path})).await;
        assert_eq!(seen, json!([]), "{folder}");
        let path = path.join("new");
        server.fails(json!({"what": "write", "path": path})).await;
    }
    let database = place.join("data/database.sock");
    UnixStream::connect(&database)
        .await
        .expect("control: the socket answers us");
    server
        .fails(json!({"what": "connect", "path": database}))
        .await;
}

#[test]
fn all_of_it_holds_for_a_normal_user_too() {
    if !rustix::process::geteuid().is_root() {
        return; // This is that run.
    }
    let outfit = Outfit::new();
    let home = outfit.place.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let user: u32 = NORMAL_USER.parse().unwrap();
    std::os::unix::fs::chown(&home, Some(user), Some(user)).unwrap();
    let ran = outfit
        .tests_as(NORMAL_USER, "true")
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .status()
        .unwrap();
    assert!(ran.success());
}
