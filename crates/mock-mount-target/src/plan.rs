//! A plan of failures as TOML: which event, the how many-th time, and what goes wrong.
//!
//! ```toml
//! seed = 7
//!
//! [[fault]]
//! on = "WRITE"              # an operation, or any | connect | bind | channel_init | bytes_in | get_object | time
//! nth = 3                   # the first event that is hit (1)
//! times = 2                 # how many are hit from there on (1)
//! name = "a.txt"            # only operations on this name; only this key of S3
//! byte = 4096               # only READ and WRITE that touch this byte; with bytes_in, the byte itself
//! after_ms = 500            # not before the mock has run for so long; with time, when it happens
//! do = "status"             # what goes wrong, with its own parameters (recall: wants every delegation back)
//! status = "NFS4ERR_DELAY"
//! ```

use std::time::Duration;

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::compound::{OPERATIONS, op_name};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde::Deserialize;

use crate::bind::BindFault;
use crate::controls::is_same_name;
use crate::error::MockError;
use crate::nfs::S3Change;
use crate::nfs::faults::{Action, Rule};
use crate::objects::{S3Fault, S3Rule};
use crate::outlet::ReplyFault;
use crate::wire::{On, WireAction, WireRule};

/// Something that happens at a time, whatever clients do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Every connection is cut.
    CutAll,
    /// The server restarts, with or without stable storage.
    Restart(bool),
    /// Uncommitted data is lost and the write verifier changes.
    NewWriteVerifier,
    /// All sessions are forgotten.
    DropSessions,
    /// All opens and locks are revoked.
    Revoke(Nfs4Error),
    /// All delegations are recalled.
    Recall,
    /// A delegation that nobody has is recalled from everybody.
    RecallUnknown,
    /// Something happens on the S3 side.
    S3(String, S3Change),
    /// The link gets this round trip time.
    Rtt(Duration),
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Of records and connections.
    Wire(WireRule),
    /// Of operations, from some time on.
    Nfs(Duration, Rule),
    /// Of GetObject.
    S3(S3Rule),
    /// At a time.
    At(Duration, Event),
}

/// A plan: failures, and the seed for those that are random.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// The seed, if the plan names one.
    pub seed: Option<u64>,
    /// The failures. The first that fits an event acts.
    pub faults: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    seed: Option<u64>,
    #[serde(default)]
    fault: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    on: String,
    #[serde(rename = "do")]
    action: String,
    name: Option<String>,
    byte: Option<u64>,
    nth: Option<u64>,
    times: Option<u64>,
    after_ms: Option<u64>,
    status: Option<String>,
    bytes: Option<u64>,
    ms: Option<u64>,
    stable_storage: Option<bool>,
    carried_out: Option<bool>,
    path: Option<String>,
    text: Option<String>,
}

impl FaultPlan {
    /// Reads a plan. `seed` is for random bytes where the plan names no seed.
    pub fn from_toml(text: &str, seed: u64) -> Result<Self, MockError> {
        let wrong = |what: String| MockError::Plan(what);
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let mut random = StdRng::seed_from_u64(file.seed.unwrap_or(seed));
        let read = |(index, entry): (usize, &Entry)| {
            entry.read(&mut random).map_err(|why| wrong(format!("fault {}: {why}", index + 1)))
        };
        Ok(Self { seed: file.seed, faults: file.fault.iter().enumerate().map(read).collect::<Result<_, _>>()? })
    }
}

/// The number of an operation that is named in any spelling.
fn operation(name: &str) -> Option<u32> {
    OPERATIONS.iter().copied().find(|number| is_same_name(op_name(*number), name))
}

impl Entry {
    fn skip(&self) -> Result<u64, String> {
        self.nth.unwrap_or(1).checked_sub(1).ok_or_else(|| "nth counts from 1".to_owned())
    }

    fn times(&self) -> u64 {
        self.times.unwrap_or(1)
    }

    fn after(&self) -> Duration {
        Duration::from_millis(self.after_ms.unwrap_or(0))
    }

    fn needs<T: Clone>(&self, value: Option<&T>, name: &str) -> Result<T, String> {
        value.cloned().ok_or_else(|| format!("{} needs {name}", self.action))
    }

    fn bytes(&self) -> Result<u64, String> {
        self.needs(self.bytes.as_ref(), "bytes")
    }

    fn wait(&self) -> Result<Duration, String> {
        self.needs(self.ms.as_ref(), "ms").map(Duration::from_millis)
    }

    fn status(&self) -> Result<Nfs4Error, String> {
        let name = self.needs(self.status.as_ref(), "status")?;
        let short = name.strip_prefix("NFS4ERR_").unwrap_or(&name);
        let named = |error: &&Nfs4Error| error.name().strip_prefix("NFS4ERR_") == Some(short);
        let number = || name.parse().ok().and_then(Nfs4Error::from_status);
        Nfs4Error::NAMED.iter().find(named).copied().or_else(number).ok_or(format!("there is no status {name}"))
    }

    fn read(&self, random: &mut StdRng) -> Result<Fault, String> {
        match self.on.as_str() {
            "time" => Ok(Fault::At(self.after(), self.event()?)),
            "get_object" => Ok(Fault::S3(S3Rule {
                key: self.name.clone(),
                skip: self.skip()?,
                times: self.times(),
                after: self.after(),
                fault: self.s3_fault()?,
            })),
            "connect" => self.wire(On::Connect, self.connect_action()?),
            "bind" => match self.bind_answer() {
                Some(answer) => self.wire(On::Bind, WireAction::Bind(answer)),
                None => self.wire(On::Bind, self.wire_action()?.ok_or_else(|| self.unknown())?),
            },
            "channel_init" => self.wire(On::ChannelInit, self.wire_action()?.ok_or_else(|| self.unknown())?),
            "bytes_in" => {
                let byte = self.needs(self.byte.as_ref(), "byte")?;
                match self.action.as_str() {
                    "cut" => self.wire(On::BytesIn(byte.max(1)), WireAction::CutBefore),
                    _ => Err(self.unknown()),
                }
            }
            "any" => self.on_operation(None, random),
            name => {
                let number = operation(name).ok_or_else(|| format!("there is no event or operation {name}"))?;
                self.on_operation(Some(number), random)
            }
        }
    }

    fn unknown(&self) -> String {
        format!("{} cannot be done on {}", self.action, self.on)
    }

    fn wire(&self, on: On, action: WireAction) -> Result<Fault, String> {
        Ok(Fault::Wire(WireRule {
            on,
            name: self.name.as_ref().map(|name| name.clone().into_bytes()),
            offset: self.byte.filter(|_| matches!(on, On::Operation(_) | On::AnyCompound)),
            skip: self.skip()?,
            times: self.times(),
            after: self.after(),
            action,
        }))
    }

    fn on_operation(&self, opnum: Option<u32>, random: &mut StdRng) -> Result<Fault, String> {
        if let Some(action) = self.wire_action()? {
            return self.wire(opnum.map_or(On::AnyCompound, On::Operation), action);
        }
        let rule = Rule {
            opnum,
            name: self.name.as_ref().map(|name| name.clone().into_bytes()),
            offset: self.byte,
            skip: self.skip()?,
            times: self.times(),
            action: self.nfs_action(random)?,
        };
        Ok(Fault::Nfs(self.after(), rule))
    }

    fn wire_action(&self) -> Result<Option<WireAction>, String> {
        let len = self.bytes.unwrap_or(64) as usize;
        Ok(Some(match self.action.as_str() {
            "cut_before_request" => WireAction::CutBefore,
            "cut_before_reply" => WireAction::Reply(ReplyFault::CutBefore),
            "cut_inside_reply" => WireAction::Reply(ReplyFault::CutInside(self.bytes.map(|bytes| bytes as usize))),
            "cut_after_reply" => WireAction::Reply(ReplyFault::CutAfter),
            "drop_reply" => WireAction::Reply(ReplyFault::Drop),
            "duplicate_reply" => WireAction::Reply(ReplyFault::Duplicate),
            "duplicate_request" => WireAction::DuplicateRequest,
            "delay" => WireAction::Reply(ReplyFault::Delay(self.wait()?)),
            "record_mark" => WireAction::Reply(ReplyFault::Mark(
                u32::try_from(self.bytes()?).map_err(|_| "a record mark has 32 bits".to_owned())?,
            )),
            "random_bytes" => WireAction::RandomBytes { len, raw: false },
            "raw_random_bytes" => WireAction::RandomBytes { len, raw: true },
            "tls_alert" => WireAction::Alert,
            _ => return Ok(None),
        }))
    }

    fn connect_action(&self) -> Result<WireAction, String> {
        match self.action.as_str() {
            "cut" => Ok(WireAction::CutBefore),
            "silence" => Ok(WireAction::Silence),
            "tls_alert" => Ok(WireAction::Alert),
            "raw_random_bytes" => Ok(WireAction::RandomBytes { len: self.bytes.unwrap_or(64) as usize, raw: true }),
            _ => Err(self.unknown()),
        }
    }

    fn bind_answer(&self) -> Option<BindFault> {
        Some(match self.action.as_str() {
            "retry" => BindFault::Retry,
            "retry_later" => BindFault::RetryLater,
            "preferred" => BindFault::Preferred,
            "error" => BindFault::Error,
            "other_partition" => BindFault::OtherPartition,
            "unknown_arm" => BindFault::UnknownArm,
            _ => return None,
        })
    }

    fn s3_change(&self) -> Result<(String, S3Change), String> {
        let path = self.needs(self.path.as_ref(), "path")?;
        let text = || self.needs(self.text.as_ref(), "text").map(Bytes::from);
        let change = match self.action.as_str() {
            "s3_put" => S3Change::Put(text()?),
            "s3_delete" => S3Change::Delete,
            "s3_conflict" => S3Change::Conflict(text()?),
            _ => return Err(self.unknown()),
        };
        Ok((path, change))
    }

    fn nfs_action(&self, random: &mut StdRng) -> Result<Action, String> {
        let carried_out = self.carried_out.unwrap_or(false);
        Ok(match self.action.as_str() {
            "status" if carried_out => Action::StatusAfter(self.status()?),
            "status" => Action::Status(self.status()?),
            "restart" => Action::Restart { stable_storage: self.stable_storage.unwrap_or(true), after: carried_out },
            "new_write_verifier" => Action::NewWriteVerifier,
            "short" => Action::Short(self.bytes()?.min(u64::from(u32::MAX)) as u32),
            "unknown_arm" => Action::UnknownArm,
            "drop_sessions" => Action::DropSessions,
            "revoke" => Action::Revoke(self.status()?),
            "recall" => Action::Recall,
            "recall_unknown" => Action::RecallUnknown,
            "random_result" => {
                let mut bytes = vec![0; self.bytes.unwrap_or(64).min(1 << 20) as usize];
                random.fill_bytes(&mut bytes);
                Action::Bytes(bytes)
            }
            _ => {
                let (path, change) = self.s3_change()?;
                Action::S3 { path, change }
            }
        })
    }

    fn event(&self) -> Result<Event, String> {
        Ok(match self.action.as_str() {
            "cut_all" => Event::CutAll,
            "restart" => Event::Restart(self.stable_storage.unwrap_or(true)),
            "new_write_verifier" => Event::NewWriteVerifier,
            "drop_sessions" => Event::DropSessions,
            "revoke" => Event::Revoke(self.status()?),
            "recall" => Event::Recall,
            "recall_unknown" => Event::RecallUnknown,
            "set_rtt" => Event::Rtt(self.wait()?),
            _ => {
                let (path, change) = self.s3_change()?;
                Event::S3(path, change)
            }
        })
    }

    fn s3_fault(&self) -> Result<S3Fault, String> {
        Ok(match self.action.as_str() {
            "403" => S3Fault::Forbidden,
            "404" => S3Fault::NotFound,
            "412" => S3Fault::PreconditionFailed,
            "503" => S3Fault::SlowDown,
            "short" => S3Fault::Short(self.bytes()?),
            "cut_body" => S3Fault::CutBody(self.bytes()?),
            "stall" => S3Fault::Stall(self.wait()?),
            _ => return Err(self.unknown()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one(text: &str) -> Fault {
        let mut plan = FaultPlan::from_toml(&format!("[[fault]]\n{text}"), 1).unwrap();
        assert_eq!(plan.faults.len(), 1);
        plan.faults.remove(0)
    }

    fn refused(text: &str) -> String {
        FaultPlan::from_toml(text, 1).unwrap_err().to_string()
    }

    #[test]
    fn every_kind_of_trigger_and_action_is_understood() {
        let delay = one("on = 'GETATTR'\nnth = 3\ntimes = 2\nafter_ms = 5\ndo = 'status'\nstatus = 'NFS4ERR_DELAY'");
        let rule = Rule { skip: 2, times: 2, ..Rule::once(9, Action::Status(Nfs4Error::Delay)) };
        assert_eq!(delay, Fault::Nfs(Duration::from_millis(5), rule));
        let named = one("on = 'open'\nname = 'a'\ndo = 'status'\nstatus = 'ACCESS'\ncarried_out = true");
        let rule = Rule { name: Some(b"a".to_vec()), ..Rule::once(18, Action::StatusAfter(Nfs4Error::Access)) };
        assert_eq!(named, Fault::Nfs(Duration::ZERO, rule));
        let cut = one("on = 'WRITE'\nbyte = 4096\ndo = 'cut_before_reply'");
        let rule = WireRule::once(On::Operation(38), WireAction::Reply(ReplyFault::CutBefore));
        assert_eq!(cut, Fault::Wire(WireRule { offset: Some(4096), ..rule }));
        let bytes = one("on = 'bytes_in'\nbyte = 1000\ndo = 'cut'");
        assert_eq!(bytes, Fault::Wire(WireRule::once(On::BytesIn(1000), WireAction::CutBefore)));
        let bind = one("on = 'bind'\ndo = 'retry_later'");
        assert_eq!(bind, Fault::Wire(WireRule::once(On::Bind, WireAction::Bind(BindFault::RetryLater))));
        let s3 = one("on = 'get_object'\nname = 'p/k'\ndo = '503'");
        assert_eq!(s3, Fault::S3(S3Rule { key: Some("p/k".into()), ..S3Rule::once(S3Fault::SlowDown) }));
        let at = one("on = 'time'\nafter_ms = 100\ndo = 'restart'\nstable_storage = false");
        assert_eq!(at, Fault::At(Duration::from_millis(100), Event::Restart(false)));
        let put = one("on = 'time'\ndo = 's3_put'\npath = 'a/b'\ntext = 'x'");
        assert!(matches!(put, Fault::At(_, Event::S3(path, S3Change::Put(_))) if path == "a/b"));
        assert!(
            matches!(one("on = 'CREATE_SESSION'\ndo = 'unknown_arm'"), Fault::Nfs(_, rule) if rule.opnum == Some(43))
        );
        assert!(matches!(one("on = 'any'\ndo = 'duplicate_request'"), Fault::Wire(_)));
        assert_eq!(one("on = 'READ'\ndo = 'recall'"), Fault::Nfs(Duration::ZERO, Rule::once(25, Action::Recall)));
        assert_eq!(one("on = 'time'\ndo = 'recall_unknown'"), Fault::At(Duration::ZERO, Event::RecallUnknown));
    }

    #[test]
    fn random_results_come_from_the_seed() {
        let text = "[[fault]]\non = 'READ'\ndo = 'random_result'\nbytes = 8";
        let plan = |seed| FaultPlan::from_toml(text, seed).unwrap();
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        let seeded = |seed| FaultPlan::from_toml(&format!("seed = 9\n{text}"), seed).unwrap();
        assert_eq!(seeded(1), seeded(2));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, part) in [
            ("[[fault]]\non = 'READ'", "do"),
            ("[[fault]]\non = 'REED'\ndo = 'delay'\nms = 1", "REED"),
            ("[[fault]]\non = 'READ'\ndo = 'delay'", "needs ms"),
            ("[[fault]]\non = 'READ'\ndo = 'status'\nstatus = 'NFS4ERR_NONE'", "NFS4ERR_NONE"),
            ("[[fault]]\non = 'READ'\nnth = 0\ndo = 'drop_reply'", "fault 1: nth"),
            ("[[fault]]\non = 'connect'\ndo = 'short'", "cannot be done"),
            ("[[fault]]\non = 'READ'\ndo = 'drop_reply'\ncolour = 1", "colour"),
            ("faults = 1", "faults"),
        ] {
            let error = refused(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
