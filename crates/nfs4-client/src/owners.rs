//! Owners on the wire are text (RFC 8881 §5.9): a number, which is what S3 Files and most servers without a domain send, or
//! `user@domain`. A name is shown as the account of that name on this machine, and as nobody where there is none; the
//! domain is not compared, as both sides would have to be told the same one.
//!
//! Accounts are looked up once each: a listing names the same few over and over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{Group, User};

/// Who owns what has no account: the identity that Linux calls nobody.
pub(crate) const NOBODY: u32 = 65_534;
/// Names remembered of each kind; a server that sends more has the rest shown as nobody's.
const MOST: usize = 1024;
/// The longest name that is looked up, in bytes.
const LONGEST: usize = 256;

static USERS: Accounts = Accounts(Mutex::new(None));
static GROUPS: Accounts = Accounts(Mutex::new(None));

/// What was found for each name.
struct Accounts(Mutex<Option<HashMap<String, u32>>>);

impl Accounts {
    fn find(&self, owner: &[u8], look_up: impl FnOnce(&str) -> Option<u32>) -> u32 {
        let Ok(owner) = std::str::from_utf8(owner) else { return NOBODY };
        if let Ok(number) = owner.parse() {
            return number;
        }
        let name = owner.split('@').next().unwrap_or_default();
        if name.is_empty() || name.len() > LONGEST || name.contains('\0') {
            return NOBODY;
        }
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.get_or_insert_default();
            if let Some(number) = known.get(name) {
                return *number;
            }
            if known.len() >= MOST {
                return NOBODY;
            }
        }
        let number = look_up(name).unwrap_or(NOBODY);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(name.to_owned(), number);
        number
    }
}

/// The number of a file's owner.
pub(crate) fn user(owner: &[u8]) -> u32 {
    USERS.find(owner, |name| Some(User::from_name(name).ok()??.uid.as_raw()))
}

/// The number of a file's group.
pub(crate) fn group(owner: &[u8]) -> u32 {
    GROUPS.find(owner, |name| Some(Group::from_name(name).ok()??.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_stand_for_themselves() {
        assert_eq!(user(b"1000"), 1000);
        assert_eq!(group(b"0"), 0);
    }

    #[test]
    fn names_are_those_of_local_accounts_whatever_the_domain() {
        assert_eq!(user(b"root@example.com"), 0);
        assert_eq!(user(b"root"), 0);
        let daemon = User::from_name("daemon").unwrap().unwrap();
        assert_eq!(user(b"daemon@example.com"), daemon.uid.as_raw());
        let group_of_daemon = Group::from_name("daemon").unwrap().unwrap();
        assert_eq!(group(b"daemon@example.com"), group_of_daemon.gid.as_raw());
    }

    #[test]
    fn everything_else_is_nobodys() {
        for owner in
            [&b"no-such-account@example.com"[..], b"4294967296", b"-1", b"", b"@", b"\xff", b"a\0b", &[b'x'; 5000]]
        {
            assert_eq!(user(owner), NOBODY, "{owner:?}");
            assert_eq!(group(owner), NOBODY, "{owner:?}");
        }
    }

    #[test]
    fn a_server_that_sends_ever_new_names_fills_no_memory() {
        let accounts = Accounts(Mutex::new(None));
        for n in 0..3 * MOST {
            accounts.find(format!("name{n}").as_bytes(), |_| Some(7));
        }
        assert_eq!(accounts.0.lock().unwrap().as_ref().unwrap().len(), MOST);
        assert_eq!(accounts.find(b"name1@x", |_| None), 7);
        assert_eq!(accounts.find(b"name2999", |_| Some(7)), NOBODY);
    }
}
