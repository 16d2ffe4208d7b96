//! The other side of the file system: objects that appear, change and vanish in S3, conflicts, and where an object
//! lies for direct reads (S3 Files user guide, "synchronization").

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::types::ChangeInfo4;

use super::config::Now;
use super::memfs::{Directory, FileData, FileId, Kind, NewFile};
use super::server::Server;

/// An object of S3 that holds the same bytes as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Entity tag, with its quotes.
    pub etag: String,
    /// Version id; empty or `null` where there is none.
    pub version_id: String,
}

/// Something that happens on the S3 side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Change {
    /// An object is there, new or changed; directories on the way are made.
    Put(Bytes),
    /// An object is gone, and so is the file, open or not.
    Delete,
    /// Both sides changed: the object wins, the file's own bytes go to the lost+found directory.
    Conflict(Bytes),
}

const FILE: NewFile = NewFile { mode: 0o644, uid: 0, gid: 0 };
const DIRECTORY: NewFile = NewFile { mode: 0o755, uid: 0, gid: 0 };

impl Server {
    /// Lets something happen on the S3 side to the object of a path (`a/b/c`). It appears without anybody's doing;
    /// files without POSIX metadata belong to `root:root`.
    pub fn s3_change(&mut self, path: &str, change: &S3Change, now: Now) -> Result<(), Nfs4Error> {
        match change {
            S3Change::Put(bytes) => self.s3_put(path, bytes, now).map(|_| ()),
            S3Change::Delete => self.s3_delete(path, now),
            S3Change::Conflict(bytes) => self.s3_conflict(path, bytes, now),
        }
    }

    /// Says that a file's bytes lie in S3 as well, so that READ_BYPASS answers with their place; `None` takes it back.
    /// A write does the same.
    pub fn set_object(&mut self, file: FileId, object: Option<Object>) {
        match object {
            Some(object) => self.objects.insert(file, object),
            None => self.objects.remove(&file),
        };
    }

    /// Makes GETATTR, READDIR's entry and READ of a file fail (an archived object); `None` mends it.
    pub fn set_broken(&mut self, file: FileId, error: Option<Nfs4Error>) {
        match error {
            Some(error) => self.broken.insert(file, error),
            None => self.broken.remove(&file),
        };
    }

    /// The file of a path from the file system's root.
    pub fn file_at(&self, path: &str) -> Result<FileId, Nfs4Error> {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(self.fs.root(), |dir, name| self.fs.lookup(dir, name.as_bytes()))
    }

    fn s3_put(&mut self, path: &str, bytes: &Bytes, now: Now) -> Result<FileId, Nfs4Error> {
        let (dir, name) = self.place(path, now)?;
        let file = match self.fs.lookup(dir, &name) {
            Ok(file) => file,
            Err(_) => self.fs.create(dir, &name, Kind::Regular(FileData::default()), FILE, now.stamp())?.0,
        };
        self.objects.remove(&file);
        self.fs.set_size(file, 0, now.stamp())?;
        self.fs.write(file, 0, std::slice::from_ref(bytes), true, now.stamp())?;
        Ok(file)
    }

    fn s3_delete(&mut self, path: &str, now: Now) -> Result<(), Nfs4Error> {
        let (dir, name) = self.place(path, now)?;
        let removed = self.fs.remove(dir, &name, now.stamp())?;
        if removed.last_name {
            self.objects.remove(&removed.file);
            self.states.drop_file(removed.file);
            self.fs.forget(removed.file);
        }
        Ok(())
    }

    fn s3_conflict(&mut self, path: &str, bytes: &Bytes, now: Now) -> Result<(), Nfs4Error> {
        let file = self.file_at(path)?;
        let (dir, name) = self.place(path, now)?;
        let lost = self.lost_and_found(now)?;
        // Long names are cut, and an id in front keeps them apart.
        let short = String::from_utf8_lossy(&name).chars().take(100).collect::<String>();
        let lost_name = Bytes::from(format!("{:016x}-{short}", file.0));
        self.fs.rename(dir, &name, lost, &lost_name, now.stamp())?;
        self.s3_put(path, bytes, now).map(|_| ())
    }

    /// Directory and name of a path; directories on the way are made.
    fn place(&mut self, path: &str, now: Now) -> Result<(FileId, Bytes), Nfs4Error> {
        let mut names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let last = names.pop().ok_or(Nfs4Error::Inval)?;
        let mut dir = self.fs.root();
        for name in names {
            dir = self.directory_named(dir, name, now)?;
        }
        Ok((dir, Bytes::copy_from_slice(last.as_bytes())))
    }

    fn directory_named(&mut self, dir: FileId, name: &str, now: Now) -> Result<FileId, Nfs4Error> {
        if let Ok(found) = self.fs.lookup(dir, name.as_bytes()) {
            return Ok(found);
        }
        let name = Bytes::copy_from_slice(name.as_bytes());
        let made: (FileId, ChangeInfo4) =
            self.fs.create(dir, &name, Kind::Directory(Directory::default()), DIRECTORY, now.stamp())?;
        Ok(made.0)
    }

    fn lost_and_found(&mut self, now: Now) -> Result<FileId, Nfs4Error> {
        let name = format!(".s3files-lost+found-{}", self.config.file_system_id);
        self.directory_named(self.fs.root(), &name, now)
    }

    /// Whether a file is the lost+found directory, which cannot be removed and out of which nothing is moved.
    pub(super) fn is_lost_and_found(&self, file: FileId) -> bool {
        let name = format!(".s3files-lost+found-{}", self.config.file_system_id);
        self.fs.lookup(self.fs.root(), name.as_bytes()) == Ok(file)
    }
}
