//! What builds and servers print, read on from where it was read to.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{DeploymentId, NAME, Railway, Repeat, Trouble};

const BUILD_LOGS: &str = "query BuildLogs($deploymentId: String!, $limit: Int!, $startDate: DateTime, $endDate: DateTime, $filter: String) {
    lines: buildLogs(deploymentId: $deploymentId, limit: $limit, startDate: $startDate, endDate: $endDate, filter: $filter) {
        timestamp severity message
    }
}";
const RUN_LOGS: &str = "query RunLogs($deploymentId: String!, $limit: Int!, $startDate: DateTime, $endDate: DateTime, $filter: String) {
    lines: deploymentLogs(deploymentId: $deploymentId, limit: $limit, startDate: $startDate, endDate: $endDate, filter: $filter) {
        timestamp severity message
    }
}";

pub(super) const DOCUMENTS: &[&str] = &[BUILD_LOGS, RUN_LOGS];

/// Lines asked for at once: the schema's most, and fewer where that is a longer answer than is read.
const LIMITS: [usize; 3] = [5000, 500, 50];
/// Requests of one reading, so that it ends.
const READS_MAX: usize = 10;
/// Railway takes times to the millisecond, but prints lines to the nanosecond.
const TICK: Duration = Duration::MILLISECOND;

/// A line. It may hold anything the server knows, so it prints no text; mask it before it goes anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct LogLine {
    pub at: OffsetDateTime,
    /// As in `info` or `err`.
    pub severity: Option<String>,
    pub message: String,
}

impl fmt::Debug for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogLine({}, {} bytes)", self.at, self.message.len())
    }
}

/// How far a log was read. It holds no text, so it can be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// The time of the last line.
    #[serde(with = "time::serde::rfc3339::option")]
    at: Option<OffsetDateTime>,
    /// Lines of exactly that time that were read.
    read: usize,
}

impl LogPosition {
    /// Before the lines of this time.
    pub fn since(at: OffsetDateTime) -> Self {
        LogPosition {
            at: Some(at),
            read: 0,
        }
    }
}

/// What is new in a log, in the order of time.
#[derive(Debug, Default)]
pub struct LogRead {
    pub lines: Vec<LogLine>,
    /// There is probably more already: read again at once.
    pub more: bool,
    /// Lines are missing between the last reading and this one: there were too many.
    pub cut: bool,
}

/// Lines by their time. Several can have one time; those of one time are kept together, as readings overlap.
#[derive(Default)]
struct Gathered(BTreeMap<OffsetDateTime, Vec<LogLine>>);

impl Gathered {
    /// Adds a reading. A time that stood at its edge may be whole in one reading and cut in the other: the longer counts.
    /// Answers whether anything was added.
    fn add(&mut self, lines: Vec<LogLine>) -> bool {
        let mut groups: BTreeMap<OffsetDateTime, Vec<LogLine>> = BTreeMap::new();
        for line in lines {
            groups.entry(line.at).or_default().push(line);
        }
        let mut grew = false;
        for (at, group) in groups {
            let kept = self.0.entry(at).or_default();
            if group.len() > kept.len() {
                *kept = group;
                grew = true;
            }
        }
        grew
    }

    /// The lines after a position, which moves behind them.
    fn after(self, position: &mut LogPosition) -> Vec<LogLine> {
        let mut new = Vec::new();
        let from = position.clone();
        for (at, group) in self.0 {
            let known = match from.at {
                Some(last) if at < last => group.len(),
                Some(last) if at == last => from.read,
                _ => 0,
            };
            if group.len() > known {
                *position = LogPosition {
                    at: Some(at),
                    read: group.len(),
                };
                new.extend(group.into_iter().skip(known));
            }
        }
        new
    }
}

#[derive(Clone, Copy)]
struct Window<'a> {
    deployment: &'a DeploymentId,
    start: Option<OffsetDateTime>,
    end: Option<OffsetDateTime>,
    filter: Option<&'a str>,
}

impl Railway {
    /// What a build has printed since `position`, by `buildLogs`; none of its lines comes twice. A filter is a text that lines
    /// contain, and must stay the same for one position. Errors: `NotFound`, and those of the connection; the position
    /// stays then.
    pub async fn build_logs(
        &self,
        deployment: &DeploymentId,
        position: &mut LogPosition,
        filter: Option<&str>,
    ) -> Result<LogRead, Trouble> {
        self.read_on(BUILD_LOGS, deployment, position, filter).await
    }

    /// The same of a server that runs, by `deploymentLogs`. A line that reaches Railway's log late, with an earlier time
    /// than one that was read, is not seen.
    pub async fn run_logs(
        &self,
        deployment: &DeploymentId,
        position: &mut LogPosition,
        filter: Option<&str>,
    ) -> Result<LogRead, Trouble> {
        self.read_on(RUN_LOGS, deployment, position, filter).await
    }

    /// The schema does not say whether a full answer has the first lines of the time that is asked for or the last. So after
    /// a full one what stands before it is asked for, too, until that brings nothing.
    async fn read_on(
        &self,
        document: &str,
        deployment: &DeploymentId,
        position: &mut LogPosition,
        filter: Option<&str>,
    ) -> Result<LogRead, Trouble> {
        let mut window = Window {
            deployment,
            start: position.at,
            end: None,
            filter,
        };
        let mut gathered = Gathered::default();
        let mut read = LogRead::default();
        for nth in 0..READS_MAX {
            let (lines, full) = self.lines(document, window).await?;
            let first = lines.iter().map(|line| line.at).min();
            let grew = gathered.add(lines);
            if nth == 0 {
                read.more = full;
            }
            if !full || !grew {
                break;
            }
            read.cut = nth + 1 == READS_MAX;
            window.end = first.map(|first| first + TICK);
        }
        read.lines = gathered.after(position);
        if read.more && read.lines.is_empty() {
            // One tick has more lines than can be asked for: on behind it, or the log would stand still.
            position.at = position.at.map(|at| at + TICK);
            position.read = 0;
            read.cut = true;
        }
        Ok(read)
    }

    /// The lines of a window, and whether there are as many as were asked for.
    async fn lines(
        &self,
        document: &str,
        window: Window<'_>,
    ) -> Result<(Vec<LogLine>, bool), Trouble> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Asked<'a> {
            deployment_id: &'a DeploymentId,
            limit: usize,
            #[serde(skip_serializing_if = "Option::is_none")]
            start_date: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            end_date: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            filter: Option<&'a str>,
        }
        #[derive(Deserialize)]
        struct Answered {
            lines: Vec<Printed>,
        }
        #[derive(Deserialize)]
        struct Printed {
            #[serde(with = "time::serde::rfc3339")]
            timestamp: OffsetDateTime,
            severity: Option<String>,
            message: String,
        }
        for limit in LIMITS {
            let asked = Asked {
                deployment_id: window.deployment,
                limit,
                start_date: window.start.and_then(written),
                end_date: window.end.and_then(written),
                filter: window.filter,
            };
            match self.ask(document, asked, Repeat::Safe).await {
                Ok(Answered { lines }) => {
                    let full = lines.len() >= limit;
                    let lines = lines.into_iter().map(|line| LogLine {
                        at: line.timestamp,
                        severity: line.severity,
                        message: line.message,
                    });
                    return Ok((lines.collect(), full));
                }
                Err(Trouble::TooLarge { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Err(Trouble::TooLarge { provider: NAME })
    }
}

fn written(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}
