//! What RFC 8881, RFC 7862, RFC 8276 and the S3 Files user guide say of a server, said to the mock by hand-built
//! compounds. Each test names the section it comes from. The server's invariants are checked after every call.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attributes;
mod clients;
mod data;
mod delegations;
mod directories;
mod driver;
mod honest;
mod names;
mod profile;
mod random;
mod referee;
mod restarts;
mod rights;
mod sessions;
mod state;
mod whole_life;
mod xattrs;
