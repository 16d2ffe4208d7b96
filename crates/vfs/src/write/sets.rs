//! Attributes that a program sets on a file while it writes it, and that go to the server together with the data.
//!
//! `tar`, `cp -p` and installers write a file and set owner, mode and times through the same descriptor before they close
//! it. Each would be a round trip; here they are joined and travel in the COMPOUND of the last WRITE or COMMIT. The one
//! idea: only what the server is bound to allow is held back ([`may_wait`]), and never longer than data would be; so
//! close, fsync and whoever looks at the file next see the same as if it had been sent at once.

use std::time::{Duration, Instant, SystemTime};

use nfs4_client::Cred;

use crate::attr::{Attr, Timestamp};
use crate::types::{SetAttr, TimeSet};

/// Set-user-id and set-group-id: a change of owner takes them away, so the order of changes matters.
const SET_ID: u32 = 0o6000;

/// Attributes on their way, and for whom they are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) set: SetAttr,
    pub(crate) cred: Cred,
    since: Instant,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    waiting: Option<Waiting>,
    flying: Option<SetAttr>,
    /// They shall go now.
    wanted: bool,
    /// How many were asked for, and up to which all are answered or on their way.
    asked: u64,
    sent: u64,
    answered: u64,
}

impl Sets {
    /// Nothing waits and nothing is on its way.
    pub(crate) const fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.flying.is_none()
    }

    /// Joins a set to those that wait. False: it cannot be, and those that wait must go first.
    pub(crate) fn join(&mut self, set: &SetAttr, cred: &Cred, now: Instant) -> bool {
        match &mut self.waiting {
            Some(waiting) if waiting.cred != *cred => return false,
            Some(waiting) => waiting.set = joined(&waiting.set, set),
            none => *none = Some(Waiting { set: *set, cred: cred.clone(), since: now }),
        }
        self.asked += 1;
        true
    }

    /// The data are changed: a time of the last change that was set before that holds no longer.
    pub(crate) fn data_changed(&mut self) {
        if let Some(flying) = &mut self.flying {
            flying.mtime = None;
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.set.mtime = None;
            if waiting.set.is_empty() {
                self.waiting = None;
                self.settle();
            }
        }
    }

    /// Everything that waits shall go now. The number is for [`Self::is_done`].
    pub(crate) const fn want(&mut self) -> u64 {
        self.wanted = self.waiting.is_some();
        self.asked
    }

    /// What has waited for so long shall go now.
    pub(crate) fn want_older_than(&mut self, age: Duration, now: Instant) {
        self.wanted |= self.waiting.as_ref().is_some_and(|waiting| now.saturating_duration_since(waiting.since) >= age);
    }

    /// Whether something shall go now and nothing is on its way.
    pub(crate) const fn is_due(&self) -> bool {
        self.wanted && self.waiting.is_some() && self.flying.is_none()
    }

    /// Whether everything up to the number was answered.
    pub(crate) const fn is_done(&self, number: u64) -> bool {
        self.answered >= number
    }

    /// Whether what waits changes who may do what with the file.
    pub(crate) fn changes_rights(&self) -> bool {
        let changes = |set: &SetAttr| set.mode.is_some() || set.uid.is_some() || set.gid.is_some();
        self.waiting.as_ref().is_some_and(|waiting| changes(&waiting.set)) || self.flying.as_ref().is_some_and(changes)
    }

    /// Takes what waits, to be sent by `cred`.
    pub(crate) fn take_for(&mut self, cred: &Cred) -> Option<SetAttr> {
        if self.flying.is_some() || self.waiting.as_ref().is_none_or(|waiting| waiting.cred != *cred) {
            return None;
        }
        self.take().map(|waiting| waiting.set)
    }

    /// Takes what waits, to be sent now.
    pub(crate) fn take(&mut self) -> Option<Waiting> {
        if self.flying.is_some() {
            return None;
        }
        let waiting = self.waiting.take()?;
        self.flying = Some(waiting.set);
        (self.wanted, self.sent) = (false, self.asked);
        Some(waiting)
    }

    /// What was taken, and went with data of `cred`, was not sent after all. False: it cannot wait any longer, because
    /// another identity has asked for something meanwhile.
    pub(crate) fn put_back(&mut self, cred: &Cred, now: Instant) -> bool {
        let Some(set) = self.flying.take() else { return true };
        if set.is_empty() {
            // All it was to set was a time, and the data have changed since.
            self.answered = self.sent;
            self.settle();
            return true;
        }
        self.wanted = true;
        match &mut self.waiting {
            Some(waiting) if waiting.cred != *cred => return false,
            Some(waiting) => waiting.set = joined(&set, &waiting.set),
            none => *none = Some(Waiting { set, cred: cred.clone(), since: now }),
        }
        true
    }

    /// What was taken was answered, well or not. `again`: data came after it, so that its time of the last change is lost
    /// and must be set once more.
    pub(crate) fn answered(&mut self, again: Option<&Cred>, now: Instant) {
        let flown = self.flying.take();
        if let (Some(cred), Some(mtime)) = (again, flown.and_then(|set| set.mtime))
            && self.waiting.as_ref().is_none_or(|waiting| waiting.cred == *cred && waiting.set.mtime.is_none())
        {
            let set = SetAttr { mtime: Some(mtime), ..SetAttr::default() };
            match &mut self.waiting {
                Some(waiting) => waiting.set.mtime = set.mtime,
                none => *none = Some(Waiting { set, cred: cred.clone(), since: now }),
            }
            self.wanted = true;
            return;
        }
        self.answered = self.sent;
        self.settle();
    }

    fn settle(&mut self) {
        if self.is_idle() {
            (self.wanted, self.sent, self.answered) = (false, self.asked, self.asked);
        }
    }

    /// The attributes as they will be.
    pub(crate) fn shown(&self, attr: Attr) -> Attr {
        let sets = self.flying.iter().chain(self.waiting.as_ref().map(|waiting| &waiting.set));
        sets.fold(attr, shown)
    }
}

/// Two sets that follow each other, as one.
pub(crate) fn joined(old: &SetAttr, new: &SetAttr) -> SetAttr {
    SetAttr {
        mode: new.mode.or(old.mode),
        uid: new.uid.or(old.uid),
        gid: new.gid.or(old.gid),
        size: None,
        atime: new.atime.or(old.atime),
        mtime: new.mtime.or(old.mtime),
    }
}

/// Attributes after a set.
pub(crate) fn shown(attr: Attr, set: &SetAttr) -> Attr {
    Attr {
        mode: set.mode.unwrap_or(attr.mode),
        uid: set.uid.unwrap_or(attr.uid),
        gid: set.gid.unwrap_or(attr.gid),
        atime: time(set.atime).unwrap_or(attr.atime),
        mtime: time(set.mtime).unwrap_or(attr.mtime),
        ..attr
    }
}

fn time(set: Option<TimeSet>) -> Option<Timestamp> {
    match set? {
        TimeSet::At(at) => Some(at),
        TimeSet::Now => Some(Timestamp::from_system_time(SystemTime::now())),
    }
}

/// Whether the server is bound to allow a change of these attributes, so that a program need not wait for its answer:
/// the file belongs to who asks, and goes to nobody else but by root's hand, on a server that takes root for root.
pub(crate) fn may_wait(set: &SetAttr, attr: &Attr, cred: &Cred) -> bool {
    let owns = cred.uid == attr.uid;
    let is_root = owns && cred.uid == 0;
    let keeps_owner = set.uid.is_none_or(|uid| uid == attr.uid) || is_root;
    let own_group = |gid: u32| gid == attr.gid || gid == cred.gid || cred.groups.contains(&gid);
    let keeps_group = set.gid.is_none_or(own_group) || is_root;
    let plain = (attr.mode | set.mode.unwrap_or(0)) & SET_ID == 0;
    set.size.is_none() && owns && keeps_owner && keeps_group && plain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::attr::FileKind;
    use proptest::prelude::*;

    fn attr(uid: u32, mode: u32) -> Attr {
        Attr {
            ino: 9,
            kind: FileKind::Regular,
            mode,
            nlink: 1,
            uid,
            gid: uid,
            size: 0,
            space_used: 0,
            rdev: (0, 0),
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            change: 1,
        }
    }

    fn at(seconds: i64) -> TimeSet {
        TimeSet::At(Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn only_the_owner_s_own_changes_may_wait() {
        let (owner, root) = (Cred::new(7, 7), Cred::new(0, 0));
        let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        let give_away = SetAttr { uid: Some(8), ..SetAttr::default() };
        let suid = SetAttr { mode: Some(0o4755), ..SetAttr::default() };
        assert!(may_wait(&mode, &attr(7, 0o644), &owner));
        assert!(!may_wait(&mode, &attr(8, 0o644), &owner));
        assert!(!may_wait(&give_away, &attr(7, 0o644), &owner));
        assert!(may_wait(&give_away, &attr(0, 0o644), &root));
        assert!(!may_wait(&give_away, &attr(65534, 0o644), &root), "a squashed root is no root");
        assert!(!may_wait(&suid, &attr(7, 0o644), &owner) && !may_wait(&mode, &attr(7, 0o4755), &owner));
        assert!(!may_wait(&SetAttr { size: Some(0), ..SetAttr::default() }, &attr(7, 0o644), &owner));
    }

    #[test]
    fn sets_that_follow_each_other_are_sent_as_one_and_the_last_one_counts() {
        let (mut sets, now, cred) = (Sets::default(), Instant::now(), Cred::new(7, 7));
        assert!(sets.join(&SetAttr { mtime: Some(at(5)), ..SetAttr::default() }, &cred, now));
        assert!(sets.join(&SetAttr { mode: Some(0o600), mtime: Some(at(6)), ..SetAttr::default() }, &cred, now));
        assert!(!sets.join(&SetAttr { mode: Some(0), ..SetAttr::default() }, &Cred::new(8, 8), now));
        assert_eq!(sets.shown(attr(7, 0o644)).mode, 0o600);
        let taken = sets.take_for(&cred).unwrap();
        assert_eq!((taken.mode, taken.mtime), (Some(0o600), Some(at(6))));
        assert_eq!(sets.shown(attr(7, 0o644)).mtime.seconds, 6, "what is under way is shown, too");
        sets.answered(None, now);
        assert!(sets.is_idle());
    }

    #[test]
    fn a_write_overtakes_the_time_that_was_set_before_it() {
        let (mut sets, now, cred) = (Sets::default(), Instant::now(), Cred::new(7, 7));
        sets.join(&SetAttr { mtime: Some(at(5)), ..SetAttr::default() }, &cred, now);
        let number = sets.want();
        sets.data_changed();
        assert!(sets.is_idle() && sets.is_done(number));
    }

    #[test]
    fn a_time_that_was_overtaken_on_the_wire_is_set_again() {
        let (mut sets, now, cred) = (Sets::default(), Instant::now(), Cred::new(7, 7));
        sets.join(&SetAttr { mtime: Some(at(5)), ..SetAttr::default() }, &cred, now);
        let number = sets.want();
        sets.take().unwrap();
        sets.answered(Some(&cred), now);
        assert!(!sets.is_done(number) && sets.is_due());
        sets.take().unwrap();
        sets.answered(None, now);
        assert!(sets.is_done(number));
    }

    #[test]
    fn a_write_overtakes_a_time_that_is_on_the_wire() {
        let (mut sets, now, cred) = (Sets::default(), Instant::now(), Cred::new(7, 7));
        for again in [true, false] {
            sets.join(&SetAttr { mtime: Some(at(5)), ..SetAttr::default() }, &cred, now);
            let number = sets.want();
            sets.take().unwrap();
            sets.data_changed();
            assert_eq!(sets.shown(attr(7, 0o644)).mtime.seconds, 0);
            if again {
                sets.answered(Some(&cred), now);
            } else {
                assert!(sets.put_back(&cred, now));
            }
            assert!(sets.is_idle() && sets.is_done(number));
        }
    }

    proptest! {
        #[test]
        fn a_flush_ends_when_what_it_asked_for_is_answered_and_not_before(steps in prop::collection::vec(0u8..5, 1..80)) {
            let (mut sets, now, cred) = (Sets::default(), Instant::now(), Cred::new(7, 7));
            let (mut asked, mut flying, mut done) = (0u64, None, 0u64);
            for step in steps {
                match step {
                    0 | 1 => {
                        sets.join(&SetAttr { mode: Some(u32::from(step)), ..SetAttr::default() }, &cred, now);
                        asked += 1;
                    }
                    2 => if sets.take().is_some() {
                        prop_assert!(flying.is_none());
                        flying = Some(asked);
                    },
                    3 => if let Some(number) = flying.take() {
                        sets.answered(None, now);
                        done = number;
                    },
                    _ => {
                        let number = sets.want();
                        prop_assert_eq!(number, asked);
                        prop_assert_eq!(sets.is_done(number), done == asked);
                    }
                }
            }
        }
    }
}
