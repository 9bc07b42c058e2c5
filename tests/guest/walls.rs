//! What a guest must not do, where a try is more than one order to the hostile server. The others are in `tries.rs`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sealport::deploy::sandbox::SandboxError;
use serde_json::json;
use tokio::net::{TcpListener, UnixStream};

use super::house::{House, PORT, addresses_of_this_host, output, pids, processes_with, until};

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
