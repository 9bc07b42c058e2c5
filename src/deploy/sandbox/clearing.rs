//! Removing what a guest left, whatever it looks like.
//!
//! `std::fs::remove_dir_all` goes down a tree with a frame of the stack and a descriptor for each level. A guest
//! that nests directories some ten thousand deep would end Sealport by that, or keep what it left for ever.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// Tries to find a free name for a directory that is moved up. A guest can know how they begin, not how they go on.
const NAMES_TRIED: u32 = 64;

/// Removes a directory with all below it, or whatever else stands there. What is not there is no error, and no link is
/// followed. It takes the same small room for every tree: directories are moved up before they are emptied.
/// To be called when the guest is gone.
pub(in crate::deploy) fn clear(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.is_dir() {
        return std::fs::remove_file(path);
    }
    let top = open(CWD, path)?;
    // A directory that was moved up has come to stand behind where the listing is.
    while pass(&top)? {}
    std::fs::remove_dir(path)
}

/// Empties what stands directly below. Returns whether anything did.
fn pass(top: &OwnedFd) -> io::Result<bool> {
    let mut any = false;
    for entry in Dir::read_from(top)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        any = true;
        if is_dir(top, name)? {
            let inner = open(top, name)?;
            raise(top, &inner)?;
            unlinkat(top, name, AtFlags::REMOVEDIR)?;
        } else {
            gone(unlinkat(top, name, AtFlags::empty()))?;
        }
    }
    Ok(any)
}

/// Empties one directory: its directories go up, all else goes.
fn raise(top: &OwnedFd, inner: &OwnedFd) -> io::Result<()> {
    loop {
        let mut any = false;
        for entry in Dir::read_from(inner)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            any = true;
            if is_dir(inner, name)? {
                // Who moves a directory writes in it: its parent's name.
                drop(open(inner, name)?);
                up(top, inner, name)?;
            } else {
                gone(unlinkat(inner, name, AtFlags::empty()))?;
            }
        }
        if !any {
            return Ok(());
        }
    }
}

fn up(top: &OwnedFd, inner: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    for _ in 0..NAMES_TRIED {
        let free = hex::encode(rand::random::<[u8; 16]>());
        match renameat_with(inner, name, top, &*free, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            moved => return Ok(moved?),
        }
    }
    Err(Errno::EXIST.into())
}

/// Opens a directory that may be emptied. Where a guest has our id outside, it can have shut us out of what is ours.
fn open(at: impl AsFd, name: impl rustix::path::Arg + Copy) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if !rustix::process::geteuid().is_root() {
        let found = openat(&at, name, flags | OFlags::PATH, Mode::empty())?;
        let by_number = format!("/proc/self/fd/{}", found.as_raw_fd());
        std::fs::set_permissions(by_number, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(openat(at, name, flags | OFlags::RDONLY, Mode::empty())?)
}

fn is_dir(at: &OwnedFd, name: &std::ffi::CStr) -> io::Result<bool> {
    match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(FileType::from_raw_mode(found.st_mode).is_dir()),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn gone(unlinked: Result<(), Errno>) -> io::Result<()> {
    match unlinked {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_not_followed_and_any_name_goes() {
        let place = tempfile::tempdir().unwrap();
        let kept = place.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("mine"), "mine").unwrap();
        let tree = place.path().join("tree");
        for folder in ["a/b/c", "a/d", "two\nlines", "e"] {
            std::fs::create_dir_all(tree.join(folder)).unwrap();
            std::fs::write(tree.join(folder).join("file\nname"), "x").unwrap();
        }
        let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
        std::fs::create_dir(tree.join::<&std::ffi::OsStr>(odd)).unwrap();
        symlink(&kept, tree.join("a/out")).unwrap();
        symlink(&kept, tree.join("out")).unwrap();
        let closed = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(tree.join("a/b"), closed).unwrap();
        clear(&tree).unwrap();
        assert!(!tree.exists());
        clear(&tree).unwrap();
        symlink(&kept, &tree).unwrap();
        clear(&tree).unwrap();
        assert!(std::fs::symlink_metadata(&tree).is_err());
        assert!(kept.join("mine").is_file());
    }

    #[test]
    fn a_tree_far_deeper_than_a_stack_goes() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let mut deepest = open(CWD, &*tree).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&deepest, "d", Mode::from_raw_mode(0o755)).unwrap();
            deepest = open(&deepest, "d").unwrap();
        }
        // What it would cost otherwise is the process, by far less than this.
        let clearing = std::thread::Builder::new().stack_size(128 << 10);
        let cleared = clearing.spawn({
            let tree = tree.clone();
            move || clear(&tree)
        });
        cleared.unwrap().join().unwrap().unwrap();
        assert!(!tree.exists());
    }
}
