//! Inode numbers of local files, and where each of them is.
//!
//! The one idea: a file is known by the directory it is in and its name there, and a directory by its number, or by the
//! key of the server's directory in which it lies. So a directory that moves takes everything along, and no path is
//! stored anywhere. Numbers lie above all those of `vfs` ([`vfs::FOREIGN_INO`]). They are those of the disk where they are
//! free, so that they are the same at the next mount, and invented ones where the kernel still holds the number of a file
//! that is gone.

use std::collections::HashMap;
use std::path::PathBuf;

use super::{Key, escape};

/// Numbers from here on are invented.
const INVENTED: u64 = vfs::FOREIGN_INO + (1 << 61);

/// What a local file lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parent {
    /// A directory of the server.
    Home(Key),
    /// A local directory.
    Local(u64),
}

/// A name in it.
pub type Place = (Parent, Box<[u8]>);

/// Whether a number is that of a local file.
pub const fn is_local(ino: u64) -> bool {
    ino >= vfs::FOREIGN_INO
}

#[derive(Debug)]
struct Node {
    /// `None`: its name is gone.
    place: Option<Place>,
    /// Its number on the disk.
    disk: u64,
    /// The kernel's.
    lookups: u64,
    /// Entries of the table that lie in it.
    children: u64,
}

/// The table of those that the kernel knows.
#[derive(Debug)]
pub struct Numbers {
    nodes: HashMap<u64, Node>,
    places: HashMap<Place, u64>,
    next_invented: u64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { nodes: HashMap::new(), places: HashMap::new(), next_invented: INVENTED }
    }
}

/// The number that a file of the disk has where it is free.
const fn usual(disk: u64) -> u64 {
    vfs::FOREIGN_INO | (disk & ((1 << 61) - 1))
}

impl Numbers {
    /// The path of a directory below the directory of all homes; `None`: it is gone.
    pub fn directory(&self, parent: Parent) -> Option<PathBuf> {
        match parent {
            Parent::Home(key) => Some(PathBuf::from(key.name())),
            Parent::Local(number) => self.path(number),
        }
    }

    /// The path of a file, in the same way.
    pub fn path(&self, number: u64) -> Option<PathBuf> {
        let (parent, name) = self.nodes.get(&number)?.place.as_ref()?;
        Some(self.directory(*parent)?.join(escape::on_disk(name)))
    }

    /// The number of a place, if the kernel knows it.
    pub fn known(&self, parent: Parent, name: &[u8]) -> Option<u64> {
        self.places.get(&(parent, Box::from(name))).copied()
    }

    /// The number that a listing shows for a place where the disk has this file.
    pub fn peek(&self, parent: Parent, name: &[u8], disk: u64) -> u64 {
        self.known(parent, name).unwrap_or_else(|| usual(disk))
    }

    /// The kernel is told of the file at a place; that counts as a lookup.
    pub fn arrive(&mut self, parent: Parent, name: &[u8], disk: u64) -> u64 {
        if let Some(number) = self.known(parent, name) {
            if let Some(node) = self.nodes.get_mut(&number).filter(|node| node.disk == disk) {
                node.lookups += 1;
                return number;
            }
            // Another mount has put another file there.
            self.gone(parent, name);
        }
        let mut number = usual(disk);
        if self.nodes.contains_key(&number) {
            number = self.next_invented;
            self.next_invented += 1;
        }
        self.put(number, Node { place: None, disk, lookups: 1, children: 0 }, (parent, Box::from(name)));
        number
    }

    fn put(&mut self, number: u64, mut node: Node, place: Place) {
        if let Parent::Local(above) = place.0
            && let Some(above) = self.nodes.get_mut(&above)
        {
            above.children += 1;
        }
        self.places.insert(place.clone(), number);
        node.place = Some(place);
        self.nodes.insert(number, node);
    }

    /// The kernel gives lookups back.
    pub fn forget(&mut self, number: u64, count: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.drop_if_left(number);
    }

    /// Lets go of an entry that nobody knows, and of those above for which that was the last reason.
    fn drop_if_left(&mut self, mut number: u64) {
        while self.nodes.get(&number).is_some_and(|node| node.lookups == 0 && node.children == 0) {
            let place = self.nodes.remove(&number).and_then(|node| node.place);
            let Some(place) = place else { return };
            self.places.remove(&place);
            match self.leave(place.0) {
                Some(above) => number = above,
                None => return,
            }
        }
    }

    /// One entry less lies in a directory.
    fn leave(&mut self, parent: Parent) -> Option<u64> {
        let Parent::Local(above) = parent else { return None };
        let node = self.nodes.get_mut(&above)?;
        node.children = node.children.saturating_sub(1);
        Some(above)
    }

    /// The name is gone; whoever knows the file keeps its number.
    pub fn gone(&mut self, parent: Parent, name: &[u8]) {
        let Some(number) = self.places.remove(&(parent, Box::from(name))) else { return };
        if let Some(node) = self.nodes.get_mut(&number) {
            node.place = None;
        }
        if let Some(above) = self.leave(parent) {
            self.drop_if_left(above);
        }
        self.drop_if_left(number);
    }

    /// A file got another place; what was there is gone.
    pub fn moved(&mut self, from: (Parent, &[u8]), to: (Parent, &[u8])) {
        if from == to {
            return;
        }
        self.gone(to.0, to.1);
        let Some(number) = self.places.remove(&(from.0, Box::from(from.1))) else { return };
        if let Some(mut node) = self.nodes.remove(&number) {
            node.place = None;
            self.put(number, node, (to.0, Box::from(to.1)));
        }
        if let Some(above) = self.leave(from.0) {
            self.drop_if_left(above);
        }
    }

    /// A directory of the server is gone, with everything in it.
    pub fn home_gone(&mut self, key: Key) {
        let home = Parent::Home(key);
        let names: Vec<_> =
            self.places.keys().filter(|(parent, _)| *parent == home).map(|(_, name)| name.clone()).collect();
        for name in names {
            self.gone(home, &name);
        }
    }

    /// Whether the file has lost its name.
    pub fn is_gone(&self, number: u64) -> bool {
        self.path(number).is_none()
    }
}

#[cfg(test)]
#[path = "numbers_tests.rs"]
mod tests;
