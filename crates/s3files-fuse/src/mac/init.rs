//! The first request of a FUSE kernel and its answer, as bytes: which of macFUSE's abilities are used.
//!
//! macFUSE speaks FUSE 7.19 with bits of its own from 23 on (fuser #751). fuser 0.18 asks for three of them whether a
//! file system has them or not, so the kernel's offer is cut down before fuser sees it, and what fuser does not know is
//! added to its answer.

/// Bytes of `fuse_in_header`.
const IN_HEADER: usize = 40;
/// Bytes of `fuse_out_header`.
const OUT_HEADER: usize = 16;
/// `FUSE_INIT`.
const INIT: u32 = 26;
/// Major version of everything that has ever been.
const MAJOR: u32 = 7;
/// Offset of `flags` in `fuse_init_in` and in `fuse_init_out`.
const FLAGS: usize = 12;
/// Most bytes of an answer that is taken: today's have 80.
pub const LARGEST_ANSWER: usize = 4096;

/// Several reads of one file may be under way. The same on Linux.
const ASYNC_READ: u32 = 1;
/// Lookups and reads of one file or folder take its lock together. Without it they queue up, each for its own round trip.
const NODE_RWLOCK: u32 = 1 << 24;

/// What fuser may see of an offer. Not RENAME_SWAP and RENAME_EXCL (bits 25 and 26): with them RENAME has another layout,
/// which fuser without libfuse does not know (fuser #341). Not CASE_INSENSITIVE (29): S3 Files tells `a` from `A`
/// (fuser #749). Not VOL_RENAME (30) and XTIMES (31): there is nothing behind them.
const SHOWN: u32 = ASYNC_READ;
/// What is accepted although fuser does not ask for it: requests about one file may come side by side here.
const ADDED: u32 = NODE_RWLOCK;

/// What an INIT was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Everything the kernel can.
    pub flags: u32,
    /// The kernel is of a later major version: it takes ours from the answer and sends INIT again.
    pub again: bool,
}

fn word(frame: &[u8], at: usize) -> Option<u32> {
    frame.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Cuts an offer down. `None` for anything but a whole INIT, which is left as it is: fuser has words for it.
pub fn cut(request: &mut [u8]) -> Option<Offer> {
    let length = usize::try_from(word(request, 0)?).ok()?;
    if word(request, 4)? != INIT || length != request.len() {
        return None;
    }
    let (major, flags) = (word(request, IN_HEADER)?, word(request, IN_HEADER + FLAGS)?);
    request[IN_HEADER + FLAGS..IN_HEADER + FLAGS + 4].copy_from_slice(&(flags & SHOWN).to_ne_bytes());
    Some(Offer { flags, again: major > MAJOR })
}

/// How long the answer is, whose first bytes are these.
pub fn answer_length(header: [u8; OUT_HEADER]) -> Option<usize> {
    let length = usize::try_from(word(&header, 0)?).ok()?;
    (OUT_HEADER..=LARGEST_ANSWER).contains(&length).then_some(length)
}

/// Bytes from which the length of an answer is known.
pub const ANSWER_HEADER: usize = OUT_HEADER;

/// Completes an answer. One that is an error or has no flags is left as it is.
pub fn complete(answer: &mut [u8], offer: Offer) {
    let at = OUT_HEADER + FLAGS;
    if word(answer, 4) != Some(0) || offer.again {
        return;
    }
    if let Some(flags) = word(answer, at) {
        let flags = (flags & SHOWN) | (offer.flags & ADDED);
        answer[at..at + 4].copy_from_slice(&flags.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::mac::frames;

    /// Everything that macFUSE 5 offers.
    const EVERYTHING: u32 = 0xff80_007f | 1 << 10;

    fn answer(error: i32, flags: u32) -> Vec<u8> {
        let words = [40, error as u32, 1, 0, 7, 19, 1 << 20, flags, 16 | 12 << 16, 1 << 20];
        words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
    }

    #[test]
    fn the_volume_is_never_declared_case_insensitive() {
        let mut request = frames::init(7, 19, EVERYTHING);
        let offer = cut(&mut request).unwrap();
        assert_eq!(offer, Offer { flags: EVERYTHING, again: false });
        assert_eq!(request, frames::init(7, 19, ASYNC_READ), "nothing else has changed");
        // As if fuser had asked for all of it in spite of that.
        let mut reply = answer(0, EVERYTHING);
        complete(&mut reply, offer);
        assert_eq!(reply, answer(0, ASYNC_READ | NODE_RWLOCK));
    }

    #[test]
    fn what_the_kernel_does_not_offer_is_not_accepted() {
        let mut request = frames::init(7, 19, ASYNC_READ);
        let offer = cut(&mut request).unwrap();
        let mut reply = answer(0, ASYNC_READ);
        complete(&mut reply, offer);
        assert_eq!(reply, answer(0, ASYNC_READ));
    }

    #[test]
    fn a_refusal_and_a_short_answer_go_out_as_they_are() {
        let offer = Offer { flags: EVERYTHING, again: false };
        for mut reply in [answer(-71, EVERYTHING), answer(0, EVERYTHING)[..24].to_vec(), Vec::new()] {
            let before = reply.clone();
            complete(&mut reply, offer);
            assert_eq!(reply, before);
        }
    }

    #[test]
    fn a_later_major_version_is_answered_with_ours_and_asked_again() {
        let mut request = frames::init(8, 0, EVERYTHING);
        let offer = cut(&mut request).unwrap();
        assert!(offer.again);
        let mut reply = answer(0, 0);
        complete(&mut reply, offer);
        assert_eq!(reply, answer(0, 0));
    }

    #[test]
    fn only_a_whole_init_is_touched() {
        let whole = frames::init(7, 19, EVERYTHING);
        let mut lookup = whole.clone();
        lookup[4] = 1;
        for bytes in [lookup, whole[..50].to_vec(), whole[..3].to_vec(), Vec::new(), [whole.clone(), vec![0]].concat()]
        {
            let mut request = bytes.clone();
            assert_eq!(cut(&mut request), None);
            assert_eq!(request, bytes);
        }
    }

    #[test]
    fn an_answer_is_never_believed_to_be_endless() {
        let header = |length: u32| {
            let mut header = [0; OUT_HEADER];
            header[..4].copy_from_slice(&length.to_ne_bytes());
            header
        };
        assert_eq!(answer_length(header(40)), Some(40));
        for bad in [0, 15, 4097, u32::MAX] {
            assert_eq!(answer_length(header(bad)), None, "{bad}");
        }
    }
}
