//! `/activity/export?format=csv|jsonl`: what the caller may see of the record, with the page's own filter, as a file. Read and sent
//! piece by piece, each with the caller's rights at that moment, while the session lasts.

use std::io;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use tower_sessions::Session;
use tower_sessions::session::Id;
use uuid::Uuid;

use super::AppState;
use super::identity::plain;
use crate::model::actors::Caller;
use crate::model::audit::{AuditAsked, AuditFilter, AuditRow};
use crate::model::errors::Refusal;
use crate::store;

/// Rows of one read.
const ROWS: i64 = 500;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    format: String,
    #[serde(flatten)]
    filter: AuditAsked,
}

#[derive(Clone, Copy)]
enum Format {
    Csv,
    JsonLines,
}

struct Export {
    state: AppState,
    caller: Caller,
    session: Id,
    filter: AuditFilter,
    format: Format,
    before: Option<Uuid>,
    begun: bool,
    over: bool,
}

pub(super) async fn export(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    session: Session,
    Query(asked): Query<Asked>,
) -> Response {
    let (format, kind, ending) = match asked.format.as_str() {
        "" | "csv" => (
            Format::Csv,
            "text/csv; charset=utf-8; header=present",
            "csv",
        ),
        "jsonl" => (
            Format::JsonLines,
            "application/x-ndjson; charset=utf-8",
            "jsonl",
        ),
        _ => return plain(&Refusal::invalid("format", "The format is csv or jsonl.")),
    };
    let filter = match AuditFilter::parse(&asked.filter) {
        Ok(filter) => filter,
        Err(refusal) => return plain(&refusal),
    };
    let Some(session) = session.id() else {
        return plain(&Refusal::internal());
    };
    if let Err(error) = state.db.audit_export_begins(&caller).await {
        return plain(&error.into_refusal());
    }
    let day = OffsetDateTime::now_utc()
        .format(format_description!("[year]-[month]-[day]"))
        .unwrap_or_default();
    let export = Export {
        state,
        caller,
        session,
        filter,
        format,
        before: None,
        begun: false,
        over: false,
    };
    let pieces = stream::unfold(export, async |mut export| {
        let piece = export.next().await.transpose()?;
        // A file that breaks off must not look like a whole one, so the connection breaks too.
        export.over |= piece.is_err();
        let piece = piece.map(Bytes::from).map_err(|error| {
            error.into_refusal();
            io::Error::other("the export broke off")
        });
        Some((piece, export))
    })
    // Whoever compresses it asks once more after its end.
    .fuse();
    let name = format!("attachment; filename=\"sealport-activity-{day}.{ending}\"");
    (
        [
            (header::CONTENT_TYPE, kind.to_owned()),
            (header::CONTENT_DISPOSITION, name),
        ],
        Body::from_stream(pieces),
    )
        .into_response()
}

impl Export {
    /// The next rows as text; none at the end.
    async fn next(&mut self) -> store::Result<Option<String>> {
        if self.over {
            return Ok(None);
        }
        let db = &self.state.db;
        if !db.session_lasts(&self.caller, &self.session).await? {
            return Err(store::Error::broken("the session of an export ended"));
        }
        let rows = db
            .audit_list(&self.caller, &self.filter, self.before, ROWS)
            .await?;
        self.over = (rows.len() as i64) < ROWS;
        self.before = rows.last().map(|row| row.id);
        let mut text = String::new();
        if !self.begun && matches!(self.format, Format::Csv) {
            text.push_str(CSV_HEADER);
        }
        self.begun = true;
        for row in rows {
            match self.format {
                Format::Csv => csv_line(&row, &mut text),
                Format::JsonLines => {
                    let line = serde_json::to_string(&row).map_err(|error| {
                        store::Error::caused("a row could not be written", error)
                    })?;
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
        Ok(Some(text))
    }
}

const CSV_HEADER: &str = "id,at,actor_kind,actor,action,outcome,path,version,deployment,release,address,agent,grantee,level,reason\r\n";

fn csv_line(row: &AuditRow, out: &mut String) {
    let number = |number: Option<i32>| number.map(|number| number.to_string()).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let fields = [
        row.id.to_string(),
        row.at.format(&Rfc3339).unwrap_or_default(),
        row.actor_kind.clone(),
        row.actor_name.clone(),
        row.action.clone(),
        row.outcome.clone(),
        text(&row.path),
        number(row.version),
        text(&row.deployment),
        number(row.release),
        text(&row.address),
        text(&row.agent),
        text(&row.grantee),
        text(&row.level),
        text(&row.reason),
    ];
    for (place, field) in fields.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        csv_field(field, out);
    }
    out.push_str("\r\n");
}

/// Quoted, and never a formula: spreadsheets calculate what begins with one of these signs, and where they take another
/// separator than ours a cell may begin in the middle of a field (OWASP, "CSV Injection").
fn csv_field(field: &str, out: &mut String) {
    out.push('"');
    let mut begins = true;
    for (place, sign) in field.chars().enumerate() {
        let splits = matches!(sign, ';' | ',' | '|' | '\t' | '\r' | '\n');
        let calculates = matches!(sign, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠');
        if begins && (calculates || (place == 0 && sign.is_whitespace())) {
            out.push('\'');
        }
        if sign == '"' {
            out.push('"');
        }
        out.push(sign);
        begins = splits || sign == '"';
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_a_formula_or_ends_its_quotes() {
        let cases = [
            ("", "\"\""),
            ("OPENAI_API_KEY", "\"OPENAI_API_KEY\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t'=1\""),
            ("a\",=1", "\"a\"\",'=1\""),
            ("a\r\nb", "\"a\r\nb\""),
            ("x;=1;b=2", "\"x;'=1;b=2\""),
            ("Mozilla/5.0 (X11; Linux)", "\"Mozilla/5.0 (X11; Linux)\""),
        ];
        for (field, written) in cases {
            let mut out = String::new();
            csv_field(field, &mut out);
            assert_eq!(out, written);
        }
    }
}
