//! What runs inside a guest before the guest does, and beside it in its network.
//!
//! `sealport guest-launch` is the last program of ours in a guest's sandbox: it says that it is
//! there, reads what to run from its standard input, takes on its limits and becomes the guest.
//! So a value is never in an argument, in bubblewrap's environment or on disk.
//! `sealport guest-forward PORT` joins a Unix socket outside to a TCP port inside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

/// The first line on the launcher's standard output: all walls stand, the frame may come.
pub(super) const READY: &[u8] = b"ready\n";

/// The longest frame that the launcher reads, in bytes: far above what an environment may hold.
const FRAME_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How many connections one forwarder serves at once; further ones wait in the socket's backlog.
const FORWARDS_MAX: usize = 256;

/// The longest core: none. Of 0 bytes a kernel that hands cores to a program (`core_pattern` with a `|`) takes no notice,
/// and that program may keep what was in memory, values included. 1 is its word for "to nobody" (core(5), `fs/coredump.c`).
const CORE_BYTES: u64 = 1;

/// Shells report a program that could not be started with this status.
const EXIT_NOT_STARTED: u8 = 127;

/// Runs `guest-launch` and `guest-forward`, which must start before any command line is parsed
/// or any thread exists. `args` is the whole command line, the program's name first.
/// None when it is another command.
pub fn entry(args: &[OsString]) -> Option<ExitCode> {
    match args.get(1)?.to_str()? {
        "guest-launch" => Some(launch()),
        "guest-forward" => Some(forward(args.get(2))),
        _ => None,
    }
}

/// Keeps Sealport's own memory and environment from other processes of the same user: no core
/// dumps, no tracing, and `/proc/PID/environ` belongs to root. To be called first in `main`.
pub fn harden_self() -> std::io::Result<()> {
    setrlimit(Resource::Core, exactly(CORE_BYTES))?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// What the launcher is told to run. Read once from standard input, as JSON behind a length of
/// four bytes, most significant first.
#[derive(Serialize, Deserialize)]
pub(super) struct Frame {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
    pub limits: super::Limits,
    /// What may be read and run, and what may be written too: the second wall.
    pub readable: Vec<PathBuf>,
    pub writable: Vec<PathBuf>,
}

impl Frame {
    /// The bytes to write to the launcher. They hold the values: they zero themselves.
    pub fn to_bytes(&self) -> serde_json::Result<Zeroizing<Vec<u8>>> {
        let strings: usize = self
            .env
            .iter()
            .map(|(name, value)| name.len() + value.len() + 8)
            .chain(self.argv.iter().map(|argument| argument.len() + 8))
            .sum();
        let paths = 4096 * (self.readable.len() + self.writable.len() + 2);
        // Wide enough for every byte escaped, so that growing leaves no copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(strings * 6 + paths));
        bytes.extend_from_slice(&[0; 4]);
        serde_json::to_writer(&mut *bytes, self)?;
        let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        Ok(bytes)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        for value in self.env.values_mut() {
            zeroize::Zeroize::zeroize(value);
        }
    }
}

/// Whether this kernel has Landlock. Making a ruleset restricts nobody.
pub(super) fn landlock_here() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(|ruleset| ruleset.create())
        .is_ok()
}

fn launch() -> ExitCode {
    match prepare() {
        Ok(mut command) => {
            let program = command.get_program().to_string_lossy().into_owned();
            let error = command.exec();
            complain(&format!("{program} could not be started: {error}"))
        }
        Err(reason) => complain(&reason),
    }
}

fn complain(reason: &str) -> ExitCode {
    eprintln!("sealport: {reason}");
    ExitCode::from(EXIT_NOT_STARTED)
}

/// All that happens between `ready` and the guest's first instruction.
fn prepare() -> Result<Command, String> {
    write_exact(READY)?;
    let frame = read_frame()?;
    limit(&frame.limits)?;
    // Under memory pressure the kernel takes the guest, not Sealport or its database.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    super::descriptors::keep_only_standard()
        .map_err(|error| format!("what is open cannot be listed: {error}"))?;
    confine(&frame.readable, &frame.writable)?;
    super::filter::refuse()?;
    let program = frame.argv.first().ok_or("there is no program to run")?;
    std::env::set_current_dir(&frame.cwd)
        .map_err(|error| format!("{} cannot be entered: {error}", frame.cwd.display()))?;
    let mut command = Command::new(resolve(program, frame.env.get("PATH")));
    command
        .arg0(program)
        .args(&frame.argv[1..])
        .env_clear()
        .envs(&frame.env);
    Ok(command)
}

/// A bare name is looked up in the guest's PATH: ours is not set, and exec would take the default.
fn resolve(program: &str, path: Option<&String>) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    path.into_iter()
        .flat_map(|path| path.split(':'))
        .map(|folder| Path::new(folder).join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| program.into())
}

fn write_exact(mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let written = rustix::io::write(rustix::stdio::stdout(), bytes)
            .map_err(|error| format!("standard output is closed: {error}"))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Reads exactly one frame and not a byte of what follows it, which is the guest's.
fn read_frame() -> Result<Frame, String> {
    let mut length = [0; 4];
    read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_MAX_BYTES {
        return Err("the frame is too long".into());
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    read_exact(&mut bytes)?;
    // No cause: a parser's message can quote what it read.
    serde_json::from_slice(&bytes).map_err(|_| "the frame cannot be read".into())
}

fn read_exact(mut bytes: &mut [u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        match rustix::io::read(rustix::stdio::stdin(), &mut *bytes) {
            Ok(0) => return Err("Sealport went away before it said what to run".into()),
            Ok(read) => bytes = &mut bytes[read..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("standard input is closed: {error}")),
        }
    }
    Ok(())
}

fn limit(limits: &super::Limits) -> Result<(), String> {
    for (resource, most) in [
        (Resource::Core, CORE_BYTES),
        // Not RLIMIT_AS: V8 reserves far more addresses than it uses, and its wasm fails under it.
        (Resource::Data, limits.memory_bytes),
        (Resource::Nofile, limits.open_files),
        (Resource::Nproc, limits.processes),
        (Resource::Fsize, limits.file_bytes),
    ] {
        setrlimit(resource, at_most(resource, most))
            .map_err(|error| format!("the limits cannot be set: {error}"))?;
    }
    Ok(())
}

fn exactly(most: u64) -> Rlimit {
    Rlimit {
        current: Some(most),
        maximum: Some(most),
    }
}

/// An unprivileged process cannot raise what the host already holds lower.
fn at_most(resource: Resource, most: u64) -> Rlimit {
    let ceiling = rustix::process::getrlimit(resource).maximum;
    exactly(ceiling.map_or(most, |ceiling| ceiling.min(most)))
}

/// The second wall, as far as this kernel has it: files by path, and no signals or abstract
/// sockets to anything outside.
fn confine(readable: &[PathBuf], writable: &[PathBuf]) -> Result<(), String> {
    let abi = ABI::V6;
    let build = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(readable, AccessFs::from_read(abi)))?
            .add_rules(path_beneath_rules(writable, AccessFs::from_all(abi)))?
            .restrict_self()
    };
    build()
        .map(|_| ())
        .map_err(|error: landlock::RulesetError| format!("Landlock refused: {error}"))
}

/// Standard output is a listening Unix socket; standard input only tells when Sealport is gone.
fn forward(port: Option<&OsString>) -> ExitCode {
    let Some(port) = port.and_then(|port| port.to_str()?.parse::<u16>().ok()) else {
        return complain("guest-forward takes a port");
    };
    // It opens no file: it has two ends and copies between them.
    let sealed = confine(&[], &[]);
    match sealed.and_then(|()| serve(port)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => complain(&reason),
    }
}

fn serve(port: u16) -> Result<(), String> {
    let listener = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| format!("there is no socket to listen on: {error}"))?;
    let listener = std::os::unix::net::UnixListener::from(listener);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        tokio::select! {
            outcome = accept(listener, port) => outcome,
            _ = parent_gone() => Ok(()),
        }
    });
    // A read of standard input cannot be cancelled; do not wait for it.
    runtime.shutdown_background();
    outcome.map_err(|error| error.to_string())
}

async fn parent_gone() {
    let mut nothing = [0; 64];
    let mut stdin = tokio::io::stdin();
    while matches!(stdin.read(&mut nothing).await, Ok(1..)) {}
}

async fn accept(listener: tokio::net::UnixListener, port: u16) -> std::io::Result<()> {
    let places = Arc::new(tokio::sync::Semaphore::new(FORWARDS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return Ok(());
        };
        let (mut outside, _) = listener.accept().await?;
        tokio::spawn(async move {
            let _place = place;
            // A server that listens on `localhost` may have got only the second. When nothing
            // listens, the caller sees its connection end.
            let addresses = [
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ];
            if let Ok(mut inside) = tokio::net::TcpStream::connect(&addresses[..]).await {
                let _ = inside.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            }
        });
    }
}
