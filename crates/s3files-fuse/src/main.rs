//! The program; everything is in the library, so that the whole-product tests can build it too.

use std::process::ExitCode;

/// Buffers of a megabyte come and go on many threads. glibc's allocator takes them from the kernel page by page each time,
/// or keeps in each thread's arena what another thread could use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    s3files_fuse::main()
}
