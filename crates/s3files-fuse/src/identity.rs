//! Who programs of this machine are for the server: themselves, unless the mount presents others. And the other way
//! round: who owns the server's files for programs of this machine.

use std::sync::Arc;

use clap::Args;
use vfs::Cred;

/// Whom the server is told of instead of the program that asks.
#[derive(Debug, Clone, Default, Args)]
pub struct Presented {
    /// Tell the server this user id instead of that of the program that asks. What it may do is judged by that one.
    #[arg(id = "as-uid", long = "as-uid", value_name = "UID", help_heading = "Who may do what")]
    uid: Option<u32>,
    /// Tell the server this group id instead of that of the program that asks.
    #[arg(id = "as-gid", long = "as-gid", value_name = "GID", help_heading = "Who may do what")]
    gid: Option<u32>,
    /// Tell the server these further group ids. Without it, and with --as-uid or --as-gid, there are none: the groups of
    /// another user would be a lie.
    #[arg(
        id = "as-groups",
        long = "as-groups",
        value_name = "GID,…",
        value_delimiter = ',',
        help_heading = "Who may do what"
    )]
    groups: Option<Vec<u32>>,
}

impl Presented {
    /// The identity that the server is told of.
    pub fn of(&self, caller: &Cred) -> Cred {
        let groups = match &self.groups {
            Some(groups) => Arc::from(groups.as_slice()),
            None if self.uid.is_some() || self.gid.is_some() => Arc::from([]),
            None => Arc::clone(&caller.groups),
        };
        let (uid, gid) = (self.uid.unwrap_or(caller.uid), self.gid.unwrap_or(caller.gid));
        Cred { uid, gid, groups }
    }
}

/// Whom files are shown to belong to on this machine. Nobody's rights change: the server goes by its own owners.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct Shown {
    /// Show every file and directory as this user's, whoever owns it on the server. Only what is shown changes: the
    /// server judges by the real owner, and chown changes that one.
    #[arg(long, value_name = "UID", help_heading = "Who may do what")]
    uid: Option<u32>,
    /// Show every file and directory as this group's, as --uid does it.
    #[arg(long, value_name = "GID", help_heading = "Who may do what")]
    gid: Option<u32>,
}

impl Shown {
    /// Owner and group as programs see them.
    pub fn of(self, uid: u32, gid: u32) -> (u32, u32) {
        (self.uid.unwrap_or(uid), self.gid.unwrap_or(gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Cred {
        Cred { groups: Arc::from([4, 24]), ..Cred::new(1000, 100) }
    }

    #[test]
    fn without_options_everybody_is_who_they_are() {
        assert_eq!(Presented::default().of(&caller()), caller());
    }

    #[test]
    fn the_groups_of_one_user_never_go_with_the_number_of_another() {
        let root = Presented { uid: Some(0), ..Presented::default() }.of(&caller());
        assert_eq!((root.uid, root.gid, root.groups.len()), (0, 100, 0));
        let group = Presented { gid: Some(7), ..Presented::default() }.of(&caller());
        assert_eq!((group.uid, group.gid, group.groups.len()), (1000, 7, 0));
        let given = Presented { groups: Some(vec![8, 9]), ..Presented::default() }.of(&caller());
        assert_eq!((given.uid, &*given.groups), (1000, &[8, 9][..]));
    }
}
