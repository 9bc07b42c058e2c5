//! What the program does at a terminal: asks, shows nothing of what is typed, and ends a value's line.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sealport::model::levels::Level;
use tokio::process::Child;

use crate::served::{PATIENCE, Served, Shell};

/// A command at a terminal of its own, which is its controlling one.
struct AtTerminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<String>>,
}

impl AtTerminal {
    fn start(shell: &Shell, arguments: &[&str]) -> AtTerminal {
        let controller =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new())
            .unwrap()
            .into_string()
            .unwrap();
        let side = || -> OwnedFd {
            use std::os::unix::fs::OpenOptionsExt;
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true);
            let noctty = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
            options.custom_flags(noctty).open(&name).unwrap().into()
        };
        // Makes the terminal on its standard input the controlling one of a session of its own.
        let mut all = vec!["--ctty", "--wait", "env", "--default-signal"];
        all.push(env!("CARGO_BIN_EXE_sealport"));
        all.extend(arguments);
        let mut command = shell.program("setsid", &all);
        command
            .stdin(Stdio::from(side()))
            .stdout(Stdio::from(side()))
            .stderr(Stdio::from(side()));
        command.env("TERM", "xterm");
        let child = command.spawn().unwrap();
        let keys = File::from(controller);
        let mut screen = keys.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let seen = shown.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            // It ends with an error when nobody has the other side open any more.
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                seen.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        AtTerminal { child, keys, shown }
    }

    async fn shows(&self, text: &str) {
        let begun = Instant::now();
        while !self.shown.lock().unwrap().contains(text) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{text:?} in {:?}",
                self.shown.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Its exit status and all that stood on the terminal.
    async fn ends(mut self) -> (i32, String) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("it ends").unwrap();
        let shown = self.settled().await;
        (status.code().unwrap_or(-1), shown)
    }

    async fn settled(&self) -> String {
        let mut before = String::new();
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.shown.lock().unwrap().clone();
            if now == before {
                return now;
            }
            before = now;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_typed_unseen_and_shown_on_a_line_of_its_own() {
    let served = Served::up().await;
    let anna = served.world.user("anna").await;
    let shell = served.shell(&anna, Level::Admin).await;

    let mut set = AtTerminal::start(&shell, &["secret", "set", "KEY"]);
    set.shows("Value of KEY (not shown): ").await;
    set.types("typed-canary-77\n");
    let (status, shown) = set.ends().await;
    assert_eq!(status, 0, "{shown}");
    assert!(
        shown.contains("Sealed KEY.") && !shown.contains("canary"),
        "{shown}"
    );

    let (status, shown) = AtTerminal::start(&shell, &["secret", "get", "KEY"])
        .ends()
        .await;
    assert_eq!((status, shown.as_str()), (0, "typed-canary-77\r\n"));
    assert_eq!(
        shell.run(&["secret", "get", "KEY"]).await.done(),
        "typed-canary-77"
    );

    // A table with heads and colours, and none of these without a wish for colour.
    let (_, shown) = AtTerminal::start(&shell, &["secret", "list"]).ends().await;
    assert!(
        shown.contains("PATH") && shown.contains("\u{1b}[2m"),
        "{shown:?}"
    );
    let mut plain = served.shell(&anna, Level::Read).await;
    plain.set("NO_COLOR", "1");
    let (_, shown) = AtTerminal::start(&plain, &["secret", "list"]).ends().await;
    assert!(
        shown.contains("PATH") && !shown.contains('\u{1b}'),
        "{shown:?}"
    );
}

/// The terminal interrupts the command by itself: it is not interrupted once more by what stands between.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_at_the_terminal_interrupts_once() {
    let served = Served::up().await;
    let anna = served.world.user("anna").await;
    served
        .world
        .secret(&anna, "project/shop/KEY", "a value to mask")
        .await;
    let shell = served.shell(&anna, Level::Read).await;
    let script = "n=0; trap 'n=$((n+1)); echo interrupted' INT; echo up; \
                  while [ ! -e done ]; do sleep 0.05; done; echo \"$n in all, $KEY\"";
    let arguments = [
        "run",
        "--under",
        "project/shop",
        "--redact",
        "--",
        "sh",
        "-c",
        script,
    ];
    let mut run = AtTerminal::start(&shell, &arguments);
    run.shows("up").await;
    run.types("\u{3}");
    run.shows("interrupted").await;
    run.settled().await;
    File::create(shell.dir().join("done")).unwrap();
    let (status, shown) = run.ends().await;
    assert_eq!(status, 0, "{shown}");
    assert!(shown.contains("1 in all, [sealed]"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_undone_is_asked_for() {
    let served = Served::up().await;
    let anna = served.world.user("anna").await;
    served.world.secret(&anna, "KEY", "a value to lose").await;
    let shell = served.shell(&anna, Level::Admin).await;
    for (answer, status, left) in [("\n", 1, 1), ("n\n", 1, 1), ("yes\n", 0, 0)] {
        let mut rm = AtTerminal::start(&shell, &["secret", "rm", "KEY"]);
        rm.shows("[y/N] ").await;
        rm.types(answer);
        let (ended, shown) = rm.ends().await;
        assert_eq!(ended, status, "{shown}");
        assert_eq!(served.world.count("secrets").await, left);
    }
    served.world.secret(&anna, "KEY", "a value to lose").await;
    let (status, shown) = AtTerminal::start(&shell, &["secret", "rm", "KEY", "--yes"])
        .ends()
        .await;
    assert_eq!((status, shown.as_str()), (0, "Deleted KEY.\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_kept_for_its_user_and_its_server_alone() {
    use std::os::unix::fs::PermissionsExt;
    let served = Served::up().await;
    let anna = served.world.user("anna").await;
    served.world.secret(&anna, "KEY", "a value of anna's").await;
    let token = served.token(&anna, Level::Read, None).await;
    let mut shell = Shell::signed_out();

    let mut login = AtTerminal::start(&shell, &["login"]);
    login.shows("Address of your Sealport").await;
    login.types(&format!("{}\n", served.url));
    login.shows("Token (not shown): ").await;
    login.types(&format!("{token}\n"));
    let (status, shown) = login.ends().await;
    assert_eq!(status, 0, "{shown}");
    assert!(
        shown.contains("Signed in to") && !shown.contains(&token),
        "{shown}"
    );

    let file = shell.dir().join(".config/sealport/login.json");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        shell.run(&["secret", "get", "KEY"]).await.done(),
        "a value of anna's"
    );
    // Whatever else is said to be the server does not get it.
    let ran = shell
        .run(&["secret", "list", "--url", "http://127.0.0.1:1"])
        .await;
    assert_eq!(ran.status, 4, "{}", ran.err);
    assert!(ran.err.contains("not sent elsewhere"), "{}", ran.err);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let ran = shell.run(&["secret", "list"]).await;
    assert!(
        ran.status == 1 && ran.err.contains("chmod 600"),
        "{}",
        ran.err
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

    assert!(
        shell
            .run(&["logout"])
            .await
            .done()
            .starts_with("Signed out of")
    );
    assert!(!file.exists());
    assert_eq!(shell.run(&["secret", "list"]).await.status, 4);

    // From a script, into the directory that is named for configuration.
    let config = shell.dir().join("config");
    shell.set("XDG_CONFIG_HOME", config.to_str().unwrap());
    let ran = shell
        .run_with(&["login", "--url", &served.url], &format!("{token}\n"))
        .await;
    ran.done();
    assert!(config.join("sealport/login.json").exists());
    shell.run(&["secret", "show", "KEY"]).await.done();
}

/// The keyring through `secret-tool`, played by a program of that name.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyring_gets_the_token_by_a_pipe_and_the_file_does_not() {
    use std::os::unix::fs::PermissionsExt;
    let served = Served::up().await;
    let anna = served.world.user("anna").await;
    let token = served.token(&anna, Level::Read, None).await;
    let mut shell = Shell::signed_out();
    let bin = shell.dir().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let tool = bin.join("secret-tool");
    let script = r#"#!/bin/sh
echo "$*" >> "$HOME/asked"
env >> "$HOME/asked"
case $1 in
    store) cat > "$HOME/ring" ;;
    lookup) test -s "$HOME/ring" && cat "$HOME/ring" && echo ;;
    clear) rm "$HOME/ring" ;;
esac
"#;
    std::fs::write(&tool, script).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    shell.set("PATH", &path);
    shell.set("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere");

    let ran = shell
        .run_with(&["login", "--url", &served.url], &token)
        .await;
    assert!(ran.done().contains("keyring"));
    let file = std::fs::read_to_string(shell.dir().join(".config/sealport/login.json")).unwrap();
    let asked = std::fs::read_to_string(shell.dir().join("asked")).unwrap();
    assert!(!file.contains(&token) && !asked.contains(&token));
    shell.run(&["secret", "list"]).await.done();

    std::fs::remove_file(shell.dir().join("ring")).unwrap();
    let ran = shell.run(&["secret", "list"]).await;
    assert!(
        ran.status == 1 && ran.err.contains("keyring"),
        "{}",
        ran.err
    );
    shell.run(&["logout"]).await.done();
    assert_eq!(shell.run(&["secret", "list"]).await.status, 4);
}
