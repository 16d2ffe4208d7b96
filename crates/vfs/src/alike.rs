//! Rights in files that are alike.
//!
//! A server without access control lists judges by type, mode, owner and group: what it has said about one file it would
//! say about every other of which these are the same. So whoever asks for their rights in thousands of files of a
//! directory, as Finder does, costs one round trip and not thousands. This answers `access` only; what is really done with a
//! file the server judges each time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nfs4_client::{Access, Cred};

use crate::attr::FileKind;

/// Answers that are kept.
const MOST: usize = 64;

/// What the server judges by: type, mode, owner and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) kind: FileKind,
    pub(crate) of: (u32, u32, u32),
}

/// The latest answers.
#[derive(Debug, Default)]
pub(crate) struct Alike(VecDeque<(Cred, Judged, Access, Instant)>);

impl Alike {
    /// What was said less than `limit` ago about a file like this one.
    pub(crate) fn find(&self, cred: &Cred, judged: Judged, now: Instant, limit: Duration) -> Option<Access> {
        let holds = |at: &Instant| now.saturating_duration_since(*at) < limit;
        let found = self.0.iter().find(|(whose, of, _, at)| *of == judged && whose == cred && holds(at));
        found.map(|(.., granted, _)| *granted)
    }

    /// The server said this at some time after `asked_at`.
    pub(crate) fn learn(&mut self, cred: &Cred, judged: Judged, granted: Access, asked_at: Instant) {
        self.0.retain(|(whose, of, ..)| *of != judged || whose != cred);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((cred.clone(), judged, granted, asked_at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32) -> Judged {
        Judged { kind: FileKind::Regular, of: (mode, 1, 1) }
    }

    #[test]
    fn an_answer_is_for_the_same_caller_and_the_same_mode_only_and_has_an_end() {
        let (me, now, limit) = (Cred::new(1, 1), Instant::now(), Duration::from_secs(60));
        let mut alike = Alike::default();
        alike.learn(&me, file(0o644), Access::READ, now);
        assert_eq!(alike.find(&me, file(0o644), now, limit), Some(Access::READ));
        assert_eq!(alike.find(&me, file(0o600), now, limit), None);
        assert_eq!(alike.find(&Cred::new(2, 1), file(0o644), now, limit), None);
        let directory = Judged { kind: FileKind::Directory, ..file(0o644) };
        assert_eq!(alike.find(&me, directory, now, limit), None);
        assert_eq!(alike.find(&me, file(0o644), now + limit, limit), None);
    }

    #[test]
    fn no_more_answers_are_kept_than_there_is_room_for() {
        let (me, now) = (Cred::new(1, 1), Instant::now());
        let mut alike = Alike::default();
        for mode in 0..1000 {
            alike.learn(&me, file(mode), Access::READ, now);
            alike.learn(&me, file(mode), Access::ALL, now);
        }
        assert_eq!(alike.0.len(), MOST);
        assert_eq!(alike.find(&me, file(999), now, Duration::from_secs(1)), Some(Access::ALL));
    }
}
