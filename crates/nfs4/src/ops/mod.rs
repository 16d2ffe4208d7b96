//! Arguments and results of every operation, by theme. Names are the RFC's; a result type here is the body that
//! follows `NFS4_OK` unless its doc says otherwise.

pub mod dir;
pub mod extended;
pub mod file;
pub mod layout;
pub mod lock;
pub mod open;
pub mod session;
pub mod v42;
