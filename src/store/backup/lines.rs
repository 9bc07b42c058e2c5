//! What stands inside the encryption: a header, `#table` before the rows of each, a row a line as JSON, and `#end` with the
//! number of rows and a SHA-256 over all before it.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::super::{Error, Result};

const FORMAT: &str = "sealport-backup";
/// Rises when an older Sealport could not read what a newer one writes.
pub const FORMAT_VERSION: u32 = 1;
/// The longest line that is read: many times the largest row.
const LINE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What a backup says of itself, before any row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: String,
    pub version: u32,
    /// The Sealport that made it.
    pub sealport: String,
    /// The newest migration of the database it was made from.
    pub step: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub taken_at: OffsetDateTime,
    pub master_keys: Vec<KeyMark>,
    pub tables: Vec<TableMark>,
    /// Where numbering stood.
    pub sequences: Vec<(String, i64)>,
}

/// Names a master key and proves it; says nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMark {
    pub fingerprint: String,
    /// In hex.
    pub canary: String,
    pub active: bool,
    /// Whether something in the backup is sealed with it.
    pub needed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMark {
    pub name: String,
    pub columns: Vec<String>,
    pub rows: u64,
}

impl Header {
    pub(super) fn new(step: i64) -> Self {
        Header {
            format: FORMAT.to_owned(),
            version: FORMAT_VERSION,
            sealport: env!("CARGO_PKG_VERSION").to_owned(),
            step,
            taken_at: OffsetDateTime::now_utc(),
            master_keys: Vec::new(),
            tables: Vec::new(),
            sequences: Vec::new(),
        }
    }

    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Rows of one table.
    pub fn rows_of(&self, name: &str) -> u64 {
        let mut tables = self.tables.iter();
        tables
            .find(|table| table.name == name)
            .map_or(0, |table| table.rows)
    }

    /// The fingerprint of the master key that was in use.
    pub fn active_key(&self) -> &str {
        let mut keys = self.master_keys.iter();
        keys.find(|key| key.active)
            .map_or("", |key| key.fingerprint.as_str())
    }
}

/// Writes lines, and counts and hashes them.
pub(super) struct Writer<W> {
    out: W,
    digest: Sha256,
    rows: u64,
}

impl<W: Write> Writer<W> {
    pub fn begin(out: W, header: &Header) -> Result<Self> {
        let mut writer = Writer {
            out,
            digest: Sha256::new(),
            rows: 0,
        };
        let header = serde_json::to_string(header)
            .map_err(|error| Error::caused("the backup's header could not be written", error))?;
        writer.line(&header)?;
        Ok(writer)
    }

    pub fn table(&mut self, name: &str) -> Result<()> {
        self.line(&format!("#table {name}"))
    }

    pub fn row(&mut self, json: &str) -> Result<()> {
        self.rows += 1;
        self.line(json)
    }

    pub fn end(mut self) -> Result<()> {
        let digest = hex::encode(self.digest.finalize_reset());
        let rows = self.rows;
        self.line(&format!("#end {rows} {digest}"))
    }

    fn line(&mut self, text: &str) -> Result<()> {
        let mut write = || -> io::Result<()> {
            self.out.write_all(text.as_bytes())?;
            self.out.write_all(b"\n")
        };
        write().map_err(|error| Error::caused("The backup could not be written.", error))?;
        self.digest.update(text.as_bytes());
        self.digest.update(b"\n");
        Ok(())
    }
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Rows of this table follow.
    Table(String),
    /// A row, as JSON.
    Row(String),
    /// The number of rows and the hash are right.
    End,
}

/// Reads lines, and holds them against what the header and the end say.
pub(super) struct Reader<R> {
    input: R,
    digest: Sha256,
    rows: u64,
}

impl<R: BufRead> Reader<R> {
    /// Errors: it is no backup of ours, or a newer Sealport's.
    pub fn begin(input: R) -> Result<(Header, Self)> {
        let mut reader = Reader {
            input,
            digest: Sha256::new(),
            rows: 0,
        };
        let line = reader.line()?;
        reader.digest(&line);
        #[derive(Deserialize)]
        struct Kind {
            format: String,
            version: u32,
        }
        let no_backup = || Error::broken("What the file holds is no backup of Sealport's.");
        let kind: Kind = serde_json::from_str(&line).map_err(|_| no_backup())?;
        if kind.format != FORMAT {
            return Err(no_backup());
        }
        if kind.version > FORMAT_VERSION {
            return Err(Error::broken(format!(
                "A newer Sealport made this backup (format {}); this one reads up to format {FORMAT_VERSION}. Restore it with that one.",
                kind.version
            )));
        }
        let header = serde_json::from_str(&line).map_err(|_| no_backup())?;
        Ok((header, reader))
    }

    pub fn next(&mut self) -> Result<Line> {
        let line = self.line()?;
        if let Some(end) = line.strip_prefix("#end ") {
            let digest = hex::encode(self.digest.finalize_reset());
            if end != format!("{} {digest}", self.rows) {
                return Err(damaged("the count or the hash at its end is another"));
            }
            return match self.input.fill_buf() {
                Ok([]) => Ok(Line::End),
                Ok(_) => Err(damaged("something follows its end")),
                Err(error) => Err(unreadable(error)),
            };
        }
        self.digest(&line);
        if let Some(name) = line.strip_prefix("#table ") {
            return Ok(Line::Table(name.to_owned()));
        }
        self.rows += 1;
        Ok(Line::Row(line))
    }

    fn digest(&mut self, line: &str) {
        self.digest.update(line.as_bytes());
        self.digest.update(b"\n");
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        (&mut self.input)
            .take(LINE_MAX_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(unreadable)?;
        if line.pop() != Some(b'\n') {
            return Err(damaged("it ends too early"));
        }
        String::from_utf8(line).map_err(|_| damaged("it holds what is no text"))
    }
}

/// Reads it all and keeps nothing: whether it is whole.
pub(super) fn check(input: impl BufRead) -> Result<Header> {
    let (header, mut reader) = Reader::begin(input)?;
    let mut counted: Vec<(String, u64)> = Vec::new();
    loop {
        match reader.next()? {
            Line::Table(name) => counted.push((name, 0)),
            Line::Row(_) => match counted.last_mut() {
                Some((_, rows)) => *rows += 1,
                None => return Err(damaged("a row is of no table")),
            },
            Line::End => break,
        }
    }
    let said = header.tables.iter().map(|table| (&table.name, table.rows));
    if said.eq(counted.iter().map(|(name, rows)| (name, *rows))) {
        Ok(header)
    } else {
        Err(damaged(
            "its tables hold other numbers of rows than it says",
        ))
    }
}

pub(super) fn damaged(how: &str) -> Error {
    Error::broken(format!("The backup is damaged: {how}."))
}

fn unreadable(error: io::Error) -> Error {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error.kind() {
        UnexpectedEof | InvalidData => damaged("it was cut, or bytes of it were changed"),
        _ => Error::caused("The backup could not be read.", error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written() -> String {
        let mut header = Header::new(3);
        header.tables.push(TableMark {
            name: "a".into(),
            columns: vec!["x".into()],
            rows: 2,
        });
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out, &header).unwrap();
        writer.table("a").unwrap();
        writer.row(r##"{"x":"#end"}"##).unwrap();
        writer.row(r#"{"x":1}"#).unwrap();
        writer.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn told(text: &str) -> String {
        check(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_reads_back() {
        assert_eq!(check(written().as_bytes()).unwrap().rows(), 2);
    }

    #[test]
    fn a_cut_anywhere_and_a_changed_row_are_noticed() {
        let whole = written();
        for end in 0..whole.len() {
            assert!(check(&whole.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        assert!(told(&whole.replace("\"x\":1", "\"x\":2")).contains("damaged"));
        assert!(told(&whole.replace("{\"x\":1}\n", "")).contains("damaged"));
        assert!(told(&format!("{whole}more")).contains("follows"));
        assert!(told(&whole.replace("\"version\":1", "\"version\":2")).contains("newer Sealport"));
        assert!(told("{\"format\":\"x\",\"version\":1}\n").contains("no backup"));
    }
}
