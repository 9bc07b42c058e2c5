//! A trial of a provider with somebody's own key: a tiny service is made, changed, deployed again, stopped and removed, by what deployments
//! use. However it ends, what was made is removed, and what could not be is named.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::railway::trial::RailwayTrial;
use super::render::trial::RenderTrial;
use super::shape::PORT;
use super::watching::Stand;
use crate::deploy::masks::Masks;
use crate::deploy::providers::Trouble;
use crate::deploy::providers::http::open_connection;
use crate::deploy::sources::SourceHosts;
use crate::model::errors::Refusal;
use crate::model::paths::EnvName;
use crate::model::targets::{AccountSays, Target};

/// What the service is made from, unless another image like it is named: small, public, with a shell and a web server.
pub const IMAGE: &str = "docker.io/library/busybox:1.37";

/// Between two looks at what is under way.
pub const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What the service prints when it is up.
const LINE: &str = "sealport-check listens";
/// What it answers shows that it has its variables, without showing them: it is open to whoever finds its address. No quotes are in it, for
/// it stands in quotes.
const SCRIPT: &str = "echo sealport-check listens; printf %s $CHECK_KEPT.$CHECK_CHANGED.$CHECK_REMOVED.$CHECK_ADDED | sha256sum > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";

/// How long is waited, in times of the pause between two looks: twenty minutes until it is up.
const UP_PAUSES: u32 = 400;
/// Five: an address and its certificate may take a while to be known.
const ANSWER_PAUSES: u32 = 100;
/// Three.
const LINES_PAUSES: u32 = 60;
/// Two.
const STOP_PAUSES: u32 = 40;
const ONE_ANSWER: Duration = Duration::from_secs(20);
/// Looks in a row that may fail because the provider is disturbed.
const LOOKS_FAILED_MAX: u32 = 20;
const REMOVE_TRIES: u32 = 5;
/// So many times longer is waited between two looks at what takes long: a small plan has few requests an hour.
const LOOK_PATIENCE_MAX: u32 = 5;

/// What somebody wants to try out.
pub struct TrialAsk {
    pub target: Target,
    pub key: SecretString,
    /// Where the provider is asked.
    pub api: Url,
    pub hosts: SourceHosts,
    pub options: BTreeMap<String, String>,
    pub image: String,
    pub look_every: Duration,
}

/// What is to be made.
pub(super) struct Wanted {
    pub name: String,
    pub image: String,
    pub command: String,
    pub options: BTreeMap<String, String>,
}

/// Why something was not done.
pub(super) enum Why {
    Trouble(Trouble),
    Says(String),
}

impl From<Trouble> for Why {
    fn from(trouble: Trouble) -> Self {
        Why::Trouble(trouble)
    }
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        Why::Says(refusal.detail)
    }
}

/// One provider, as a trial uses it. What was made is noted in it at once, and its name before that.
#[async_trait]
pub(super) trait Tried: Send {
    async fn check(&mut self) -> Result<AccountSays, Trouble>;

    /// Where it would be made, in words, as the options say. After [`Tried::check`]; asks nothing.
    fn choose(&mut self) -> Result<String, Why>;

    /// Makes the service, with these variables where they go with it.
    async fn make(&mut self, env: &[(EnvName, SecretString)]) -> Result<(), Why>;

    /// Whatever is left to do until its first deploy is on its way.
    async fn begin(&mut self, env: &[(EnvName, SecretString)]) -> Result<(), Why>;

    /// How the newest deploy of ours stands.
    async fn stand(&mut self) -> Result<Stand, Trouble>;

    async fn url(&mut self) -> Result<Url, Why>;

    /// What the server printed since the last time.
    async fn lines(&mut self) -> Result<Vec<String>, Trouble>;

    async fn change(
        &mut self,
        set: &[(EnvName, SecretString)],
        remove: &[EnvName],
    ) -> Result<(), Why>;

    async fn names(&mut self) -> Result<Vec<String>, Why>;

    /// Deploys what it is now.
    async fn again(&mut self) -> Result<(), Why>;

    async fn stop(&mut self) -> Result<(), Why>;

    async fn is_stopped(&mut self) -> Result<bool, Why>;

    /// Removes all that was made, noted or not, and looks that it is gone.
    async fn remove(&mut self) -> Result<(), Why>;

    /// What there may be of it, by name; nothing when nothing was asked for.
    fn made(&self) -> Vec<String>;
}

/// What is done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Make,
    Deploy,
    Answer,
    Log,
    Change,
    Again,
    Stop,
}

impl Step {
    const ALL: [Step; 7] = [
        Step::Make,
        Step::Deploy,
        Step::Answer,
        Step::Log,
        Step::Change,
        Step::Again,
        Step::Stop,
    ];

    fn name(self) -> &'static str {
        match self {
            Step::Make => "make",
            Step::Deploy => "deploy",
            Step::Answer => "answer",
            Step::Log => "log",
            Step::Change => "change",
            Step::Again => "again",
            Step::Stop => "stop",
        }
    }
}

/// The last step of each trial.
const REMOVE: &str = "remove";

/// What is told while it goes on, masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What is under way.
    Going(String),
    Done {
        step: &'static str,
        took: Duration,
        says: String,
    },
    Failed {
        step: &'static str,
        took: Duration,
        says: String,
    },
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub proved: Vec<&'static str>,
    /// The step that failed, and why.
    pub failed: Option<(&'static str, String)>,
    /// What is still at the provider, by name.
    pub left: Vec<String>,
}

pub struct Trial {
    tried: Box<dyn Tried>,
    target: Target,
    name: String,
    hosts: SourceHosts,
    look_every: Duration,
    values: Values,
    masks: Masks,
}

/// Values of a trial's own, of which the provider gets what it would get of secrets.
struct Values {
    kept: SecretString,
    changed: [SecretString; 2],
    removed: SecretString,
    added: SecretString,
}

impl Values {
    fn new() -> Self {
        let random = || SecretString::from(hex::encode(rand::random::<[u8; 16]>()));
        Values {
            kept: random(),
            changed: [random(), random()],
            removed: random(),
            added: random(),
        }
    }

    fn all(&self) -> [&SecretString; 5] {
        let [before, after] = &self.changed;
        [&self.kept, before, after, &self.removed, &self.added]
    }

    fn at_first(&self) -> Result<Vec<(EnvName, SecretString)>, Why> {
        let set = [
            ("PORT", SecretString::from(PORT.to_string())),
            ("CHECK_KEPT", self.kept.clone()),
            ("CHECK_CHANGED", self.changed[0].clone()),
            ("CHECK_REMOVED", self.removed.clone()),
        ];
        named(set)
    }

    fn then(&self) -> Result<Vec<(EnvName, SecretString)>, Why> {
        named([
            ("CHECK_CHANGED", self.changed[1].clone()),
            ("CHECK_ADDED", self.added.clone()),
        ])
    }

    /// What the server answers when it has the first, or the changed ones.
    fn answer(&self, changed: bool) -> String {
        let none = SecretString::default();
        let four = match changed {
            false => [&self.kept, &self.changed[0], &self.removed, &none],
            true => [&self.kept, &self.changed[1], &none, &self.added],
        };
        let mut hash = Sha256::new();
        for (at, value) in four.into_iter().enumerate() {
            if at > 0 {
                hash.update(b".");
            }
            hash.update(value.expose_secret().as_bytes());
        }
        hex::encode(hash.finalize())
    }
}

fn named<const N: usize>(
    set: [(&str, SecretString); N],
) -> Result<Vec<(EnvName, SecretString)>, Why> {
    let set = set.into_iter();
    set.map(|(name, value)| Ok((EnvName::stored(name)?, value)))
        .collect()
}

impl Trial {
    /// Asks nothing yet. Errors: a sentence.
    pub async fn new(ask: TrialAsk) -> Result<Trial, String> {
        let name = format!("sealport-check-{}", hex::encode(rand::random::<[u8; 4]>()));
        let values = Values::new();
        let mut masked: Vec<SecretString> = values.all().into_iter().cloned().collect();
        masked.push(ask.key.clone());
        let masks = Masks::build(masked).await;
        let masks = masks.map_err(|_| "The masks could not be made.".to_owned())?;
        let wanted = Wanted {
            name: name.clone(),
            image: ask.image,
            command: format!("/bin/sh -c \"{SCRIPT}\""),
            options: ask.options,
        };
        let hosts = ask.hosts.clone();
        let tried: Box<dyn Tried> = match ask.target {
            Target::Render => Box::new(RenderTrial::new(ask.api, ask.key, ask.hosts, wanted)?),
            Target::Railway => Box::new(RailwayTrial::new(ask.api, ask.key, ask.hosts, wanted)?),
            Target::Local => {
                return Err("This machine is looked at by `sealport doctor`.".into());
            }
        };
        Ok(Trial {
            tried,
            target: ask.target,
            name,
            hosts,
            look_every: ask.look_every,
            values,
            masks,
        })
    }

    /// Whether the key is one, and what it can do. Errors: a masked sentence.
    pub async fn check(&mut self) -> Result<AccountSays, String> {
        let checked = self.tried.check().await;
        checked.map_err(|trouble| self.says(trouble.into()))
    }

    /// What would be made, and where. Errors: a sentence.
    pub fn choose(&mut self) -> Result<String, String> {
        let place = self.tried.choose().map_err(|why| self.says(why))?;
        Ok(format!("the service {} {place}", self.name))
    }

    /// Goes through all steps and removes what was made. `stop` ends the steps, and `give_up` the removing.
    pub async fn run(
        &mut self,
        tell: &(dyn Fn(Told) + Sync),
        stop: &CancellationToken,
        give_up: &CancellationToken,
    ) -> Outcome {
        let (mut proved, mut failed) = (Vec::new(), None);
        for step in Step::ALL {
            let begun = Instant::now();
            // What makes something is not cut off: what it has made would not be known.
            let may_be_cut = step != Step::Make;
            let mut done = tokio::select! {
                biased;
                () = stop.cancelled(), if may_be_cut => Err(interrupted()),
                done = self.act(step, tell) => done,
            };
            if stop.is_cancelled() {
                done = Err(interrupted());
            }
            let (name, took) = (step.name(), begun.elapsed());
            match done.map_err(|why| self.says(why)) {
                Ok(says) => {
                    proved.push(name);
                    let says = self.masks.text(&says).into_owned();
                    tell(Told::Done {
                        step: name,
                        took,
                        says,
                    });
                }
                Err(says) => {
                    failed = Some((name, says.clone()));
                    tell(Told::Failed {
                        step: name,
                        took,
                        says,
                    });
                    break;
                }
            }
        }
        let left = self.remove(tell, give_up).await;
        match (&failed, left.is_empty()) {
            (_, true) => proved.push(REMOVE),
            (None, false) => failed = Some((REMOVE, "Not all that was made is removed.".into())),
            (Some(_), false) => {}
        }
        Outcome {
            proved,
            failed,
            left,
        }
    }

    async fn act(&mut self, step: Step, tell: &(dyn Fn(Told) + Sync)) -> Result<String, Why> {
        let title = self.target.title();
        match step {
            Step::Make => {
                self.tried.make(&self.values.at_first()?).await?;
                Ok(format!("{title} has the service {}.", self.name))
            }
            Step::Deploy => {
                self.tried.begin(&self.values.at_first()?).await?;
                self.until_up(tell).await?;
                Ok(format!("{title} says that it is live."))
            }
            Step::Answer => self.until_answer(false).await,
            Step::Log => self.until_line().await,
            Step::Change => self.change().await,
            Step::Again => {
                self.tried.again().await?;
                self.until_up(tell).await?;
                self.until_answer(true).await
            }
            Step::Stop => self.stop().await,
        }
    }

    async fn until_up(&mut self, tell: &(dyn Fn(Told) + Sync)) -> Result<(), Why> {
        let patience = Patience::of(self.look_every, UP_PAUSES);
        let (mut looks, mut failed, mut said) = (0, 0, String::new());
        loop {
            let mut pause = patience.pause(looks);
            looks += 1;
            match self.tried.stand().await {
                Ok(Stand::Live) => return Ok(()),
                Ok(Stand::Over(why)) => return Err(Why::Says(why)),
                Ok(Stand::Going(sentence)) => {
                    failed = 0;
                    if said != sentence {
                        tell(Told::Going(self.masks.text(&sentence).into_owned()));
                        said = sentence;
                    }
                }
                Err(trouble) if trouble.may_pass() && failed < LOOKS_FAILED_MAX => {
                    failed += 1;
                    if let Trouble::Limited { wait_secs, .. } = trouble {
                        pause = pause.max(Duration::from_secs(wait_secs));
                    }
                }
                Err(trouble) => return Err(trouble.into()),
            }
            patience.wait(pause, "It is not up").await?;
        }
    }

    /// Until its address answers with what only a server can know that has its variables.
    async fn until_answer(&mut self, changed: bool) -> Result<String, Why> {
        let url = self.tried.url().await?;
        let client = open_connection(&url, &self.hosts).map_err(Why::Says)?;
        let wanted = self.values.answer(changed);
        let patience = Patience::of(self.look_every, ANSWER_PAUSES);
        for looks in 0.. {
            let says = match answer_of(&client, &url).await {
                Ok(body) if body.starts_with(&wanted) => break,
                Ok(_) => "answers, but not as a server does that has the variables".to_owned(),
                Err(says) => says,
            };
            let late = format!("{url} {says}");
            patience.wait(patience.pause(looks), &late).await?;
        }
        let which = match changed {
            false => "the variables that were set",
            true => "the variables as they were changed",
        };
        Ok(format!("{url} answers, and its server has {which}."))
    }

    async fn until_line(&mut self) -> Result<String, Why> {
        let patience = Patience::of(self.look_every, LINES_PAUSES);
        let mut count = 0;
        for looks in 0.. {
            match self.tried.lines().await {
                Ok(lines) => {
                    count += lines.len();
                    if lines.iter().any(|line| line.contains(LINE)) {
                        break;
                    }
                }
                Err(trouble) if trouble.may_pass() => {}
                Err(trouble) => return Err(trouble.into()),
            }
            let late = format!("Of its log {count} lines came, and not the one that it printed");
            patience.wait(patience.pause(looks), &late).await?;
        }
        Ok(format!(
            "Its log is read: {count} lines, and what it printed is among them."
        ))
    }

    /// What Sealport set is set anew, added and removed; the rest stays.
    async fn change(&mut self) -> Result<String, Why> {
        let removed = EnvName::stored("CHECK_REMOVED")?;
        let set = self.values.then()?;
        self.tried
            .change(&set, std::slice::from_ref(&removed))
            .await?;
        let names = self.tried.names().await?;
        let has = |name: &str| names.iter().any(|there| there == name);
        let kept = ["CHECK_KEPT", "CHECK_CHANGED", "CHECK_ADDED"];
        match kept.into_iter().find(|name| !has(name)) {
            Some(missing) => Err(Why::Says(format!("{missing} is not among its variables."))),
            None if has(removed.as_str()) => Err(Why::Says(format!(
                "{removed} was removed, and is still among its variables."
            ))),
            None => Ok("One variable was changed, one added, one removed, and one left.".into()),
        }
    }

    async fn stop(&mut self) -> Result<String, Why> {
        self.tried.stop().await?;
        let patience = Patience::of(self.look_every, STOP_PAUSES);
        for looks in 0.. {
            if self.tried.is_stopped().await? {
                break;
            }
            patience
                .wait(patience.pause(looks), "It still runs")
                .await?;
        }
        Ok(format!("{} stopped it.", self.target.title()))
    }

    /// Again and again, for what is left costs money. Answers what is left.
    async fn remove(
        &mut self,
        tell: &(dyn Fn(Told) + Sync),
        give_up: &CancellationToken,
    ) -> Vec<String> {
        if self.tried.made().is_empty() {
            return Vec::new();
        }
        let begun = Instant::now();
        let title = self.target.title();
        let mut last = String::from("It was given up.");
        for tries in 0..REMOVE_TRIES {
            let done = tokio::select! {
                biased;
                () = give_up.cancelled() => break,
                done = self.tried.remove() => done,
            };
            match done {
                Ok(()) => {
                    tell(Told::Done {
                        step: REMOVE,
                        took: begun.elapsed(),
                        says: format!("Nothing of it is left at {title}."),
                    });
                    return Vec::new();
                }
                Err(why) => last = self.says(why),
            }
            if tries + 1 < REMOVE_TRIES {
                tell(Told::Going(format!("{last} Removing is tried again.")));
                tokio::select! {
                    () = give_up.cancelled() => break,
                    () = tokio::time::sleep(self.look_every * (1 << tries)) => {}
                }
            }
        }
        tell(Told::Failed {
            step: REMOVE,
            took: begun.elapsed(),
            says: last,
        });
        let left = self.tried.made();
        left.iter()
            .map(|one| self.masks.text(one).into_owned())
            .collect()
    }

    /// A sentence of what a provider said, which may echo what was sent.
    fn says(&self, why: Why) -> String {
        match why {
            Why::Trouble(trouble) => trouble.masked(&self.masks).to_string(),
            Why::Says(says) => self.masks.text(&says).into_owned(),
        }
    }
}

fn interrupted() -> Why {
    Why::Says("It was interrupted.".into())
}

/// How often is looked, and for how long.
struct Patience {
    every: Duration,
    all: Duration,
    end: Instant,
}

impl Patience {
    fn of(every: Duration, pauses: u32) -> Self {
        let all = every * pauses;
        Patience {
            every,
            all,
            end: Instant::now() + all,
        }
    }

    /// Until the next look, after so many.
    fn pause(&self, looks: u32) -> Duration {
        self.every * (1 + looks / 4).min(LOOK_PATIENCE_MAX)
    }

    /// Errors: it is too late, with how it stands.
    async fn wait(&self, pause: Duration, stands: &str) -> Result<(), Why> {
        if Instant::now() + pause >= self.end {
            let secs = self.all.as_secs();
            return Err(Why::Says(format!("{stands} after {secs} seconds.")));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// The beginning of what stands at this address. Errors: a sentence.
async fn answer_of(client: &reqwest::Client, url: &Url) -> Result<String, String> {
    let asked = client.get(url.clone()).timeout(ONE_ANSWER).send().await;
    let mut response = asked.map_err(|_| "is not reached".to_owned())?;
    if !response.status().is_success() {
        return Err(format!("answers with {}", response.status()));
    }
    let first = response.chunk().await;
    let first = first.map_err(|_| "answers, and breaks off".to_owned())?;
    Ok(String::from_utf8_lossy(&first.unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_stands_in_quotes_and_says_what_is_looked_for() {
        assert!(SCRIPT.contains(LINE) && SCRIPT.contains(&format!("-p {PORT} ")));
        assert!(!SCRIPT.contains(['"', '\'', '`', '\\']));
    }

    #[test]
    fn what_is_answered_tells_the_variables_apart_and_none_of_them() {
        let values = Values::new();
        let (first, changed) = (values.answer(false), values.answer(true));
        assert_ne!(first, changed);
        for value in values.all() {
            let value = value.expose_secret();
            assert!(!first.contains(value) && !changed.contains(value));
        }
    }
}
