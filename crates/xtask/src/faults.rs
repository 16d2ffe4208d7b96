//! `cargo xtask faults`: the mock under random plans of failures, for as many seeds as somebody has time for.
//!
//! Two tests of the mock play seeds: random plans against a client that does not give up, and random compounds against the
//! server alone. `cargo test` runs the first few hundred of each; this runs any number, or one that failed, again.

use clap::Args;

use crate::{cargo, succeed};

/// Play random plans of failures against the mock.
#[derive(Debug, Args)]
pub struct FaultsArgs {
    /// How many seeds are played, from 0 on.
    #[arg(long, default_value_t = 5000)]
    seeds: u64,
    /// Play this plan of failures alone.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Build with optimisation.
    #[arg(long)]
    release: bool,
}

impl FaultsArgs {
    /// Carries it out.
    pub fn run(self) -> anyhow::Result<()> {
        let mut tests = cargo();
        tests.args(["test", "--workspace", "--test", "random_faults"]);
        if let Some(seed) = self.seed {
            tests.env("FAULT_SEED", seed.to_string());
        } else {
            tests.args(["--test", "nfs_server"]);
            tests.env("FAULT_SEEDS", self.seeds.to_string()).env("NFS_SEEDS", self.seeds.to_string());
        }
        if self.release {
            tests.arg("--release");
        }
        succeed(tests.args(["--", "--nocapture", "no_random"]))
    }
}
