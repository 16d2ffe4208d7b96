//! The page cache and the read-ahead planner: both stand in the way of every read.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vfs::bench::{Cache, ReadAhead};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn pages(criterion: &mut Criterion) {
    let block = Bytes::from(vec![7; MIB as usize]);
    let mut group = criterion.benchmark_group("page cache");
    group.throughput(Throughput::Elements(1));
    group.bench_function("fill 1 MiB where 1 MiB must go", |bencher| {
        let mut cache = Cache::new(64 * MIB);
        let mut at = 0;
        bencher.iter(|| {
            cache.fill(at % 7, at * MIB, black_box(&block));
            at += 1;
        });
    });
    let small = block.slice(..4 * KIB as usize);
    group.bench_function("fill 4 KiB where 4 KiB must go", |bencher| {
        let mut cache = Cache::new(64 * MIB);
        let mut at = 0;
        bencher.iter(|| {
            cache.fill(at % 7, at * 8 * KIB, black_box(&small));
            at += 1;
        });
    });
    let mut cache = Cache::new(256 * MIB);
    (0..128).for_each(|number| cache.fill(1, number * MIB, &block));
    for (name, len) in [("read 4 KiB that is there", 4 * KIB), ("read 128 KiB that is there", 128 * KIB)] {
        group.bench_function(name, |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                at = (at + 37 * MIB + len) % (127 * MIB);
                assert_eq!(cache.read(1, black_box(at..at + len)), len as usize);
            });
        });
    }
    group.finish();
}

fn planner(criterion: &mut Criterion) {
    const SIZE: u64 = 1 << 40;
    let mut group = criterion.benchmark_group("read-ahead planner");
    group.throughput(Throughput::Elements(1));
    for (name, step) in [("straight on", 128 * KIB), ("in strides", 10 * MIB), ("anywhere", 7_919 * 4 * KIB)] {
        group.bench_function(name, |bencher| {
            let (mut planner, mut at) = (ReadAhead::default(), 0_u64);
            // Time stands still: reading the clock is not what is measured.
            let now = Instant::now();
            bencher.iter(|| {
                at = if name == "anywhere" { at * 31 + step } else { at + step } % (SIZE - 128 * KIB);
                planner.read(black_box(at..at + 128 * KIB), SIZE, at.is_multiple_of(MIB), 64 * MIB, now)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pages, planner);
criterion_main!(benches);
