//! `demo [FOLDER]`

use clap::Args;

use crate::failure::Failure;

/// Mount a server that lives in this process and walk through it.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {}

impl DemoArgs {
    /// Carries it out.
    pub async fn run(self) -> Result<(), Failure> {
        Err(Failure::Other("later".into()))
    }
}
