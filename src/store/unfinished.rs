//! A file on its way: under another name until it is whole, so that none of its own name is ever half there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Removed, unless it is kept.
pub struct Unfinished {
    path: PathBuf,
    last: PathBuf,
}

impl Unfinished {
    /// Begins a file of mode 0600. Errors: `AlreadyExists` where there is one of its name; or none can be made there.
    pub fn begin(last: &Path) -> io::Result<(Self, File)> {
        if fs::symlink_metadata(last).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut path = last.as_os_str().to_owned();
        path.push(format!(".{}.unfinished", uuid::Uuid::now_v7().simple()));
        let path = PathBuf::from(path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let last = last.to_owned();
        Ok((Unfinished { path, last }, file))
    }

    /// Where it lies meanwhile.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, when all of it is on the disk. Errors: another took the name meanwhile.
    pub fn keep(self) -> io::Result<()> {
        let renamed = renameat_with(CWD, &self.path, CWD, &self.last, RenameFlags::NOREPLACE);
        match renamed.map_err(io::Error::from) {
            // Not every file system knows how not to replace; whether it is there was asked before.
            Err(error)
                if error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
                    || error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) =>
            {
                fs::rename(&self.path, &self.last)
            }
            renamed => renamed,
        }?;
        let folder = self
            .last
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already when it was kept.
        let _ = fs::remove_file(&self.path);
    }
}
