//! How other commands talk to the process that serves a mount: a socket for each mounted folder, mode 0600, in a
//! directory that belongs to the user alone.
//!
//! One line of JSON asks, one line answers; both name the version of this protocol, so that programs of two releases tell
//! each other what is wrong instead of guessing. A lock is a longer conversation: it lasts until the asker hangs up.

mod client;
mod place;
mod server;

pub use client::{Conversation, all, ask, ask_now, begin, is_served, listens};
pub use place::{file, fnv};
pub use server::{Asked, Control, Desk, Talk};

use serde::{Deserialize, Serialize};

use crate::status::Status;

/// Version of the questions and answers.
pub const VERSION: u32 = 1;

/// Longest line on the socket, in bytes.
const LONGEST_LINE: u64 = 1 << 20;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Unmount, write everything back, end.
    Unmount,
    /// How the mount is.
    Status,
    /// A lock of the server on a whole file, until the asker hangs up.
    Lock(LockAsk),
}

/// Which lock is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockAsk {
    /// The file's inode number in the mounted folder.
    pub ino: u64,
    /// Others may have shared locks as well.
    pub shared: bool,
    /// How long to wait for it, in milliseconds; `None`: until it is free.
    pub wait: Option<u64>,
    /// The asker's supplementary groups; the socket itself tells uid and gid.
    pub groups: Vec<u32>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is unmounted and the session has ended.
    Unmounted {
        /// Files that could not be written, each with the reason.
        unwritten: Vec<String>,
    },
    /// Programs use the folder; nothing has changed.
    Busy {
        /// The programs.
        holders: Vec<String>,
    },
    /// How the mount is.
    Status(Box<Status>),
    /// The asker has the lock now.
    Locked,
    /// Somebody else has it.
    Taken {
        /// The process, if it is of this mount.
        pid: Option<u32>,
    },
    /// It is given back.
    Unlocked {
        /// Nobody else can have had it meanwhile.
        kept: bool,
    },
    /// It could not be done; nothing has changed.
    Failed {
        /// Why.
        why: String,
    },
}

/// A line on the socket.
#[derive(Debug, Serialize, Deserialize)]
struct Line<T> {
    version: u32,
    #[serde(flatten)]
    says: T,
}

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    answer: Answer,
}

/// The version alone: what a line of another release has in any case.
#[derive(Debug, Deserialize)]
struct Version {
    version: u32,
}

fn line<T: Serialize>(says: T) -> std::io::Result<String> {
    let mut line = serde_json::to_string(&Line { version: VERSION, says })?;
    line.push('\n');
    Ok(line)
}

/// What a line asks, or a sentence about what is wrong with it.
fn question(line: &str) -> Result<Ask, String> {
    match serde_json::from_str::<Version>(line) {
        Ok(Version { version: VERSION }) => {}
        Ok(Version { version }) => {
            return Err(format!(
                "the mount is served by version {} of s3files-fuse, which speaks version {VERSION} of the control \
                 protocol, and was asked in version {version}; use the program that made the mount, or mount anew",
                env!("CARGO_PKG_VERSION")
            ));
        }
        Err(error) => return Err(format!("the question is not understood: {error}")),
    }
    let question = serde_json::from_str::<Line<Question>>(line);
    question.map(|line| line.says.ask).map_err(|error| format!("the question is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_question_of_another_release_is_refused_by_its_version() {
        assert_eq!(question(&line(Question { ask: Ask::Status }).unwrap()).unwrap(), Ask::Status);
        let newer = question("{\"version\":2,\"ask\":{\"dance\":{}}}\n").unwrap_err();
        assert!(newer.contains("version 2") && newer.contains("mount anew"), "{newer}");
        for bad in ["", "x", "{}", "{\"version\":1}", "{\"version\":1,\"ask\":\"dance\"}", "[]", "{\"version\":-1}"] {
            assert!(question(bad).unwrap_err().contains("not understood"), "{bad}");
        }
    }

    #[test]
    fn the_words_on_the_socket_do_not_change() {
        assert_eq!(line(Question { ask: Ask::Unmount }).unwrap(), "{\"version\":1,\"ask\":\"unmount\"}\n");
        let lock = LockAsk { ino: 7, shared: false, wait: Some(0), groups: vec![4] };
        let asked = line(Question { ask: Ask::Lock(lock.clone()) }).unwrap();
        assert_eq!(
            asked,
            "{\"version\":1,\"ask\":{\"lock\":{\"ino\":7,\"shared\":false,\"wait\":0,\"groups\":[4]}}}\n"
        );
        assert_eq!(question(&asked).unwrap(), Ask::Lock(lock));
        let answer = line(Reply { answer: Answer::Taken { pid: None } }).unwrap();
        assert_eq!(answer, "{\"version\":1,\"answer\":{\"taken\":{\"pid\":null}}}\n");
    }
}
