//! What a server on this machine may take of it, and whether it reaches the network: the options of that target.

use std::collections::BTreeMap;

use super::errors::Refusal;
use super::targets::TargetOption;

/// What one server may take, with all of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestLimits {
    pub memory_mib: u32,
    /// Threads count too.
    pub processes: u32,
    /// Of each of its processes.
    pub open_files: u32,
    /// Its installed files, and what it keeps.
    pub disk_mib: u32,
    /// The longest file that it may write.
    pub file_mib: u32,
    /// Lines of its output in a second that are kept; more are dropped and counted.
    pub log_lines: u32,
    /// Whether it may open connections to the outside.
    pub network: bool,
}

impl Default for GuestLimits {
    fn default() -> Self {
        GuestLimits {
            memory_mib: MEMORY.usual,
            processes: PROCESSES.usual,
            open_files: OPEN_FILES.usual,
            disk_mib: DISK.usual,
            file_mib: FILE.usual,
            log_lines: LOG_LINES.usual,
            network: true,
        }
    }
}

/// A limit that is a number, and what it may be.
#[derive(Clone, Copy)]
struct Bound {
    name: &'static str,
    least: u32,
    most: u32,
    usual: u32,
}

const MEMORY: Bound = Bound {
    name: "memory_mib",
    least: 64,
    most: 65_536,
    usual: 2_048,
};
const PROCESSES: Bound = Bound {
    name: "processes",
    least: 16,
    most: 8_192,
    usual: 512,
};
const OPEN_FILES: Bound = Bound {
    name: "open_files",
    least: 64,
    most: 65_536,
    usual: 4_096,
};
const DISK: Bound = Bound {
    name: "disk_mib",
    least: 64,
    most: 1_048_576,
    usual: 8_192,
};
const FILE: Bound = Bound {
    name: "file_mib",
    least: 1,
    most: 1_048_576,
    usual: 2_048,
};
const LOG_LINES: Bound = Bound {
    name: "log_lines",
    least: 1,
    most: 10_000,
    usual: 1_000,
};
const NETWORK: &str = "network";

/// As they are asked for.
pub(super) const OPTIONS: [TargetOption; 7] = [
    TargetOption {
        name: MEMORY.name,
        says: "Memory of all its processes together, in MiB; 2048 unless said.",
    },
    TargetOption {
        name: PROCESSES.name,
        says: "Processes and threads at once; 512 unless said.",
    },
    TargetOption {
        name: OPEN_FILES.name,
        says: "Open files of each process; 4096 unless said.",
    },
    TargetOption {
        name: DISK.name,
        says: "Installed files and what it keeps, in MiB; 8192 unless said.",
    },
    TargetOption {
        name: FILE.name,
        says: "The longest file that it may write, in MiB; 2048 unless said.",
    },
    TargetOption {
        name: LOG_LINES.name,
        says: "Lines of its output in a second that are kept; 1000 unless said.",
    },
    TargetOption {
        name: NETWORK,
        says: "outgoing or none: whether it may open connections; outgoing unless said.",
    },
];

impl GuestLimits {
    /// What the options say, and what is usual where they say nothing. Errors: all that are wrong, at `options.NAME`.
    pub fn of(options: &BTreeMap<String, String>) -> Result<Self, Vec<Refusal>> {
        let mut wrong = Vec::new();
        let mut number = |bound: Bound| {
            read(options, bound).unwrap_or_else(|refusal| {
                wrong.push(refusal);
                bound.usual
            })
        };
        let mut limits = GuestLimits {
            memory_mib: number(MEMORY),
            processes: number(PROCESSES),
            open_files: number(OPEN_FILES),
            disk_mib: number(DISK),
            file_mib: number(FILE),
            log_lines: number(LOG_LINES),
            network: true,
        };
        match options.get(NETWORK).map(|said| said.trim()) {
            None | Some("" | "outgoing") => {}
            Some("none") => limits.network = false,
            Some(_) => wrong.push(Refusal::invalid(
                "options.network",
                "Say outgoing, or none.",
            )),
        }
        match wrong.is_empty() {
            true => Ok(limits),
            false => Err(wrong),
        }
    }
}

fn read(options: &BTreeMap<String, String>, bound: Bound) -> Result<u32, Refusal> {
    let said = options.get(bound.name).map(|said| said.trim());
    let Some(said) = said.filter(|said| !said.is_empty()) else {
        return Ok(bound.usual);
    };
    said.parse()
        .ok()
        .filter(|number| (bound.least..=bound.most).contains(number))
        .ok_or_else(|| {
            let says = format!("Say a whole number from {} to {}.", bound.least, bound.most);
            Refusal::invalid(&format!("options.{}", bound.name), says)
        })
}

/// What a running server takes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuestUsage {
    pub memory_mib: u32,
    pub processes: u32,
    pub disk_mib: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(said: &[(&str, &str)]) -> BTreeMap<String, String> {
        let said = said
            .iter()
            .map(|(name, text)| ((*name).into(), (*text).into()));
        said.collect()
    }

    #[test]
    fn what_is_not_said_is_usual_and_what_is_wrong_is_all_told() {
        assert_eq!(
            GuestLimits::of(&options(&[])).unwrap(),
            GuestLimits::default()
        );
        let small = options(&[
            ("memory_mib", " 128 "),
            ("network", "none"),
            ("disk_mib", ""),
        ]);
        let small = GuestLimits::of(&small).unwrap();
        assert_eq!((small.memory_mib, small.network), (128, false));
        assert_eq!(small.disk_mib, GuestLimits::default().disk_mib);
        let wrong = options(&[
            ("memory_mib", "1"),
            ("processes", "-1"),
            ("open_files", "1e3"),
            ("network", "lan"),
        ]);
        let fields: Vec<_> = GuestLimits::of(&wrong)
            .unwrap_err()
            .into_iter()
            .filter_map(|refusal| refusal.field)
            .collect();
        assert_eq!(
            fields,
            [
                "options.memory_mib",
                "options.processes",
                "options.open_files",
                "options.network"
            ]
        );
        for bound in [MEMORY, PROCESSES, OPEN_FILES, DISK, FILE, LOG_LINES] {
            let option = OPTIONS.iter().find(|option| option.name == bound.name);
            let usual = format!("; {} unless said", bound.usual);
            assert!(option.unwrap().says.contains(&usual), "{}", bound.name);
        }
    }
}
