#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TRUST: Duration = Duration::from_secs(30);

fn present(serial: u64) -> Dentry {
    Dentry::Present { id: NodeId { ino: serial + 100, serial }, kind: FileKind::Regular }
}

fn info(before: u64, after: u64) -> ChangeInfo {
    ChangeInfo { atomic: true, before, after }
}

fn name(text: &str) -> Name {
    text.as_bytes().into()
}

#[test]
fn a_name_is_stored_as_what_it_stands_for() {
    let id = NodeId { ino: u64::MAX, serial: (1 << 60) - 1 };
    let present = Stored::KINDS.map(|kind| Dentry::Present { id, kind });
    for dentry in present.into_iter().chain([Dentry::Unknown, Dentry::Missing]) {
        assert_eq!(Stored::from(dentry).dentry(), dentry);
    }
}

#[test]
fn names_of_another_state_of_the_directory_are_not_believed() {
    let now = Instant::now();
    let mut names = Names::default();
    names.observe(1);
    names.learn(1, b"a", present(7));
    assert_eq!(names.get(b"a", Some(1), now), Some(present(7)));
    assert_eq!(names.get(b"a", Some(2), now), None);
    assert_eq!(names.get(b"a", None, now), None);
    names.observe(2);
    assert_eq!(names.get(b"a", Some(2), now), None);
    names.learn(1, b"late", present(8));
    assert_eq!(names.get(b"late", Some(2), now), None);
}

#[test]
fn a_complete_listing_says_what_does_not_exist() {
    let now = Instant::now();
    let mut names = Names::default();
    names.observe(1);
    assert_eq!(names.get(b"b", Some(1), now), None);
    names.install(1, [(name("a"), present(7))]);
    assert_eq!(names.get(b"b", Some(1), now), Some(Dentry::Missing));
    assert_eq!(names.all(Some(1), now).unwrap(), vec![(name("a"), present(7))]);
}

#[test]
fn our_own_change_keeps_the_other_names() {
    let now = Instant::now();
    let mut names = Names::default();
    names.observe(1);
    names.install(1, [(name("a"), present(7))]);
    names.begin();
    names.end(info(1, 2), vec![Edit(name("b"), present(8))], now, TRUST);
    assert_eq!(names.all(Some(2), now).unwrap().len(), 2);
    names.begin();
    names.end(info(2, 3), vec![Edit(name("a"), Dentry::Missing)], now, TRUST);
    assert_eq!(names.get(b"a", Some(3), now), Some(Dentry::Missing));
}

#[test]
fn a_foreign_change_before_ours_drops_the_names() {
    let now = Instant::now();
    let mut names = Names::default();
    names.observe(1);
    names.install(1, [(name("a"), present(7))]);
    names.begin();
    names.end(info(2, 3), vec![Edit(name("b"), present(8))], now, TRUST);
    assert_eq!(names.get(b"a", Some(3), now), None);
    assert!(names.all(Some(3), now).is_none());
}

#[test]
fn replies_that_overtake_each_other_keep_the_names() {
    let now = Instant::now();
    let mut names = Names::default();
    names.observe(1);
    names.install(1, [(name("a"), present(7))]);
    names.begin();
    names.begin();
    names.end(info(2, 3), vec![Edit(name("c"), present(9))], now, TRUST);
    assert_eq!(names.get(b"a", Some(3), now), None, "not before the first reply is in");
    names.observe(3);
    names.end(info(1, 2), vec![Edit(name("b"), present(8))], now, TRUST);
    assert_eq!(names.all(Some(3), now).unwrap().len(), 3);
}

#[test]
fn names_are_believed_for_a_limited_time_after_a_change_that_was_not_atomic() {
    let now = Instant::now();
    let mut names = Names::default();
    names.observe(1);
    names.install(1, [(name("a"), present(7))]);
    names.begin();
    names.end(ChangeInfo { atomic: false, before: 1, after: 2 }, vec![Edit(name("b"), present(8))], now, TRUST);
    assert_eq!(names.get(b"a", Some(2), now), Some(present(7)));
    assert_eq!(names.get(b"a", Some(2), now + TRUST), None);
}

#[test]
fn what_a_change_that_was_not_atomic_says_is_believed_for_a_limited_time_though_nothing_was_known() {
    let now = Instant::now();
    let mut names = Names::default();
    names.begin();
    names.end(ChangeInfo { atomic: false, before: 1, after: 2 }, vec![Edit(name("a"), Dentry::Missing)], now, TRUST);
    assert_eq!(names.get(b"a", Some(2), now), Some(Dentry::Missing));
    assert_eq!(names.get(b"a", Some(2), now + TRUST), None);
}

#[test]
fn names_are_believed_for_a_limited_time_after_a_change_of_the_attributes() {
    let now = Instant::now();
    let later = now + TRUST / 2;
    let mut names = Names::default();
    names.observe(1);
    names.install(1, [(name("a"), present(7))]);
    names.carry(1, 2, now, TRUST);
    names.observe(2);
    assert_eq!(names.all(Some(2), later).unwrap().len(), 1);
    names.carry(2, 3, later, TRUST);
    names.observe(3);
    assert_eq!(names.get(b"b", Some(3), later), Some(Dentry::Missing));
    assert_eq!(names.get(b"b", Some(3), now + TRUST), None, "another client may have made it before the first change");
    assert!(names.all(Some(3), now + TRUST).is_none());
}

#[test]
fn attributes_that_are_set_without_moving_the_directory_leave_no_gap() {
    let now = Instant::now();
    let mut names = Names::default();
    names.observe(1);
    names.install(1, [(name("a"), present(7))]);
    names.carry(1, 1, now, TRUST);
    assert_eq!(names.all(Some(1), now + TRUST).unwrap().len(), 1);
}

#[derive(Debug, Clone)]
enum Event {
    Own(u8, bool),
    Foreign(u8, bool),
    Reply(usize),
    Ask(u8),
    Answer(usize),
    List,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0u8..5, any::<bool>()).prop_map(|(name, exists)| Event::Own(name, exists)),
        (0u8..5, any::<bool>()).prop_map(|(name, exists)| Event::Foreign(name, exists)),
        (0usize..3).prop_map(Event::Reply),
        (0u8..5).prop_map(Event::Ask),
        (0usize..3).prop_map(Event::Answer),
        Just(Event::List),
    ]
}

enum Flying {
    Change(ChangeInfo, u8, bool),
    Nothing,
    Answer { change: u64, name: u8, exists: bool },
    Listing { change: u64, names: BTreeSet<u8> },
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn what_is_believed_is_what_the_directory_was_at_that_change(events in prop::collection::vec(event(), 1..60)) {
        let now = Instant::now();
        let mut names = Names::default();
        let mut history: Vec<BTreeSet<u8>> = vec![BTreeSet::new()];
        let mut flying: Vec<Flying> = Vec::new();
        // As AttrCache does: the newest value that a reply has brought.
        let mut latest = 0u64;
        names.observe(0);
        for event in events {
            let change = history.len() as u64 - 1;
            let current = history.last().unwrap().clone();
            match event {
                Event::Own(name, exists) | Event::Foreign(name, exists) => {
                    let own = matches!(event, Event::Own(..));
                    if own {
                        names.begin();
                    }
                    let mut next = current.clone();
                    let changed = if exists { next.insert(name) } else { next.remove(&name) };
                    if changed {
                        history.push(next);
                    }
                    if own {
                        flying.push(if changed { Flying::Change(info(change, change + 1), name, exists) } else { Flying::Nothing });
                    }
                }
                Event::Ask(name) => flying.push(Flying::Answer { change, name, exists: current.contains(&name) }),
                Event::List => flying.push(Flying::Listing { change, names: current }),
                Event::Reply(which) | Event::Answer(which) => {
                    if which >= flying.len() {
                        continue;
                    }
                    let dentry = |exists| if exists { present(1) } else { Dentry::Missing };
                    match flying.remove(which) {
                        Flying::Change(info, name, exists) => {
                            latest = latest.max(info.after);
                            names.end(info, vec![Edit(Name::from(&[name][..]), dentry(exists))], now, TRUST);
                        }
                        Flying::Nothing => names.end_failed(),
                        Flying::Answer { change, name, exists } => {
                            if change >= latest {
                                latest = change;
                                names.observe(change);
                            }
                            names.learn(change, &[name], dentry(exists));
                        }
                        Flying::Listing { change, names: listed } => {
                            if change >= latest {
                                latest = change;
                                names.observe(change);
                            }
                            names.install(change, listed.into_iter().map(|name| (Name::from(&[name][..]), present(1))));
                        }
                    }
                }
            }
            for name in 0..5u8 {
                if let Some(dentry) = names.get(&[name], Some(latest), now) {
                    let truth = history[latest as usize].contains(&name);
                    prop_assert_eq!(dentry != Dentry::Missing, truth, "name {} at {}", name, latest);
                }
            }
        }
    }
}
