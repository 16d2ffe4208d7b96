//! The S3 end of direct reads: GetObject over HTTP on loopback, with Range, If-Match and versionId. The signature (SigV4)
//! is verified by the `s3s` crate, against the same credentials as the mount target's.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hyper_util::rt::TokioIo;
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::{ETag, ETagCondition, GetObjectInput, GetObjectOutput, StreamingBlob};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bind::Bucket;
use crate::clock::Clock;
use crate::iam::Iam;
use crate::link::{self, Link};
use crate::objects::{Missing, Objects, S3Fault};

/// How much earlier the head and the first bytes of a broken body leave than the connection breaks.
const HEAD_START: Duration = Duration::from_millis(20);

/// The bucket as a service.
#[derive(Clone)]
pub(crate) struct S3End {
    pub bucket: Bucket,
    pub region: String,
    pub objects: Arc<Objects>,
    pub iam: Arc<Iam>,
    pub link: Arc<Link>,
    pub clock: Arc<Clock>,
}

impl S3End {
    /// Serves connections until `stop`; then ends them all.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let keys = Keys(Arc::clone(&self.iam));
        let link = Arc::clone(&self.link);
        let mut builder = S3ServiceBuilder::new(self);
        builder.set_auth(keys);
        let service = builder.build();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(attend(stream, service.clone(), Arc::clone(&link)));
                    } else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        }
        connections.shutdown().await;
    }

    fn check_caller(&self, request: &S3Request<GetObjectInput>) -> S3Result<()> {
        let credentials =
            request.credentials.as_ref().ok_or_else(|| s3_error!(AccessDenied, "a signature is required"))?;
        if request.region.as_ref().is_some_and(|region| region.as_str() != self.region) {
            return Err(s3_error!(AuthorizationHeaderMalformed, "the region is wrong"));
        }
        let known = self.iam.credentials(&credentials.access_key);
        let token = request.headers.get("x-amz-security-token").and_then(|token| token.to_str().ok());
        match known {
            Some(known) if known.session_token.as_deref() == token => Ok(()),
            _ => Err(s3_error!(InvalidToken, "the session token does not belong to the key")),
        }
    }

    fn find(&self, input: &GetObjectInput) -> S3Result<(ETag, String, Bytes)> {
        if input.bucket != self.bucket.name {
            return Err(s3_error!(NoSuchBucket));
        }
        let has_tag = |etag: &str| match &input.if_match {
            None | Some(ETagCondition::Any) => true,
            Some(ETagCondition::ETag(wanted)) => wanted.as_strong() == Some(etag),
        };
        match self.objects.get(&input.key, input.version_id.as_deref(), has_tag) {
            Ok((version, bytes)) => Ok((ETag::Strong(version.etag), version.id, bytes)),
            Err(Missing::Key) => Err(s3_error!(NoSuchKey)),
            Err(Missing::Version) => Err(s3_error!(NoSuchVersion)),
            Err(Missing::OtherEtag) => Err(s3_error!(PreconditionFailed)),
        }
    }
}

async fn attend(stream: TcpStream, service: S3Service, link: Arc<Link>) {
    let _ = stream.set_nodelay(true);
    link.round_trips(1).await;
    let serving = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new())
        .http1_only()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = serving {
        tracing::debug!(%error, "a connection to S3 ended");
    }
}

struct Keys(Arc<Iam>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.credentials(access_key) {
            Some(credentials) => Ok(SecretKey::from(credentials.secret_access_key)),
            None => Err(s3_error!(InvalidAccessKeyId)),
        }
    }
}

#[async_trait::async_trait]
impl S3 for S3End {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.check_caller(&request)?;
        let input = request.input;
        let fault = self.objects.judge(&input.key, self.clock.running());
        match fault {
            Some(S3Fault::Forbidden) => return Err(s3_error!(AccessDenied)),
            Some(S3Fault::NotFound) => return Err(s3_error!(NoSuchKey)),
            Some(S3Fault::PreconditionFailed) => return Err(s3_error!(PreconditionFailed)),
            Some(S3Fault::SlowDown) => return Err(s3_error!(SlowDown)),
            _ => {}
        }
        let (e_tag, version_id, bytes) = self.find(&input)?;
        let full = bytes.len() as u64;
        let range = match &input.range {
            Some(range) => range.check(full).map_err(|_| s3_error!(InvalidRange))?,
            None => 0..full,
        };
        let mut body = bytes.slice(range.start as usize..range.end as usize);
        if let Some(S3Fault::Short(most)) = fault {
            body.truncate(most as usize);
        }
        let end = range.start + body.len() as u64;
        let content_range =
            input.range.is_some().then(|| format!("bytes {}-{}/{full}", range.start, end.max(range.start + 1) - 1));
        if let Some(due) = self.link.outbound(body.len()) {
            link::until(due).await;
        }
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(body.len() as i64),
            content_range,
            accept_ranges: Some("bytes".into()),
            e_tag: Some(e_tag),
            version_id: Some(version_id),
            body: Some(body_with(fault, body)),
            ..GetObjectOutput::default()
        }))
    }
}

/// The body, broken or stalled where the fault says so.
fn body_with(fault: Option<S3Fault>, body: Bytes) -> StreamingBlob {
    match fault {
        Some(S3Fault::CutBody(bytes)) => {
            let part = body.slice(..body.len().min(bytes as usize));
            in_parts([(Duration::ZERO, Some(part)), (HEAD_START, None)])
        }
        Some(S3Fault::Stall(wait)) => {
            let (first, rest) = (body.slice(..body.len() / 2), body.slice(body.len() / 2..));
            in_parts([(Duration::ZERO, Some(first)), (wait, Some(rest))])
        }
        _ => StreamingBlob::from(s3s::Body::from(body)),
    }
}

/// Parts of a body, each after a wait; nothing in place of a part breaks the connection.
fn in_parts(parts: [(Duration, Option<Bytes>); 2]) -> StreamingBlob {
    StreamingBlob::wrap(stream::unfold(parts.into_iter(), |mut parts| async move {
        let (wait, part) = parts.next()?;
        tokio::time::sleep(wait).await;
        Some((part.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted)), parts))
    }))
}
