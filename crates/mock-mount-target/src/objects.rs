//! What the bucket behind the file system holds, and how GetObject fails on purpose: a plain map of keys to versions,
//! without HTTP. `s3.rs` serves it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// How a GetObject fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Fault {
    /// 403 AccessDenied.
    Forbidden,
    /// 404 NoSuchKey.
    NotFound,
    /// 412 PreconditionFailed.
    PreconditionFailed,
    /// 503 SlowDown.
    SlowDown,
    /// Fewer bytes than asked for, with a Content-Length that admits it.
    Short(u64),
    /// The connection breaks after so many bytes of the body.
    CutBody(u64),
    /// The body stands still half way for so long.
    Stall(Duration),
}

/// A failure of GetObject, and when it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Rule {
    /// Only this key.
    pub key: Option<String>,
    /// So many matching requests are left alone first.
    pub skip: u64,
    /// So many matching requests are hit then.
    pub times: u64,
    /// Nothing is hit before the mock has run for so long.
    pub after: Duration,
    /// What happens.
    pub fault: S3Fault,
}

impl S3Rule {
    /// The first request is hit, once.
    pub fn once(fault: S3Fault) -> Self {
        Self { key: None, skip: 0, times: 1, after: Duration::ZERO, fault }
    }
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Version id.
    pub id: String,
    /// Entity tag, without quotes.
    pub etag: String,
    /// The bytes; none for a delete marker.
    pub bytes: Option<Bytes>,
}

/// Why there is nothing to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "s3"), allow(dead_code))]
pub(crate) enum Missing {
    Key,
    Version,
    OtherEtag,
}

/// All objects of the bucket with all their versions, and the failures to come.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    versions: BTreeMap<String, Vec<Version>>,
    last: u64,
    rules: Vec<S3Rule>,
    gets: u64,
    acted: u64,
}

impl Objects {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new version of an object; none for a delete marker.
    pub(crate) fn put(&self, key: &str, bytes: Option<Bytes>) -> Version {
        self.with(|state| {
            state.last += 1;
            let mut hash = Sha256::new();
            hash.update(bytes.as_deref().unwrap_or_default());
            let etag = hex::encode(&hash.finalize()[..16]);
            let version = Version { id: format!("v{:08}", state.last), etag, bytes };
            state.versions.entry(key.to_owned()).or_default().push(version.clone());
            version
        })
    }

    /// A version that exists: the one that is named, or the latest, if it has the entity tag that is asked for.
    #[cfg_attr(not(feature = "s3"), allow(dead_code))]
    pub(crate) fn get(
        &self,
        key: &str,
        version: Option<&str>,
        has_tag: impl FnOnce(&str) -> bool,
    ) -> Result<(Version, Bytes), Missing> {
        self.with(|state| {
            let versions = state.versions.get(key).ok_or(Missing::Key)?;
            let found = match version {
                Some(id) => versions.iter().find(|version| version.id == id).ok_or(Missing::Version)?,
                None => versions.last().ok_or(Missing::Key)?,
            };
            let bytes = found.bytes.clone().ok_or(Missing::Key)?;
            if has_tag(&found.etag) { Ok((found.clone(), bytes)) } else { Err(Missing::OtherEtag) }
        })
    }

    /// Adds a failure; one that hits no time does nothing.
    pub(crate) fn fail(&self, rule: S3Rule) {
        if rule.times > 0 {
            self.with(|state| state.rules.push(rule));
        }
    }

    /// Counts a GetObject, and says how it fails.
    #[cfg_attr(not(feature = "s3"), allow(dead_code))]
    pub(crate) fn judge(&self, key: &str, running: Duration) -> Option<S3Fault> {
        self.with(|state| {
            state.gets += 1;
            let mut hit = None;
            for rule in &mut state.rules {
                if running < rule.after || rule.key.as_deref().is_some_and(|wanted| wanted != key) {
                    continue;
                }
                if rule.skip > 0 {
                    rule.skip -= 1;
                } else if hit.is_none() {
                    rule.times -= 1;
                    hit = Some(rule.fault);
                }
            }
            state.rules.retain(|rule| rule.times > 0);
            state.acted += u64::from(hit.is_some());
            hit
        })
    }

    /// How many GetObject requests came with a good signature.
    pub(crate) fn gets(&self) -> u64 {
        self.with(|state| state.gets)
    }

    /// How often a failure happened.
    pub(crate) fn acted(&self) -> u64 {
        self.with(|state| state.acted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn any(_: &str) -> bool {
        true
    }

    #[test]
    fn each_put_is_a_version_and_a_delete_marker_hides_the_key_but_not_its_versions() {
        let objects = Objects::default();
        let first = objects.put("k", Some(Bytes::from_static(b"one")));
        let second = objects.put("k", Some(Bytes::from_static(b"two")));
        assert_ne!((&first.id, &first.etag), (&second.id, &second.etag));
        assert_eq!(objects.get("k", None, any).unwrap().1, "two");
        assert_eq!(objects.get("k", Some(&first.id), any).unwrap().1, "one");
        assert_eq!(objects.get("k", None, |etag| etag == first.etag), Err(Missing::OtherEtag));
        assert_eq!(objects.get("k", Some("v9"), any), Err(Missing::Version));
        objects.put("k", None);
        assert_eq!(objects.get("k", None, any), Err(Missing::Key));
        assert_eq!(objects.get("k", Some(&first.id), any).unwrap().1, "one");
        assert_eq!(objects.get("l", None, any), Err(Missing::Key));
    }

    #[test]
    fn a_rule_hits_the_nth_request_of_its_key() {
        let objects = Objects::default();
        objects.fail(S3Rule { key: Some("k".into()), skip: 1, ..S3Rule::once(S3Fault::NotFound) });
        let hits = ["k", "l", "k", "k"].map(|key| objects.judge(key, Duration::ZERO).is_some());
        assert_eq!(hits, [false, false, true, false]);
        assert_eq!((objects.gets(), objects.acted()), (4, 1));
    }
}
