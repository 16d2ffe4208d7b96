//! The operations: each takes the compound's context and its arguments and returns its result.

mod attributes;
mod handles;
mod io;
mod locks;
mod names;
mod open;
mod readdir;
mod sessions;
mod setattr;
mod sparse;
mod stateids;
mod xattrs;

use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, Resop4};

use super::answer::Answer;
use super::compound::Context;
use super::server::Server;

impl Server {
    /// Carries out one operation, whatever the plan of faults says.
    pub(super) fn carry_out(&mut self, cx: &mut Context<'_>, op: Argop4) -> Answer {
        let opnum = op.opnum();
        let answer = self.dispatch(cx, op);
        cx.done.push(opnum);
        answer
    }

    fn dispatch(&mut self, cx: &mut Context<'_>, op: Argop4) -> Answer {
        let opnum = op.opnum();
        Answer::Op(match op {
            Argop4::Access(args) => Resop4::Access(self.access(cx, &args)),
            Argop4::Close(args) => Resop4::Close(self.close(cx, &args)),
            Argop4::Commit(args) => Resop4::Commit(self.commit(cx, &args)),
            Argop4::Create(args) => Resop4::Create(self.create(cx, &args)),
            Argop4::Getattr(args) => Resop4::Getattr(self.getattr(cx, &args)),
            Argop4::Getfh => Resop4::Getfh(self.getfh(cx)),
            Argop4::Link(args) => Resop4::Link(self.link(cx, &args)),
            Argop4::Lock(args) => Resop4::Lock(self.lock(cx, &args)),
            Argop4::Lockt(args) => Resop4::Lockt(self.lockt(cx, &args)),
            Argop4::Locku(args) => Resop4::Locku(self.locku(cx, &args)),
            Argop4::Lookup(args) => Resop4::Lookup(self.lookup(cx, &args)),
            Argop4::Lookupp => Resop4::Lookupp(self.lookupp(cx)),
            Argop4::Verify(args) => Resop4::Verify(self.verify(cx, &args, true)),
            Argop4::Nverify(args) => Resop4::Nverify(self.verify(cx, &args, false)),
            Argop4::Open(args) => Resop4::Open(self.open(cx, &args)),
            Argop4::OpenDowngrade(args) => Resop4::OpenDowngrade(self.open_downgrade(cx, &args)),
            Argop4::Putfh(args) => Resop4::Putfh(self.putfh(cx, &args)),
            Argop4::Putpubfh => Resop4::Putpubfh(self.putrootfh(cx)),
            Argop4::Putrootfh => Resop4::Putrootfh(self.putrootfh(cx)),
            Argop4::Savefh => Resop4::Savefh(Self::savefh(cx)),
            Argop4::Restorefh => Resop4::Restorefh(Self::restorefh(cx)),
            Argop4::Read(args) => {
                return match self.read(cx, &args) {
                    Ok((eof, pieces)) => Answer::Read { opnum, eof, pieces },
                    Err(error) => Answer::Op(Resop4::Read(Err(error))),
                };
            }
            Argop4::ReadBypass(args) => return self.read_bypass(cx, &args),
            Argop4::Readdir(args) => Resop4::Readdir(self.readdir(cx, &args)),
            Argop4::Readlink => Resop4::Readlink(self.readlink(cx)),
            Argop4::Remove(args) => Resop4::Remove(self.remove(cx, &args)),
            Argop4::Rename(args) => Resop4::Rename(self.rename(cx, &args)),
            Argop4::Secinfo(args) => Resop4::Secinfo(self.secinfo(cx, &args)),
            Argop4::SecinfoNoName(style) => Resop4::SecinfoNoName(self.secinfo_no_name(cx, style)),
            Argop4::Setattr(args) => Resop4::Setattr(self.setattr(cx, &args)),
            Argop4::Write(args) => Resop4::Write(self.write(cx, &args)),
            Argop4::BackchannelCtl(args) => Resop4::BackchannelCtl(self.backchannel_ctl(cx, &args)),
            Argop4::BindConnToSession(args) => Resop4::BindConnToSession(self.bind_conn_to_session(cx, &args)),
            Argop4::ExchangeId(args) => Resop4::ExchangeId(self.exchange_id(cx, &args)),
            Argop4::CreateSession(args) => Resop4::CreateSession(self.create_session(cx, &args)),
            Argop4::DestroySession(args) => Resop4::DestroySession(self.destroy_session(cx, &args)),
            Argop4::DestroyClientid(args) => Resop4::DestroyClientid(self.destroy_clientid(cx, &args)),
            Argop4::ReclaimComplete(args) => Resop4::ReclaimComplete(self.reclaim_complete(cx, &args)),
            Argop4::TestStateid(args) => Resop4::TestStateid(Ok(self.test_stateid(cx, &args))),
            Argop4::FreeStateid(args) => Resop4::FreeStateid(self.free_stateid(cx, &args)),
            Argop4::Delegreturn(args) => Resop4::Delegreturn(self.delegreturn(cx, &args)),
            Argop4::Sequence(_) => {
                self.referee.mistake("a SEQUENCE that is not the first operation".into());
                Resop4::Sequence(Err(Nfs4Error::SequencePos))
            }
            Argop4::Illegal => {
                self.referee.mistake("OP_ILLEGAL sent as an operation".into());
                Resop4::Illegal(Err(Nfs4Error::OpIllegal))
            }
            Argop4::Getxattr(args) => Resop4::Getxattr(self.getxattr(cx, &args)),
            // What follows is beyond what S3 Files does (user guide, "unsupported NFS features").
            other if !self.config.is_full() => Resop4::failed(other.opnum(), Nfs4Error::Notsupp),
            Argop4::Setxattr(args) => Resop4::Setxattr(self.setxattr(cx, &args)),
            Argop4::Listxattrs(args) => Resop4::Listxattrs(self.listxattrs(cx, &args)),
            Argop4::Removexattr(args) => Resop4::Removexattr(self.removexattr(cx, &args)),
            Argop4::Allocate(args) => Resop4::Allocate(self.allocate(cx, &args)),
            Argop4::Deallocate(args) => Resop4::Deallocate(self.deallocate(cx, &args)),
            Argop4::Seek(args) => Resop4::Seek(self.seek(cx, &args)),
            Argop4::ReadPlus(args) => Resop4::ReadPlus(self.read_plus(cx, &args)),
            Argop4::Copy(args) => Resop4::Copy(self.copy(cx, &args)),
            Argop4::Clone(args) => Resop4::Clone(self.clone_range(cx, &args)),
            Argop4::IoAdvise(args) => Resop4::IoAdvise(self.io_advise(cx, &args)),
            // Delegations, layouts, attribute directories, copies between servers, SET_SSV: nobody here has them.
            other => Resop4::failed(other.opnum(), Nfs4Error::Notsupp),
        })
    }
}
