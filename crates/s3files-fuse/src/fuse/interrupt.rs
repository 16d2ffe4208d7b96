//! Ctrl-C for a program that waits for a server out of reach.
//!
//! Once the kernel has handed a request over, the program that made it waits for the answer whatever signals come: even
//! SIGKILL. The kernel tells file systems of such signals (FUSE_INTERRUPT), but fuser does not pass that on. So whoever
//! waits long is looked at, and when it has been told to end, its request is answered EINTR.
//!
//! That goes for requests that only ask, and for opening. What changes something is waited for: nobody could say afterwards
//! whether it was done.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::oneshot;
use vfs::{Error, Result};

use super::caller::Caller;

/// How long a program waits before it is looked at, and how often then: rare enough to cost nothing, soon enough for a
/// finger on Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The answer to a question, unless the caller is told to end while it waits.
pub async fn unless_told_to_end<T>(caller: Caller, question: impl Future<Output = Result<T>>) -> Result<T> {
    let mut question = pin!(question);
    loop {
        // The answer first: most come at once, and then no clock is set.
        tokio::select! {
            biased;
            answer = &mut question => return answer,
            () = tokio::time::sleep(LOOK_EVERY) => {
                if caller.is_told_to_end() {
                    return Err(Error::Interrupted);
                }
            }
        }
    }
}

/// The same for work that leaves something behind: it goes on alone, and `undo` gets what comes of it.
pub async fn or_undone<T, U>(
    caller: Caller,
    work: impl Future<Output = Result<T>> + Send + 'static,
    undo: impl FnOnce(T) -> U + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    U: Future<Output = ()> + Send,
{
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(Ok(left)) = tell.send(work.await) {
            undo(left).await;
        }
    });
    unless_told_to_end(caller, async { told.await.unwrap_or(Err(Error::Closed)) }).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// A process that is no more has been told to end, as far as its request goes.
    fn gone() -> Caller {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        Caller::of_process(pid)
    }

    #[tokio::test]
    async fn an_answer_that_is_there_is_given_whoever_asks() {
        assert_eq!(unless_told_to_end(gone(), async { Ok(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn what_comes_of_work_that_nobody_waits_for_is_undone() {
        let (go, wait) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let work = async move {
            wait.await.unwrap();
            Ok(7)
        };
        let undo = |left| async move { tell.send(left).unwrap() };
        assert!(matches!(or_undone(gone(), work, undo).await, Err(Error::Interrupted)));
        go.send(()).unwrap();
        assert_eq!(told.await.unwrap(), 7);
    }
}
