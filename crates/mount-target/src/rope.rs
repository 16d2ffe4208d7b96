//! Records on their way out, as a list of shared segments that go into vectored writes without being copied.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Segments in order; what was written falls off the front.
#[derive(Debug, Default)]
pub struct Rope {
    segments: VecDeque<Bytes>,
    remaining: usize,
}

impl Rope {
    /// Appends segments.
    pub fn extend(&mut self, segments: impl IntoIterator<Item = Bytes>) {
        for segment in segments {
            if !segment.is_empty() {
                self.remaining += segment.len();
                self.segments.push_back(segment);
            }
        }
    }

    /// How many segments are left.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&[], |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            *slice = IoSlice::new(segment);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "a rope cannot be advanced past its end");
        self.remaining -= count;
        while let Some(front) = self.segments.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rope_yields_its_segments_bytes_whatever_the_steps(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..10), step in 1usize..30
        ) {
            let mut rope = Rope::default();
            rope.extend(parts.iter().cloned().map(Bytes::from));
            let mut out: Vec<u8> = Vec::new();
            while rope.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = rope.chunks_vectored(&mut slices);
                let gathered: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
                let take = step.min(gathered.len());
                out.extend(&gathered[..take]);
                rope.advance(take);
            }
            prop_assert_eq!(out, parts.concat());
            prop_assert_eq!(rope.segments(), 0);
        }
    }
}
