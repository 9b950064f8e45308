//! Whatever stands in the files: a report or a configuration, never a panic, and never a place outside the file.

use proptest::prelude::*;

use super::*;

/// The shipped files with some stretches replaced by others.
fn damaged() -> impl Strategy<Value = (String, String)> {
    let edit = (
        any::<prop::sample::Index>(),
        0..12_usize,
        "[\"'\\[\\]{}=.,#a-z0-9\n\\\\ äß/:*_-]{0,12}",
    );
    (prop::collection::vec(edit.clone(), 0..6), prop::collection::vec(edit, 0..6)).prop_map(|(a, b)| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
        (apply(&read("gateway.toml"), &a), apply(&read("upstreams/escrow.toml"), &b))
    })
}

fn apply(text: &str, edits: &[(prop::sample::Index, usize, String)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, len, new) in edits {
        let at = at.index(chars.len() + 1);
        let end = (at + len).min(chars.len());
        chars.splice(at..end, new.chars());
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_reported_within_themselves((gateway, upstream) in damaged()) {
        let files = table(&[("gateway.toml", &gateway), ("upstreams/escrow.toml", &upstream)]);
        if let Err(errors) = check(&files) {
            prop_assert!((1..=report::MAX_PROBLEMS).contains(&errors.problems.len()));
            for d in errors.problems.iter() {
                let lines = files.files.get(&d.file).map_or(0, |f| f.split(|b| *b == b'\n').count());
                prop_assert!(d.line <= lines.max(1), "{}", d);
            }
            prop_assert!(!errors.problems.render(RenderStyle::Plain).is_empty());
        }
    }
}
