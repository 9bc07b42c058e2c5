//! The one place with unsafe code: what Sealport itself was started with, such as a supervisor's
//! sockets or a build tool's pipes, must not pass through to a guest.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Marks everything but standard input, output and error to be closed by the next exec.
pub(super) fn keep_only_standard() -> io::Result<()> {
    let open = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number: &RawFd| *number > 2)
        .collect::<Vec<RawFd>>();
    for number in open {
        // SAFETY: the number was just read from the kernel's list and is borrowed for two calls;
        // the launcher has one thread, so nothing closes it meanwhile. The listing's own number
        // is closed by now, and the calls then answer EBADF.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if let Ok(flags) = fcntl_getfd(descriptor) {
            fcntl_setfd(descriptor, flags | FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}
