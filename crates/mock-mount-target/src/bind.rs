//! The AWSFILE program's own procedures: `bind_client_to_partition` and `channel_init` (PROTOCOL.md §3).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use nfs4::awsfile::{
    BindClientResponse, BindResponse, ChannelConfig, ChannelInitArgs, ChannelInitRes, ChannelOffer, PartitionId,
    ProxyIdentifier, ReadBypassOffer, ReadBypassOfferV2, ScaleUpConfig,
};
use nfs4::xdr;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::service::ConnInfo;

/// What bind answers instead of READY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindFault {
    /// Drop the connection and try again.
    Retry,
    /// Stop, and come back in five minutes.
    RetryLater,
    /// Another connection may reach the partition.
    Preferred,
    /// Refused.
    Error,
    /// READY, for another partition.
    OtherPartition,
    /// A union with an arm that does not exist.
    UnknownArm,
}

/// The bucket behind the file system, as `channel_init` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// The prefix of the file system in it.
    pub prefix: String,
}

/// Answers bind and channel_init.
#[derive(Debug)]
pub(crate) struct Binder {
    partition: [u8; 64],
    other_partition: [u8; 64],
    scale_up: ScaleUpConfig,
    bucket: Option<Bucket>,
    faults: Mutex<VecDeque<BindFault>>,
}

/// A request that no client of the protocol sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mistake(pub &'static str);

impl Binder {
    /// A binder whose partition comes from `seed`.
    pub(crate) fn new(seed: u64, bucket: Option<Bucket>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut partition = || {
            let mut id = [0; 64];
            random.fill_bytes(&mut id);
            id
        };
        Self {
            partition: partition(),
            other_partition: partition(),
            scale_up: ScaleUpConfig {
                max_multiplexed_connections: 5,
                scale_up_bytes_per_sec_threshold: 300 << 20,
                scale_up_threshold_breached_duration_sec: 1,
                scale_up_lookback_window_size_sec: 1,
            },
            bucket,
            faults: Mutex::default(),
        }
    }

    /// The partition that READY names.
    pub(crate) fn partition(&self) -> [u8; 64] {
        self.partition
    }

    /// The next binds get these answers, one each.
    pub(crate) fn fail_next(&self, faults: impl IntoIterator<Item = BindFault>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// The answer to bind: results, and what was wrong with the request. `None` is GARBAGE_ARGS.
    /// `fault` is what the plan wants instead of READY.
    pub(crate) fn bind(
        &self,
        conn: &ConnInfo,
        args: Bytes,
        fault: Option<BindFault>,
    ) -> (Option<Bytes>, Option<Mistake>) {
        let Ok(identifier) = xdr::from_bytes::<ProxyIdentifier>(args) else {
            return (None, Some(Mistake("a bind that does not decode")));
        };
        let incarnation = <[u8; 8]>::try_from(&identifier.incarnation[..]).map(i64::from_be_bytes);
        if identifier.identifier.len() != 16 || !incarnation.is_ok_and(|n| n >= 0) {
            let mistake = "a bind whose identifier or incarnation has the wrong size or sign";
            return (None, Some(Mistake(mistake)));
        }
        let fault = fault.or_else(|| self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front());
        let mut mistake = None;
        let mut ready = |partition| {
            if !conn.bind(partition) {
                mistake = Some(Mistake("a connection is bound a second time"));
            }
            BindResponse::Ready(PartitionId(partition))
        };
        let bind_response = match fault {
            None => ready(self.partition),
            Some(BindFault::OtherPartition) => ready(self.other_partition),
            Some(BindFault::Retry) => BindResponse::Retry("busy, as the plan says".into()),
            Some(BindFault::RetryLater) => BindResponse::RetryLater("later, as the plan says".into()),
            Some(BindFault::Preferred) => BindResponse::Preferred(PartitionId(self.partition)),
            Some(BindFault::Error) => BindResponse::Error("refused, as the plan says".into()),
            Some(BindFault::UnknownArm) => {
                return (Some(Bytes::from_static(&[0x7f; 32])), None);
            }
        };
        let response = BindClientResponse { bind_response, scale_up_config: self.scale_up.clone() };
        (xdr::to_bytes(&response).ok(), mistake)
    }

    /// The answer to channel_init; `None` is GARBAGE_ARGS.
    pub(crate) fn channel_init(&self, args: Bytes) -> (Option<Bytes>, Option<Mistake>) {
        let Ok(args) = xdr::from_bytes::<ChannelInitArgs>(args) else {
            return (None, Some(Mistake("a channel_init that does not decode")));
        };
        let result = if args.minor_version == 2 {
            let offers: Vec<ChannelOffer> = args.configs.iter().map(|wish| self.offer(wish)).collect();
            ChannelInitRes::Ok(offers.into())
        } else {
            ChannelInitRes::Inval
        };
        (xdr::to_bytes(&result).ok(), None)
    }

    fn offer(&self, wish: &ChannelConfig) -> ChannelOffer {
        let (name, prefix) = self.bucket.as_ref().map_or(("", ""), |bucket| (&bucket.name, &bucket.prefix));
        let there_is = self.bucket.is_some();
        match wish {
            ChannelConfig::ReadBypass(wish) => ChannelOffer::ReadBypass(ReadBypassOffer {
                enabled: wish.enabled && there_is,
                bucket_name: name.into(),
                prefix: prefix.into(),
            }),
            ChannelConfig::ReadBypassV2(wish) => ChannelOffer::ReadBypassV2(ReadBypassOfferV2 {
                enabled: wish.enabled && there_is,
                bucket_name: name.into(),
                prefix: prefix.into(),
                readahead_cache_enabled: wish.enabled && there_is,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nfs4::awsfile::ReadBypassConfig;

    fn conn() -> ConnInfo {
        ConnInfo::new(1, None, None)
    }

    fn identifier() -> Bytes {
        xdr::to_bytes(&ProxyIdentifier::new([9; 16], 1)).unwrap()
    }

    fn answer(binder: &Binder, conn: &ConnInfo) -> BindResponse {
        let (results, _) = binder.bind(conn, identifier(), None);
        xdr::from_bytes::<BindClientResponse>(results.unwrap()).unwrap().bind_response
    }

    #[test]
    fn bind_answers_ready_and_every_other_answer_on_demand() {
        use BindFault::{Error, OtherPartition, Preferred, Retry, RetryLater, UnknownArm};
        let binder = Binder::new(1, None);
        binder.fail_next([Retry, RetryLater, Preferred, Error, OtherPartition]);
        let unbound = conn();
        assert!(matches!(answer(&binder, &unbound), BindResponse::Retry(_)));
        assert!(matches!(answer(&binder, &unbound), BindResponse::RetryLater(_)));
        assert!(matches!(answer(&binder, &unbound), BindResponse::Preferred(_)));
        assert!(matches!(answer(&binder, &unbound), BindResponse::Error(_)));
        assert_eq!(unbound.partition(), None);
        let other = conn();
        assert!(matches!(answer(&binder, &other), BindResponse::Ready(p) if p.0 != binder.partition()));
        let ready = conn();
        assert!(matches!(answer(&binder, &ready), BindResponse::Ready(p) if p.0 == binder.partition()));
        assert_eq!(ready.partition(), Some(binder.partition()));
        assert!(binder.bind(&ready, identifier(), None).1.is_some());
        binder.fail_next([UnknownArm]);
        let (results, _) = binder.bind(&conn(), identifier(), None);
        assert!(xdr::from_bytes::<BindClientResponse>(results.unwrap()).is_err());
    }

    #[test]
    fn an_identifier_of_the_wrong_size_is_garbage() {
        let binder = Binder::new(1, None);
        let short = ProxyIdentifier { identifier: vec![1; 15].into(), incarnation: vec![0; 8].into() };
        let negative = ProxyIdentifier::new([1; 16], -1);
        for bad in
            [xdr::to_bytes(&short).unwrap(), xdr::to_bytes(&negative).unwrap(), Bytes::from_static(b"\0\0\0\x10")]
        {
            let (results, mistake) = binder.bind(&conn(), bad, None);
            assert!(results.is_none() && mistake.is_some());
        }
    }

    #[test]
    fn direct_reads_are_offered_where_there_is_a_bucket() {
        let args = |minor_version| {
            xdr::to_bytes(&ChannelInitArgs {
                minor_version,
                configs: vec![ChannelConfig::ReadBypass(ReadBypassConfig { enabled: true })].into(),
            })
            .unwrap()
        };
        let offered = |bucket| {
            let (results, _) = Binder::new(1, bucket).channel_init(args(2));
            match xdr::from_bytes::<ChannelInitRes>(results.unwrap()).unwrap() {
                ChannelInitRes::Ok(offers) => match &offers[0] {
                    ChannelOffer::ReadBypass(offer) => offer.enabled,
                    ChannelOffer::ReadBypassV2(_) => panic!("the other form was asked for"),
                },
                other => panic!("{other:?}"),
            }
        };
        let bucket = Bucket { name: "b".into(), prefix: "p/".into() };
        assert!(offered(Some(bucket)));
        assert!(!offered(None));
        let (results, _) = Binder::new(1, None).channel_init(args(1));
        assert_eq!(xdr::from_bytes::<ChannelInitRes>(results.unwrap()).unwrap(), ChannelInitRes::Inval);
    }
}
