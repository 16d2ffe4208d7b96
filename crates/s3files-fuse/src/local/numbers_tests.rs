#![allow(clippy::unwrap_used)]
use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

const HOME: Parent = Parent::Home(Key([7; 16]));

#[test]
fn a_directory_that_moves_takes_everything_along() {
    let mut numbers = Numbers::default();
    let dir = numbers.arrive(HOME, b"a", 1);
    let file = numbers.arrive(Parent::Local(dir), b"x", 2);
    numbers.moved((HOME, b"a"), (HOME, b"b"));
    let home = PathBuf::from(Key([7; 16]).name());
    assert_eq!(numbers.path(file).unwrap(), home.join("b/x"));
    assert_eq!(numbers.known(Parent::Local(dir), b"x"), Some(file));
    numbers.home_gone(Key([7; 16]));
    assert!(numbers.is_gone(file) && numbers.is_gone(dir));
    numbers.forget(file, 1);
    numbers.forget(dir, 1);
    assert!(numbers.nodes.is_empty() && numbers.places.is_empty());
}

#[test]
fn a_number_that_the_kernel_holds_is_not_given_to_the_file_that_the_disk_gives_it_to() {
    let mut numbers = Numbers::default();
    let old = numbers.arrive(HOME, b"a", 1);
    numbers.gone(HOME, b"a");
    let new = numbers.arrive(HOME, b"a", 1);
    assert_ne!(old, new);
    assert!(is_local(old) && is_local(new) && numbers.is_gone(old));
    numbers.forget(old, 1);
    numbers.forget(new, 1);
    assert_eq!(numbers.arrive(HOME, b"a", 1), old, "the same as at the next mount");
}

#[test]
fn a_file_that_another_mount_has_replaced_is_another() {
    let mut numbers = Numbers::default();
    let old = numbers.arrive(HOME, b"a", 1);
    let new = numbers.arrive(HOME, b"a", 2);
    assert!(old != new && numbers.is_gone(old) && !numbers.is_gone(new));
}

#[derive(Debug, Clone)]
enum Call {
    Arrive(usize, u8),
    Gone(usize),
    Moved(usize, usize, u8),
    Forget(usize, u64),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (any::<usize>(), 0..3_u8).prop_map(|(which, name)| Call::Arrive(which, name)),
        1 => any::<usize>().prop_map(Call::Gone),
        2 => (any::<usize>(), any::<usize>(), 0..3_u8).prop_map(|(from, to, name)| Call::Moved(from, to, name)),
        2 => (any::<usize>(), 1..3_u64).prop_map(|(which, count)| Call::Forget(which, count)),
    ]
}

/// A tree in memory: directories all, each with its own number on the "disk".
#[derive(Default)]
struct Tree {
    /// Disk number → where it is: the disk number of what it lies in (0: the home), and its name.
    places: BTreeMap<u64, (u64, u8)>,
    next: u64,
}

impl Tree {
    fn path(&self, disk: u64) -> PathBuf {
        if disk == 0 {
            return PathBuf::from(Key([7; 16]).name());
        }
        let (parent, name) = self.places[&disk];
        self.path(parent).join(name.to_string())
    }

    fn at(&self, parent: u64, name: u8) -> Option<u64> {
        self.places.iter().find(|(_, place)| **place == (parent, name)).map(|(disk, _)| *disk)
    }

    fn is_below(&self, mut disk: u64, above: u64) -> bool {
        while disk != above {
            match self.places.get(&disk) {
                Some((parent, _)) => disk = *parent,
                None => return false,
            }
        }
        true
    }

    fn is_empty(&self, disk: u64) -> bool {
        !self.places.values().any(|(parent, _)| *parent == disk)
    }
}

proptest! {
    /// The kernel knows everything that it has not forgotten, as kernels do: what lies in a directory is forgotten first.
    #[test]
    fn every_number_leads_to_its_file_and_no_two_files_share_one(calls in prop::collection::vec(call(), 1..80)) {
        let mut numbers = Numbers::default();
        let mut tree = Tree { next: 1, ..Tree::default() };
        // Disk number → our number and lookups, of those that the kernel knows.
        let mut known: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for call in calls {
            let dirs: Vec<u64> = std::iter::once(0).chain(known.keys().copied().filter(|disk| tree.places.contains_key(disk))).collect();
            let parent = |disk: u64, known: &BTreeMap<u64, (u64, u64)>| if disk == 0 { HOME } else { Parent::Local(known[&disk].0) };
            match call {
                Call::Arrive(which, name) => {
                    let above = dirs[which % dirs.len()];
                    let disk = tree.at(above, name).unwrap_or(tree.next);
                    if disk == tree.next {
                        tree.places.insert(disk, (above, name));
                        tree.next += 1;
                    }
                    let number = numbers.arrive(parent(above, &known), &[b'0' + name], disk);
                    prop_assert!(is_local(number));
                    let entry = known.entry(disk).or_insert((number, 0));
                    prop_assert_eq!(entry.0, number);
                    entry.1 += 1;
                }
                Call::Gone(which) => {
                    let disk = dirs[which % dirs.len()];
                    if disk != 0 && tree.is_empty(disk) {
                        let (above, name) = tree.places[&disk];
                        if above == 0 || known.contains_key(&above) {
                            numbers.gone(parent(above, &known), &[b'0' + name]);
                            tree.places.remove(&disk);
                        }
                    }
                }
                Call::Moved(from, to, name) => {
                    let (disk, to) = (dirs[from % dirs.len()], dirs[to % dirs.len()]);
                    if disk == 0 || tree.is_below(to, disk) {
                        continue;
                    }
                    let target = tree.at(to, name).filter(|target| *target != disk);
                    if target.is_some_and(|target| !tree.is_empty(target)) {
                        continue;
                    }
                    let (above, old) = tree.places[&disk];
                    if above != 0 && !known.contains_key(&above) {
                        continue;
                    }
                    numbers.moved((parent(above, &known), &[b'0' + old]), (parent(to, &known), &[b'0' + name]));
                    if let Some(target) = target {
                        tree.places.remove(&target);
                    }
                    tree.places.insert(disk, (to, name));
                }
                Call::Forget(which, count) => {
                    let Some((disk, (number, lookups))) = known.iter().nth(which % known.len().max(1)).map(|(disk, known)| (*disk, *known)) else { continue };
                    let holds = tree.places.iter().any(|(child, (above, _))| *above == disk && known.contains_key(child));
                    if holds && count >= lookups {
                        continue;
                    }
                    numbers.forget(number, count);
                    if count >= lookups {
                        known.remove(&disk);
                    } else {
                        known.insert(disk, (number, lookups - count));
                    }
                }
            }
            let distinct: HashSet<_> = known.values().map(|(number, _)| *number).collect();
            prop_assert_eq!(distinct.len(), known.len());
            for (disk, (number, _)) in &known {
                let expected = tree.places.contains_key(disk).then(|| tree.path(*disk));
                prop_assert_eq!(numbers.path(*number), expected);
            }
            prop_assert_eq!(numbers.nodes.len(), known.len());
        }
    }
}
