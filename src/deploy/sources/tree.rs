//! Reading what a guest wrote, and writing beside it, without ever following a link of its making.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::deploy::sandbox::clear;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};

/// A manifest, in bytes.
pub(super) const MANIFEST_LEN_BYTES: u64 = 1024 * 1024;
/// Directories below each other.
const DEPTH_MAX: usize = 40;

/// A directory whose content is not trusted. Nothing is opened through a symbolic link, nor outside.
pub(super) struct Tree {
    root: OwnedFd,
}

/// A file or directory that a walk came by.
pub(super) struct Entry {
    /// Relative to the tree, with `/`.
    pub path: String,
    pub kind: FileType,
    pub len_bytes: u64,
    pub mode: u32,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TreeError {
    #[error("{0} is not a plain file.")]
    NotPlain(String),
    #[error("{0} is larger than {1} bytes.")]
    TooLarge(String, u64),
    #[error("It has more than {0} files.")]
    TooMany(usize),
    #[error("It has directories more than {DEPTH_MAX} deep.")]
    TooDeep,
    #[error("{0} could not be read: {1}")]
    Io(String, io::Error),
}

impl Tree {
    /// `path` itself is ours and trusted; its last component is not followed when it is a link.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let root = fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| TreeError::Io("The directory".into(), error.into()))?;
        Ok(Tree { root })
    }

    /// A directory below, or none when it is absent or no directory.
    pub fn sub(&self, path: &str) -> Option<Tree> {
        let root = self
            .beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .ok()?;
        Some(Tree { root })
    }

    /// The text of a manifest. None when it is absent; an error when it is a link, no file, or too large.
    pub fn manifest(&self, path: &str) -> Result<Option<String>, TreeError> {
        match self.file(path) {
            Ok(None) => Ok(None),
            Ok(Some((file, len_bytes))) => {
                let too_large = || TreeError::TooLarge(path.to_owned(), MANIFEST_LEN_BYTES);
                if len_bytes > MANIFEST_LEN_BYTES {
                    return Err(too_large());
                }
                let bytes = read_up_to(file, MANIFEST_LEN_BYTES + 1)
                    .map_err(|error| TreeError::Io(path.to_owned(), error))?;
                if bytes.len() as u64 > MANIFEST_LEN_BYTES {
                    return Err(too_large());
                }
                let text = String::from_utf8_lossy(&bytes);
                Ok(Some(text.trim_start_matches('\u{feff}').to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// The first `max` bytes of a file as text, or none for whatever cannot be read that way.
    pub fn excerpt(&self, path: &str, max: u64) -> Option<String> {
        let (file, _) = self.file(path).ok()??;
        let bytes = read_up_to(file, max).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn is_file(&self, path: &str) -> bool {
        matches!(self.file(path), Ok(Some(_)))
    }

    /// Whether a file is there, links inside the tree allowed: for a question, not for reading.
    pub fn leads_to_file(&self, path: &str) -> bool {
        fs::openat2(
            &self.root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )
        .ok()
        .and_then(|fd| fs::fstat(&fd).ok())
        .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// What is below, parents before children, names that are not UTF-8 left out.
    /// `enter` is asked for each directory by its path and name.
    /// Errors: more than `max` entries, or too deep.
    pub fn walk(
        &self,
        max: usize,
        enter: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Vec<Entry>, TreeError> {
        let mut entries = Vec::new();
        let mut waiting = vec![(String::new(), 0_usize)];
        while let Some((directory, depth)) = waiting.pop() {
            let Some(fd) = self.directory(&directory) else {
                continue;
            };
            let broken = |error: rustix::io::Errno| TreeError::Io(directory.clone(), error.into());
            for entry in fs::Dir::read_from(&fd).map_err(broken)? {
                let entry = entry.map_err(broken)?;
                let Ok(name) = entry.file_name().to_str() else {
                    continue;
                };
                if name == "." || name == ".." {
                    continue;
                }
                let Ok(stat) = fs::statat(&fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
                    continue;
                };
                let path = match directory.as_str() {
                    "" => name.to_owned(),
                    _ => format!("{directory}/{name}"),
                };
                let kind = FileType::from_raw_mode(stat.st_mode);
                if kind == FileType::Directory && enter(&path, name) {
                    if depth >= DEPTH_MAX {
                        return Err(TreeError::TooDeep);
                    }
                    waiting.push((path.clone(), depth + 1));
                }
                entries.push(Entry {
                    path,
                    kind,
                    len_bytes: u64::try_from(stat.st_size).unwrap_or(0),
                    mode: stat.st_mode,
                });
                if entries.len() > max {
                    return Err(TreeError::TooMany(max));
                }
            }
        }
        // The file system's order differs from machine to machine.
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// A new directory below existing ones. Being there already is no error.
    pub fn make_directory(&self, path: &str, owner: Option<u32>) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        match fs::mkdirat(&parent, name.as_c_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let made = fs::openat(
                    &parent,
                    name.as_c_str(),
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                give(&made, owner)
            }
            Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A new file. Errors: something is there already, links included.
    pub fn write_new(
        &self,
        path: &str,
        content: &mut dyn Read,
        executable: bool,
        owner: Option<u32>,
    ) -> io::Result<u64> {
        let mode = if executable { 0o755 } else { 0o644 };
        let fd = self.beneath(
            path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
            Mode::from_raw_mode(mode),
        )?;
        give(&fd, owner)?;
        let mut file = File::from(fd);
        let written = io::copy(content, &mut file)?;
        file.flush()?;
        Ok(written)
    }

    /// Removes a file or a whole directory; absence is no error. Links are removed, not followed.
    pub fn remove(home: &Path, name: &str) -> io::Result<()> {
        clear(&home.join(name))
    }

    fn directory(&self, path: &str) -> Option<OwnedFd> {
        match path {
            "" => self
                .beneath(".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                .ok(),
            path => self
                .beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                .ok(),
        }
    }

    /// An open file and its length. None when nothing is there.
    pub fn file(&self, path: &str) -> Result<Option<(File, u64)>, TreeError> {
        // Without NONBLOCK, opening a named pipe would wait for a writer.
        let fd = match self.beneath(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV | rustix::io::Errno::NXIO) => {
                return Err(TreeError::NotPlain(path.to_owned()));
            }
            Err(error) => return Err(TreeError::Io(path.to_owned(), error.into())),
        };
        let stat = fs::fstat(&fd).map_err(|error| TreeError::Io(path.to_owned(), error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(TreeError::NotPlain(path.to_owned()));
        }
        Ok(Some((
            File::from(fd),
            u64::try_from(stat.st_size).unwrap_or(0),
        )))
    }

    fn beneath(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, rustix::io::Errno> {
        fs::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            mode,
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn parent_of(&self, path: &str) -> io::Result<(OwnedFd, CString)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = self.beneath(parent, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok((parent, CString::new(name)?))
    }
}

fn give(fd: &impl AsFd, owner: Option<u32>) -> io::Result<()> {
    if let Some(id) = owner {
        fs::fchown(fd, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?;
    }
    Ok(())
}

fn read_up_to(file: File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_not_followed_and_nothing_outside_is_read() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("home");
        std::fs::create_dir_all(root.join("app")).unwrap();
        std::fs::write(place.path().join("key"), "the master key").unwrap();
        std::fs::write(root.join("app/plain.json"), "{}").unwrap();
        symlink("/etc/shadow", root.join("app/package.json")).unwrap();
        symlink("../../key", root.join("app/relative.json")).unwrap();
        symlink(place.path(), root.join("app/folder")).unwrap();
        let tree = Tree::open(&root).unwrap();

        assert_eq!(tree.manifest("app/plain.json").unwrap().unwrap(), "{}");
        for hostile in [
            "app/package.json",
            "app/relative.json",
            "app/folder/key",
            "../key",
        ] {
            assert!(
                matches!(tree.manifest(hostile), Err(TreeError::NotPlain(_))),
                "{hostile}"
            );
            assert_eq!(tree.excerpt(hostile, 10), None, "{hostile}");
            assert!(!tree.leads_to_file(hostile), "{hostile}");
            assert!(
                tree.write_new(hostile, &mut &b"x"[..], false, None)
                    .is_err(),
                "{hostile}"
            );
        }
        assert!(tree.manifest("app/absent.json").unwrap().is_none());
        assert!(tree.sub("app/folder").is_none());
        assert_eq!(
            std::fs::read(place.path().join("key")).unwrap(),
            b"the master key"
        );
    }

    #[test]
    fn a_pipe_does_not_hold_and_a_large_file_is_refused() {
        let place = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            place.path().join("package.json"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        File::create(place.path().join("huge.json"))
            .unwrap()
            .set_len(MANIFEST_LEN_BYTES + 1)
            .unwrap();
        let tree = Tree::open(place.path()).unwrap();

        assert!(matches!(
            tree.manifest("package.json"),
            Err(TreeError::NotPlain(_))
        ));
        assert!(matches!(
            tree.manifest("huge.json"),
            Err(TreeError::TooLarge(..))
        ));
        assert_eq!(tree.excerpt("huge.json", 8).unwrap().len(), 8);
    }

    #[test]
    fn removing_a_link_leaves_what_it_points_at() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("home")).unwrap();
        std::fs::create_dir_all(place.path().join("other")).unwrap();
        std::fs::write(place.path().join("other/kept"), "x").unwrap();
        symlink(place.path().join("other"), place.path().join("home/app")).unwrap();

        Tree::remove(&place.path().join("home"), "app").unwrap();
        Tree::remove(&place.path().join("home"), "app").unwrap();

        assert!(!place.path().join("home/app").exists());
        assert!(place.path().join("other/kept").exists());
    }

    #[test]
    fn walking_is_bounded() {
        let place = tempfile::tempdir().unwrap();
        for n in 0..20 {
            std::fs::write(place.path().join(format!("{n}")), "x").unwrap();
        }
        let tree = Tree::open(place.path()).unwrap();

        assert_eq!(tree.walk(20, &|_, _| true).unwrap().len(), 20);
        assert!(matches!(
            tree.walk(19, &|_, _| true),
            Err(TreeError::TooMany(19))
        ));
    }
}
