//! What a service at Render prints while it is built and runs. Render masks nothing, so a line shows nothing until its
//! reader masks it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::Render;
use crate::deploy::providers::Trouble;
use crate::deploy::providers::http::Ask;

const PAGE_LINES: &str = "100";
/// Pages of one call; what is left comes with the next.
const PAGES_MAX: usize = 10;
/// Lines come late, and not in order: so far before the newest one it is looked again.
const LATENESS: Duration = Duration::seconds(5);
/// Of lines so many are known again. More in so short a time, and late ones among them may be missed.
const KNOWN_MAX: usize = 2000;

/// How far the lines are read: where to look next, and which lines of that time are known. It can be kept and come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMark {
    #[serde(with = "time::serde::rfc3339")]
    start: OffsetDateTime,
    /// With when they were printed; none is before `start`.
    known: BTreeSet<(OffsetDateTime, String)>,
}

impl LogMark {
    /// From this time on, as when a deploy was made.
    pub fn at(start: OffsetDateTime) -> Self {
        LogMark {
            start,
            known: BTreeSet::new(),
        }
    }

    fn knows(&self, line: &LogLine) -> bool {
        self.known.contains(&(line.at, line.id.clone()))
    }

    fn note(&mut self, line: &LogLine) {
        self.known.insert((line.at, line.id.clone()));
    }

    fn newest(&self) -> Option<OffsetDateTime> {
        self.known.last().map(|(at, _)| *at)
    }

    /// Forgets what is before it; never goes back.
    fn advance(&mut self, to: OffsetDateTime) {
        self.start = self.start.max(to);
        while self.known.len() > KNOWN_MAX
            || self.known.first().is_some_and(|(at, _)| *at < self.start)
        {
            if let Some((at, _)) = self.known.pop_first() {
                self.start = self.start.max(at);
            }
        }
    }
}

/// One line as it was printed. Its text may hold values: mask it before it goes anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct LogLine {
    pub id: String,
    pub at: OffsetDateTime,
    pub text: String,
    pub kind: LogKind,
    /// `info`, `error`, …, where Render tells one.
    pub level: Option<String>,
}

impl fmt::Debug for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogLine({}, {}, {:?})", self.id, self.at, self.kind)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogKind {
    Build,
    App,
    /// One a request that came to the service.
    Request,
    Other(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    has_more: bool,
    #[serde(with = "time::serde::rfc3339")]
    next_start_time: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    next_end_time: OffsetDateTime,
    logs: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    message: String,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    labels: Vec<Label>,
}

#[derive(Deserialize)]
struct Label {
    name: String,
    value: String,
}

impl From<Line> for LogLine {
    fn from(line: Line) -> Self {
        let label = |name: &str| {
            let found = line.labels.iter().find(|label| label.name == name);
            found.map(|label| label.value.clone())
        };
        LogLine {
            kind: match label("type").as_deref() {
                Some("build") => LogKind::Build,
                Some("request") => LogKind::Request,
                Some("app") | None => LogKind::App,
                Some(other) => LogKind::Other(other.to_owned()),
            },
            level: label("level"),
            id: line.id,
            at: line.timestamp,
            text: line.message,
        }
    }
}

impl Render {
    /// The lines after a mark, in order, and the mark for the next call; no line comes twice. At most a thousand, and the
    /// rest with the next call.
    ///
    /// Sends `GET /logs?ownerId&resource&startTime&direction=forward&limit`, and again with `nextStartTime` and
    /// `nextEndTime` while there is more. Errors: those of reading; the lines of pages before come again with the same mark.
    pub async fn logs(
        &self,
        owner: &str,
        service: &str,
        since: &LogMark,
    ) -> Result<(Vec<LogLine>, LogMark), Trouble> {
        let (mut mark, mut lines) = (since.clone(), Vec::new());
        let (mut start, mut end) = (since.start, None);
        let mut more_from = None;
        for _ in 0..PAGES_MAX {
            let page = self.log_page(owner, service, start, end).await?;
            let before = lines.len();
            for line in page.logs.into_iter().map(LogLine::from) {
                if line.at >= since.start && !mark.knows(&line) {
                    mark.note(&line);
                    lines.push(line);
                }
            }
            more_from = page.has_more.then_some(page.next_start_time);
            let stands = page.next_start_time <= start && lines.len() == before;
            if stands && page.has_more {
                // More lines at one instant than a page holds: the rest of them is missed, what follows is not.
                more_from = Some(start + Duration::milliseconds(1));
            }
            if !page.has_more || stands {
                break;
            }
            (start, end) = (page.next_start_time, Some(page.next_end_time));
        }
        lines.sort_by_key(|line| line.at);
        // Where more follows, looking back would read the same again and again.
        let next = more_from.or_else(|| mark.newest().map(|newest| newest - LATENESS));
        mark.advance(next.unwrap_or(since.start));
        Ok((lines, mark))
    }

    async fn log_page(
        &self,
        owner: &str,
        service: &str,
        start: OffsetDateTime,
        end: Option<OffsetDateTime>,
    ) -> Result<Page, Trouble> {
        let stamp = |at: OffsetDateTime| {
            at.to_offset(time::UtcOffset::UTC)
                .format(&Rfc3339)
                .unwrap_or_default()
        };
        let mut ask = Ask::get(&["logs"])
            .query("ownerId", owner)
            .query("resource", service)
            .query("startTime", stamp(start))
            .query("direction", "forward")
            .query("limit", PAGE_LINES);
        if let Some(end) = end {
            ask = ask.query("endTime", stamp(end));
        }
        self.http.send(ask).await?.read()
    }
}
