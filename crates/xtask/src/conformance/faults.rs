//! A plan of random failures that a client must survive without anybody noticing: cuts at every point of an exchange,
//! replies that get lost or come twice, NFS4ERR_DELAY, short READs and WRITEs, forgotten sessions, restarts with stable
//! storage, and lost data that was never committed.
//!
//! The plan comes from a seed, so a run can be had again. Its failures lie as far apart as the run is long.

use std::fmt::Write as _;

const OPERATIONS: &[&str] = &["any", "WRITE", "READ", "COMMIT", "OPEN", "CLOSE", "SETATTR", "GETATTR"];
/// What happens to any operation.
const WIRE: &[&str] = &[
    "do = 'cut_before_request'",
    "do = 'cut_before_reply'",
    "do = 'cut_inside_reply'",
    "do = 'cut_after_reply'",
    "do = 'duplicate_reply'",
    "do = 'duplicate_request'",
    "do = 'delay'\nms = 30",
    "do = 'status'\nstatus = 'NFS4ERR_DELAY'",
];
/// What happens to the whole server, rarely.
const SERVER: &[&str] = &[
    "on = 'WRITE'\ndo = 'restart'",
    "on = 'COMMIT'\ndo = 'restart'\ncarried_out = true",
    "on = 'OPEN'\ndo = 'restart'\ncarried_out = true",
    "on = 'SEQUENCE'\ndo = 'drop_sessions'",
    "on = 'READ'\ndo = 'drop_sessions'",
    "on = 'WRITE'\ndo = 'new_write_verifier'",
    "on = 'COMMIT'\ndo = 'new_write_verifier'",
    "on = 'WRITE'\ndo = 'short'\nbytes = 1000",
    "on = 'READ'\ndo = 'short'\nbytes = 1000",
];

/// Every so many rules one is for the whole server.
const SERVER_EVERY: u64 = 5;
/// When a reply gets lost. The client waits for a minute before it takes a connection for dead, so these are few, and a
/// short run does not come so far.
const LOST_REPLIES: [u64; 2] = [30_000, 90_000];

/// How many failures there are, and how many events lie between two of them on average.
#[derive(Debug, Clone, Copy)]
pub struct Density {
    /// How many failures.
    pub rules: u64,
    /// How far apart.
    pub spacing: u64,
}

impl Density {
    /// For some thousand requests.
    pub const SHORT: Self = Self { rules: 150, spacing: 20 };
    /// For some hundred thousand.
    pub const LONG: Self = Self { rules: 1500, spacing: 150 };
}

/// The plan of a seed, in the mock's TOML.
pub fn plan(seed: u64, density: Density) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut text = format!("seed = {seed}\n");
    for index in 0..density.rules {
        let rule = if index % SERVER_EVERY == 0 {
            random.pick(SERVER).to_owned()
        } else {
            format!("on = '{}'\n{}", random.pick(OPERATIONS), random.pick(WIRE))
        };
        let nth = 1 + index * density.spacing + random.next() % (2 * density.spacing);
        // Writing into a string cannot fail.
        let _ = write!(text, "\n[[fault]]\n{rule}\nnth = {nth}\n");
    }
    for nth in LOST_REPLIES {
        let _ = write!(text, "\n[[fault]]\non = 'any'\ndo = 'drop_reply'\nnth = {nth}\n");
    }
    text
}

/// xorshift64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[(self.next() % from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_plan_and_another_seed_another() {
        let plan = |seed| plan(seed, Density::SHORT);
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        assert_eq!(plan(1).matches("[[fault]]").count(), 152);
    }
}
