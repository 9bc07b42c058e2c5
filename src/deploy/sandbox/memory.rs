//! What a guest as a whole takes of the host: memory, processes, and the disk.
//!
//! The kernel's limits are for each process and each file, and a guest can have many. Control groups
//! and quotas would sum them up where a host lets us make some; looking now and then works on every host.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::GuestSpec;
use super::guest::Members;

/// Between two looks. What a guest can take meanwhile, the kernel takes from it before others:
/// the launcher marks it as the first to be killed when memory runs out.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks at what lies on the disk, which costs more.
const DISK_PERIOD: Duration = Duration::from_secs(20);
/// Looks at the disk that go on at once on this machine.
static WALKS: Semaphore = Semaphore::const_new(2);
/// Files that are looked at, and folders within each other; who has more has too much.
const FILES_MAX: u32 = 500_000;
const DEPTH_MAX: usize = 128;

/// TMPFS_MAGIC of <linux/magic.h>; what memfd_create makes is of one, too.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;
/// Descriptors of a guest that are looked at for files without a name.
const DESCRIPTORS_MAX: usize = 20_000;

/// What a guest takes, as it was last looked at.
#[derive(Debug, Default)]
pub struct Taken {
    memory_bytes: AtomicU64,
    processes: AtomicU32,
    disk_bytes: AtomicU64,
}

impl Taken {
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub fn processes(&self) -> u32 {
        self.processes.load(Ordering::Relaxed)
    }

    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }
}

/// Of what a guest took more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMuch {
    Memory,
    Disk,
}

/// Looks after what one guest takes until dropped.
#[derive(Debug)]
pub(super) struct Watch {
    tasks: [JoinHandle<()>; 2],
    stop: Arc<AtomicBool>,
    exceeded: Arc<OnceLock<TooMuch>>,
    taken: Arc<Taken>,
}

impl Watch {
    /// Kills the guest when its processes together hold more memory, or its folders more of the disk, than it may.
    pub fn start(members: Arc<Members>, spec: &GuestSpec) -> Self {
        let exceeded = Arc::new(OnceLock::new());
        let taken = Arc::new(Taken::default());
        let stop = Arc::new(AtomicBool::new(false));
        let memory = watch_memory(
            Arc::clone(&members),
            spec.limits.memory_bytes,
            Arc::clone(&taken),
            Arc::clone(&exceeded),
        );
        let disk = watch_disk(
            members,
            (written(spec), spec.limits.disk_bytes),
            Arc::clone(&taken),
            Arc::clone(&exceeded),
            Arc::clone(&stop),
        );
        Watch {
            tasks: [tokio::spawn(memory), tokio::spawn(disk)],
            stop,
            exceeded,
            taken,
        }
    }

    pub fn exceeded(&self) -> Option<TooMuch> {
        self.exceeded.get().copied()
    }

    pub fn taken(&self) -> Arc<Taken> {
        Arc::clone(&self.taken)
    }
}

async fn watch_memory(
    members: Arc<Members>,
    most: u64,
    taken: Arc<Taken>,
    exceeded: Arc<OnceLock<TooMuch>>,
) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let first = members.first();
        let look =
            tokio::task::spawn_blocking(move || (held_bytes(first, most), family(first).len()));
        let Ok((memory, processes)) = look.await else {
            continue;
        };
        taken.memory_bytes.store(memory, Ordering::Relaxed);
        let processes = u32::try_from(processes).unwrap_or(u32::MAX);
        taken.processes.store(processes, Ordering::Relaxed);
        if memory > most {
            let _ = exceeded.set(TooMuch::Memory);
            members.kill();
            return;
        }
    }
}

async fn watch_disk(
    members: Arc<Members>,
    (folders, most): (Vec<PathBuf>, u64),
    taken: Arc<Taken>,
    exceeded: Arc<OnceLock<TooMuch>>,
    stop: Arc<AtomicBool>,
) {
    loop {
        tokio::time::sleep(DISK_PERIOD).await;
        let Ok(_turn) = WALKS.acquire().await else {
            return;
        };
        let (folders, stop) = (folders.clone(), Arc::clone(&stop));
        let first = members.first();
        let look = tokio::task::spawn_blocking(move || {
            let named = kept_bytes(&folders, &stop)?;
            Some(named.saturating_add(nameless(&family(first), &folders).on_disk))
        });
        let Ok(Some(kept)) = look.await else {
            continue;
        };
        taken.disk_bytes.store(kept, Ordering::Relaxed);
        if kept > most {
            let _ = exceeded.set(TooMuch::Disk);
            members.kill();
            return;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Where a guest writes what stays.
fn written(spec: &GuestSpec) -> Vec<PathBuf> {
    let home = (!spec.home_is_shared).then(|| spec.home.clone());
    home.into_iter().chain(spec.data.clone()).collect()
}

/// What lies below these folders, as the disk has it; None when it was to stop. Links are not followed. Directories are held open, not named:
/// a guest makes names as long as it likes. What is too deep, or cannot be looked at, is too much.
pub(in crate::deploy) fn kept_bytes(folders: &[PathBuf], stop: &AtomicBool) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
    use rustix::io::Errno;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (mut bytes, mut files) = (0, 0);
    for folder in folders {
        let first = match openat(CWD, folder, flags, Mode::empty()) {
            Ok(first) => first,
            Err(Errno::NOENT) => continue,
            Err(_) => return Some(u64::MAX),
        };
        let Ok(first) = Dir::new(first) else {
            return Some(u64::MAX);
        };
        let mut open = vec![first];
        loop {
            let depth = open.len();
            let Some(dir) = open.last_mut() else {
                break;
            };
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let Some(entry) = dir.read() else {
                open.pop();
                continue;
            };
            let Ok(entry) = entry else {
                return Some(u64::MAX);
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            files += 1;
            let found = dir
                .fd()
                .and_then(|fd| Ok((fd, statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?)));
            let (fd, found) = match found {
                Ok(found) => found,
                // It went meanwhile.
                Err(Errno::NOENT) => continue,
                Err(_) => return Some(u64::MAX),
            };
            // In blocks of 512 bytes, so that a file with holes counts for what it takes.
            bytes += u64::try_from(found.st_blocks).unwrap_or(0) * 512;
            if !FileType::from_raw_mode(found.st_mode).is_dir() {
                continue;
            }
            if files > FILES_MAX || depth >= DEPTH_MAX {
                return Some(u64::MAX);
            }
            match openat(fd, name, flags, Mode::empty()).and_then(Dir::new) {
                Ok(below) => open.push(below),
                Err(Errno::NOENT) => {}
                Err(_) => return Some(u64::MAX),
            }
        }
    }
    Some(match files > FILES_MAX {
        true => u64::MAX,
        false => bytes,
    })
}

/// The memory that a process and all below it hold and share with no file of a disk.
fn held_bytes(first: u32, most: u64) -> u64 {
    let family = family(first);
    let read = |pid: &u32, name: &str| {
        fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
    };
    let quick = |pid: &u32| bytes(&read(pid, "status"), ["RssAnon:", "RssShmem:"]).unwrap_or(0);
    // What is mapped of these is counted below too; so only the greater of the two counts.
    let nameless = nameless(&family, &[]).in_memory;
    let held = family.iter().map(quick).sum::<u64>().max(nameless);
    if held <= most || nameless > most {
        return held;
    }
    // What several of them share was counted for each. The exact sum costs more, so it comes second.
    let exact = |pid: &u32| bytes(&read(pid, "smaps_rollup"), ["Pss_Anon:", "Pss_Shmem:"]);
    family
        .iter()
        .map(|pid| exact(pid).unwrap_or_else(|| quick(pid)))
        .sum()
}

/// What these processes hold open and no folder names any more: deleted files, and files that never had a name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Nameless {
    /// On the disks of the folders that were given.
    on_disk: u64,
    /// In memory: of a tmpfs, or without any file system.
    in_memory: u64,
}

fn nameless(family: &[u32], folders: &[PathBuf]) -> Nameless {
    use rustix::fs::{FileType, stat, statfs};
    let disks: Vec<_> = folders
        .iter()
        .filter_map(|folder| Some(stat(folder).ok()?.st_dev))
        .collect();
    let mut seen = HashSet::new();
    let mut sum = Nameless::default();
    let descriptors = family.iter().flat_map(|pid| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd"));
        entries.into_iter().flatten().flatten()
    });
    for descriptor in descriptors.take(DESCRIPTORS_MAX) {
        // Of the file itself: the link is followed, and where it leads does not matter.
        let Ok(file) = stat(descriptor.path()) else {
            continue;
        };
        let is_file = FileType::from_raw_mode(file.st_mode).is_file();
        if !is_file || file.st_nlink > 0 || !seen.insert((file.st_dev, file.st_ino)) {
            continue;
        }
        let bytes = u64::try_from(file.st_blocks).unwrap_or(0) * 512;
        let in_memory = || statfs(descriptor.path()).is_ok_and(|fs| fs.f_type == TMPFS);
        if disks.contains(&file.st_dev) {
            sum.on_disk += bytes;
        } else if in_memory() {
            sum.in_memory += bytes;
        }
    }
    sum
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
    fn what_lies_below_a_folder_is_counted_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let below = place.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("file"), vec![1; 3 << 20]).unwrap();
        std::os::unix::fs::symlink("/usr", below.join("out")).unwrap();
        let holes = fs::File::create(below.join("holes")).unwrap();
        holes.set_len(1 << 30).unwrap();
        let go_on = AtomicBool::new(false);
        let kept = || kept_bytes(&[place.path().to_owned()], &go_on);
        let mib = kept().unwrap() >> 20;
        assert!((3..5).contains(&mib), "{mib} MiB");
        // What is made so that nobody can look at it is too much.
        let deep = place.path().join("x/".repeat(DEPTH_MAX + 1));
        fs::create_dir_all(deep).unwrap();
        assert_eq!(kept(), Some(u64::MAX));
        assert_eq!(
            kept_bytes(&[place.path().to_owned()], &AtomicBool::new(true)),
            None
        );
    }

    #[test]
    fn files_without_a_name_are_counted_where_they_are() {
        let place = tempfile::tempdir().unwrap();
        let script = "import os, sys\n\
                      memory = os.memfd_create('hidden')\n\
                      file = open(sys.argv[1] + '/gone', 'wb', buffering=0)\n\
                      os.remove(file.name)\n\
                      another = os.dup(file.fileno())\n\
                      for _ in range(5): file.write(b'x' * (1 << 20)); os.write(memory, b'y' * (2 << 20))\n\
                      print('written', flush=True)\n\
                      sys.stdin.read()";
        let mut guest = Command::new("python3")
            .args(["-c", script])
            .arg(place.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("install python3 to run this test");
        let mut said = BufReader::new(guest.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "written");
        let found = nameless(&family(guest.id()), &[place.path().to_owned()]);
        assert_eq!((found.on_disk >> 20, found.in_memory >> 20), (5, 10));
        // The memory is somebody's though it is mapped nowhere.
        assert!(held_bytes(guest.id(), 8 << 20) >> 20 >= 10);
        drop(guest.stdin.take());
        guest.wait().unwrap();
    }

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
