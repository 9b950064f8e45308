//! Where a browser may be sent: what is admitted is within an entry of the list, also as a browser reads it.
#![no_main]

use durward::decide::return_to::{ReturnRule, ReturnRules};
use libfuzzer_sys::fuzz_target;
use url::Url;

/// The operator's entries: an origin, an origin with a path, a page of a developer.
const ENTRIES: [&str; 3] = ["https://app.example.com", "https://www.example.com/portal", "http://localhost:3000"];

/// The page whose `Location` a browser follows. An address that a browser took as relative would lead to another place from here.
const PAGE: &str = "https://api.example.com/v1/auth/sso/callback?code=a&state=b";

/// What the browser follows, by the URL Standard.
fn followed(address: &str) -> Url {
    let page = Url::parse(PAGE).unwrap();
    page.join(address).unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// Whether the path of a URL begins with the segments of a prefix that does not end with a slash.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What follows the origin in an address, up to its query.
fn path_of(address: &str) -> &str {
    let authority = address.split_once("://").unwrap().1;
    let rest = authority.find(['/', '?', '#']).map_or("", |at| &authority[at..]);
    rest.split(['?', '#']).next().unwrap_or_default()
}

fn judge(entries: &[&str], address: &str) {
    let rules = entries.iter().map(|entry| ReturnRule::parse(entry).unwrap()).collect();
    let rules = ReturnRules::new(rules).unwrap();
    if !rules.admit(address) {
        return;
    }
    let url = followed(address);
    assert_eq!(Url::parse(address).as_ref(), Ok(&url), "{address} is absolute");
    assert!(url.username().is_empty() && url.password().is_none(), "{address}");
    // No reader changes the path, so that the page that was judged is the page that is asked for.
    let path = path_of(address);
    assert_eq!(url.path(), if path.is_empty() { "/" } else { path }, "{address}");
    let within = |entry: &&str| {
        let entry = Url::parse(entry).unwrap();
        entry.origin() == url.origin() && is_below(url.path(), entry.path().trim_end_matches('/'))
    };
    assert!(entries.iter().any(within), "{address} is within none of {entries:?}");
    assert!(address.bytes().all(|b| b.is_ascii_graphic()), "{address}");
}

/// An entry that is taken is read as browsers read it.
fn judge_entry(entry: &str) -> bool {
    let Ok(rule) = ReturnRule::parse(entry) else { return false };
    // A browser refuses a name whose Punycode is none, and follows nothing then.
    let Ok(url) = Url::parse(entry) else {
        assert!(entry.contains("xn--"), "{entry}");
        return false;
    };
    let (scheme, rest) = entry.split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap();
    assert_eq!(url.origin().ascii_serialization(), format!("{scheme}://{authority}"));
    let rules = ReturnRules::new(vec![rule]).unwrap();
    let first = rules.first();
    assert!(rules.admit(&first), "{entry} sends to {first}, which it does not admit");
    assert_eq!(followed(&first).origin(), url.origin());
    true
}

// The first byte chooses: the list above or an entry of the input (its first line), and what stands before the rest of the address.
fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (entry, address) = text.split_once('\n').unwrap_or((text, text));
    let is_entry = judge_entry(entry);
    let entries = if choice & 1 == 1 && is_entry {
        vec![entry]
    } else {
        ENTRIES.to_vec()
    };
    let begins = match choice >> 1 & 3 {
        0 => "",
        1 => entries[0],
        2 => ENTRIES[1],
        _ => "https://",
    };
    judge(&entries, &format!("{begins}{address}"));
});
