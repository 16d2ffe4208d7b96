//! The three things that the standard library and the crates have no safe words for, and nothing else.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Lets the descriptor `target` stand for what `with` stands for. Its owner keeps it, and does not notice.
pub fn replace(target: BorrowedFd<'_>, with: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the number is open for as long as it is borrowed, and this second owner never closes it.
    let mut second = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(target.as_raw_fd()) });
    nix::unistd::dup2(with, &mut second)?;
    // dup2 takes the mark off, and a program that we start must not keep the device open.
    fcntl(target, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// `struct fuse_args` of libfuse 2.
#[repr(C)]
struct FuseArgs {
    argc: c_int,
    argv: *mut *mut c_char,
    allocated: c_int,
}

type FuseMount = unsafe extern "C" fn(*const c_char, *mut FuseArgs) -> *mut c_void;
type FuseChanFd = unsafe extern "C" fn(*mut c_void) -> c_int;
type FuseMountCompat25 = unsafe extern "C" fn(*const c_char, *mut FuseArgs) -> c_int;

/// Which of its functions mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// `fuse_mount`, and `fuse_chan_fd` of what it returns.
    Mount,
    /// `fuse_mount_compat25`.
    Compat25,
}

/// Has the libfuse 2 in the file `library` mount `folder`. The outer error is the library's that cannot be used; `None`
/// means that it refused. The descriptor belongs to the library as well, which stays loaded for ever.
pub fn libfuse_mount(
    library: &Path,
    entry: Entry,
    folder: &CStr,
    arguments: Vec<CString>,
) -> Result<Option<OwnedFd>, libloading::Error> {
    let count = arguments.len();
    let mut owned: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    owned.push(std::ptr::null_mut());
    let given = owned.clone();
    let mut args = FuseArgs { argc: c_int::try_from(count).unwrap_or(0), argv: owned.as_mut_ptr(), allocated: 0 };
    // SAFETY: it is macFUSE's own library, whose initialisers every FUSE program on a Mac runs. The types are those of
    // libfuse 2's fuse_common.h and fuse_lowlevel.h. The arguments end with a null pointer, and `allocated: 0` tells the
    // library that they are not its own: it copies the list before it changes it.
    let descriptor = unsafe {
        let library = ManuallyDrop::new(libloading::Library::new(library)?);
        match entry {
            Entry::Mount => {
                let mount = library.get::<FuseMount>(b"fuse_mount\0")?;
                let descriptor = library.get::<FuseChanFd>(b"fuse_chan_fd\0")?;
                let channel = mount(folder.as_ptr(), &raw mut args);
                if channel.is_null() { -1 } else { descriptor(channel) }
            }
            Entry::Compat25 => {
                let mount = library.get::<FuseMountCompat25>(b"fuse_mount_compat25\0")?;
                mount(folder.as_ptr(), &raw mut args)
            }
        }
    };
    for argument in given.into_iter().filter(|argument| !argument.is_null()) {
        // SAFETY: each came from `CString::into_raw` above and is taken back once.
        drop(unsafe { CString::from_raw(argument) });
    }
    if descriptor < 0 {
        return Ok(None);
    }
    // SAFETY: the library has just opened it and keeps it open.
    let device = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(device.try_clone_to_owned().ok())
}
