//! Properties of the canonical path over generated hostile targets, against models of how services
//! read paths.

use proptest::prelude::*;

use super::super::*;

/// Pieces that confuse somebody, and some that confuse nobody.
const FRAGMENTS: &[&str] = &[
    "/",
    "/",
    "/",
    "//",
    ".",
    "..",
    "...",
    "%2e",
    "%2E",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    ";",
    ";a=b",
    "%3b",
    "%3B",
    "%25",
    "%252e",
    "%252f",
    "%32%65",
    "%00",
    "%0a",
    "%20",
    " ",
    "%7f",
    "%c0%ae",
    "%ef%bc%8e",
    "%EF%BC%8F",
    "%e2%80%a4",
    "%c3%a4",
    "\u{ff0e}",
    "ä",
    "admin",
    "Admin",
    "%61dmin",
    "public",
    "a",
    "%41",
    "+",
    "%2B",
    "%3a",
    ":",
    "@",
    "%40",
    "~",
    "%7e",
    "#",
    "%23",
    "?",
    "%3f",
    "%",
    "%2",
    "%zz",
    "|",
    "%7c",
    "%u002e",
    "&",
    "=",
    ",",
    "[",
    "{",
    "%255c",
    "%2520",
    "%2561",
    "%25252e",
    "%25c0%25ae",
    "%e2%80%a6",
    "%ef%bc%852e",
];

/// What a service does to a path before it routes.
struct Reader {
    name: &'static str,
    cuts_parameters: bool,
    decodes: usize,
    backslash_is_slash: bool,
    trims: bool,
}

const READERS: &[Reader] = &[
    Reader {
        name: "servlet",
        cuts_parameters: true,
        decodes: 1,
        backslash_is_slash: true,
        trims: false,
    },
    Reader {
        name: "decode first, then cut",
        cuts_parameters: true,
        decodes: 2,
        backslash_is_slash: true,
        trims: false,
    },
    Reader {
        name: "php, nginx",
        cuts_parameters: false,
        decodes: 1,
        backslash_is_slash: false,
        trims: false,
    },
    Reader {
        name: "url standard",
        cuts_parameters: false,
        decodes: 0,
        backslash_is_slash: true,
        trims: false,
    },
    Reader {
        name: "windows",
        cuts_parameters: false,
        decodes: 1,
        backslash_is_slash: true,
        trims: true,
    },
];

fn decode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    loop {
        match rest {
            [] => return out,
            [b'%', h, l, tail @ ..] if h.is_ascii_hexdigit() && l.is_ascii_hexdigit() => {
                let digit = |b: u8| char::from(b).to_digit(16).unwrap();
                out.push(u8::try_from(digit(*h) * 16 + digit(*l)).unwrap());
                rest = tail;
            }
            [b, tail @ ..] => {
                out.push(*b);
                rest = tail;
            }
        }
    }
}

impl Reader {
    /// Segments after this reader's normalisation, merged slashes and resolved dot segments included.
    fn resolve(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let cut = |text: Vec<u8>| -> Vec<u8> {
            if !self.cuts_parameters {
                return text;
            }
            let names: Vec<&[u8]> = text
                .split(|b| *b == b'/' || (self.backslash_is_slash && *b == b'\\'))
                .map(|s| s.split(|b| *b == b';').next().unwrap())
                .collect();
            names.join(&b'/')
        };
        let mut text = cut(path.to_vec());
        for _ in 0..self.decodes {
            text = cut(decode(&text));
        }
        let mut resolved: Vec<Vec<u8>> = Vec::new();
        for segment in text.split(|b| *b == b'/' || (self.backslash_is_slash && *b == b'\\')) {
            let segment = if self.trims { segment.trim_ascii() } else { segment };
            match segment.to_ascii_lowercase().as_slice() {
                b"" | b"." | b"%2e" => {}
                b".." | b"%2e%2e" | b".%2e" | b"%2e." => drop(resolved.pop()),
                _ => resolved.push(segment.to_vec()),
            }
        }
        resolved
    }

    /// The same without any resolution: the segments, each decoded for itself as often as it would be with
    /// the others. Only the first decoding may find a `/` or a `\\`: routes were asked about those.
    fn plain(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let cut = |s: Vec<u8>| match self.cuts_parameters {
            true => s.split(|b| *b == b';').next().unwrap().to_vec(),
            false => s,
        };
        let text = if self.decodes > 0 { decode(path) } else { path.to_vec() };
        let name = |s: &[u8]| {
            let s = (1..self.decodes).fold(cut(s.to_vec()), |s, _| cut(decode(&s)));
            if self.trims { s.trim_ascii().to_vec() } else { s }
        };
        let parts = text.split(|b| *b == b'/' || (self.backslash_is_slash && *b == b'\\'));
        parts.map(name).filter(|s| !s.is_empty()).collect()
    }
}

fn parse(target: &[u8], forms: &mut PathForms) -> Result<String, Denial> {
    let mut head = RequestHead {
        target: target.to_vec(),
        ..RequestHead::default()
    };
    head.fields.push(b"Host", b"localhost");
    let target = RequestTarget::parse(&head, Method::Get)?;
    *forms = target.forms;
    Ok(target.path.into_owned())
}

fn hostile_target() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(FRAGMENTS), 0..9).prop_map(|parts| format!("/{}", parts.concat()))
}

fn check(target: &[u8]) -> Result<bool, TestCaseError> {
    let (mut forms, mut again) = (PathForms::NONE, PathForms::NONE);
    let Ok(path) = parse(target, &mut forms) else {
        return Ok(false);
    };
    prop_assert_eq!(
        parse(path.as_bytes(), &mut again),
        Ok(path.clone()),
        "canonical twice is canonical once"
    );
    prop_assert_eq!(again.with(PathForms::RAW_CHARACTER), forms.with(PathForms::RAW_CHARACTER));
    prop_assert!(!again.contains(PathForms::RAW_CHARACTER), "{}", path);
    prop_assert!(
        path.bytes().all(|b| matches!(b, 0x21..=0x7e) && !b"\\#?\"<>[]{}|^`".contains(&b)),
        "{path}"
    );
    prop_assert_eq!(path.contains(';'), forms.contains(PathForms::PARAMETER));
    let encoded_slash = forms.contains(PathForms::ENCODED_SLASH);
    prop_assert_eq!(path.contains("%5C"), forms.contains(PathForms::ENCODED_BACKSLASH));
    for reader in READERS {
        prop_assert_eq!(
            reader.resolve(path.as_bytes()),
            reader.plain(path.as_bytes()),
            "{} reads {} otherwise",
            reader.name,
            path
        );
    }
    // Who decodes before routing finds the route table's path, or an encoded slash was announced.
    let decoded = decode(path.as_bytes());
    prop_assert_eq!(
        decoded.iter().filter(|b| **b == b'/').count() != path.matches('/').count(),
        encoded_slash
    );
    let admin = |p: &[u8]| p.split(|b| *b == b'/').nth(1) == Some(b"admin");
    prop_assert!(encoded_slash || admin(&decoded) == admin(path.as_bytes()), "{path}");
    Ok(true)
}

#[test]
fn p16_an_accepted_path_means_one_thing_to_every_reader() {
    let accepted = std::cell::Cell::new(0_u32);
    let config = ProptestConfig {
        cases: 150_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(target in hostile_target())| {
        accepted.set(accepted.get() + u32::from(check(target.as_bytes())?));
    });
    assert!(
        accepted.get() > 1_000,
        "the alphabet is so hostile that nothing was tested: {}",
        accepted.get()
    );
}

#[test]
fn any_bytes_are_answered_and_accepted_ones_keep_the_properties() {
    let config = ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(mut target in prop::collection::vec(any::<u8>(), 0..40))| {
        check(&target)?;
        target.insert(0, b'/');
        check(&target)?;
    });
}
