//! A client that does everything right, through lost replies, requests that come twice and late, broken results, lost
//! sessions, restarts and revoked state: whatever happens to it, the referee has nothing to say.

use bytes::Bytes;
use mock_mount_target::nfs::Reply;
use mock_mount_target::nfs::faults::{Action, Rule};
use nfs4::Nfs4Error;
use nfs4::attr::Attrs;
use nfs4::compound::{Argop4, OPERATIONS, Resop4};
use nfs4::ops::lock::{FreeStateid4args, NfsLockType4};
use nfs4::ops::open::{OpenClaim4, OpenDelegationType4, Openflag4};
use nfs4::ops::session::{DestroyClientid4args, seq4_status};
use nfs4::types::{NfsFh4, StableHow4, Stateid4};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::driver::*;
use crate::random::{Dice, decode_if_whole};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// An open file.
struct Open {
    handle: NfsFh4,
    stateid: Stateid4,
    lock: Option<Stateid4>,
}

struct Honest {
    c: Client,
    open: BTreeMap<&'static str, Open>,
    /// Whether RECLAIM_COMPLETE is still to be said.
    owes_complete: bool,
    /// Requests that are still on their way on a connection that was given up.
    late: Vec<(Client, Bytes)>,
}

/// Why a call brought no results.
#[derive(Debug)]
enum Failed {
    /// All state was lost on the way, so the call makes no sense any more.
    StateLost,
    /// The server says so.
    Status(Nfs4Error),
}

fn means_gone(error: Nfs4Error) -> bool {
    use Nfs4Error as E;
    matches!(
        error,
        E::BadStateid | E::Expired | E::AdminRevoked | E::Stale | E::OldStateid | E::Badhandle | E::Fhexpired
    )
}

impl Honest {
    /// Sends operations until they are answered, again under the same sequence id when the reply is lost.
    fn ask(&mut self, world: &mut World, dice: &mut Dice, ops: &[Argop4]) -> Result<Vec<Resop4>, Failed> {
        for _ in 0..100 {
            let mut all = vec![Argop4::Sequence(self.c.next(0))];
            all.extend_from_slice(ops);
            let body = encode(2, all);
            let mut reply = world.send_bytes(&self.c, body.clone());
            let mut tries = 0;
            while dice.one_in(6) || decode_if_whole(&reply).is_none() {
                // Lost, or not to be read: a new connection, the very same request.
                let given_up = self.c.clone();
                self.reconnect(world);
                reply = world.send_bytes(&self.c, body.clone());
                self.late.push((given_up, body.clone()));
                tries += 1;
                assert!(tries < 50, "no readable answer: {reply:?}");
            }
            let mut results = decode_if_whole(&reply).unwrap().resarray;
            match results.remove(0) {
                Resop4::Sequence(Ok(_)) => self.c.sequence[0] += 1,
                Resop4::Sequence(Err(Nfs4Error::Delay)) => {
                    world.pass(Duration::from_secs(1));
                    continue;
                }
                _ => {
                    if self.recover(world, dice) {
                        continue;
                    }
                    return Err(Failed::StateLost);
                }
            }
            match results.iter().find_map(Resop4::error) {
                None if results.len() == ops.len() => return Ok(results),
                None => return Err(Failed::Status(Nfs4Error::Serverfault)),
                Some(Nfs4Error::Delay | Nfs4Error::Grace) => world.pass(Duration::from_secs(5)),
                Some(error) => return Err(Failed::Status(error)),
            }
        }
        Err(Failed::Status(Nfs4Error::Delay))
    }

    fn reconnect(&mut self, world: &mut World) {
        world.server.disconnected(self.c.conn);
        self.c.conn = world.new_conn();
    }

    /// One of the calls that need no session; `None` when it got no answer to be read.
    fn alone(&mut self, world: &mut World, op: Argop4) -> Option<Resop4> {
        match world.send_bytes(&self.c, encode(2, vec![op])) {
            Reply::Cut => {
                self.reconnect(world);
                None
            }
            reply => decode_if_whole(&reply).and_then(|mut result| result.resarray.pop()),
        }
    }

    /// A new session, if need be with a new client id; then what was open is reclaimed or given up. Whether the state
    /// is still there.
    fn recover(&mut self, world: &mut World, dice: &mut Dice) -> bool {
        for _ in 0..100 {
            match self.alone(world, create_session(&self.c)) {
                Some(Resop4::CreateSession(Ok(done))) => {
                    self.c.session = done.csr_sessionid;
                    self.c.create_sequence += 1;
                    self.c.sequence = vec![0; 64];
                    return if self.owes_complete { self.start_over(world, dice) } else { true };
                }
                Some(Resop4::CreateSession(Err(Nfs4Error::Delay))) => world.pass(Duration::from_secs(1)),
                None => {}
                Some(_) => {
                    if let Some(Resop4::ExchangeId(Ok(done))) = self.alone(world, exchange_id(&self.c, 0)) {
                        self.owes_complete |= done.eir_clientid != self.c.id;
                        self.c.id = done.eir_clientid;
                        self.c.create_sequence = done.eir_sequenceid;
                    }
                }
            }
        }
        panic!("no way back");
    }

    /// The first steps of a new client id. What cannot be reclaimed at once is given up.
    fn start_over(&mut self, world: &mut World, dice: &mut Dice) -> bool {
        let files = std::mem::take(&mut self.open);
        let sequence = vec![Argop4::Sequence(self.c.next(0))];
        let reply = world.send_bytes(&self.c, encode(2, sequence));
        if reply == Reply::Cut {
            self.reconnect(world);
        }
        let flags = match decode_if_whole(&reply).and_then(|mut result| result.resarray.pop()) {
            Some(Resop4::Sequence(Ok(done))) => {
                self.c.sequence[0] += 1;
                done.sr_status_flags
            }
            _ => 0,
        };
        if flags & seq4_status::RESTART_RECLAIM_NEEDED != 0 {
            for (name, file) in files {
                let mut args = open_args("o", "", 3, Openflag4::NoCreate);
                args.claim = OpenClaim4::Previous(OpenDelegationType4::None);
                match self.ask(world, dice, &[putfh(&file.handle), Argop4::Open(args)]) {
                    Ok(results) => {
                        self.open.insert(name, Open { stateid: stateid(&results[1]), lock: None, ..file });
                    }
                    Err(Failed::Status(_)) => {}
                    Err(Failed::StateLost) => return false,
                }
            }
        }
        for _ in 0..20 {
            match self.ask(world, dice, &[reclaim_complete()]) {
                Ok(_) | Err(Failed::Status(Nfs4Error::CompleteAlready)) => {
                    self.owes_complete = false;
                    break;
                }
                // Another life began on the way, and ended its own first steps.
                Err(Failed::StateLost) => break,
                Err(Failed::Status(_)) => {}
            }
        }
        false
    }

    /// One thing that a file system would do.
    fn act(&mut self, world: &mut World, dice: &mut Dice) {
        if dice.one_in(3) {
            for (from, body) in std::mem::take(&mut self.late) {
                // Nobody reads the answer, and a client that left a session has destroyed it.
                if from.session == self.c.session {
                    world.send_bytes(&from, body);
                    world.server.disconnected(from.conn);
                }
            }
        }
        let name = dice.of(&NAMES);
        let Some(file) = self.open.get(name) else { return self.open_file(world, dice, name) };
        let (handle, open, lock) = (file.handle.clone(), file.stateid, file.lock);
        let put = putfh(&handle);
        let offset = dice.below(5);
        let done = match dice.below(7) {
            0 => return self.open_file(world, dice, name),
            1 => self.ask(world, dice, &[put, write(open, offset, b"bytes", StableHow4::Unstable4), commit(0, 0)]),
            2 => self.ask(world, dice, &[put, read(Stateid4 { seqid: 0, ..open }, offset, 100)]),
            3 => {
                let locking = match lock {
                    Some(lock) => more_lock(lock, NfsLockType4::Write, offset, 1),
                    None => first_lock(open, "l", NfsLockType4::Write, offset, 1),
                };
                let done = self.ask(world, dice, &[put, locking]);
                self.locked(name, &done);
                done
            }
            4 if lock.is_some() => {
                let done = self.ask(world, dice, &[put, locku(lock.unwrap_or(open), offset, 1)]);
                self.locked(name, &done);
                done
            }
            _ => {
                // However it ends: nobody closes a file twice, nor reclaims it meanwhile.
                self.open.remove(name);
                self.ask(world, dice, &[put, close(open)])
            }
        };
        if let Err(Failed::Status(error)) = done
            && means_gone(error)
        {
            self.open.remove(name);
            for gone in lock.into_iter().chain([open]) {
                let _ = self.ask(world, dice, &[Argop4::FreeStateid(FreeStateid4args { fsa_stateid: gone })]);
            }
        }
    }

    fn locked(&mut self, name: &str, done: &Result<Vec<Resop4>, Failed>) {
        if let (Ok(results), Some(file)) = (done, self.open.get_mut(name)) {
            file.lock = Some(stateid(&results[1]));
        }
    }

    fn open_file(&mut self, world: &mut World, dice: &mut Dice, name: &'static str) {
        let args = open_args("o", name, 3, unchecked(&Attrs::default()));
        let ops = [Argop4::Putrootfh, Argop4::Open(args), Argop4::Getfh];
        let done = match self.ask(world, dice, &ops) {
            Err(Failed::StateLost) => self.ask(world, dice, &ops),
            done => done,
        };
        if let Ok(results) = done {
            let stateid = stateid(&results[1]);
            // A new open in the place of one that was revoked has none of its locks.
            let before = self.open.get(name).filter(|file| file.stateid.other == stateid.other);
            let lock = before.and_then(|file| file.lock);
            self.open.insert(name, Open { handle: handle(&results[2]), stateid, lock });
        }
    }

    fn unmount(mut self, world: &mut World, dice: &mut Dice) {
        while let Some((_, file)) = self.open.pop_first() {
            let _ = self.ask(world, dice, &[putfh(&file.handle), close(file.stateid)]);
        }
        // DESTROY_SESSION comes from a connection of the session, so that one has to be there.
        let alive = (0..3).any(|_| self.ask(world, dice, &[]).is_ok());
        assert!(alive);
        world.send(&self.c, vec![destroy_session(self.c.session)]);
        world.send(&self.c, vec![Argop4::DestroyClientid(DestroyClientid4args { dca_clientid: self.c.id })]);
    }
}

fn fault(dice: &mut Dice) -> Rule {
    let action = match dice.below(12) {
        0..=2 => Action::Status(Nfs4Error::Delay),
        3 => Action::Status(dice.of(Nfs4Error::NAMED)),
        4 => Action::StatusAfter(dice.of(&[Nfs4Error::Io, Nfs4Error::Serverfault, Nfs4Error::Access])),
        5 => Action::Restart { stable_storage: dice.one_in(2), after: dice.one_in(2) },
        6 => Action::NewWriteVerifier,
        7 => Action::UnknownArm,
        8 => Action::Bytes(vec![dice.next() as u8; dice.below(30) as usize]),
        9 => Action::DropSessions,
        10 => Action::Revoke(dice.of(&[Nfs4Error::AdminRevoked, Nfs4Error::Expired])),
        _ => Action::Status(dice.of(&[Nfs4Error::Badsession, Nfs4Error::Deadsession, Nfs4Error::Badslot])),
    };
    // Half of them on SEQUENCE, which every call begins with.
    let opnum = if dice.one_in(2) { 53 } else { dice.of(OPERATIONS) };
    Rule { skip: dice.below(8), times: 1 + dice.below(2), ..Rule::once(opnum, action) }
}

fn play(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut world = if seed.is_multiple_of(2) { World::full() } else { World::s3files() };
    let mut clients: Vec<Honest> = ["one", "two"]
        .map(|owner| Honest { c: world.client(owner), open: BTreeMap::new(), owes_complete: false, late: Vec::new() })
        .into_iter()
        .collect();
    for _ in 0..60 {
        if dice.one_in(6) {
            world.server.plan_mut().add(fault(&mut dice));
        }
        if dice.one_in(30) {
            world.pass(Duration::from_secs(dice.below(120)));
        }
        let who = dice.below(2) as usize;
        clients[who].act(&mut world, &mut dice);
        assert!(world.mistakes().is_empty(), "{:?}", world.mistakes());
    }
    world.server.plan_mut().clear();
    for client in clients {
        client.unmount(&mut world, &mut dice);
    }
    let mistakes = world.server.at_end();
    assert!(mistakes.is_empty(), "{mistakes:?}");
}

/// The referee never accuses a correct client.
#[test]
fn an_honest_client_is_never_accused() {
    crate::random::for_each_seed(play);
}
