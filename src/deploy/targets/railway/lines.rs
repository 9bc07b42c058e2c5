//! How a deployment at Railway comes up, and what it prints.

use std::sync::Arc;
use std::time::Duration;

use crate::deploy::log::{LastLines, Log};
use crate::deploy::masks::Masks;
use crate::deploy::providers::Trouble;
use crate::deploy::providers::railway::{
    DeploymentId, DeploymentState, LogPosition, LogRead, Place, Railway,
};
use crate::deploy::targets::Work;
use crate::deploy::targets::watching::{Prints, Stand, Watched, keep};

/// So many times longer is waited between two looks at a deployment that takes long: a free plan has a hundred requests an hour.
const LOOK_PATIENCE_MAX: u32 = 5;
/// So many looks make it longer.
const LOOKS_AT_ONE: u32 = 4;
/// Between two looks at what a server prints; doubled so often while it prints nothing.
const LOG_EVERY_SECS: u64 = 10;
const LOG_DOUBLED_MAX: u32 = 4;

/// How far the two logs of a deployment are read.
pub(super) struct Lines {
    pub railway: Arc<Railway>,
    pub deployment: DeploymentId,
    pub build: LogPosition,
    pub run: LogPosition,
    pub last: LastLines,
}

impl Lines {
    /// All that it has printed and will print.
    pub fn of(railway: &Arc<Railway>, deployment: DeploymentId) -> Self {
        Lines {
            railway: Arc::clone(railway),
            deployment,
            build: LogPosition::default(),
            run: LogPosition::default(),
            last: LastLines::default(),
        }
    }

    async fn read_build(&mut self, log: &Log, masks: &Masks) -> Result<(), Trouble> {
        let read = self
            .railway
            .build_logs(&self.deployment, &mut self.build, None)
            .await?;
        self.take("install", &read, log, masks);
        Ok(())
    }

    fn take(&self, stream: &'static str, read: &LogRead, log: &Log, masks: &Masks) {
        if read.cut {
            log.say("Lines are missing here: there were more than Railway gives at once.");
        }
        for line in &read.lines {
            keep(stream, &line.message, log, masks, &self.last);
        }
    }
}

impl Prints for Lines {
    async fn read(&mut self, log: &Log, masks: &Masks) -> Result<usize, Trouble> {
        let read = self
            .railway
            .run_logs(&self.deployment, &mut self.run, None)
            .await?;
        self.take("stdout", &read, log, masks);
        Ok(read.lines.len())
    }

    fn pause(quiet: u32) -> Duration {
        Duration::from_secs(LOG_EVERY_SECS << quiet.min(LOG_DOUBLED_MAX))
    }
}

/// A deployment on its way.
pub(super) struct Coming<'a> {
    pub work: &'a Work<'a>,
    pub place: Place,
    pub masks: &'a Masks,
    pub lines: Lines,
    /// Nothing more comes into the log of its build.
    pub built: bool,
}

impl Coming<'_> {
    async fn read(&mut self, state: DeploymentState) -> Result<(), Trouble> {
        let (log, masks) = (self.work.log, self.masks);
        let runs = is_built(state);
        if !self.built {
            self.lines.read_build(log, masks).await?;
            self.built = runs;
        }
        if runs {
            self.lines.read(log, masks).await?;
        }
        Ok(())
    }

    /// Railway took it down. For a newer one, as when somebody pushed or changed something there, that one counts.
    async fn replaced(&mut self, state: DeploymentState) -> Result<Stand, Trouble> {
        let railway = Arc::clone(&self.lines.railway);
        let newest = railway.latest_deployment(&self.place).await?;
        let Some(newer) = newest.filter(|newest| newest.id != self.lines.deployment) else {
            return Ok(Stand::Over(sentence(state)));
        };
        if let Err(reason) = super::note_deploy(self.work, &newer.id).await {
            return Ok(Stand::Over(reason));
        }
        self.lines = Lines::of(&railway, newer.id);
        self.built = false;
        Ok(Stand::Going(
            "Railway deploys something newer instead.".into(),
        ))
    }
}

impl Watched for Coming<'_> {
    const PROVIDER: &'static str = "Railway";

    async fn look(&mut self) -> Result<Stand, Trouble> {
        let railway = Arc::clone(&self.lines.railway);
        let state = railway.deployment(&self.lines.deployment).await?.state;
        // Its lines are good to have; the state decides.
        let _ = self.read(state).await;
        match state {
            DeploymentState::Success | DeploymentState::Sleeping => Ok(Stand::Live),
            DeploymentState::Failed | DeploymentState::Crashed => Ok(Stand::Over(sentence(state))),
            DeploymentState::Skipped | DeploymentState::Removing | DeploymentState::Removed => {
                self.replaced(state).await
            }
            going => Ok(Stand::Going(sentence(going))),
        }
    }

    fn pause(every: Duration, looks: u32) -> Duration {
        every * (1 + looks / LOOKS_AT_ONE).min(LOOK_PATIENCE_MAX)
    }

    fn last(&self) -> &LastLines {
        &self.lines.last
    }
}

/// Whether its server was started, so that nothing more is built.
fn is_built(state: DeploymentState) -> bool {
    state == DeploymentState::Deploying || (!state.is_going() && state != DeploymentState::Unknown)
}

pub(super) fn sentence(state: DeploymentState) -> String {
    let says = match state {
        DeploymentState::Queued | DeploymentState::Waiting => "waits for its turn",
        DeploymentState::NeedsApproval => "waits until somebody approves it there",
        DeploymentState::Initializing => "begins",
        DeploymentState::Building => "is built",
        DeploymentState::Deploying => "starts",
        DeploymentState::Success => "is up",
        DeploymentState::Sleeping => "sleeps until it is called",
        DeploymentState::Failed => "failed",
        DeploymentState::Crashed => "was built, but its server ended again and again",
        DeploymentState::Skipped => "was skipped",
        DeploymentState::Removing | DeploymentState::Removed => "was taken down there",
        DeploymentState::Unknown => "is in a state that this Sealport does not know",
    };
    format!("The deployment at Railway {says}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_and_has_a_bound() {
        let every = Duration::from_secs(3);
        let pauses = [0, 3, 4, 16, u32::MAX]
            .map(|looks| <Coming<'_> as Watched>::pause(every, looks).as_secs());
        assert_eq!(pauses, [3, 3, 6, 15, 15]);
        let pauses = [0, 1, 4, 5, u32::MAX].map(|quiet| <Lines as Prints>::pause(quiet).as_secs());
        assert_eq!(pauses, [10, 20, 160, 160, 160]);
    }

    #[test]
    fn the_log_of_a_build_ends_when_its_server_starts() {
        for (state, built) in [
            (DeploymentState::Queued, false),
            (DeploymentState::Building, false),
            (DeploymentState::Unknown, false),
            (DeploymentState::Deploying, true),
            (DeploymentState::Failed, true),
            (DeploymentState::Success, true),
        ] {
            assert_eq!(is_built(state), built, "{state:?}");
        }
    }
}
