//! Which tables a backup holds: all that there are, but for a named few, in the order in which rows can be put back.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::super::{Error, Result};

/// What a backup does not hold. Everything else is in it, tables that come later too.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("sessions", "people sign in again"),
    ("one_time_links", "they are made anew"),
    ("known_addresses", "they are learnt again"),
    ("attempts", "they count tries of the last hours"),
    ("drafts", "they are not deployed yet, and go after a week"),
    ("log_lines", "they tell of servers that ran elsewhere"),
    ("calls", "they tell of servers that ran elsewhere"),
    ("leases", "they tell which server works at what now"),
    ("servers", "they tell which servers are alive now"),
    ("pending_imports", "they wait for minutes for their person"),
];

/// sqlx's own: which migrations were made.
pub(super) const MIGRATIONS: &str = "_sqlx_migrations";

/// A table, with the columns that are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub name: String,
    pub columns: Vec<String>,
}

impl Table {
    /// Its name and columns as SQL. They come from PostgreSQL's own catalogue.
    pub fn quoted(&self) -> String {
        quote(&self.name)
    }

    pub fn quoted_columns(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|name| quote(name)).collect();
        columns.join(", ")
    }
}

/// An identifier, so that it can stand in SQL whatever is in it.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The names of what migrations make: tables or functions. Each is made by a line that begins with that.
pub(super) fn made_by<'a>(
    migrations: impl Iterator<Item = &'a str>,
    what: &str,
) -> BTreeSet<&'a str> {
    let after = |line: &'a str| {
        line.strip_prefix("create ")
            .map(|rest| rest.strip_prefix("or replace ").unwrap_or(rest))
            .and_then(|rest| rest.strip_prefix(what)?.strip_prefix(' '))
            .and_then(|rest| rest.split([' ', '(']).next())
    };
    migrations.flat_map(str::lines).filter_map(after).collect()
}

/// The tables that a backup holds, those that others refer to first.
pub(super) async fn tables(conn: &mut PgConnection) -> Result<Vec<Table>> {
    let left_out: Vec<String> = LEFT_OUT
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain([MIGRATIONS.to_owned()])
        .collect();
    let found = sqlx::query!(
        r#"select c.relname::text as "name!", array_agg(a.attname::text order by a.attnum) as "columns!"
           from pg_class c join pg_attribute a on a.attrelid = c.oid
           where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
             and not c.relname::text = any($1)
             and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
           group by c.relname order by 1"#,
        &left_out
    )
    .fetch_all(&mut *conn)
    .await?;
    let references = sqlx::query!(
        r#"select distinct f.relname::text as "from!", t.relname::text as "to!"
           from pg_constraint k join pg_class f on f.oid = k.conrelid join pg_class t on t.oid = k.confrelid
           where k.contype = 'f' and k.connamespace = current_schema()::regnamespace and f.oid <> t.oid"#
    )
    .fetch_all(conn)
    .await?;
    let references = references
        .into_iter()
        .map(|row| (row.from, row.to))
        .collect();
    let found = found
        .into_iter()
        .map(|row| (row.name, row.columns))
        .collect();
    in_order(found, &references)
}

/// Each after all that it refers to.
fn in_order(
    mut waiting: BTreeMap<String, Vec<String>>,
    references: &BTreeSet<(String, String)>,
) -> Result<Vec<Table>> {
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let free = waiting.keys().find(|name| {
            !references
                .iter()
                .any(|(from, to)| from == *name && waiting.contains_key(to))
        });
        let Some(name) = free.cloned() else {
            return Err(Error::broken("tables refer to each other in a circle"));
        };
        if let Some(columns) = waiting.remove(&name) {
            ordered.push(Table { name, columns });
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables_come_after_what_they_refer_to() {
        let tables = |names: &[&str]| -> BTreeMap<String, Vec<String>> {
            names
                .iter()
                .map(|name| ((*name).to_owned(), Vec::new()))
                .collect()
        };
        let references = |pairs: &[(&str, &str)]| -> BTreeSet<(String, String)> {
            pairs
                .iter()
                .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
                .collect()
        };
        // What is left out may be referred to: it holds nobody up.
        let all = tables(&["a", "b", "c"]);
        let found = in_order(
            all.clone(),
            &references(&[("a", "b"), ("b", "c"), ("c", "gone")]),
        )
        .unwrap();
        let names: Vec<&str> = found.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a"]);
        assert!(in_order(all, &references(&[("a", "b"), ("b", "a")])).is_err());
    }

    #[test]
    fn migrations_say_what_they_make() {
        let steps = [
            "-- create table none (\ncreate table one (\n    id uuid\n);\ncreate index one_id on one (id);",
            "create table two(id uuid);\ncreate function f(x uuid) returns\ncreate or replace function g() returns",
        ];
        let made = |what| Vec::from_iter(made_by(steps.into_iter(), what));
        assert_eq!(made("table"), ["one", "two"]);
        assert_eq!(made("function"), ["f", "g"]);
    }

    #[test]
    fn a_name_cannot_end_its_quotes() {
        assert_eq!(
            quote("a\"; drop table x; --"),
            "\"a\"\"; drop table x; --\""
        );
    }
}
