//! The program; everything is in the library, so that the whole-product tests can build it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    s3files_fuse::main()
}
