//! What a service prints, and how far a deploy is.

use std::time::Duration;

use crate::deploy::log::{LastLines, Log};
use crate::deploy::masks::Masks;
use crate::deploy::providers::Trouble;
use crate::deploy::providers::render::{DeployState, LogKind, LogMark, Render};
use crate::deploy::targets::watching::{Prints, Stand, Watched, keep};

/// Between two looks at what a server prints.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How far a service's lines are read.
pub(super) struct Printed {
    pub render: Render,
    pub owner: String,
    pub service: String,
    pub mark: LogMark,
    pub last: LastLines,
}

impl Prints for Printed {
    async fn read(&mut self, log: &Log, masks: &Masks) -> Result<usize, Trouble> {
        let (lines, next) = self
            .render
            .logs(&self.owner, &self.service, &self.mark)
            .await?;
        self.mark = next;
        for line in &lines {
            let stream = match line.kind {
                LogKind::Build => "install",
                LogKind::Request => continue,
                LogKind::App | LogKind::Other(_) => "stdout",
            };
            keep(stream, &line.text, log, masks, &self.last);
        }
        Ok(lines.len())
    }

    fn pause(_: u32) -> Duration {
        LOG_EVERY
    }
}

/// A deploy on its way.
pub(super) struct Coming<'a> {
    pub deploy: String,
    pub printed: Printed,
    pub log: &'a Log,
    pub masks: &'a Masks,
}

impl Watched for Coming<'_> {
    const PROVIDER: &'static str = "Render";

    async fn look(&mut self) -> Result<Stand, Trouble> {
        let printed = &mut self.printed;
        let state = printed.render.deploy_state(&printed.service, &self.deploy);
        let state = state.await;
        // Its lines are good to have; the state decides.
        let _ = printed.read(self.log, self.masks).await;
        Ok(stand_of(&state?))
    }

    fn pause(every: Duration, _: u32) -> Duration {
        every
    }

    fn last(&self) -> &LastLines {
        &self.printed.last
    }
}

pub(super) fn stand_of(state: &DeployState) -> Stand {
    match state {
        DeployState::Live => Stand::Live,
        state if state.is_over() => Stand::Over(format!("The deploy at Render {state}.")),
        state => Stand::Going(format!("The deploy {state}.")),
    }
}
