//! Where a server keeps what it keeps, and who may go there.
//!
//! Most of it is ours alone. Two parts belong to other users of the machine when Sealport runs as
//! root, because neither PostgreSQL nor a deployed server may run as root: PostgreSQL's data and
//! the guests' homes. Where those users cannot enter (below a home directory of mode 0700, say),
//! these parts lie below `/var/lib/sealport`, and a note in the data directory says where.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The longest path of a Unix socket: `sun_path` is 108 bytes with its end mark (unix(7)).
pub const SOCKET_PATH_MAX_BYTES: usize = 107;

/// Room that a runtime directory leaves for the name of a socket in it, its slash included.
pub const SOCKET_NAME_MAX_BYTES: usize = 40;

/// PostgreSQL's files, once they were all made.
const CLUSTER: &str = "postgres/data";
const NOTE: &str = "where-the-rest-is.txt";
const BACK_REFERENCE: &str = "data-directory.txt";
const SHARED_PLACES: &str = "/var/lib/sealport";

/// An opened data directory.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
    place: PathBuf,
    hash: String,
    uid: u32,
}

/// Why a data directory cannot be used. Each message is for the person who starts the server.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error(
        "the path {} is not plain UTF-8 text; choose another data directory (SEALPORT_DATA)",
        .0.display()
    )]
    UnusableName(PathBuf),
    #[error(
        "{} belongs to the user with id {owner}, and this process runs as {uid}; \
         run Sealport as that user, or give the directory to yours with chown",
        path.display()
    )]
    NotOurs { path: PathBuf, owner: u32, uid: u32 },
    #[error("other users may write in {}; close it with: chmod go-w '{}'", .0.display(), .0.display())]
    OpenToOthers(PathBuf),
    #[error(
        "{} is not a directory of this user's alone (mode 0700); remove it, or set \
         SEALPORT_DATA to a shorter path",
        .0.display()
    )]
    UnsafeRuntimeDir(PathBuf),
    #[error(
        "{} holds PostgreSQL's data, but other users can no longer get there because {} is \
         closed to them; open it with: chmod o+x '{}'",
        root.display(), closed.display(), closed.display()
    )]
    Closed { root: PathBuf, closed: PathBuf },
    #[error(
        "{} says that the rest of this data directory lies at {}, which is not there; bring \
         it back, or remove the note to start with an empty database",
        note.display(), place.display()
    )]
    PlaceGone { note: PathBuf, place: PathBuf },
    #[error("{} does not name a place below {SHARED_PLACES}", .0.display())]
    BadNote(PathBuf),
    #[error(
        "{} is a copy of {}: both name {} as the place of their database; remove {} in the \
         copy to start it with an empty database",
        root.display(), original.display(), place.display(), note.display()
    )]
    Copied {
        root: PathBuf,
        original: PathBuf,
        place: PathBuf,
        note: PathBuf,
    },
    #[error(
        "another Sealport server{} is using {}; stop it first, or give this one a data \
         directory of its own (SEALPORT_DATA)",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        root.display()
    )]
    Locked { root: PathBuf, pid: Option<u32> },
}

impl DataDir {
    /// Opens the data directory at `path` and makes it when it is not there: mode 0700, or 0711
    /// for root, whose PostgreSQL and guests are other users and must pass through.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made, belongs to another user, is writable by others, or when
    /// a note in it leads nowhere.
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let uid = rustix::process::geteuid().as_raw();
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            fs::create_dir_all(parent).map_err(failed("make", parent))?;
        }
        make_dir(path, traversable_mode(uid))?;

        let root = fs::canonicalize(path).map_err(failed("find", path))?;
        if root
            .to_str()
            .is_none_or(|text| text.chars().any(char::is_control))
        {
            return Err(DataDirError::UnusableName(root));
        }
        let metadata = fs::metadata(&root).map_err(failed("look at", &root))?;
        if !metadata.is_dir() {
            return Err(DataDirError::NotADirectory(root));
        }
        // A directory of another user's is refused even to root: that user could put a link where
        // root is about to write.
        if metadata.uid() != uid {
            return Err(DataDirError::NotOurs {
                path: root,
                owner: metadata.uid(),
                uid,
            });
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(DataDirError::OpenToOthers(root));
        }

        let hash = short_hash(&root);
        let place = find_place(&root, &hash, uid)?;
        let data = DataDir {
            root,
            place,
            hash,
            uid,
        };
        make_dir(&data.guests_dir(), traversable_mode(uid))?;
        Ok(data)
    }

    /// Whether there may be a database of ours below `path`, or at the place that a note there names. Makes nothing; what cannot be
    /// looked at is left for [`DataDir::open`] to refuse.
    pub fn may_hold_a_database(path: &Path) -> bool {
        [CLUSTER, NOTE]
            .iter()
            .any(|name| !matches!(path.join(name).try_exists(), Ok(false)))
    }

    /// Whether a database of ours was ever made here.
    pub fn holds_a_database(&self) -> bool {
        !matches!(self.place.join(CLUSTER).try_exists(), Ok(false))
    }

    /// The data directory itself, as an absolute path without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The master key's file. Not made here; whoever makes it gives it mode 0600.
    pub fn key_file(&self) -> PathBuf {
        self.root.join("master.key")
    }

    /// PostgreSQL's own directory, below a path that other users can enter. Made by
    /// [`Embedded`](super::embedded::Embedded), for the user that PostgreSQL runs as.
    pub fn postgres_dir(&self) -> PathBuf {
        self.place.join("postgres")
    }

    /// Where the guests' homes lie, below a path that other users can enter. It exists.
    pub fn guests_dir(&self) -> PathBuf {
        self.place.join("guests")
    }

    /// A directory of mode 0700 for this process's sockets, made when it is not there. Its path
    /// leaves [`SOCKET_NAME_MAX_BYTES`] for a socket's name: below the data directory where that
    /// is short enough, else in `/run`, `$XDG_RUNTIME_DIR` or `/tmp`. Server and commands of one
    /// data directory and environment get the same.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or somebody else made it first.
    pub fn runtime_dir(&self) -> Result<PathBuf, DataDirError> {
        let dir = self.runtime_path();
        make_private_dir(&dir, self.uid)?;
        Ok(dir)
    }

    /// Takes the data directory for one server. The lock ends with the process, however it ends.
    ///
    /// # Errors
    ///
    /// [`DataDirError::Locked`] with the other server's process id when there is one.
    pub fn lock_for_server(&self) -> Result<ServerLock, DataDirError> {
        let path = self.root.join("server.lock");
        let mut file = open_lock_file(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(DataDirError::Locked {
                    root: self.root.clone(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed("write", &path))?;
        Ok(ServerLock {
            _file: file,
            runtime_elsewhere: Some(self.runtime_path()).filter(|dir| !dir.starts_with(&self.root)),
        })
    }

    /// The parts that other users must reach lie below this directory, which is ours.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// The user that this process runs as.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Where PostgreSQL puts its socket. Another user's PostgreSQL cannot enter our runtime
    /// directory, so it gets one of its own, below its data where the path is short enough.
    pub(super) fn socket_path(&self, another_user: bool) -> PathBuf {
        if !another_user {
            return self.runtime_path().join("pg");
        }
        let inside = self.postgres_dir().join("run");
        if inside.as_os_str().len() + SOCKET_NAME_MAX_BYTES <= SOCKET_PATH_MAX_BYTES {
            return inside;
        }
        PathBuf::from(format!("/run/sealport-{}-pg", self.hash))
    }

    fn runtime_path(&self) -> PathBuf {
        let fits =
            |dir: &Path| dir.as_os_str().len() + SOCKET_NAME_MAX_BYTES <= SOCKET_PATH_MAX_BYTES;
        let inside = self.root.join("run");
        if fits(&inside) {
            return inside;
        }
        if self.uid == 0 {
            return PathBuf::from(format!("/run/sealport-{}", self.hash));
        }
        std::env::var_os("XDG_RUNTIME_DIR")
            .map(|dir| PathBuf::from(dir).join(format!("sealport-{}", self.hash)))
            .filter(|dir| dir.is_absolute() && fits(dir))
            .filter(|dir| {
                dir.parent()
                    .is_some_and(|parent| is_private(parent, self.uid))
            })
            .unwrap_or_else(|| PathBuf::from(format!("/tmp/sealport-{}-{}", self.uid, self.hash)))
    }
}

/// Held by the one server of a data directory.
#[derive(Debug)]
pub struct ServerLock {
    _file: File,
    runtime_elsewhere: Option<PathBuf>,
}

impl Drop for ServerLock {
    fn drop(&mut self) {
        // What lies outside the data directory is not left behind.
        if let Some(dir) = &self.runtime_elsewhere {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// The first directory on the way to `path`, itself included, that others cannot pass through.
pub(super) fn closed_to_others(path: &Path) -> Result<Option<PathBuf>, DataDirError> {
    for dir in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
        let metadata = fs::metadata(dir).map_err(failed("look at", dir))?;
        if metadata.is_dir() && metadata.mode() & 0o001 == 0 {
            return Ok(Some(dir.to_owned()));
        }
    }
    Ok(None)
}

/// Makes a directory with exactly this mode, whatever the umask; one that is there stays as it is.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), DataDirError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => set_mode(path, mode),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("make", path)(error)),
    }
}

/// Sets a mode, whatever the umask was.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), DataDirError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set the mode of", path))
}

/// Makes a directory of mode 0700 of `owner`'s, or accepts one that already is exactly that.
pub(super) fn make_private_dir(path: &Path, owner: u32) -> Result<(), DataDirError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => std::os::unix::fs::lchown(path, Some(owner), None)
            .map_err(failed("change the owner of", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if is_private(path, owner) {
                Ok(())
            } else {
                Err(DataDirError::UnsafeRuntimeDir(path.to_owned()))
            }
        }
        Err(error) => Err(failed("make", path)(error)),
    }
}

/// Opens a file of mode 0600 to lock it; what it holds stays.
pub(super) fn open_lock_file(path: &Path) -> Result<File, DataDirError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))
}

pub(super) fn failed(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DataDirError + use<> {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        doing,
        path,
        source,
    }
}

fn traversable_mode(uid: u32) -> u32 {
    if uid == 0 { 0o711 } else { 0o700 }
}

fn is_private(path: &Path, owner: u32) -> bool {
    // Not following links: in /tmp anybody could have made one.
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == owner && metadata.mode() & 0o077 == 0
    })
}

fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    hex::encode(digest).chars().take(16).collect()
}

/// Where the parts lie that other users must reach.
fn find_place(root: &Path, hash: &str, uid: u32) -> Result<PathBuf, DataDirError> {
    let note = root.join(NOTE);
    match fs::read_to_string(&note) {
        Ok(text) => return follow_note(root, &note, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read", &note)(error)),
    }
    if uid != 0 {
        return Ok(root.to_owned());
    }
    let Some(closed) = closed_to_others(root)? else {
        return Ok(root.to_owned());
    };
    if root.join("postgres").exists() {
        return Err(DataDirError::Closed {
            root: root.to_owned(),
            closed,
        });
    }
    let parent = Path::new(SHARED_PLACES);
    make_dir(parent, 0o711)?;
    let place = parent.join(hash);
    make_dir(&place, 0o711)?;
    write_text(
        &place.join(BACK_REFERENCE),
        &format!("{}\n", root.display()),
    )?;
    write_text(
        &note,
        &format!(
            "# Other users of this machine cannot enter this directory, because {} is closed to\n\
             # them. What they must reach (PostgreSQL's data and the homes of deployed servers)\n\
             # therefore lies here, and belongs to any copy or backup of this directory:\n{}\n",
            closed.display(),
            place.display()
        ),
    )?;
    Ok(place)
}

fn follow_note(root: &Path, note: &Path, text: &str) -> Result<PathBuf, DataDirError> {
    let place = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .map(PathBuf::from)
        .filter(|place| {
            place.parent() == Some(Path::new(SHARED_PLACES))
                && place.file_name().is_some_and(|name| name.len() == 16)
        })
        .ok_or_else(|| DataDirError::BadNote(note.to_owned()))?;
    if !place.is_dir() {
        return Err(DataDirError::PlaceGone {
            note: note.to_owned(),
            place,
        });
    }
    // A moved data directory keeps its place; a copied one must not share it.
    let back_reference = place.join(BACK_REFERENCE);
    let original = fs::read_to_string(&back_reference).unwrap_or_default();
    let original = Path::new(original.trim_end_matches('\n'));
    if original != root {
        let still_there = fs::read_to_string(original.join(NOTE)).is_ok_and(|other| other == text);
        if still_there {
            return Err(DataDirError::Copied {
                root: root.to_owned(),
                original: original.to_owned(),
                place,
                note: note.to_owned(),
            });
        }
        write_text(&back_reference, &format!("{}\n", root.display()))?;
    }
    Ok(place)
}

fn write_text(path: &Path, text: &str) -> Result<(), DataDirError> {
    fs::write(path, text).map_err(failed("write", path))
}
