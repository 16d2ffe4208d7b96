//! What RFC 8881, RFC 7862, RFC 8276 and the S3 Files user guide say of a server, said to the mock by hand-built
//! compounds. Each test names the section it comes from. The server's invariants are checked after every call.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod delegations;
mod driver;
mod files;
mod honest;
mod profile;
mod random;
mod referee;
mod sessions;
mod state;
mod whole_life;
