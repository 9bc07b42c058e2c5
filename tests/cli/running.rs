//! `sealport run`: what the command gets, what it does not, how it ends, and what stands in its output.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use rustix::process::{Pid, Signal, kill_process};
use sealport::model::levels::Level;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Child;

use crate::served::{PATIENCE, Served, Shell};

const VALUE: &str = "canary-of-run-4242";

async fn shell_with_secrets(served: &Served) -> Shell {
    let anna = served.world.user("anna").await;
    served
        .world
        .secret(&anna, "project/shop/api-key", VALUE)
        .await;
    served
        .world
        .secret(
            &anna,
            "project/shop/eu/LINES",
            "first line\nsecond line of a canary",
        )
        .await;
    served
        .world
        .secret(&anna, "project/other/KEY", "not-for-this-command")
        .await;
    served.shell(&anna, Level::Read).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_gets_the_values_under_the_prefix_and_not_our_token() {
    let served = Served::up().await;
    let mut shell = shell_with_secrets(&served).await;
    shell.set("SEALPORT_MASTER_KEY", "42");
    shell.set("KEPT", "kept");
    for redact in [false, true] {
        let mut arguments = vec!["run", "--under", "project/shop"];
        arguments.extend(redact.then_some("--redact"));
        // Not with `env`: its output would be masked.
        let script = r#"
            test "$API_KEY" = "canary-of-run-4242" && test "$LINES" = "first line
second line of a canary" && test "$KEPT" = kept &&
            test -z "$KEY$SEALPORT_TOKEN$SEALPORT_MASTER_KEY" && test -n "$SEALPORT_URL" && cat && exit 7"#;
        arguments.extend(["--", "sh", "-c", script]);
        let ran = shell.run_with(&arguments, "from standard input").await;
        assert_eq!(
            (ran.status, ran.out.as_str(), ran.err.as_str()),
            (7, "from standard input", "")
        );
    }
    // One line of the record for each value, and none of a refusal.
    let read = served.world.record("secret.read").await;
    assert_eq!(read.len(), 4, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_stands_in_an_argument_or_in_our_own_environment() {
    let served = Served::up().await;
    let shell = shell_with_secrets(&served).await;
    let script = "echo up; read _";
    for (redact, ours) in [("--redact", true), ("--", false)] {
        let arguments: &[&str] = &["run", "--under", "project/shop", redact, "sh", "-c", script];
        let mut command = shell.command(arguments);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        says(&mut child, "up").await;
        let pid = child.id().unwrap();
        let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap();
        let holds = |bytes: &[u8]| {
            bytes
                .windows(8)
                .any(|part| VALUE.as_bytes().starts_with(part))
        };
        assert!(!holds(&read("cmdline")));
        // With --redact this is Sealport, without it the command itself.
        assert_eq!(holds(&read("environ")), !ours, "{redact}");
        drop(child.stdin.take());
        child.wait().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_masked_in_every_form_and_across_reads() {
    let served = Served::up().await;
    let shell = shell_with_secrets(&served).await;
    let base64 = "printf %s \"$API_KEY\" | base64";
    let script = format!(
        "echo \"a $API_KEY b\"; {base64}; printf %s \"$API_KEY\" | od -An -tx1 | tr -d ' \\n'; echo; \
         printf 'canary-of'; sleep 0.2; printf -- '-run-4242\\n'; echo \"$LINES\" >&2; echo plain"
    );
    let ran = shell
        .run(&[
            "run",
            "--under",
            "project/shop",
            "--redact",
            "--",
            "sh",
            "-c",
            &script,
        ])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(
        ran.out,
        "a [sealed] b\n[sealed]\n[sealed]\n[sealed]\nplain\n"
    );
    assert_eq!(ran.err, "[sealed]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_and_their_ends_pass_through() {
    let served = Served::up().await;
    let shell = shell_with_secrets(&served).await;
    let caught = "trap 'echo caught; exit 3' HUP INT QUIT USR1 USR2 TERM; echo up; while :; do sleep 0.05; done";
    let signals = [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
    ];
    for redact in ["--", "--redact"] {
        for signal in signals {
            let mut child = started(&shell, redact, caught).await;
            kill(&child, signal);
            let (out, status) = ended(&mut child).await;
            assert_eq!(
                (out.as_str(), status.code()),
                ("caught\n", Some(3)),
                "{signal:?} {redact}"
            );
        }
        // One that the command does not catch ends it: 128 and its number, as a shell tells it.
        let mut child = started(&shell, redact, "echo up; exec sleep 60").await;
        kill(&child, Signal::TERM);
        let (_, status) = ended(&mut child).await;
        use std::os::unix::process::ExitStatusExt;
        let told = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        assert_eq!(told, Some(143), "{redact}");
    }
}

/// As under `nohup`: what was ignored before stays ignored, by the command too.
#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_signal_stays_ignored() {
    let served = Served::up().await;
    let shell = shell_with_secrets(&served).await;
    let script = "echo up; while [ ! -e done ]; do sleep 0.05; done; exit 4";
    let ignoring = format!(
        "trap '' HUP; exec {} run --under project/shop --redact -- sh -c '{script}'",
        env!("CARGO_BIN_EXE_sealport")
    );
    let mut child = shell.program("sh", &["-c", &ignoring]).spawn().unwrap();
    says(&mut child, "up").await;
    kill(&child, Signal::HUP);
    std::fs::write(shell.dir().join("done"), "").unwrap();
    assert_eq!(ended(&mut child).await.1.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_is_told_from_what_ended() {
    let served = Served::up().await;
    let shell = shell_with_secrets(&served).await;
    std::fs::write(shell.dir().join("no-program"), "x").unwrap();
    for redact in [&["--redact"][..], &[]] {
        for (program, status) in [("no-such-program", 127), ("./no-program", 126)] {
            let mut arguments = vec!["run", "--under", "project/shop"];
            arguments.extend(redact);
            arguments.extend(["--", program]);
            let ran = shell.run(&arguments).await;
            assert_eq!(ran.status, status, "{}", ran.err);
            assert!(
                ran.err.starts_with(&format!("sealport: {program}: ")),
                "{}",
                ran.err
            );
        }
    }
    let ran = shell
        .run(&["run", "--under", "project/nothing", "--", "true"])
        .await;
    assert_eq!(ran.status, 125, "{}", ran.err);
}

/// Whoever reads no more ends the command, as in any pipe.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_ends_the_command() {
    let served = Served::up().await;
    let shell = shell_with_secrets(&served).await;
    let mut child = shell
        .command(&["run", "--under", "project/shop", "--redact", "--", "yes"])
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut some = [0; 64];
    out.read_exact(&mut some).await.unwrap();
    drop(out);
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    assert_eq!(ended.expect("it ends").unwrap().code(), Some(141));
}

/// All that `run` adds to its two requests and to the command itself.
#[tokio::test(flavor = "multi_thread")]
async fn it_takes_less_than_50_ms_beyond_its_requests() {
    use std::sync::{Arc, Mutex};
    let served: Arc<Mutex<Duration>> = Arc::default();
    let taken = served.clone();
    let answers = Router::new().fallback(|request: Request| async move {
        let secret = json!({
            "id": "0197c000-0000-7000-8000-000000000000", "owner": "anna", "path": "project/shop/KEY", "env": "KEY",
            "kind": "custom", "description": "", "tags": [], "version": 1, "changed_at": "2026-01-01T00:00:00Z",
            "expires_at": null, "active": true, "used_by": [], "fetched_by": [], "maskable": true, "level": "read",
        });
        axum::Json(match request.uri().path() {
            "/api/v1/values" => json!({ "values": [{ "path": "project/shop/KEY", "version": 1, "value": VALUE }] }),
            _ => json!({ "items": [secret], "next_cursor": null }),
        })
    });
    let router = answers.layer(middleware::from_fn(move |request: Request, next: Next| {
        let taken = taken.clone();
        async move {
            let begun = Instant::now();
            let answer = next.run(request).await;
            *taken.lock().unwrap() += begun.elapsed();
            answer
        }
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let shell = Shell::new(&url, "sp_0000000000000000000000000000000000000000000");

    let mut best = Duration::MAX;
    for _ in 0..10 {
        *served.lock().unwrap() = Duration::ZERO;
        let bare = Instant::now();
        assert!(shell.program("true", &[]).status().await.unwrap().success());
        let bare = bare.elapsed();
        let begun = Instant::now();
        let mut command = shell.command(&["run", "--under", "project/shop", "--", "true"]);
        assert!(command.status().await.unwrap().success());
        let requests = *served.lock().unwrap();
        best = best.min(begun.elapsed().saturating_sub(bare + requests));
    }
    println!(
        "sealport run adds {:.1} ms to its requests",
        best.as_secs_f64() * 1e3
    );
    assert!(best < Duration::from_millis(50), "{best:?}");
}

async fn started(shell: &Shell, redact: &str, script: &str) -> Child {
    // A test that was started in the background or by nohup ignores some signals, and what it starts would too.
    let sealport = env!("CARGO_BIN_EXE_sealport");
    let arguments = [
        "--default-signal",
        sealport,
        "run",
        "--under",
        "project/shop",
    ];
    let arguments = [&arguments[..], &[redact, "sh", "-c", script]].concat();
    let mut child = shell.program("env", &arguments).spawn().unwrap();
    says(&mut child, "up").await;
    child
}

/// Until it prints this line; what comes after stays to be read.
async fn says(child: &mut Child, expected: &str) {
    let out = child.stdout.as_mut().unwrap();
    let mut said = Vec::new();
    let reads = async {
        while said.last() != Some(&b'\n') {
            said.push(out.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, reads)
        .await
        .expect("it says something");
    assert_eq!(String::from_utf8_lossy(&said).trim_end(), expected);
}

fn kill(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

async fn ended(child: &mut Child) -> (String, std::process::ExitStatus) {
    let mut out = String::new();
    let ends = async {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            out.push_str(&line);
            out.push('\n');
        }
        child.wait().await.unwrap()
    };
    let status = tokio::time::timeout(PATIENCE, ends).await.expect("it ends");
    (out, status)
}

/// A short value would hide every "1" of an output, and masks take many times the memory of what they mask.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_masked_is_said() {
    let served = Served::up().await;
    let anna = served.world.user("anna").await;
    served
        .world
        .secret(&anna, "project/short/PIN", "1234")
        .await;
    for name in ["A", "B", "C"] {
        let path = format!("project/long/{name}");
        served
            .world
            .secret(&anna, &path, &"x".repeat(60 * 1024))
            .await;
    }
    let shell = served.shell(&anna, Level::Read).await;
    let ran = shell
        .run(&[
            "run",
            "--under",
            "project/short",
            "--redact",
            "--",
            "sh",
            "-c",
            "echo $PIN",
        ])
        .await;
    assert_eq!((ran.status, ran.out.as_str()), (0, "1234\n"));
    assert_eq!(ran.err, "sealport: PIN is too short to be masked.\n");
    let mut long = vec!["run", "--under", "project/long", "--", "true"];
    assert_eq!(shell.run(&long).await.status, 0);
    long.insert(3, "--redact");
    let ran = shell.run(&long).await;
    assert_eq!(ran.status, 125, "{}", ran.err);
}
