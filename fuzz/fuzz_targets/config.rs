//! Any two texts as configuration: no panic, a bounded report whose every place lies in its file, and no
//! literal secret in it.
#![no_main]

use std::path::Path;

use durward::config::{InMemory, Purpose, RenderStyle, load_from};
use libfuzzer_sys::fuzz_target;

/// Stands between `gateway.toml` and the upstream file in an input.
const SEPARATOR: &str = "\n#####\n";
/// Where an input wants a secret to be: a reference or not, it may not be shown.
const CANARY: &str = "canary0123456789abcdef0123456789abcdef";

fuzz_target!(|text: &str| {
    let (gateway, upstream) = text.split_once(SEPARATOR).unwrap_or((text, ""));
    let mut files = InMemory::default();
    files.files.insert("/c/gateway.toml".into(), gateway.as_bytes().to_vec());
    files.files.insert("/c/upstreams/u.toml".into(), upstream.as_bytes().to_vec());
    files.variables.insert("S".into(), CANARY.into());
    match load_from(Path::new("/c/gateway.toml"), Purpose::Check, &files) {
        Ok(loaded) => assert!(!format!("{loaded:?}").contains(CANARY)),
        Err(errors) => {
            assert!(!errors.problems.is_empty());
            for diagnosis in errors.problems.iter() {
                let file = files.files.get(&diagnosis.file);
                let lines = file.map_or(0, |f| f.split(|b| *b == b'\n').count());
                assert!(diagnosis.line <= lines.max(1));
            }
            let shown = errors.problems.render(RenderStyle::Plain);
            // What the input itself says outside of secrets may of course be shown.
            assert!(text.contains(CANARY) || !shown.contains(CANARY));
        }
    }
});
