//! Extended attributes of one file (RFC 8276), with cookies for LISTXATTRS that stay good.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Names and values. A cookie is the serial number of the last name shown.
#[derive(Debug, Clone, Default)]
pub struct Xattrs {
    by_serial: BTreeMap<u64, (Bytes, Bytes)>,
    last_serial: u64,
}

impl Xattrs {
    fn serial(&self, name: &[u8]) -> Option<u64> {
        self.by_serial.iter().find(|(_, (have, _))| have == name).map(|(serial, _)| *serial)
    }

    /// The value of a name.
    pub fn get(&self, name: &[u8]) -> Option<&Bytes> {
        self.by_serial.values().find(|(have, _)| have == name).map(|(_, value)| value)
    }

    /// Sets a value, new or not.
    pub fn set(&mut self, name: Bytes, value: Bytes) {
        let serial = self.serial(&name).unwrap_or_else(|| {
            self.last_serial += 1;
            self.last_serial
        });
        self.by_serial.insert(serial, (name, value));
    }

    /// Bytes of all names and values.
    pub fn size(&self) -> usize {
        self.by_serial.values().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Takes a name away; whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.serial(name).is_some_and(|serial| self.by_serial.remove(&serial).is_some())
    }

    /// Cookies and names behind `cookie`.
    pub fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &Bytes)> {
        self.by_serial.range(cookie.saturating_add(1)..).map(|(serial, (name, _))| (*serial, name))
    }
}
