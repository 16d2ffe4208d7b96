//! Notices that the machine has slept, or that its network is another one, and has the connections checked.
//!
//! A connection that went meanwhile says nothing: TCP would take a minute or more to miss it. Every few seconds two clocks
//! are compared, one that stands still while the machine sleeps ([`Instant`] on Linux and on a Mac) and the wall's, and the
//! addresses of this machine with those of before. What was noticed is decided in [`Watch`]; what follows from it is the
//! client's.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use nfs4_client::Client;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use tokio::time::{MissedTickBehavior, interval};

/// How often to look.
const LOOK: Duration = Duration::from_secs(3);
/// The wall's clock is corrected by a second now and then; sleep is longer.
const SLEPT: Duration = Duration::from_secs(5);
/// This process did not run for so long: it was stopped, or the whole machine was, with all of its clocks.
const STOOD_STILL: Duration = Duration::from_secs(20);

/// What is seen at one moment.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Stands still while the machine sleeps.
    pub running: Instant,
    /// Goes on, and may be set.
    pub wall: SystemTime,
    /// By which this machine can be reached; `None`: nobody knows.
    pub network: Option<Network>,
}

/// The addresses of this machine, each with its interface.
pub type Network = BTreeSet<(String, IpAddr)>;

/// A reason to check the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noticed {
    /// How long the machine slept, as far as the clocks tell.
    pub slept: Duration,
    /// Addresses came or went.
    pub network: bool,
}

/// Compares each moment with the one before.
#[derive(Debug)]
pub struct Watch {
    before: Moment,
}

impl Watch {
    /// Compares with `now` first.
    pub fn new(now: Moment) -> Self {
        Self { before: now }
    }

    /// What happened since the last look.
    pub fn look(&mut self, mut now: Moment) -> Option<Noticed> {
        let Moment { running, wall, network } = &self.before;
        let ran = now.running.saturating_duration_since(*running);
        // Set back, the clock tells nothing about sleep.
        let passed = now.wall.duration_since(*wall).unwrap_or_default();
        let slept = Some(passed.saturating_sub(ran)).filter(|slept| *slept >= SLEPT).unwrap_or_default();
        let changed = matches!((network, &now.network), (Some(before), Some(now)) if before != now);
        if now.network.is_none() {
            now.network = self.before.network.take();
        }
        self.before = now;
        (!slept.is_zero() || ran >= STOOD_STILL || changed).then_some(Noticed { slept, network: changed })
    }
}

/// Has the connections of `client` checked whenever there is a reason, for as long as it is awaited.
pub async fn watch(client: Client) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::new(moment());
    loop {
        ticks.tick().await;
        if let Some(noticed) = watch.look(moment()) {
            tracing::info!(?noticed, "the machine slept or its network changed; the connections are checked");
            client.check_now(noticed.slept);
        }
    }
}

fn moment() -> Moment {
    let network = getifaddrs().map(|all| all.filter_map(|one| reachable(&one)).collect());
    Moment { running: Instant::now(), wall: SystemTime::now(), network: network.ok() }
}

/// An address that leads anywhere. Those of a link alone come and go with containers and virtual machines.
fn reachable(one: &InterfaceAddress) -> Option<(String, IpAddr)> {
    let address = address(one.address.as_ref()?)?;
    let is_local = match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    };
    let is_up = one.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
    (is_up && !is_local).then(|| (one.interface_name.clone(), address))
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(start: &Moment, running: u32, wall: u32, network: &[&str]) -> Moment {
        let network = network.iter().map(|address| ("en0".to_owned(), address.parse().unwrap())).collect();
        Moment { running: start.running + SECOND * running, wall: start.wall + SECOND * wall, network: Some(network) }
    }

    fn start() -> Moment {
        let start = Moment { running: Instant::now(), wall: SystemTime::now(), network: None };
        at(&start, 0, 0, &["10.0.0.1"])
    }

    fn slept(seconds: u32) -> Noticed {
        Noticed { slept: SECOND * seconds, network: false }
    }

    #[test]
    fn a_night_s_sleep_is_seen_once_and_its_length_told() {
        let start = start();
        let mut watch = Watch::new(start.clone());
        assert_eq!(watch.look(at(&start, 3, 3, &["10.0.0.1"])), None);
        assert_eq!(watch.look(at(&start, 5, 30_005, &["10.0.0.1"])), Some(slept(30_000)));
        assert_eq!(watch.look(at(&start, 8, 30_008, &["10.0.0.1"])), None);
    }

    #[test]
    fn a_clock_that_is_corrected_or_set_back_is_no_sleep() {
        let start = start();
        let mut watch = Watch::new(start.clone());
        assert_eq!(watch.look(at(&start, 3, 5, &["10.0.0.1"])), None);
        let back = Moment { wall: start.wall - SECOND * 3600, ..at(&start, 6, 0, &["10.0.0.1"]) };
        assert_eq!(watch.look(back), None);
    }

    #[test]
    fn a_process_that_stood_still_looks_too_though_nobody_slept() {
        let start = start();
        let mut watch = Watch::new(start.clone());
        assert_eq!(watch.look(at(&start, 100, 100, &["10.0.0.1"])), Some(slept(0)));
    }

    #[test]
    fn addresses_that_come_or_go_are_a_change_and_not_knowing_them_is_none() {
        let start = start();
        let mut watch = Watch::new(start.clone());
        let change = Some(Noticed { slept: Duration::ZERO, network: true });
        assert_eq!(watch.look(at(&start, 3, 3, &["10.0.0.1", "192.168.1.7"])), change);
        assert_eq!(watch.look(at(&start, 6, 6, &[])), change);
        assert_eq!(watch.look(Moment { network: None, ..at(&start, 9, 9, &[]) }), None);
        assert_eq!(watch.look(at(&start, 12, 12, &[])), None, "what was known before still counts");
        assert_eq!(watch.look(at(&start, 15, 15, &["192.168.1.7"])), change);
        assert_eq!(watch.look(at(&start, 18, 18, &["192.168.1.7"])), None);
    }

    proptest! {
        /// However the clocks go, in looks as close as they are taken: sleep is told if and only if there was some, and no
        /// longer than it was, but for what a second of drift adds.
        #[test]
        fn sleep_is_told_when_there_was_some_and_only_then(
            steps in proptest::collection::vec((0u32..19, prop_oneof![Just(0u32), 7..100_000u32], 0u32..2), 1..50)
        ) {
            let start = start();
            let mut watch = Watch::new(start.clone());
            let (mut running, mut wall) = (0, 0);
            for (ran, asleep, drift) in steps {
                running += ran;
                wall += ran + asleep + drift;
                let noticed = watch.look(at(&start, running, wall, &["10.0.0.1"]));
                prop_assert_eq!(noticed, (asleep > 0).then(|| slept(asleep + drift)));
            }
        }
    }

    #[test]
    fn this_machine_s_own_addresses_do_not_change_between_two_looks() {
        let mut watch = Watch::new(moment());
        assert!(watch.before.network.as_ref().is_some_and(|known| known.iter().all(|(_, ip)| !ip.is_loopback())));
        assert_eq!(watch.look(moment()), None);
    }
}
