//! Git repositories over https: one commit, without its history, hooks, submodules or large files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::deploy::sandbox::{GATEWAY, Outside};

use super::failure::SourceFailure;
use super::hosts::{AllowedHost, SourceHosts};
use super::job::{Call, Job};
use super::text;

/// Fetches one commit into `/srv/<directory>`, which is there and empty. Returns the commit.
/// The key goes to the URL's own host only, in the environment of the one guest that fetches.
pub(super) async fn fetch(
    job: &Job<'_>,
    hosts: &SourceHosts,
    url: &str,
    reference: Option<&str>,
    key: Option<&SecretString>,
    directory: &str,
) -> Result<String, SourceFailure> {
    let host = hosts.check(url).await.map_err(SourceFailure::wrong)?;
    let git = job.program("git", "git")?;
    let cwd = format!("/srv/{directory}");
    let local = |words: &[&str]| with_config(Call::new(&cwd, &[&git]), Vec::new(), words);

    job.must(local(&["init", "--quiet", "--template="]), |_| {
        "git could not begin.".into()
    })
    .await?;
    let wanted = reference.unwrap_or("HEAD");
    let asking = |words: &[&str]| {
        let mut call = with_config(
            Call::new(&cwd, &[&git]),
            network_config(job, &host, key),
            words,
        )
        .online();
        call.argv
            .extend(["--".to_owned(), url.to_owned(), wanted.to_owned()]);
        call
    };
    let shallow = asking(&[
        "fetch",
        "--quiet",
        "--depth=1",
        "--no-tags",
        "--no-recurse-submodules",
        "--no-write-commit-graph",
    ]);
    let mut done = job.run(shallow).await?;
    if !done.success
        && (done.said().contains("dumb http transport") || done.said().contains("shallow"))
    {
        // A host that serves files only cannot send a part of the history.
        done = job
            .run(asking(&[
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-recurse-submodules",
                "--no-write-commit-graph",
            ]))
            .await?;
    }
    if !done.success {
        let sentence = explain(&done.said(), &host, reference, key.is_some());
        return Err(SourceFailure::wrong(sentence).with_output(done.last));
    }
    job.must(
        local(&[
            "checkout",
            "--quiet",
            "--detach",
            "--no-recurse-submodules",
            "FETCH_HEAD",
        ]),
        |_| "The commit could not be laid out as files.".into(),
    )
    .await?;
    let commit = job
        .must(local(&["rev-parse", "HEAD"]), |_| {
            "git could not name the commit.".into()
        })
        .await?;
    let commit = commit.answer.trim().to_owned();
    if commit.len() != 40 || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SourceFailure::unavailable("git named no commit."));
    }
    job.must(
        Call::new(&cwd, &[&job.program("rm", "coreutils")?, "-rf", ".git"]),
        |_| "The history could not be removed.".into(),
    )
    .await?;
    Ok(commit)
}

/// Settings come from here alone: no file of the machine, the user or the guest's home.
fn with_config<'a>(
    call: Call<'a>,
    secret: Vec<(String, SecretString)>,
    words: &[&str],
) -> Call<'a> {
    let fixed = [
        ("core.hooksPath", "/dev/null"),
        ("protocol.allow", "never"),
        ("protocol.https.allow", "always"),
        // A redirect could lead elsewhere than the host that was looked at, the key with it.
        ("http.followRedirects", "false"),
        ("credential.helper", ""),
        ("core.askPass", ""),
        ("core.fsmonitor", "false"),
        ("submodule.recurse", "false"),
        ("fetch.fsckObjects", "true"),
        ("transfer.fsckObjects", "true"),
        ("http.lowSpeedLimit", "1000"),
        ("http.lowSpeedTime", "30"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        ("init.defaultBranch", "main"),
        ("advice.detachedHead", "false"),
    ];
    let settings: Vec<(String, SecretString)> = fixed
        .into_iter()
        .map(|(key, value)| (key.to_owned(), SecretString::from(value)))
        .chain(secret)
        .collect();
    let mut call = call
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "https")
        .env("GIT_LFS_SKIP_SMUDGE", "1")
        .env("GIT_CONFIG_COUNT", &settings.len().to_string());
    for (n, (key, value)) in settings.into_iter().enumerate() {
        call = call
            .env(&format!("GIT_CONFIG_KEY_{n}"), &key)
            .secret(&format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    call.argv
        .extend(words.iter().map(|word| (*word).to_owned()));
    call
}

fn network_config(
    job: &Job<'_>,
    host: &AllowedHost,
    key: Option<&SecretString>,
) -> Vec<(String, SecretString)> {
    let bracketed = match host.name.contains(':') {
        true => format!("[{}]", host.name),
        false => host.name.clone(),
    };
    let mut settings = Vec::new();
    // git writes an IPv6 address in brackets, which this setting does not take; there is nothing to resolve either.
    if !host.name.contains(':') {
        let own_network = matches!(job.sandbox.report().network, Outside::UserMode);
        let address = match host.address.is_loopback() && own_network {
            true => GATEWAY.to_owned(),
            false => host.address.to_string(),
        };
        // What was looked at is what is asked: the guest does not resolve the name again.
        settings.push((
            "http.curloptResolve".to_owned(),
            SecretString::from(format!("{}:{}:{address}", host.name, host.port)),
        ));
    }
    if let Some(key) = key {
        settings.push((
            format!("http.https://{bracketed}:{}/.extraHeader", host.port),
            authorization(&host.name, key),
        ));
    }
    settings
}

/// `user:password` as it is; a token alone under the name that the large hosts take one by.
fn authorization(host: &str, key: &SecretString) -> SecretString {
    let key = key.expose_secret().trim();
    let pair = match (key.contains(':'), host) {
        (true, _) => key.to_owned(),
        (false, "bitbucket.org") => format!("x-token-auth:{key}"),
        (false, _) => format!("x-access-token:{key}"),
    };
    SecretString::from(format!("Authorization: Basic {}", STANDARD.encode(pair)))
}

/// What git's last lines mean here.
fn explain(said: &str, host: &AllowedHost, reference: Option<&str>, with_key: bool) -> String {
    let has = |words: &str| said.contains(words);
    let name = &host.name;
    if has("couldn't find remote ref") || has("not our ref") || has("remote ref does not exist") {
        format!(
            "The repository has no branch, tag or full commit named {}.",
            text::line(reference.unwrap_or("HEAD"), 200)
        )
    } else if has("Authentication failed")
        || has("could not read Username")
        || has("401")
        || has("403")
        || has("terminal prompts disabled")
    {
        match with_key {
            true => {
                format!("{name} refused the fetch key, or the key may not read this repository.")
            }
            false => format!(
                "{name} asks for a sign-in: the repository is private, or there is none. Choose a fetch key for a private one."
            ),
        }
    } else if has("not found") || has("404") {
        format!("{name} has no such repository, or it is private: then choose a fetch key.")
    } else if has("redirect") || has(" 301") || has(" 302") {
        format!(
            "{name} sends this URL elsewhere, and redirects are not followed. Use the URL that it leads to."
        )
    } else if has("certificate") || has("SSL") {
        format!(
            "The certificate of {name} is not trusted. An operator can name the certificate file in GIT_SSL_CAINFO."
        )
    } else if has("Could not resolve host")
        || has("Failed to connect")
        || has("timed out")
        || has("Connection refused")
    {
        format!("{name} could not be reached from the sandbox.")
    } else {
        format!("git could not fetch the repository from {name}.")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_a_header() {
        let header = |host: &str, key: &str| {
            authorization(host, &SecretString::from(key))
                .expose_secret()
                .to_owned()
        };
        assert_eq!(
            header("github.com", "t"),
            format!(
                "Authorization: Basic {}",
                STANDARD.encode("x-access-token:t")
            )
        );
        assert_eq!(
            header("bitbucket.org", "t\n"),
            format!("Authorization: Basic {}", STANDARD.encode("x-token-auth:t"))
        );
        assert_eq!(
            header("x", "me:p"),
            format!("Authorization: Basic {}", STANDARD.encode("me:p"))
        );
    }

    #[test]
    fn settings_are_carried_by_the_environment() {
        let call = with_config(
            Call::new("/srv", &["git"]),
            vec![(
                "http.https://h:443/.extraHeader".into(),
                SecretString::from("hunter2"),
            )],
            &["fetch"],
        );
        assert_eq!(call.argv, ["git", "fetch"]);
        let value = |name: &str| {
            call.env
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.expose_secret().to_owned())
        };
        let count: usize = value("GIT_CONFIG_COUNT").unwrap().parse().unwrap();
        assert_eq!(
            value(&format!("GIT_CONFIG_VALUE_{}", count - 1)).as_deref(),
            Some("hunter2")
        );
        assert_eq!(value(&format!("GIT_CONFIG_VALUE_{count}")), None);
        assert_eq!(value("GIT_CONFIG_GLOBAL").as_deref(), Some("/dev/null"));
    }
}
