//! How much there is of what could leak.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::world::World;

/// Tables that record what happened and so grow with it. Retention ends their rows; nothing else here may grow.
const RECORDS: [&str; 8] = [
    "audit",
    "audit_batches",
    "audit_seals",
    "calls",
    "log_lines",
    "releases",
    "release_steps",
    "release_bindings",
];

/// The pool of the database and clients of the gateway open and close sockets as they like, within these bounds.
const SOCKETS_MORE: usize = 24;

pub struct Counts {
    /// Below this process, by name, with those that nobody collected. PostgreSQL's own are not Sealport's.
    pub processes: BTreeMap<String, usize>,
    /// Of this process, by kind.
    pub descriptors: BTreeMap<String, usize>,
    /// Below the place of the installation: directories, and sockets into guests.
    pub directories: usize,
    pub sockets: usize,
    /// By table.
    pub rows: BTreeMap<String, i64>,
}

impl Counts {
    pub async fn of(world: &World, place: &Path) -> Counts {
        let mut counts = Counts {
            processes: BTreeMap::new(),
            descriptors: descriptors(),
            directories: 0,
            sockets: 0,
            rows: rows(world).await,
        };
        for (_, name) in descendants(std::process::id()) {
            if name != "postgres" {
                *counts.processes.entry(name).or_default() += 1;
            }
        }
        walk(place, &mut counts);
        counts
    }

    /// What there is more of than before, in words.
    pub fn grown_since(&self, before: &Counts) -> Vec<String> {
        let mut grown = Vec::new();
        let mut compare = |what: &str, now: usize, then: usize| {
            if now > then {
                grown.push(format!("{what}: {then} before, {now} now"));
            }
        };
        for (name, now) in &self.processes {
            let then = before.processes.get(name).copied().unwrap_or(0);
            compare(&format!("processes {name}"), *now, then);
        }
        for (kind, now) in &self.descriptors {
            let then = before.descriptors.get(kind).copied().unwrap_or(0);
            let more = if kind == "socket" { SOCKETS_MORE } else { 0 };
            compare(&format!("descriptors {kind}"), *now, then + more);
        }
        compare("directories", self.directories, before.directories);
        compare("sockets into guests", self.sockets, before.sockets);
        for (table, now) in &self.rows {
            let then = before.rows.get(table).copied().unwrap_or(0);
            if *now > then && !RECORDS.contains(&table.as_str()) {
                grown.push(format!("rows of {table}: {then} before, {now} now"));
            }
        }
        grown
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: &BTreeMap<String, usize>| of.values().sum::<usize>();
        writeln!(
            f,
            "  {} processes: {:?}",
            sum(&self.processes),
            self.processes
        )?;
        writeln!(
            f,
            "  {} descriptors: {:?}",
            sum(&self.descriptors),
            self.descriptors
        )?;
        writeln!(
            f,
            "  {} directories, {} sockets into guests",
            self.directories, self.sockets
        )?;
        let (records, others): (Vec<_>, Vec<_>) = self
            .rows
            .iter()
            .filter(|(_, rows)| **rows > 0)
            .partition(|(table, _)| RECORDS.contains(&table.as_str()));
        let others: BTreeMap<_, _> = others.into_iter().collect();
        let records: BTreeMap<_, _> = records.into_iter().collect();
        writeln!(
            f,
            "  {} rows: {others:?}",
            others.values().copied().sum::<i64>()
        )?;
        write!(f, "  and of what happened, until its age: {records:?}")
    }
}

fn descriptors() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else {
            continue; // The listing's own.
        };
        let target = target.to_string_lossy();
        let kind = match target.split_once(':') {
            Some(("anon_inode", kind)) => kind.to_owned(),
            Some((kind, _)) => kind.to_owned(),
            None => "file".to_owned(),
        };
        *found.entry(kind).or_default() += 1;
    }
    found
}

async fn rows(world: &World) -> BTreeMap<String, i64> {
    let tables = world
        .text("select string_agg(tablename::text, ' ') from pg_tables where schemaname = 'public'")
        .await
        .unwrap();
    let mut rows = BTreeMap::new();
    for table in tables.split(' ') {
        rows.insert(table.to_owned(), world.count(table).await);
    }
    rows
}

fn walk(place: &Path, counts: &mut Counts) {
    use std::os::unix::fs::FileTypeExt;
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        counts.sockets += usize::from(kind.is_socket());
        if kind.is_dir() {
            counts.directories += 1;
            walk(&entry.path(), counts);
        }
    }
}

/// All processes below this one, with their names.
pub fn descendants(of: u32) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<(u32, u32, String)> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = |name: &str| {
                let mut lines = status.lines();
                lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
            };
            Some((pid, line("PPid:")?.parse().ok()?, line("Name:")?))
        })
        .collect();
    let (mut found, mut parents) = (Vec::new(), vec![of]);
    while let Some(parent) = parents.pop() {
        for (pid, _, name) in all.iter().filter(|one| one.1 == parent) {
            found.push((*pid, name.clone()));
            parents.push(*pid);
        }
    }
    found
}
