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
                let held = tokio::task::spawn_blocking(move || held_bytes(first, most));
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

/// The memory that a process and all below it hold and share with no file of a disk.
fn held_bytes(first: u32, most: u64) -> u64 {
    let family = family(first);
    let read = |pid: &u32, name: &str| {
        fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
    };
    let quick = |pid: &u32| bytes(&read(pid, "status"), ["RssAnon:", "RssShmem:"]).unwrap_or(0);
    let held = family.iter().map(quick).sum();
    if held <= most {
        return held;
    }
    // What several of them share was counted for each. The exact sum costs more, so it comes second.
    let exact = |pid: &u32| bytes(&read(pid, "smaps_rollup"), ["Pss_Anon:", "Pss_Shmem:"]);
    family
        .iter()
        .map(|pid| exact(pid).unwrap_or_else(|| quick(pid)))
        .sum()
}

/// A process and all below it.
fn family(first: u32) -> Vec<u32> {
    let mut left = VecDeque::from([first]);
    let mut found = Vec::new();
    while let Some(pid) = left.pop_front() {
        found.push(pid);
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
    found
}

/// The sum of these lines, which the kernel gives in kB. None when one of them is not there.
fn bytes(table: &str, names: [&str; 2]) -> Option<u64> {
    let kilobytes = |name: &str| {
        let line = table.lines().find_map(|line| line.strip_prefix(name))?;
        let number = line.trim().strip_suffix("kB")?;
        number.trim().parse::<u64>().ok()
    };
    Some((kilobytes(names[0])? + kilobytes(names[1])?) * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_a_family_shares_is_counted_and_once_when_it_matters() {
        let script = "import mmap, os, sys\n\
                      all = mmap.mmap(-1, 64 << 20)\n\
                      def touch():\n  for at in range(0, len(all), 4096): all[at] = 1\n  \
                      print('touched', flush=True)\n  sys.stdin.read()\n  os._exit(0)\n\
                      for _ in range(3):\n  if os.fork() == 0: touch()\n\
                      touch()";
        let mut family = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("install python3 to run this test");
        let said = BufReader::new(family.stdout.take().unwrap()).lines();
        assert_eq!(said.take(4).filter(Result::is_ok).count(), 4);
        let mib = |most: u64| held_bytes(family.id(), most << 20) >> 20;
        let (quick, exact) = (mib(4096), mib(128));
        assert!(quick > 4 * 64, "shared memory is counted: {quick} MiB");
        assert!((64..128).contains(&exact), "and once: {exact} MiB");
        drop(family.stdin.take());
        family.wait().unwrap();
    }
}
