//! Logs are read on from where they were read to: every line once, in order, whichever end Railway answers with.

use sealport::deploy::providers::railway::{LogPosition, LogRead};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::*;

const START: OffsetDateTime = datetime!(2026-02-03 04:05:06.789012345 UTC);

struct Log {
    house: House,
    id: DeploymentId,
    position: LogPosition,
    printed: usize,
}

impl Log {
    async fn new(last_lines: bool) -> Log {
        let house = House::new().await;
        house.fake.state().last_lines = last_lines;
        let place = house.made("shop").await;
        let id = house.latest(&place).await;
        Log {
            house,
            id,
            position: LogPosition::default(),
            printed: 0,
        }
    }

    /// So many lines more, each so long after the one before.
    fn prints(&mut self, lines: usize, apart: Duration, text: &str) {
        let mut state = self.house.fake.state();
        let log = &mut state.deployment(self.id.as_str()).run_log;
        let mut at = log.last().map_or(START, |(at, _)| *at);
        for _ in 0..lines {
            at += apart;
            log.push((at, format!("{}{text}", self.printed)));
            self.printed += 1;
        }
    }

    async fn read(&mut self) -> LogRead {
        self.house
            .railway
            .run_logs(&self.id, &mut self.position, None)
            .await
            .unwrap()
    }

    /// Reads until there is no more. Answers the numbers that the lines begin with, and whether any were left out.
    async fn numbers(&mut self) -> (Vec<usize>, bool) {
        let (mut numbers, mut cut) = (Vec::new(), false);
        for _ in 0..50 {
            let read = self.read().await;
            cut |= read.cut;
            numbers.extend(read.lines.iter().map(|line| {
                let digits = line.message.split('|').next().unwrap();
                digits.parse::<usize>().unwrap()
            }));
            if !read.more {
                return (numbers, cut);
            }
        }
        panic!("the log has no end");
    }
}

#[tokio::test]
async fn each_line_is_read_once_and_in_order() {
    for last_lines in [true, false] {
        // A line a second; several in one of Railway's ticks; and several in one instant.
        for apart in [Duration::SECOND, Duration::microseconds(7), Duration::ZERO] {
            let mut log = Log::new(last_lines).await;
            assert_eq!(log.numbers().await, (vec![], false));
            let mut read = Vec::new();
            for lines in [1, 3, 0, 40] {
                log.prints(lines, apart, "|x");
                let (numbers, cut) = log.numbers().await;
                assert_eq!((numbers.len(), cut), (lines, false), "{apart}");
                read.extend(numbers);
            }
            assert_eq!(read, (0..44).collect::<Vec<_>>(), "{apart}");
        }
    }
}

/// More than one answer holds, either way round.
#[tokio::test]
async fn a_long_log_is_read_whole() {
    for last_lines in [true, false] {
        for apart in [Duration::milliseconds(3), Duration::microseconds(350)] {
            let mut log = Log::new(last_lines).await;
            log.prints(12_345, apart, "|x");
            let (numbers, cut) = log.numbers().await;
            assert!(!cut);
            assert_eq!(
                numbers,
                (0..12_345).collect::<Vec<_>>(),
                "{last_lines} {apart}"
            );
            log.prints(2, apart, "|x");
            assert_eq!(log.numbers().await.0, [12_345, 12_346]);
        }
    }
}

#[tokio::test]
async fn lines_too_long_for_one_answer_are_read_in_smaller_ones() {
    for last_lines in [true, false] {
        let mut log = Log::new(last_lines).await;
        log.prints(3_000, Duration::SECOND, &format!("|{}", "x".repeat(2_000)));
        let (numbers, cut) = log.numbers().await;
        assert!(!cut);
        assert_eq!(numbers, (0..3_000).collect::<Vec<_>>());
    }
}

/// Where Railway cannot be asked for a part, lines are left out, that is said, and the log goes on.
#[tokio::test]
async fn more_lines_in_a_tick_than_can_be_asked_for_do_not_stop_it() {
    let mut log = Log::new(false).await;
    log.prints(6_000, Duration::nanoseconds(1), "|x");
    log.prints(1, Duration::SECOND, "|x");
    let (numbers, cut) = log.numbers().await;
    assert!(cut);
    assert_eq!(numbers.last(), Some(&6_000));
    let mut once = numbers.clone();
    once.dedup();
    assert_eq!(once, numbers);
}

#[tokio::test]
async fn reading_begins_where_it_is_told_and_survives_being_kept() {
    let mut log = Log::new(true).await;
    log.prints(10, Duration::SECOND, "|x");
    log.position = LogPosition::since(START + Duration::seconds(8));
    assert_eq!(log.numbers().await.0, [7, 8, 9]);
    let kept = serde_json::to_string(&log.position).unwrap();
    log.position = serde_json::from_str(&kept).unwrap();
    log.prints(2, Duration::ZERO, "|x");
    assert_eq!(
        log.numbers().await.0,
        [10, 11],
        "of the same instant as the last"
    );
}

#[tokio::test]
async fn a_failed_reading_moves_nothing() {
    let mut log = Log::new(true).await;
    log.prints(3, Duration::SECOND, "|x");
    log.house.fake.will("deploymentLogs", Fault::Html(200));
    let failed = log
        .house
        .railway
        .run_logs(&log.id, &mut log.position, None)
        .await;
    assert!(matches!(failed, Err(Trouble::NotJson { .. })));
    assert_eq!(log.numbers().await.0, [0, 1, 2]);
}

#[tokio::test]
async fn build_logs_are_filtered_and_read_apart() {
    let mut log = Log::new(true).await;
    log.prints(2, Duration::SECOND, "|x");
    for _ in 0..4 {
        log.house.railway.deployment(&log.id).await.unwrap();
    }
    let mut position = LogPosition::default();
    let built = log
        .house
        .railway
        .build_logs(&log.id, &mut position, Some("DEPLOY"))
        .await
        .unwrap();
    let messages: Vec<&str> = built
        .lines
        .iter()
        .map(|line| line.message.as_str())
        .collect();
    assert_eq!(messages, ["now DEPLOYING"]);
    assert_eq!(built.lines[0].severity.as_deref(), Some("info"));
    let all = log
        .house
        .railway
        .build_logs(&log.id, &mut LogPosition::default(), None)
        .await
        .unwrap();
    assert_eq!(all.lines.len(), 4);
}
