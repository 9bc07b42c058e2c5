//! A hostile server in the sandbox: everything that it tries against the host, against Sealport
//! and against another guest fails, by name; what it may do works, so that these tests can fail.
//! Run as root they are run once more as a normal user.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "common/left_out.rs"]
mod left_out;
#[path = "common/programs.rs"]
mod programs;

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sealport::deploy::sandbox::{
    FIRST_GUEST_ID, Guest, GuestNetwork, GuestSpec, Isolation, Limits, Outside, Sandbox,
    SandboxConfig, SandboxError, TooMuch,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

const PORT: u16 = 4000;
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition, so that looking does not hold up what is waited for.
const BETWEEN: Duration = Duration::from_millis(5);
/// A variable that names the helper's place when a test runs itself again.
const AGAIN: &str = "GUEST_TEST_PLACE";
const LAUNCHER: &str = "GUEST_TEST_LAUNCHER";
/// Nobody in particular.
const NORMAL_USER: &str = "61234";

// ---- What a guest may do

#[tokio::test]
async fn a_guest_has_its_environment_its_files_its_port_and_nothing_more() {
    let house = House::new(&[]).await;
    let report = house.sandbox.report();
    println!("{report}");
    assert_eq!(report.isolation, Isolation::Bubblewrap, "{report}");
    assert_eq!(report.network, Outside::UserMode, "{report}");
    assert!(report.landlock, "{report}");

    let server = house.server("own", &[("TOKEN", "canary-of-its-own")]).await;
    std::fs::write(server.home.join("note"), "mine").unwrap();
    assert_eq!(
        server.does(json!({"what": "env"})).await,
        json!({"HOME": "/srv", "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin",
               "PORT": "4000", "TOKEN": "canary-of-its-own"}),
        "exactly its environment"
    );
    assert_eq!(server.does(json!({"what": "cwd"})).await, "/srv");
    assert_eq!(
        server
            .does(json!({"what": "read", "path": "/srv/note"}))
            .await,
        "mine"
    );
    server
        .does(json!({"what": "write", "path": "/srv/own"}))
        .await;
    server
        .does(json!({"what": "write", "path": "/tmp/own"}))
        .await;
    assert!(server.home.join("own").is_file(), "a home is on the host");
    assert!(!Path::new("/tmp/own").exists(), "a /tmp is the guest's own");
}

#[tokio::test]
async fn a_stdio_guest_is_joined_to_its_streams_and_its_status_is_told() {
    let house = House::new(&[]).await;
    let mut guest = house
        .guest(
            "stdio",
            &["sh", "-c", "cat; echo over >/dev/stderr; exit 7"],
        )
        .await;
    let mut stdin = guest.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    drop(stdin);
    let (mut said, mut complained) = (String::new(), String::new());
    guest
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .await
        .unwrap();
    guest
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complained)
        .await
        .unwrap();
    assert_eq!(
        (said.as_str(), complained.as_str()),
        ("one\ntwo\n", "over\n")
    );
    assert_eq!(guest.wait().await.code, 7);

    let mut guest = house.guest("stdio", &["/srv/is-not-there"]).await;
    let mut complained = String::new();
    guest
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complained)
        .await
        .unwrap();
    assert!(
        complained.contains("/srv/is-not-there could not be started"),
        "{complained}"
    );
    assert_eq!(guest.wait().await.code, 127);
}

#[tokio::test]
async fn a_guest_reaches_the_outside_where_there_is_one() {
    let registry = std::process::Command::new("npm")
        .args(["config", "get", "registry"])
        .output()
        .expect("install node and npm");
    let registry = String::from_utf8(registry.stdout)
        .unwrap()
        .trim()
        .to_owned();
    let host = registry
        .split('/')
        .nth(2)
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .to_owned();
    let reachable = tokio::net::TcpStream::connect((host.as_str(), 443));
    if !matches!(
        tokio::time::timeout(Duration::from_secs(5), reachable).await,
        Ok(Ok(_))
    ) {
        left_out::say("a guest that reaches the outside: no registry is reachable from here");
        return;
    }
    let house = House::new(&[]).await;
    let mut spec = house.spec("out", &["node", "server.mjs"]).await;
    let certificates = "/etc/ssl/certs/ca-certificates.crt";
    if Path::new(certificates).exists() {
        spec.env
            .push(("NODE_EXTRA_CA_CERTS".into(), certificates.into()));
    }
    let server = house.serve(spec).await;
    assert_eq!(
        server.does(json!({"what": "fetch", "url": registry})).await,
        200
    );

    let mut spec = house.spec("in", &["node", "server.mjs"]).await;
    spec.network = GuestNetwork::None;
    let alone = house.serve(spec).await;
    alone.fails(json!({"what": "fetch", "url": registry})).await;
}

#[tokio::test]
async fn a_server_that_listens_on_localhost_is_reached_wherever_that_is() {
    let house = House::new(&[]).await;
    let mut spec = house.spec("six", &["node", "server.mjs"]).await;
    spec.env.push(("LISTEN".into(), "::1".into()));
    let server = house.serve(spec).await;
    assert_eq!(server.does(json!({"what": "cwd"})).await, "/srv");
}

// ---- What a guest must not do

#[tokio::test]
async fn a_guest_reads_neither_keys_nor_data_nor_the_database() {
    let house = House::new(&[]).await;
    let server = house.server("reader", &[]).await;
    let data = house.place.path().join("data");
    for path in [
        data.join("master.key"),
        data.join("../data/master.key"),
        PathBuf::from("/proc/1/root")
            .join(data.strip_prefix("/").unwrap())
            .join("master.key"),
        PathBuf::from("/proc/1/cwd").join("master.key"),
        "/etc/shadow".into(),
        "/root/.ssh/id_ed25519".into(),
    ] {
        server.fails(json!({"what": "read", "path": path})).await;
    }
    for path in [
        &data,
        &house.place.path().to_owned(),
        &PathBuf::from("/root"),
        &"/home".into(),
    ] {
        server.fails(json!({"what": "list", "path": path})).await;
    }
    // The second wall alone: nothing but Landlock keeps a guest from these.
    server.fails(json!({"what": "list", "path": "/"})).await;
    server
        .fails(json!({"what": "read", "path": "/.sealport"}))
        .await;
    let database = data.join("database.sock");
    UnixStream::connect(&database)
        .await
        .expect("control: the socket answers us");
    server
        .fails(json!({"what": "connect", "path": database}))
        .await;
}

#[tokio::test]
async fn a_guest_inherits_nothing_that_sealport_holds_open() {
    let house = House::new(&[]).await;
    let key = std::fs::File::open(house.place.path().join("data/master.key")).unwrap();
    rustix::io::fcntl_setfd(&key, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&key);
    let path = format!("/proc/self/fd/{number}");
    let inherited = std::process::Command::new("cat").arg(&path).output();
    assert_eq!(inherited.unwrap().stdout, b"canary-of-the-key", "control");
    let argv = [
        "sh",
        "-c",
        "ls /proc/self/fd; cat <&$0",
        &number.to_string(),
    ];
    let said = output(house.guest("heir", &argv).await).await;
    assert_eq!(said, "0\n1\n2\n3\n", "the third is the listing itself");
}

#[tokio::test]
async fn a_guest_cannot_lay_a_link_in_the_way_of_what_is_mounted_for_it() {
    let house = House::new(&[]).await;
    let mut spec = house.spec("links", &["node", "server.mjs"]).await;
    // As an install script could leave them; where bubblewrap builds, the host and the guest-to-be lie at these.
    for (link, to) in [
        ("data", "/oldroot"),
        ("launcher", "/newroot"),
        ("usr", "/oldroot/usr"),
    ] {
        let link = spec.home.join(link);
        let _ = std::fs::remove_dir_all(&link);
        std::os::unix::fs::symlink(to, link).unwrap();
    }
    let data = house.place.path().join("guests/links-data");
    house.sandbox.prepare_home(spec.uid, &data).await.unwrap();
    std::fs::write(data.join("kept"), "mine").unwrap();
    spec.data = Some(data);
    let guest = house.serve(spec).await;
    guest
        .does(json!({"what": "read", "path": "/data/kept"}))
        .await;
    let key = house.place.path().join("data/master.key");
    let inside = |root: &str| format!("{root}{}", key.display());
    for path in [
        inside(""),
        inside("/srv/data"),
        inside("/oldroot"),
        inside("/data"),
    ] {
        guest.fails(json!({"what": "read", "path": path})).await;
    }
    // Nothing of the host is mounted below what is the guest's own.
    for own in ["/srv/tool", "/data/tool"] {
        let mut spec = house.spec("below", &["node", "server.mjs"]).await;
        spec.read_only.push(("/opt".into(), own.into()));
        let refused = house.sandbox.spawn(spec).await;
        assert!(matches!(refused, Err(SandboxError::Invalid(_))), "{own}");
    }
}

#[tokio::test]
async fn a_guest_reads_no_other_guests_files() {
    let house = House::new(&[]).await;
    let one = house.server("one", &[]).await;
    let other = house.server("other", &[]).await;
    one.does(json!({"what": "write", "path": "/srv/private"}))
        .await;
    assert_eq!(
        one.does(json!({"what": "read", "path": "/srv/private"}))
            .await,
        "hostile"
    );
    other
        .fails(json!({"what": "read", "path": "/srv/private"}))
        .await;
    other
        .fails(json!({"what": "read", "path": one.home.join("private")}))
        .await;
    other
        .fails(json!({"what": "list", "path": house.place.path().join("guests")}))
        .await;
    other
        .fails(json!({"what": "read", "path": "/srv/../one/private"}))
        .await;
}

#[tokio::test]
async fn a_guest_sees_no_process_but_its_own_and_no_environment_of_sealport() {
    let house = House::new(&[]).await;
    let mut sealport = tokio::process::Command::new("sleep")
        .arg("600")
        .env("SEALPORT_MASTER_KEY", "canary-of-the-key")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = sealport.id().unwrap();
    until("the stand-in for Sealport shows its environment", || {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environ).contains("canary-of-the-key")
    })
    .await;

    let server = house
        .server("watcher", &[("TOKEN", "canary-of-its-own")])
        .await;
    let seen = server.does(json!({"what": "processes"})).await;
    let text = seen.to_string();
    assert!(
        text.contains("canary-of-its-own"),
        "control: it sees its own: {text}"
    );
    assert!(!text.contains("canary-of-the-key"), "{text}");
    assert!(seen.as_array().unwrap().len() < 6, "only its own: {text}");
    server
        .fails(json!({"what": "read", "path": format!("/proc/{pid}/environ")}))
        .await;
    server
        .fails(json!({"what": "signal", "pid": pid, "signal": "SIGKILL"}))
        .await;
    server
        .fails(json!({"what": "signal", "pid": std::process::id(), "signal": "SIGKILL"}))
        .await;
    assert!(sealport.try_wait().unwrap().is_none(), "nobody was killed");
}

#[tokio::test]
async fn a_guest_connects_neither_to_the_host_nor_to_another_guest() {
    let house = House::new(&[]).await;
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let dashboard = everywhere.local_addr().unwrap().port();
    let server = house.server("caller", &[]).await;
    let other = house.server_on("other", 4001).await;

    let own = json!({"what": "connect", "host": "127.0.0.1", "port": PORT});
    server.does(own).await;
    other
        .does(json!({"what": "connect", "host": "127.0.0.1", "port": 4001}))
        .await;
    let mut hosts: Vec<String> = [
        "127.0.0.1",
        "10.0.2.2",
        "10.0.2.100",
        "0.0.0.0",
        "::1",
        "localhost",
    ]
    .map(String::from)
    .into();
    hosts.extend(addresses_of_this_host());
    for host in &hosts {
        server
            .fails(json!({"what": "connect", "host": host, "port": dashboard}))
            .await;
        server
            .fails(json!({"what": "connect", "host": host, "port": 4001}))
            .await;
        other
            .fails(json!({"what": "connect", "host": host, "port": PORT}))
            .await;
    }
    for private in [
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
    ] {
        let no = server
            .fails(json!({"what": "connect", "host": private, "port": 80}))
            .await;
        assert!(
            no.contains("EACCES"),
            "{private} is forbidden, not only silent: {no}"
        );
    }
    server
        .fails(json!({"what": "run", "argv": ["ip", "route", "flush", "table", "main"]}))
        .await;
    // The way in is a file that only we can open.
    let socket = server.guest.http_socket.clone().unwrap();
    other
        .fails(json!({"what": "connect", "path": socket}))
        .await;
}

#[tokio::test]
async fn a_listed_loopback_is_the_hosts_by_the_gateways_address_only() {
    let house = House::new(&["127.0.0.0/8"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = house.server("listed", &[]).await;
    server
        .does(json!({"what": "connect", "host": "10.0.2.2", "port": port}))
        .await;
    let named = json!({"what": "connect", "host": "host.sealport.internal", "port": port});
    server.does(named).await;
    server
        .fails(json!({"what": "connect", "host": "127.0.0.1", "port": port}))
        .await;
    server
        .fails(json!({"what": "connect", "host": "10.1.2.3", "port": port}))
        .await;
}

#[tokio::test]
async fn a_guest_does_not_become_root() {
    let house = House::new(&[]).await;
    let server = house.server("climber", &[]).await;
    let ids = server.does(json!({"what": "ids"})).await;
    assert!(ids.as_array().unwrap().iter().all(|id| id == 1000), "{ids}");
    server.fails(json!({"what": "setuid"})).await;
    for argv in [
        json!(["su", "-c", "true"]),
        json!(["setpriv", "--reuid", "0", "true"]),
        json!(["unshare", "--user", "true"]),
        json!(["mount", "-t", "tmpfs", "none", "/tmp"]),
        json!(["chroot", "/", "true"]),
    ] {
        server.fails(json!({"what": "run", "argv": argv})).await;
    }
    let status = server
        .does(json!({"what": "read", "path": "/proc/self/status"}))
        .await;
    let status = status.as_str().unwrap();
    for line in [
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{status}");
    }
    // And outside it is nobody either.
    let marker = house.marker("outside");
    let spec = house
        .spec("outside", &["node", "server.mjs", &marker])
        .await;
    let expected = if rustix::process::geteuid().is_root() {
        spec.uid
    } else {
        rustix::process::geteuid().as_raw()
    };
    let _server = house.serve(spec).await;
    let [pid] = processes_with(&marker)[..] else {
        panic!("the guest is one process");
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in ["Uid", "Gid"] {
        let ids = format!("{line}:\t{expected}\t{expected}\t{expected}\t{expected}\n");
        assert!(status.contains(&ids), "{status}");
    }
}

#[tokio::test]
async fn a_guest_writes_only_in_its_home() {
    let house = House::new(&[]).await;
    let shown = house.place.path().join("shown");
    std::fs::create_dir(&shown).unwrap();
    std::fs::set_permissions(&shown, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(shown.join("file"), "shown").unwrap();
    let mut spec = house.spec("writer", &["node", "server.mjs"]).await;
    spec.read_only.push((shown.clone(), "/opt/shown".into()));
    let server = house.serve(spec).await;

    server
        .does(json!({"what": "write", "path": "/srv/file"}))
        .await;
    assert_eq!(
        server
            .does(json!({"what": "read", "path": "/opt/shown/file"}))
            .await,
        "shown"
    );
    for path in [
        "/opt/shown/file",
        "/opt/shown/new",
        "/usr/bin/node",
        "/etc/hosts",
        "/etc/new",
        "/new",
        "/dev/new",
        "/dev/shm/../new",
        "/.sealport",
        "/proc/sys/kernel/core_pattern",
        "/sys/new",
    ] {
        server.fails(json!({"what": "write", "path": path})).await;
    }
    assert!(!shown.join("new").exists());
    for path in ["/dev/null", "/dev/zero", "/dev/shm/new"] {
        server.does(json!({"what": "write", "path": path})).await;
    }
    let terminal = ["script", "-qec", "true", "/dev/null"];
    server.does(json!({"what": "run", "argv": terminal})).await;
}

#[tokio::test]
async fn a_guest_leaves_nothing_behind() {
    let house = House::new(&[]).await;
    let mut server = house.server("stayer", &[]).await;
    let marker = house.marker("stays");
    server.does(json!({"what": "stay", "marker": marker})).await;
    assert_eq!(processes_with(&marker).len(), 1, "control: it is there");
    let socket = server.guest.http_socket.clone().unwrap();
    server.guest.stop(Duration::from_secs(5)).await;
    assert!(processes_with(&marker).is_empty(), "gone when stop returns");
    assert!(!socket.exists(), "and so is the way in");

    // Dropped without a word.
    let server = house.server("dropped", &[]).await;
    server.does(json!({"what": "stay", "marker": marker})).await;
    assert_eq!(processes_with(&marker).len(), 1, "control: it is there");
    drop(server);
    until("a dropped guest is gone", || {
        processes_with(&marker).is_empty()
    })
    .await;
    let place = house.place.path().to_str().unwrap().to_owned();
    until("its helpers are gone", || processes_with(&place).is_empty()).await;
}

#[tokio::test]
async fn a_deaf_guest_is_killed_after_its_grace() {
    let house = House::new(&[]).await;
    let spec = house.spec("deaf", &["node", "server.mjs", "--deaf"]).await;
    let mut server = house.serve(spec).await;
    let exit = server.guest.stop(Duration::from_millis(300)).await;
    assert_eq!(exit.code, 137, "killed: {exit}");

    let mut polite = house.server("polite", &[]).await;
    let exit = polite.guest.stop(PATIENCE).await;
    assert_eq!(exit.code, 143, "asked: {exit}");

    let mut reader = house.guest("reader", &["cat"]).await;
    let exit = reader.stop(PATIENCE).await;
    assert_eq!(exit.code, 0, "its input ended: {exit}");
}

#[tokio::test]
async fn values_stand_in_no_command_line_and_in_no_other_environment() {
    let house = House::new(&[]).await;
    let value = house.marker("canary-of-a-value");
    let server = house.server("sealed", &[("TOKEN", &value)]).await;
    assert_eq!(
        server.does(json!({"what": "env"})).await["TOKEN"],
        value.as_str()
    );
    assert!(processes_with(&value).is_empty(), "in a command line");
    let mut holders = Vec::new();
    for pid in pids() {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environ).contains(&value) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            holders.push(name.trim().to_owned());
        }
    }
    // Only root can look into a guest at all.
    if rustix::process::geteuid().is_root() {
        assert_eq!(holders, ["node"]);
    } else {
        assert!(holders.iter().all(|name| name == "node"), "{holders:?}");
    }
}

#[tokio::test]
async fn a_guest_is_limited() {
    let house = House::new(&[]).await;
    let script = "ulimit -n; ulimit -c; ulimit -d; ulimit -f; cat /proc/self/oom_score_adj";
    let mut spec = house.spec("limits", &["bash", "-c", script]).await;
    spec.limits = Limits {
        memory_bytes: 64 << 20,
        open_files: 77,
        processes: 40,
        file_bytes: 1 << 20,
        ..Limits::default()
    };
    let limits = spec.limits;
    let said = output(house.sandbox.spawn(spec).await.unwrap()).await;
    assert_eq!(said, "77\n0\n65536\n1024\n500\n");

    // Memory of one process, and wasm under the limits that servers get.
    let hungry = "const all = []; for (;;) all.push(Buffer.alloc(16 << 20, 1))";
    let mut spec = house.spec("hungry", &["node", "-e", hungry]).await;
    spec.limits.memory_bytes = 512 << 20;
    let exit = house.sandbox.spawn(spec).await.unwrap().wait().await;
    assert!(!exit.success(), "{exit}");
    // Together, where none of them alone takes too much.
    let many = "const all = Buffer.alloc(150 << 20, 1); setInterval(() => all.length, 1000)";
    let many = format!("for i in 1 2 3 4; do node -e '{many}' & done; wait");
    let mut spec = house.spec("many", &["sh", "-c", &many]).await;
    spec.limits.memory_bytes = 512 << 20;
    let mut guest = house.sandbox.spawn(spec).await.unwrap();
    let exit = tokio::time::timeout(PATIENCE, guest.wait()).await;
    assert!(
        exit.expect("it is killed").code == 137 && guest.took_too_much() == Some(TooMuch::Memory)
    );
    // Shared with nobody but itself: no file holds it, and its limit of data does not count it.
    let shared = "import mmap, time\nall = mmap.mmap(-1, 400 << 20)\n\
                  for at in range(0, len(all), 4096): all[at] = 1\ntime.sleep(600)";
    let mut spec = house.spec("shared", &["python3", "-c", shared]).await;
    spec.listen = None;
    spec.limits.memory_bytes = 256 << 20;
    let mut guest = house.sandbox.spawn(spec).await.unwrap();
    let exit = tokio::time::timeout(PATIENCE, guest.wait()).await;
    assert!(
        exit.expect("it is killed").code == 137 && guest.took_too_much() == Some(TooMuch::Memory)
    );
    // What lies in memory as files.
    let fill =
        "head -c 600M /dev/zero >/dev/shm/fill || head -c 600M /dev/zero >/tmp/fill || echo full";
    let guest = house.guest("files", &["sh", "-c", fill]).await;
    assert_eq!(output(guest).await, "full\n");
    let wasm = "new WebAssembly.Memory({initial: 100, maximum: 65536}); console.log('grew')";
    let guest = house.guest("wasm", &["node", "-e", wasm]).await;
    assert_eq!(output(guest).await, "grew\n");

    let bomb = "for i in $(seq 200); do sleep 30 & done; echo all";
    let mut spec = house.spec("bomb", &["sh", "-c", bomb]).await;
    spec.limits = limits;
    spec.limits.memory_bytes = Limits::default().memory_bytes;
    let said = output(house.sandbox.spawn(spec).await.unwrap()).await;
    assert_eq!(said, "", "it did not get to its end");
}

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let house = House::new(&[]).await;
    let root = GuestSpec {
        uid: 0,
        ..house.spec("refused", &["true"]).await
    };
    let nul = GuestSpec {
        env: vec![("TOKEN".into(), "with\0nul".into())],
        ..house.spec("refused", &["true"]).await
    };
    let nothing = house.spec("refused", &[]).await;
    for spec in [root, nul, nothing] {
        let refused = house.sandbox.spawn(spec).await;
        assert!(
            matches!(refused, Err(SandboxError::Invalid(_))),
            "{refused:?}"
        );
    }
}

// ---- Sealport's own end, and hosts that have less

#[tokio::test]
async fn nothing_survives_a_killed_sealport() {
    let place = open_place();
    let mut sealport = again("helper_runs_a_guest_until_killed", place.path(), &[]);
    let up = place.path().join("up");
    until("the other Sealport runs a guest", || up.exists()).await;
    let found = place.path().to_str().unwrap();
    assert!(
        processes_with("guest-forward").len() + processes_with(found).len() > 2,
        "control"
    );
    let marker = std::fs::read_to_string(&up).unwrap();
    assert_eq!(
        processes_with(&marker).len(),
        1,
        "control: its guest keeps a process"
    );
    let family = descendants(sealport.0.id());
    for name in ["bwrap", "slirp4netns", "sealport", "node"] {
        let there = family.iter().any(|process| process.1 == name);
        assert!(there, "control: {name} is in {family:?}");
    }

    sealport.0.kill().unwrap();
    sealport.0.wait().unwrap();
    until("its guest is gone", || processes_with(&marker).is_empty()).await;
    until("its sandbox and forwarder are gone", || {
        processes_with(found).is_empty()
    })
    .await;
    until("its stack and all else are gone", || {
        family.iter().all(|process| !is_running(process))
    })
    .await;
}

#[tokio::test]
#[ignore = "run by nothing_survives_a_killed_sealport"]
async fn helper_runs_a_guest_until_killed() {
    let place = std::env::var(AGAIN).expect("run by another test");
    let house = House::at(Place::Given(place.into()), &[]).await;
    let server = house.server("orphan", &[]).await;
    let marker = house.marker("orphan");
    server.does(json!({"what": "stay", "marker": marker})).await;
    std::fs::write(house.place.path().join("half"), marker).unwrap();
    std::fs::rename(
        house.place.path().join("half"),
        house.place.path().join("up"),
    )
    .unwrap();
    std::future::pending::<()>().await;
}

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
                .filter(|word| *word == "0")
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
    let mut ran = again("helper_has_no_bubblewrap", place.path(), &["bwrap"]);
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
    let mut ran = again("helper_has_no_stack", place.path(), &["slirp4netns"]);
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
            "helper_lives_among_the_programs",
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

#[tokio::test]
async fn a_node_beside_the_hosts_programs_is_found_with_nothing_around_it() {
    let place = open_place();
    let prefix = place.path().join("versions/node");
    let bin = prefix.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(prefix.join("lib/node_modules")).unwrap();
    std::fs::create_dir_all(prefix.join("lib/python3.99")).unwrap();
    programs::copied(Path::new("/usr/bin/node"), &bin.join("node"));
    let npm = std::fs::canonicalize("/usr/bin/npm").expect("install npm (in /usr)");
    std::os::unix::fs::symlink(npm, bin.join("npm")).unwrap();
    let beside = place.path().join("versions/beside");
    std::fs::write(&beside, "somebody's own").unwrap();
    // What version managers put into PATH is a stand-in that guests could not use.
    let stand_ins = place.path().join("stand-ins");
    std::fs::create_dir(&stand_ins).unwrap();
    let stand_in = |text: String| {
        std::fs::write(stand_ins.join("node"), text).unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(stand_ins.join("node"), open).unwrap();
    };
    stand_in(format!("#!/bin/sh\nexec {}/node \"$@\"\n", bin.display()));
    let mut config = config(place.path(), &[]);
    config.tools_path = std::env::join_paths([stand_ins.as_path(), Path::new("/usr/bin")]).unwrap();

    let sandbox = Sandbox::probe(config.clone()).await.unwrap();
    assert_eq!(sandbox.program("node"), Some(bin.join("node")));
    assert_eq!(sandbox.program("npm"), Some(bin.join("npm")));
    assert_eq!(sandbox.program("env"), Some("/usr/bin/env".into()));
    let home = place.path().join("guests/one");
    sandbox.prepare_home(FIRST_GUEST_ID, &home).await.unwrap();
    let script = "echo $PATH; node -p process.execPath; npm --version >/dev/null && echo npm; \
                  cat \"$0\"; ls \"$1\"; echo more >>\"$2\" || echo kept";
    let argv = [
        "sh",
        "-c",
        script,
        beside.to_str().unwrap(),
        stand_ins.to_str().unwrap(),
        bin.join("new").to_str().unwrap(),
    ]
    .map(String::from);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let guest = sandbox.spawn(spec(&home, FIRST_GUEST_ID, &argv)).await;
    let expected = format!(
        "{0}:/usr/local/bin:/usr/bin:/bin\n{0}/node\nnpm\nkept\n",
        bin.display()
    );
    assert_eq!(output(guest.unwrap()).await, expected);

    // Where guests are users of their own they have to be able to go there.
    let versions = place.path().join("versions");
    std::fs::set_permissions(&versions, std::fs::Permissions::from_mode(0o700)).unwrap();
    let sandbox = Sandbox::probe(config.clone()).await.unwrap();
    if rustix::process::geteuid().is_root() {
        assert_eq!(sandbox.program("node"), Some("/usr/bin/node".into()));
        let why = sandbox.why_without("npm").unwrap();
        assert!(
            why.contains(&format!("cannot enter {}", versions.display())),
            "{why}"
        );
    } else {
        assert_eq!(sandbox.program("node"), Some(bin.join("node")));
    }
    std::fs::set_permissions(&versions, std::fs::Permissions::from_mode(0o755)).unwrap();

    // Not if Sealport's own data came with it, and not if it needs more of the host than its folder.
    let mut around = config.clone();
    around.private = vec![prefix.join("data")];
    std::fs::create_dir(prefix.join("data")).unwrap();
    let sandbox = Sandbox::probe(around).await.unwrap();
    assert_eq!(sandbox.program("node"), Some("/usr/bin/node".into()));
    let why = sandbox.why_without("node").unwrap();
    assert!(why.contains("Sealport's own data"), "{why}");
    stand_in(format!("#!/bin/sh\necho {}/node\n", bin.display()));
    std::fs::write(
        bin.join("node"),
        format!("#!/bin/sh\ncat {}\n", beside.display()),
    )
    .unwrap();
    let sandbox = Sandbox::probe(config.clone()).await.unwrap();
    assert_eq!(sandbox.program("node"), Some("/usr/bin/node".into()));
    let why = sandbox.why_without("node").unwrap();
    assert!(why.contains("does not run in the sandbox"), "{why}");

    // A Python that starts and could install nothing, for want of a library that lies elsewhere.
    let python = "#!/bin/sh\ncase $2 in *base_prefix*) echo $0;; *ssl*) exit 1;; esac\n";
    std::fs::write(bin.join("python3"), python).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("python3"), open).unwrap();
    config.tools_path = bin.into_os_string();
    let sandbox = Sandbox::probe(config).await.unwrap();
    let why = sandbox.why_without("python3").unwrap();
    assert!(why.contains("does not run in the sandbox"), "{why}");
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

/// What these tests need to be run by a user who cannot enter the checkout.
struct Outfit {
    place: tempfile::TempDir,
    tests: PathBuf,
    launcher: PathBuf,
}

impl Outfit {
    fn new() -> Outfit {
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
        copy(&fixture_file(), "tests/fixtures/hostile-server/server.mjs");
        Outfit {
            place,
            tests,
            launcher,
        }
    }

    /// These tests as this user, in mounts of their own, after what root does for them there.
    fn tests_as(&self, user: &str, first: &str) -> std::process::Command {
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

// ---- The house in which guests are tried

/// Whether this is root's run, for what takes root. Otherwise says what is left out, unless root's run is what started this one.
fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && std::env::var_os(LAUNCHER).is_none() {
        left_out::say(&format!("{what}: only root can make one"));
    }
    is_root
}

/// A host of our own making: data with a key and a database socket, and a sandbox.
struct House {
    place: Place,
    sandbox: Sandbox,
    _database: std::os::unix::net::UnixListener,
}

enum Place {
    Ours(tempfile::TempDir),
    Given(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Place::Ours(place) => place.path(),
            Place::Given(place) => place,
        }
    }
}

impl House {
    async fn new(listed: &[&str]) -> House {
        Self::at(Place::Ours(open_place()), listed).await
    }

    async fn at(place: Place, listed: &[&str]) -> House {
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
    async fn spec(&self, name: &str, argv: &[&str]) -> GuestSpec {
        static NEXT_ID: AtomicU32 = AtomicU32::new(FIRST_GUEST_ID + 7000);
        let uid = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let home = self.place.path().join("guests").join(name);
        if home.exists() {
            std::fs::remove_dir_all(&home).unwrap();
        }
        std::fs::create_dir(&home).unwrap();
        std::fs::copy(fixture_file(), home.join("server.mjs")).unwrap();
        self.sandbox.prepare_home(uid, &home).await.unwrap();
        let mut spec = spec(&home, uid, argv);
        spec.env = vec![("PORT".into(), PORT.to_string().into())];
        spec.listen = Some(PORT);
        spec
    }

    async fn guest(&self, name: &str, argv: &[&str]) -> Guest {
        let mut spec = self.spec(name, argv).await;
        spec.listen = None;
        self.sandbox.spawn(spec).await.unwrap()
    }

    async fn server(&self, name: &str, env: &[(&str, &str)]) -> Server {
        let mut spec = self.spec(name, &["node", "server.mjs"]).await;
        spec.env.extend(
            env.iter()
                .map(|(name, value)| ((*name).into(), SecretString::from(*value))),
        );
        self.serve(spec).await
    }

    async fn server_on(&self, name: &str, port: u16) -> Server {
        let mut spec = self.spec(name, &["node", "server.mjs"]).await;
        spec.env = vec![("PORT".into(), port.to_string().into())];
        spec.listen = Some(port);
        self.serve(spec).await
    }

    async fn serve(&self, spec: GuestSpec) -> Server {
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
    fn marker(&self, what: &str) -> String {
        let place = self.place.path().file_name().unwrap().to_str().unwrap();
        format!("{what}-{}", place.trim_start_matches('.'))
    }
}

struct Server {
    home: PathBuf,
    guest: Guest,
}

impl Server {
    /// The try works, and this came of it.
    async fn does(&self, what: Value) -> Value {
        let answer = self.ask(&what).await.expect("the hostile server answers");
        assert!(answer.get("ok").is_some(), "{what} should work: {answer}");
        answer["ok"].clone()
    }

    /// The try fails, and this was the reason.
    async fn fails(&self, what: Value) -> String {
        let answer = self.ask(&what).await.expect("the hostile server answers");
        assert!(answer.get("no").is_some(), "{what} should fail: {answer}");
        answer["no"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, what: &Value) -> Option<Value> {
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

fn config(place: &Path, listed: &[&str]) -> SandboxConfig {
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

fn spec(home: &Path, uid: u32, argv: &[&str]) -> GuestSpec {
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

fn launcher() -> PathBuf {
    std::env::var_os(LAUNCHER)
        .unwrap_or(env!("CARGO_BIN_EXE_sealport").into())
        .into()
}

fn fixture_file() -> PathBuf {
    PathBuf::from("tests/fixtures/hostile-server/server.mjs")
}

/// A place that guests' ids can pass through.
fn open_place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    place
}

/// Runs one of this binary's ignored tests as a process of its own; `hidden` programs are not
/// there for it.
fn again(test: &str, place: &Path, hidden: &[&str]) -> Again {
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
struct Again(std::process::Child);

impl Drop for Again {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn output(mut guest: Guest) -> String {
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

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < deadline, "not met in time: {what}");
        tokio::time::sleep(BETWEEN).await;
    }
}

fn pids() -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The processes of this host with this text in their command line, ourselves left out.
fn processes_with(text: &str) -> Vec<u32> {
    let mut found = pids();
    found.retain(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && String::from_utf8_lossy(&line).contains(text)
    });
    found
}

/// All processes below this one, with their names.
fn descendants(of: u32) -> Vec<(u32, String)> {
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
fn is_running((pid, name): &(u32, String)) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.starts_with(&format!("Name:\t{name}\n")) && !status.contains("State:\tZ")
}

fn addresses_of_this_host() -> Vec<String> {
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
