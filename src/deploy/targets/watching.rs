//! Looking at a provider again and again: at a deploy until it is over, and at what a server prints.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Steps;
use super::remote::{Given, masked};
use crate::deploy::log::{LastLines, Log};
use crate::deploy::masks::Masks;
use crate::deploy::providers::Trouble;
use crate::model::deployments::StepName;

/// A build that takes longer is given up; it goes on at the provider.
const BUILD_TIMEOUT: Duration = Duration::from_secs(45 * 60);
/// Looks in a row that may fail because the provider is disturbed.
const LOOKS_FAILED_MAX: u32 = 20;

/// How a deploy stands.
pub(super) enum Stand {
    /// On its way: what it is at, in a sentence.
    Going(String),
    Live,
    /// Over, and not live: why, in a sentence.
    Over(String),
}

/// A deploy at a provider.
pub(super) trait Watched: Send {
    /// As sentences name it.
    const PROVIDER: &'static str;

    /// Asks how it stands, and takes over what was printed since the last look.
    fn look(&mut self) -> impl Future<Output = Result<Stand, Trouble>> + Send;

    /// How long until the next look, after so many, where they may be so often.
    fn pause(every: Duration, looks: u32) -> Duration;

    fn last(&self) -> &LastLines;
}

/// Until it is live. Errors: why it is not, with its last lines.
pub(super) async fn watch<W: Watched>(
    mut deploy: W,
    steps: &Steps<'_>,
    given: &Given,
    every: Duration,
) -> Result<(), String> {
    let provider = W::PROVIDER;
    let (end, mut looks, mut failed, mut said) =
        (Instant::now() + BUILD_TIMEOUT, 0, 0, String::new());
    loop {
        let mut pause = W::pause(every, looks);
        looks += 1;
        match deploy.look().await {
            Ok(Stand::Live) => break,
            Ok(Stand::Over(why)) => {
                return Err(match deploy.last().joined() {
                    last if last.is_empty() => why,
                    last => format!("{why} Its last lines: {last}"),
                });
            }
            Ok(Stand::Going(sentence)) => {
                failed = 0;
                if said != sentence {
                    steps.say(StepName::Build, "running", &sentence).await;
                    said = sentence;
                }
            }
            Err(trouble) if trouble.may_pass() && failed < LOOKS_FAILED_MAX => {
                failed += 1;
                if let Trouble::Limited { wait_secs, .. } = trouble {
                    pause = pause.max(Duration::from_secs(wait_secs));
                }
            }
            Err(trouble) => return Err(masked(trouble, given)),
        }
        if Instant::now() + pause >= end {
            return Err(format!(
                "{provider} did not finish the deploy within 45 minutes. It goes on there; look at its page at {provider}, then redeploy."
            ));
        }
        tokio::time::sleep(pause).await;
    }
    let live = format!("{provider} says that it is live.");
    steps.say(StepName::Build, "done", &live).await;
    Ok(())
}

/// What a server at a provider prints.
pub(super) trait Prints: Send {
    /// Takes over what was printed since the last time, masked, and tells how many lines that were.
    fn read(
        &mut self,
        log: &Log,
        masks: &Masks,
    ) -> impl Future<Output = Result<usize, Trouble>> + Send;

    /// How long until the next time, after so many in a row without a line.
    fn pause(quiet: u32) -> Duration;
}

/// Goes on for as long as it is not dropped.
pub(super) async fn keep_reading<P: Prints>(mut prints: P, log: Log, masks: Arc<Masks>) {
    let mut quiet = 0_u32;
    loop {
        tokio::time::sleep(P::pause(quiet)).await;
        quiet = match prints.read(&log, &masks).await {
            Ok(lines) if lines > 0 => 0,
            Ok(_) => quiet.saturating_add(1),
            Err(trouble) => {
                tracing::debug!(%trouble, "a provider's log was not read");
                quiet.saturating_add(1)
            }
        };
    }
}

/// A line of a provider's log, into ours.
pub(super) fn keep(stream: &'static str, text: &str, log: &Log, masks: &Masks, last: &LastLines) {
    let text = masks.text(text).into_owned();
    last.push(&text);
    log.push(stream, text);
}
