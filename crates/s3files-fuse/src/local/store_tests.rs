#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn store(directory: &Path, limit: u64) -> XattrStore {
    XattrStore::new(directory.to_owned(), Arc::new(Room::new(limit, room::weight(directory))))
}

#[derive(Debug, Clone)]
enum Call {
    Set(u8, String, Vec<u8>, u8),
    Remove(u8, String),
    Drop(u8),
    Again,
}

fn call() -> impl Strategy<Value = Call> {
    let value = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        5 => (0..3_u8, "[ab]{1,2}", value, 0..3_u8).prop_map(|(file, name, value, how)| Call::Set(file, name, value, how)),
        2 => (0..3_u8, "[ab]{1,2}").prop_map(|(file, name)| Call::Remove(file, name)),
        1 => (0..3_u8).prop_map(Call::Drop),
        1 => Just(Call::Again),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against maps in memory; `Again` is a new mount, which knows only what is on the disk.
    #[test]
    fn the_store_holds_what_maps_would_hold(calls in prop::collection::vec(call(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = store(directory.path(), 1 << 20);
        let mut model: BTreeMap<u8, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        for call in calls {
            match call {
                Call::Set(file, name, value, how) => {
                    let how = [XattrSet::Either, XattrSet::Create, XattrSet::Replace][usize::from(how)];
                    let all = model.entry(file).or_default();
                    let is_there = all.contains_key(&name);
                    let outcome = store.set(Key::of_number(file), name.as_bytes(), &value, how, 0);
                    let may = match how {
                        XattrSet::Either => true,
                        XattrSet::Create => !is_there,
                        XattrSet::Replace => is_there,
                    };
                    prop_assert_eq!(outcome.is_ok(), may);
                    if may {
                        all.insert(name, value);
                    }
                }
                Call::Remove(file, name) => {
                    let removed = model.entry(file).or_default().remove(&name).is_some();
                    prop_assert_eq!(store.remove(Key::of_number(file), name.as_bytes()).is_ok(), removed);
                }
                Call::Drop(file) => {
                    model.remove(&file);
                    store.drop_all(Key::of_number(file)).unwrap();
                }
                Call::Again => store = self::store(directory.path(), 1 << 20),
            }
            for file in 0..3 {
                let all = model.get(&file).cloned().unwrap_or_default();
                let names: Vec<_> = all.keys().map(|name| Bytes::from(name.clone())).collect();
                prop_assert_eq!(store.names(Key::of_number(file)).unwrap(), names);
                for (name, value) in all {
                    prop_assert_eq!(store.get(Key::of_number(file), name.as_bytes()).unwrap(), value);
                }
            }
            prop_assert_eq!(store.room.used(), room::weight(directory.path()), "what is counted is what is there");
        }
    }
}

#[test]
fn a_full_store_refuses_and_keeps_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), 4096);
    let key = Key::of_number(1);
    store.set(key, b"a", b"small", XattrSet::Either, 0).unwrap();
    let refused = store.set(key, b"b", &[0; 4096], XattrSet::Either, 0).unwrap_err();
    assert_eq!(refused.errno(), Errno::NoSpc);
    assert_eq!(store.names(key).unwrap(), ["a"]);
    store.remove(key, b"a").unwrap();
    assert_eq!((store.room.used(), std::fs::read_dir(directory.path()).unwrap().count()), (0, 0));
}

#[test]
fn a_damaged_file_is_one_without_attributes_and_can_be_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let key = Key::of_number(1);
    std::fs::write(directory.path().join(key.name()), b"nonsense").unwrap();
    let store = store(directory.path(), 1 << 20);
    assert_eq!(store.names(key).unwrap(), Vec::<Bytes>::new());
    store.set(key, b"a", b"1", XattrSet::Create, 0).unwrap();
    assert_eq!(store.get(key, b"a").unwrap(), "1");
    assert_eq!(store.room.used(), room::weight(directory.path()));
}

#[test]
fn what_a_killed_process_was_writing_goes_with_the_next_mount() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path(), 1 << 20).set(Key::of_number(1), b"a", b"1", XattrSet::Create, 0).unwrap();
    std::fs::write(directory.path().join(".new-abcdef"), b"half").unwrap();
    remove_leftovers(directory.path()).unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, [Key::of_number(1).name().as_str()]);
}
