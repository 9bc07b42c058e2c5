//! Masked lines of deployments.

use std::fmt::Write;

use uuid::Uuid;

use super::holds::held_elsewhere;
use super::{Db, Result};
use crate::model::actors::{Caller, Job};
use crate::model::deployments::{LOG_LINE_LEN_BYTES, LOG_LINES_KEPT, LogLine};
use crate::model::paths::DeploymentName;

/// An append trims once in about so many lines of the installation.
const TRIM_EVERY_LINES: i64 = 256;
/// Lines of one caller's own instance that are kept.
const OWN_LINES_KEPT: i64 = 1_000;
/// A reason can hold a server's last lines.
const SENTENCE_LEN_BYTES: usize = 6 * 1024;
/// Stands at the end of a line that was cut.
const CUT_MARK: &str = "…";

/// A line to keep; already masked.
pub struct NewLine {
    pub stream: &'static str,
    pub line: String,
}

impl Db {
    /// Appends lines; control characters but tab are escaped here, long lines cut at LOG_LINE_LEN_BYTES.
    /// Nothing is removed from a line: what stood around a removed piece could join to a value that masking did not see.
    /// Errors: `Conflict` when the deployment is gone.
    pub async fn log_append(
        &self,
        deployment_id: Uuid,
        release: i32,
        lines: &[NewLine],
    ) -> Result<()> {
        self.log_append_of(deployment_id, release, None, lines)
            .await
    }

    /// The same of an instance that is one caller's: nobody else reads it.
    pub async fn log_append_of(
        &self,
        deployment_id: Uuid,
        release: i32,
        user_id: Option<Uuid>,
        lines: &[NewLine],
    ) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let streams: Vec<String> = lines.iter().map(|new| new.stream.to_owned()).collect();
        let texts: Vec<String> = lines.iter().map(|new| clean_line(&new.line)).collect();
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        // One append at a time for a deployment: a reader that goes on after a number has then missed nothing below it.
        sqlx::query!(
            r#"select pg_advisory_xact_lock(hashtextextended($1, 7)) as "locked!: ()""#,
            deployment_id.to_string(),
        )
        .fetch_one(&mut *tx)
        .await?;
        let seqs = sqlx::query_scalar!(
            "insert into log_lines (deployment_id, owner_id, number, stream, line, user_id) \
             select d.id, d.owner_id, $2, new.stream, new.line, $5 \
             from deployments d, unnest($3::text[], $4::text[]) with ordinality as new (stream, line, place) \
             where d.id = $1 order by new.place returning seq",
            deployment_id,
            release,
            &streams,
            &texts,
            user_id,
        )
        .fetch_all(&mut *tx)
        .await;
        let seqs = match seqs {
            // Destroyed, or given to another owner, while its last lines were on their way.
            Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                return Err(held_elsewhere());
            }
            other => other?,
        };
        if seqs.is_empty() {
            return Err(held_elsewhere());
        }
        if let (Some(first), Some(last)) = (seqs.iter().min(), seqs.iter().max())
            && (first - 1) / TRIM_EVERY_LINES != last / TRIM_EVERY_LINES
        {
            sqlx::query!(
                "delete from log_lines where deployment_id = $1 and user_id is not distinct from $3 and seq <= ( \
                 select seq from log_lines where deployment_id = $1 and user_id is not distinct from $3 \
                 order by seq desc offset $2 limit 1)",
                deployment_id,
                user_id.map_or(LOG_LINES_KEPT, |_| OWN_LINES_KEPT),
                user_id,
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Lines after `after`, oldest first, at most `limit`; with `after` none, the newest `limit`. Errors: `NotFound`.
    pub async fn log_read(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        after: Option<i64>,
        limit: i64,
    ) -> Result<Vec<LogLine>> {
        let limit = limit.clamp(1, LOG_LINES_KEPT);
        let (mut tx, id) = self.readable(caller, name, "deployment").await?;
        let lines = match after {
            Some(after) => {
                sqlx::query_as!(
                    LogLine,
                    "select seq, number as release, at, stream, line from log_lines \
                     where deployment_id = $1 and user_id is null and seq > $2 order by seq limit $3",
                    id,
                    after,
                    limit,
                )
                .fetch_all(&mut *tx)
                .await?
            }
            None => {
                let mut newest = sqlx::query_as!(
                    LogLine,
                    "select seq, number as release, at, stream, line from log_lines \
                     where deployment_id = $1 and user_id is null order by seq desc limit $2",
                    id,
                    limit,
                )
                .fetch_all(&mut *tx)
                .await?;
                newest.reverse();
                newest
            }
        };
        tx.commit().await?;
        Ok(lines)
    }

    /// The newest lines of the caller's own instance, oldest first. Errors: `NotFound`.
    pub async fn own_log_read(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        limit: i64,
    ) -> Result<Vec<LogLine>> {
        let page = self.connect_page(caller, name).await?;
        let mut tx = self.begin_as(caller).await?;
        let mut newest = sqlx::query_as!(
            LogLine,
            "select seq, number as release, at, stream, line from log_lines \
             where deployment_id = $1 and user_id = current_actor() order by seq desc limit $2",
            page.id,
            limit.clamp(1, OWN_LINES_KEPT),
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        newest.reverse();
        Ok(newest)
    }
}

/// A line that shows as what it is: control characters but tab, and those that reorder text, as escapes;
/// at most LOG_LINE_LEN_BYTES.
pub(super) fn clean_line(raw: &str) -> String {
    clean(raw, LOG_LINE_LEN_BYTES, &['\t'])
}

/// A reason or a step's detail, in the same way, with its line ends; at most SENTENCE_LEN_BYTES.
pub(super) fn clean_sentence(raw: &str) -> String {
    clean(raw, SENTENCE_LEN_BYTES, &['\t', '\n'])
}

fn clean(raw: &str, len_bytes: usize, kept: &[char]) -> String {
    let mut clean = String::with_capacity(raw.len().min(len_bytes));
    // Where the line would be cut to make room for the mark.
    let mut cut_at = 0;
    for c in raw.chars() {
        let fits_with_mark = clean.len() <= len_bytes - CUT_MARK.len();
        if fits_with_mark {
            cut_at = clean.len();
        }
        if kept.contains(&c) || is_shown(c) {
            clean.push(c);
        } else if (c as u32) < 0x100 {
            // Writing to a String does not fail.
            let _ = write!(clean, "\\x{:02x}", c as u32);
        } else {
            let _ = write!(clean, "\\u{{{:x}}}", c as u32);
        }
        if clean.len() > len_bytes {
            clean.truncate(cut_at);
            clean.push_str(CUT_MARK);
            break;
        }
    }
    clean
}

fn is_shown(c: char) -> bool {
    let reorders_or_breaks =
        matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    !c.is_control() && !reorders_or_breaks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_line_shows_as_what_it_is() {
        assert_eq!(clean_line("a\tb"), "a\tb");
        assert_eq!(clean_sentence("a\n\tb\r\0"), "a\n\tb\\x0d\\x00");
        assert_eq!(
            clean_line("a\0b\r\nc\x1b[31md\x7f\u{9b}"),
            r"a\x00b\x0d\x0ac\x1b[31md\x7f\x9b"
        );
        assert_eq!(clean_line("a\u{202e}b"), r"a\u{202e}b");
        assert_eq!(
            clean_line("'); drop table log_lines; --"),
            "'); drop table log_lines; --"
        );
    }

    #[test]
    fn a_long_line_is_cut_on_a_character() {
        let exact = "x".repeat(LOG_LINE_LEN_BYTES);
        assert_eq!(clean_line(&exact), exact);
        for unit in ["x", "ä", "🦀", "\0"] {
            for shift in 0..4 {
                let long = "y".repeat(shift) + &unit.repeat(LOG_LINE_LEN_BYTES + 1);
                let clean = clean_line(&long);
                assert!(clean.len() <= LOG_LINE_LEN_BYTES, "{}", clean.len());
                assert!(clean.len() > LOG_LINE_LEN_BYTES - 10, "{}", clean.len());
                assert!(clean.ends_with(CUT_MARK));
            }
        }
    }
}
