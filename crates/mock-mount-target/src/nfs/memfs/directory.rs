//! Entries of a directory, with READDIR cookies that stay good when entries come and go.
//!
//! A cookie is a serial number (never used twice) and sixteen bits derived from it, so that a cookie that the
//! server never gave out is told from one whose entry is gone (RFC 8881 §18.23.3).

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::FileId;

/// Names of a directory.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    by_name: HashMap<Bytes, u64>,
    by_cookie: BTreeMap<u64, Entry>,
    last_serial: u64,
}

/// A name and the file that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Bytes,
    /// The file.
    pub file: FileId,
}

fn cookie_of(serial: u64) -> u64 {
    let mixed = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    // Cookies 0, 1 and 2 mean something else to clients (RFC 8881 §18.23.3); a serial of at least 1 stays above.
    serial << 16 | mixed
}

impl Directory {
    /// The file of a name.
    pub fn get(&self, name: &[u8]) -> Option<FileId> {
        let cookie = self.by_name.get(name)?;
        self.by_cookie.get(cookie).map(|entry| entry.file)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Adds a name. An entry of that name must not be there.
    pub fn insert(&mut self, name: Bytes, file: FileId) {
        self.last_serial += 1;
        let cookie = cookie_of(self.last_serial);
        self.by_name.insert(name.clone(), cookie);
        self.by_cookie.insert(cookie, Entry { name, file });
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &[u8]) -> Option<FileId> {
        let cookie = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie).map(|entry| entry.file)
    }

    /// Entries behind `cookie` in the order of their cookies; 0 is the start.
    pub fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let first = cookie.saturating_add(1);
        self.by_cookie.range(first..).map(|(cookie, entry)| (*cookie, entry))
    }

    /// Whether this directory ever gave out `cookie` (0 counts).
    pub fn gave_out(&self, cookie: u64) -> bool {
        let serial = cookie >> 16;
        cookie == 0 || (1..=self.last_serial).contains(&serial) && cookie_of(serial) == cookie
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_cookie.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn name(n: u32) -> Bytes {
        format!("n{n}").into()
    }

    proptest! {
        #[test]
        fn paging_shows_every_entry_that_stays_once_whatever_is_removed_meanwhile(
            count in 1u32..120, page in 1usize..20, removals in proptest::collection::vec(any::<u32>(), 0..60),
        ) {
            let mut dir = Directory::default();
            for n in 0..count { dir.insert(name(n), FileId(u64::from(n))); }
            let mut removals = removals.into_iter().map(|r| r % count);
            let (mut seen, mut gone, mut cookie) = (Vec::new(), BTreeSet::new(), 0);
            loop {
                let entries: Vec<_> = dir.after(cookie).take(page).map(|(c, e)| (c, e.clone())).collect();
                let Some((last, _)) = entries.last() else { break };
                cookie = *last;
                prop_assert!(dir.gave_out(cookie));
                seen.extend(entries.into_iter().map(|(_, e)| e.name));
                for r in removals.by_ref().take(5) {
                    if dir.remove(&name(r)).is_some() { gone.insert(name(r)); }
                }
                prop_assert!(dir.gave_out(cookie));
            }
            let once: BTreeSet<_> = seen.iter().cloned().collect();
            prop_assert_eq!(once.len(), seen.len());
            for n in 0..count {
                prop_assert!(once.contains(&name(n)) || gone.contains(&name(n)));
            }
        }
    }

    #[test]
    fn a_cookie_that_was_never_given_out_is_known() {
        let mut dir = Directory::default();
        dir.insert(name(0), FileId(7));
        let (cookie, _) =
            dir.after(0).next().map_or((0, Entry { name: name(9), file: FileId(0) }), |(c, e)| (c, e.clone()));
        assert!(cookie > 2 && dir.gave_out(cookie));
        for made_up in [1, 2, 3, cookie + 1, cookie - 1, cookie + (1 << 16), u64::MAX] {
            assert!(!dir.gave_out(made_up), "{made_up}");
        }
    }

    #[test]
    fn a_name_put_back_gets_a_new_cookie() {
        let mut dir = Directory::default();
        dir.insert(name(0), FileId(7));
        let before: Vec<u64> = dir.after(0).map(|(c, _)| c).collect();
        dir.remove(&name(0));
        dir.insert(name(0), FileId(7));
        assert_eq!(dir.after(before[0]).count(), 1);
    }
}
