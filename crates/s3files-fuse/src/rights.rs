//! Who am I there? Why a directory may not be written to, in one sentence.
//!
//! S3 Files goes by the caller's uid and gid (`AUTH_SYS`) and by three IAM actions at once, and what came from S3 without
//! POSIX metadata belongs to root. Users meet all of that as one bare "permission denied".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vfs::{Attr, Cred, Errno, Vfs};

const WRITE: u32 = 0o2;

/// The sentence for a directory in which `cred` was refused to make or change something.
pub fn why_refused(what: &str, cred: &Cred, owner: (u32, u32), mode: u32) -> String {
    let (uid, gid) = owner;
    let mode = mode & 0o7777;
    if cred.uid == 0 {
        return format!(
            "{what} may not be written to by root: without the action s3files:ClientRootAccess the server counts root as \
             nobody, and without s3files:ClientWrite nobody writes; allow them for these credentials, or enter through \
             an access point that sets an identity (--access-point)"
        );
    }
    let class = if cred.uid == uid {
        6
    } else if cred.gid == gid || cred.groups.contains(&gid) {
        3
    } else {
        0
    };
    if (mode >> class) & WRITE != 0 {
        return format!(
            "{what} may not be written to although its permissions ({uid}:{gid}, {mode:04o}) allow it to user {}: the \
             credentials lack the action s3files:ClientWrite, or the file system's policy denies it",
            cred.uid
        );
    }
    let reason =
        if uid == 0 && mode == 0o755 { " (what comes from S3 without POSIX metadata belongs to root)" } else { "" };
    format!(
        "{what} belongs to {uid}:{gid} with mode {mode:04o}{reason}, so user {} may not write there; enter through an \
         access point that sets an identity (--access-point), or have root, with the action s3files:ClientRootAccess, \
         chown it once",
        cred.uid
    )
}

/// Says it once in the life of a mount.
#[derive(Debug, Clone, Default)]
pub struct FirstRefusal(Arc<AtomicBool>);

impl FirstRefusal {
    /// Whether an outcome is a refusal that nothing has been said about yet.
    pub fn is<T>(&self, outcome: &vfs::Result<T>) -> bool {
        outcome.as_ref().err().is_some_and(is_refusal) && !self.0.load(Ordering::Relaxed)
    }

    /// Explains the refusal to change the file or directory `ino`.
    pub async fn explain(&self, vfs: &Vfs, cred: &Cred, ino: u64) {
        if let Some(sentence) = self.sentence(vfs, cred, ino).await {
            tracing::warn!("{sentence}");
        }
    }

    /// The explanation, for whoever asks first.
    pub async fn sentence(&self, vfs: &Vfs, cred: &Cred, ino: u64) -> Option<String> {
        if self.0.load(Ordering::Relaxed) {
            return None;
        }
        let (attr, _) = vfs.getattr(cred, ino, None).await.ok()?;
        (!self.0.swap(true, Ordering::Relaxed)).then(|| sentence(&attr, cred))
    }
}

/// Whether an error means that these credentials or this user may not change something.
pub fn is_refusal(error: &vfs::Error) -> bool {
    match error {
        // What this mount was told not to allow needs no explanation.
        vfs::Error::ReadOnly | vfs::Error::Elsewhere(_) => false,
        error => matches!(error.errno(), Errno::Access | Errno::Perm | Errno::RoFs),
    }
}

fn sentence(attr: &Attr, cred: &Cred) -> String {
    let what = if attr.ino == vfs::ROOT_INO { "the root of this file system" } else { "a file or directory here" };
    format!("a change was refused: {}", why_refused(what, cred, (attr.uid, attr.gid), attr.mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_remedy() {
        let user = Cred::new(501, 20);
        let imported = why_refused("/", &user, (0, 0), 0o755);
        assert!(imported.contains("access point") && imported.contains("user 501") && imported.contains("0755"));
        let squashed = why_refused("/", &Cred::new(0, 0), (0, 0), 0o755);
        assert!(squashed.contains("ClientRootAccess") && !squashed.contains("chown"));
        for (owner, mode) in [((501, 0), 0o700), ((0, 20), 0o770), ((0, 0), 0o777)] {
            assert!(why_refused("/", &user, owner, mode).contains("s3files:ClientWrite"), "{owner:?} {mode:o}");
        }
        // The owner's bits count for the owner, whatever others may do.
        assert!(why_refused("/", &user, (501, 20), 0o577).contains("may not write there"));
    }
}
