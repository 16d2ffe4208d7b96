//! Sessions as plain structs (RFC 8881 §2.10): no runtime, no clock.

mod backoff;
mod growth;
mod lease;
mod slots;

pub use backoff::Backoff;
pub use growth::Growth;
pub use lease::{Lease, LeaseStep};
pub use slots::{SlotTable, SlotUse};
