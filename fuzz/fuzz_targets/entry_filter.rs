//! The query and the cursor with which a tenant asks for its entries: no input panics, and what is accepted is within its bounds and
//! comes back in the link to the next page.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use durward::issue::entry_filter::{FILTERS, parse};
use durward::issue::trail_reader::TrailReader;
use libfuzzer_sys::fuzz_target;

fn reader() -> &'static TrailReader {
    static READER: OnceLock<TrailReader> = OnceLock::new();
    READER.get_or_init(|| TrailReader::new(Path::new("/nowhere")).expect("randomness"))
}

fuzz_target!(|query: &str| {
    // Nobody but the process that sealed it can make a cursor.
    assert!(reader().position(query).is_none());
    let Ok((page, filter)) = parse(Some(query), None) else {
        return;
    };
    assert!((1..=1_000).contains(&page.limit));
    assert!(page.filters.len() <= FILTERS.len());
    assert!(page.filters.iter().all(|(_, value)| value.len() <= 255));
    let link = page.link("next");
    let next = link
        .strip_prefix("<?")
        .and_then(|link| link.strip_suffix(">; rel=\"next\""))
        .expect("a link");
    let (again, same) = parse(Some(next), None).expect("its own link");
    assert_eq!((again.limit, again.filters, same), (page.limit, page.filters, filter));
});
