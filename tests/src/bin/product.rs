//! The product's command line, for the tests of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    s3files_fuse::main()
}
