//! A plan of random failures that a client must survive without anybody noticing: cuts at every point of an exchange,
//! replies that get lost or come twice, NFS4ERR_DELAY, short READs and WRITEs, forgotten sessions, restarts with stable
//! storage, and lost data that was never committed.
//!
//! The plan comes from a seed, so a run can be had again. It gets sparser with time: a short run sees many failures, and
//! a long one does not see them all in its first second.

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
    "on = 'SEQUENCE'\ndo = 'drop_reply'",
];

/// Rules on the wire.
const WIRE_RULES: u64 = 120;
/// Rules for the server, each kind several times.
const SERVER_RULES: u64 = 30;

/// The plan of a seed, in the mock's TOML.
pub fn plan(seed: u64) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut text = format!("seed = {seed}\n");
    for index in 0..WIRE_RULES {
        let (on, action) = (random.pick(OPERATIONS), random.pick(WIRE));
        let nth = random.place(index);
        // Writing into a string cannot fail.
        let _ = write!(text, "\n[[fault]]\non = '{on}'\nnth = {nth}\n{action}\n");
    }
    for index in 0..SERVER_RULES {
        let rule = SERVER[index as usize % SERVER.len()];
        let nth = random.place(index * 4);
        let _ = write!(text, "\n[[fault]]\n{rule}\nnth = {nth}\n");
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

    /// The how many-th event the rule of this index waits for: on average the square of the index.
    fn place(&mut self, index: u64) -> u64 {
        1 + index * index / 2 + self.next() % (index * index + 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_plan_and_another_seed_another() {
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        assert_eq!(plan(1).matches("[[fault]]").count() as u64, WIRE_RULES + SERVER_RULES);
    }
}
