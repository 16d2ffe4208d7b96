//! ONC RPC version 2 (RFC 5531): the envelope of calls and replies, and the credentials in it.
//!
//! Only headers are types here; a body is whatever the program defines and stays in the [`Reader`].

use std::sync::Arc;

use crate::xdr::{Error, List, Opaque, Pack, Reader, Result, Unpack, Writer};

/// RPC version (RFC 5531 §9).
pub const RPC_VERSION: u32 = 2;
/// NFS program number.
pub const NFS_PROGRAM: u32 = 100_003;
/// NFS version 4.
pub const NFS_V4: u32 = 4;
/// Procedure 0 of every program: answers with nothing.
pub const PROC_NULL: u32 = 0;
/// Procedure 1 of NFSv4: COMPOUND.
pub const PROC_COMPOUND: u32 = 1;

/// The longest body of a credential or verifier, in bytes (RFC 5531 §8.2).
pub const MAX_AUTH_BYTES: usize = 400;

xdr_enum! {
    /// `auth_flavor` (RFC 5531 §8.2).
    pub enum AuthFlavor { None = 0, Sys = 1, Short = 2, Dh = 3, RpcsecGss = 6, Tls = 7 }
    /// `accept_stat` (RFC 5531 §9).
    pub enum AcceptStat {
        Success = 0, ProgUnavail = 1, ProgMismatch = 2, ProcUnavail = 3, GarbageArgs = 4, SystemErr = 5,
    }
    /// `auth_stat` (RFC 5531 §9).
    pub enum AuthStat {
        Ok = 0, BadCred = 1, RejectedCred = 2, BadVerf = 3, RejectedVerf = 4, TooWeak = 5, InvalidResp = 6,
        Failed = 7,
    }
}

/// `opaque_auth`: a flavor and up to 400 bytes (RFC 5531 §8.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpaqueAuth {
    /// Which kind of credential it is.
    pub flavor: AuthFlavor,
    /// Its body, at most [`MAX_AUTH_BYTES`].
    pub body: Opaque,
}

impl OpaqueAuth {
    /// `AUTH_NONE` with an empty body.
    pub fn none() -> Self {
        Self { flavor: AuthFlavor::None, body: Opaque::default() }
    }
}

impl Pack<Writer> for OpaqueAuth {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        if self.body.len() > MAX_AUTH_BYTES {
            return Err(Error::invalidlen(self.body.len()));
        }
        Ok(self.flavor.pack(out)? + self.body.pack(out)?)
    }
}

impl Unpack<Reader> for OpaqueAuth {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let (flavor, a) = AuthFlavor::unpack(input)?;
        let (body, b) = Opaque::unpack(input)?;
        if body.len() > MAX_AUTH_BYTES {
            return Err(Error::invalidlen(body.len()));
        }
        Ok((Self { flavor, body }, a + b))
    }
}

/// Most supplementary groups that `AUTH_SYS` carries (RFC 5531 appendix A).
pub const MAX_AUTH_SYS_GROUPS: usize = 16;

xdr_struct! {
    /// `authsys_parms`: the body of an `AUTH_SYS` credential (RFC 5531 appendix A).
    pub struct AuthSys {
        /// An arbitrary number of the caller's machine.
        pub stamp: u32,
        /// The caller's machine, at most 255 bytes.
        pub machinename: Opaque,
        /// Effective user id.
        pub uid: u32,
        /// Effective group id.
        pub gid: u32,
        /// Supplementary groups, at most [`MAX_AUTH_SYS_GROUPS`].
        pub gids: List<u32>,
    }
}

impl AuthSys {
    /// The credential of a process; groups past the sixteenth do not fit and are left out.
    pub fn new(machinename: &str, uid: u32, gid: u32, groups: &Arc<[u32]>) -> Self {
        let name = machinename.as_bytes();
        Self {
            stamp: 0,
            machinename: name[..name.len().min(255)].into(),
            uid,
            gid,
            gids: groups.iter().copied().take(MAX_AUTH_SYS_GROUPS).collect(),
        }
    }

    /// As it stands in a call header.
    pub fn to_opaque_auth(&self) -> Result<OpaqueAuth> {
        Ok(OpaqueAuth { flavor: AuthFlavor::Sys, body: crate::xdr::to_bytes(self)?.into() })
    }
}

/// The header of a call; the arguments follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallHeader {
    /// Transaction id: the first word of the message.
    pub xid: u32,
    /// Program number.
    pub prog: u32,
    /// Program version.
    pub vers: u32,
    /// Procedure number.
    pub proc: u32,
    /// Credential.
    pub cred: OpaqueAuth,
    /// Verifier.
    pub verf: OpaqueAuth,
}

/// The header of a reply; results follow it when it says [`ReplyStatus::Success`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHeader {
    /// Transaction id of the call.
    pub xid: u32,
    /// Whether the call was carried out.
    pub status: ReplyStatus,
}

/// What became of a call (RFC 5531 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyStatus {
    /// Results follow.
    Success,
    /// The program is served in other versions only.
    ProgMismatch {
        /// Lowest version served.
        low: u32,
        /// Highest version served.
        high: u32,
    },
    /// The call was not carried out for another reason; never `Success` nor `ProgMismatch`.
    Failed(AcceptStat),
    /// The RPC version is not spoken.
    RpcMismatch {
        /// Lowest version served.
        low: u32,
        /// Highest version served.
        high: u32,
    },
    /// The credential was refused.
    AuthError(AuthStat),
}

/// The header of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A call: from us to the server, or from the server on the back channel.
    Call(CallHeader),
    /// A reply.
    Reply(ReplyHeader),
}

impl Pack<Writer> for Message {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let before = out.len();
        match self {
            Self::Call(call) => {
                for word in [call.xid, 0, RPC_VERSION, call.prog, call.vers, call.proc] {
                    word.pack(out)?;
                }
                call.cred.pack(out)?;
                call.verf.pack(out)?;
            }
            Self::Reply(reply) => {
                reply.xid.pack(out)?;
                1u32.pack(out)?;
                pack_reply_status(reply.status, out)?;
            }
        }
        Ok(out.len() - before)
    }
}

fn pack_reply_status(status: ReplyStatus, out: &mut Writer) -> Result<()> {
    let accepted = |out: &mut Writer, stat: AcceptStat| -> Result<()> {
        0u32.pack(out)?;
        OpaqueAuth::none().pack(out)?;
        stat.pack(out).map(|_| ())
    };
    match status {
        ReplyStatus::Success => accepted(out, AcceptStat::Success),
        ReplyStatus::Failed(stat) => accepted(out, stat),
        ReplyStatus::ProgMismatch { low, high } => {
            accepted(out, AcceptStat::ProgMismatch)?;
            low.pack(out)?;
            high.pack(out).map(|_| ())
        }
        ReplyStatus::RpcMismatch { low, high } => {
            for word in [1, 0, low, high] {
                word.pack(out)?;
            }
            Ok(())
        }
        ReplyStatus::AuthError(stat) => {
            1u32.pack(out)?;
            1u32.pack(out)?;
            stat.pack(out).map(|_| ())
        }
    }
}

impl Unpack<Reader> for Message {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let xid = input.get()?;
        let message = match input.get::<u32>()? {
            0 => {
                if input.get::<u32>()? != RPC_VERSION {
                    return Err("the RPC version is not 2".into());
                }
                Self::Call(CallHeader {
                    xid,
                    prog: input.get()?,
                    vers: input.get()?,
                    proc: input.get()?,
                    cred: input.get()?,
                    verf: input.get()?,
                })
            }
            1 => Self::Reply(ReplyHeader { xid, status: unpack_reply_status(input)? }),
            other => return Err(Error::invalidcase(other as i32)),
        };
        Ok((message, before - input.remaining()))
    }
}

fn unpack_reply_status(input: &mut Reader) -> Result<ReplyStatus> {
    match input.get::<u32>()? {
        0 => {
            input.get::<OpaqueAuth>()?;
            Ok(match input.get()? {
                AcceptStat::Success => ReplyStatus::Success,
                AcceptStat::ProgMismatch => ReplyStatus::ProgMismatch { low: input.get()?, high: input.get()? },
                other => ReplyStatus::Failed(other),
            })
        }
        1 => match input.get::<u32>()? {
            0 => Ok(ReplyStatus::RpcMismatch { low: input.get()?, high: input.get()? }),
            1 => Ok(ReplyStatus::AuthError(input.get()?)),
            other => Err(Error::invalidcase(other as i32)),
        },
        other => Err(Error::invalidcase(other as i32)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::xdr::{from_bytes, to_bytes};

    fn survives(message: &Message) {
        assert_eq!(&from_bytes::<Message>(to_bytes(message).unwrap()).unwrap(), message);
    }

    #[test]
    fn every_message_header_survives_the_wire() {
        let cred = AuthSys::new("host", 501, 20, &Arc::from([20, 12, 61])).to_opaque_auth().unwrap();
        survives(&Message::Call(CallHeader {
            xid: 7,
            prog: NFS_PROGRAM,
            vers: NFS_V4,
            proc: PROC_COMPOUND,
            cred,
            verf: OpaqueAuth::none(),
        }));
        for status in [
            ReplyStatus::Success,
            ReplyStatus::ProgMismatch { low: 2, high: 3 },
            ReplyStatus::Failed(AcceptStat::GarbageArgs),
            ReplyStatus::Failed(AcceptStat::Unknown(77)),
            ReplyStatus::RpcMismatch { low: 2, high: 2 },
            ReplyStatus::AuthError(AuthStat::TooWeak),
        ] {
            survives(&Message::Reply(ReplyHeader { xid: 1, status }));
        }
    }

    #[test]
    fn a_credential_of_more_than_400_bytes_is_refused() {
        let fat = OpaqueAuth { flavor: AuthFlavor::Sys, body: vec![0; 401].into() };
        assert!(to_bytes(&fat).is_err());
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 1, 0x91];
        bytes.extend([0; 404]);
        assert!(from_bytes::<OpaqueAuth>(bytes.into()).is_err());
    }

    #[test]
    fn auth_sys_holds_sixteen_groups_at_most() {
        let groups: Arc<[u32]> = (0..40).collect();
        assert_eq!(AuthSys::new("h", 0, 0, &groups).gids.len(), 16);
    }
}
