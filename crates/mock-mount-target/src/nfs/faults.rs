//! Failures on purpose at the level of operations: which operation, the how many-th time, and what goes wrong.

use nfs4::Nfs4Error;

use super::s3side::S3Change;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The operation is not carried out and answers this status. On SEQUENCE the slot stays as it was, but after
    /// BADSESSION and DEADSESSION the session is really gone.
    Status(Nfs4Error),
    /// The operation is carried out but answers this status.
    StatusAfter(Nfs4Error),
    /// The server restarts; the call has no answer.
    Restart {
        /// Whether the server remembers what may be reclaimed.
        stable_storage: bool,
        /// Whether the operation is carried out before.
        after: bool,
    },
    /// Uncommitted data is lost and the write verifier changes, before the operation.
    NewWriteVerifier,
    /// A READ returns at most so many bytes, a WRITE takes at most so many.
    Short(u32),
    /// The result is a union with an arm that does not exist, or for other operations a status without a name. The
    /// operation is not carried out and the compound ends; a retry gets SERVERFAULT in the result's place.
    UnknownArm,
    /// All sessions are forgotten before the operation, which still ends well.
    DropSessions,
    /// All opens and locks are revoked before the operation.
    Revoke(Nfs4Error),
    /// Every delegation is recalled before the operation.
    Recall,
    /// A delegation that nobody has is recalled from every client before the operation.
    RecallUnknown,
    /// Something happens on the S3 side before the operation.
    S3 {
        /// The object's path.
        path: String,
        /// What happens to it.
        change: S3Change,
    },
    /// The result is these bytes, whatever they mean. The rest as with [`Action::UnknownArm`].
    Bytes(Vec<u8>),
}

/// An action and when it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Operation number; `None` is any operation.
    pub opnum: Option<u32>,
    /// Only operations on this name (LOOKUP, OPEN, CREATE, REMOVE, RENAME), or on a file of this name.
    pub name: Option<Vec<u8>>,
    /// Only READ and WRITE that touch this byte.
    pub offset: Option<u64>,
    /// So many matching operations are left alone first.
    pub skip: u64,
    /// So many matching operations are hit then.
    pub times: u64,
    /// What happens.
    pub action: Action,
}

impl Rule {
    /// The first operation of a kind is hit, once.
    pub fn once(opnum: u32, action: Action) -> Self {
        Self { opnum: Some(opnum), name: None, offset: None, skip: 0, times: 1, action }
    }
}

/// What a rule looks at in an operation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// Operation number.
    pub opnum: u32,
    /// The name it is about.
    pub name: Option<&'a [u8]>,
    /// The bytes it is about: offset and length.
    pub range: Option<(u64, u64)>,
}

/// All rules. The first that fits an operation acts; each rule counts what it sees.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    rules: Vec<Rule>,
    acted: u64,
}

impl Plan {
    /// Adds a rule.
    pub fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// Takes all rules away.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// Whether any rule asks for a name.
    pub fn wants_names(&self) -> bool {
        self.rules.iter().any(|rule| rule.name.is_some())
    }

    /// How often a rule acted so far.
    pub fn acted(&self) -> u64 {
        self.acted
    }

    /// What happens to an operation.
    pub fn judge(&mut self, subject: Subject<'_>) -> Option<Action> {
        let mut hit = None;
        for rule in self.rules.iter_mut().filter(|rule| fits(rule, subject)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 && hit.is_none() {
                rule.times -= 1;
                hit = Some(rule.action.clone());
            }
        }
        self.rules.retain(|rule| rule.times > 0);
        self.acted += u64::from(hit.is_some());
        hit
    }
}

fn fits(rule: &Rule, subject: Subject<'_>) -> bool {
    rule.opnum.is_none_or(|opnum| opnum == subject.opnum)
        && rule.name.as_deref().is_none_or(|name| subject.name == Some(name))
        && rule.offset.is_none_or(|byte| {
            subject.range.is_some_and(|(offset, length)| offset <= byte && byte - offset < length.max(1))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_hits_the_nth_operation_of_its_kind_and_then_is_gone() {
        let mut plan = Plan::default();
        plan.add(Rule { skip: 1, times: 2, ..Rule::once(25, Action::Status(Nfs4Error::Io)) });
        let read = Subject { opnum: 25, ..Subject::default() };
        let other = Subject { opnum: 38, ..Subject::default() };
        let hits: Vec<bool> = [read, other, read, other, read, read].map(|s| plan.judge(s).is_some()).to_vec();
        assert_eq!(hits, [false, false, true, false, true, false]);
        assert_eq!(plan.acted(), 2);
    }

    #[test]
    fn a_rule_with_an_offset_hits_only_the_operation_that_touches_that_byte() {
        let mut plan = Plan::default();
        plan.add(Rule { offset: Some(100), ..Rule::once(25, Action::Status(Nfs4Error::Io)) });
        let read = |offset, length| Subject { opnum: 25, name: None, range: Some((offset, length)) };
        assert!(plan.judge(read(0, 100)).is_none());
        assert!(plan.judge(read(101, 50)).is_none());
        assert!(plan.judge(read(50, 51)).is_some());
    }
}
