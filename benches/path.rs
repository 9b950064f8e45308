//! Time of each stage of the pure path and of the cached look-up: `cargo bench --bench path`.

mod stages;

use criterion::{Criterion, criterion_group, criterion_main};

fn path(criterion: &mut Criterion) {
    let (mut bench, mut of_paths) = match (stages::Bench::with_tokens(false), stages::Bench::with_tokens(true)) {
        (Ok(bench), Ok(of_paths)) => (bench, of_paths),
        (Err(error), _) | (_, Err(error)) => return fail(&error.to_string()),
    };
    let mut group = criterion.benchmark_group("path");
    for stage in stages::STAGES {
        group.bench_function(stage, |b| b.iter(|| bench.run(stage).is_ok()));
    }
    group.bench_function("all", |b| b.iter(|| stages::STAGES.iter().all(|stage| bench.run(stage).is_ok())));
    for stage in stages::PATHS {
        group.bench_function(stage, |b| b.iter(|| of_paths.run(stage).is_ok()));
    }
    group.finish();
}

/// Reports a benchmark that cannot be set up, which must not look like a fast one.
#[expect(clippy::panic, reason = "the only way to fail a criterion run")]
fn fail(why: &str) {
    panic!("{why}");
}

criterion_group!(benches, path);
criterion_main!(benches);
