//! A Node.js or Python that lies apart from the host's programs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sealport::deploy::sandbox::{FIRST_GUEST_ID, Sandbox};

use super::house::{config, open_place, output, spec};
use crate::programs;

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
