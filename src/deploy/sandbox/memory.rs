//! What a guest as a whole takes of the host's memory.
//!
//! The kernel's limit is for each process, and a guest can have many. Control groups would sum
//! them up where a host lets us make some; looking now and then works on every host.

use std::collections::VecDeque;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::guest::Members;

/// Between two looks. What a guest can take meanwhile, the kernel takes from it before others:
/// the launcher marks it as the first to be killed when memory runs out.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks after one guest's memory until dropped.
#[derive(Debug)]
pub(super) struct Watch {
    task: JoinHandle<()>,
    exceeded: Arc<AtomicBool>,
}

impl Watch {
    /// Kills the guest when its processes hold more than `most` bytes of their own together.
    pub fn start(members: Arc<Members>, most: u64) -> Self {
        let exceeded = Arc::new(AtomicBool::new(false));
        let told = exceeded.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                let first = members.first();
                let held = tokio::task::spawn_blocking(move || held_bytes(first));
                if held.await.unwrap_or_default() > most {
                    told.store(true, Ordering::Relaxed);
                    members.kill();
                    return;
                }
            }
        });
        Watch { task, exceeded }
    }

    pub fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The memory that a process and all below it hold and share with no file.
fn held_bytes(first: u32) -> u64 {
    let mut left = VecDeque::from([first]);
    let mut held = 0;
    while let Some(pid) = left.pop_front() {
        held += own_bytes(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default());
        // A child belongs to the thread that started it.
        let threads = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten();
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            left.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    held
}

fn own_bytes(status: &str) -> u64 {
    let kilobytes = |line: &str| {
        let number = line.strip_prefix("RssAnon:")?.trim().strip_suffix("kB")?;
        number.trim().parse::<u64>().ok()
    };
    status.lines().find_map(kilobytes).unwrap_or_default() * 1024
}
