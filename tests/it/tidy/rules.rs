//! The house rules that no lint holds, each a function from sources to findings. Panics, printing, clocks, `unsafe` and
//! long functions are held by the compiler and clippy (`Cargo.toml`, `clippy.toml`).

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// Layers: a module may use itself and what stands in its row. Arrows point down.
const MAY_USE: [(&str, &str); 19] = [
    ("base", ""),
    ("wire", "base"),
    ("decide", "base wire"),
    ("telemetry", "base wire decide"),
    ("audit", "base wire decide telemetry"),
    // What asks servers of others: key sets and identity providers.
    ("fetch", "base decide"),
    ("store", "base wire decide telemetry"),
    ("dialect", "base wire decide telemetry"),
    ("upstream", "base wire decide telemetry"),
    ("limit", "base wire decide telemetry store"),
    // `issue` runs what the snapshot holds; the snapshot knows nothing of who runs it.
    ("snapshot", "base wire decide telemetry audit store fetch dialect upstream"),
    ("jwks", "base wire decide telemetry fetch snapshot"),
    // Single sign-on may keep and read providers; what follows from a sign-on is for `issue`.
    ("sign_on", "base wire decide telemetry store fetch snapshot jwks"),
    ("resolver", "base wire decide telemetry store snapshot jwks"),
    ("issue", "base wire decide telemetry audit store dialect snapshot resolver sign_on"),
    (
        "gateway",
        "base wire decide telemetry audit store dialect upstream snapshot resolver issue sign_on limit jwks",
    ),
    (
        "config",
        "base wire decide telemetry audit store fetch dialect upstream snapshot issue sign_on",
    ),
    (
        "server",
        "base wire decide telemetry audit store dialect upstream snapshot resolver issue sign_on limit jwks gateway",
    ),
    (
        "admin",
        "base wire decide telemetry audit store dialect upstream snapshot resolver issue sign_on limit jwks gateway config server",
    ),
];

/// Modules that may wait; everything else is a value in, a value out.
const MAY_AWAIT: [&str; 12] = [
    "gateway", "fetch", "jwks", "limit", "resolver", "sign_on", "store", "issue", "upstream", "server", "admin", "cli",
];

/// Every rule over every source.
pub(super) fn findings(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for rule in [
            first_line_says_why,
            imports_point_down,
            only_async_layers_await,
            no_date_is_read_from_the_library,
            nothing_is_left_to_do,
            names_are_words_of_the_field,
        ] {
            found.extend(rule(source));
        }
    }
    found.extend(builders_stand_in_one_file(sources));
    found
}

/// The rules of names and parameters.
pub(super) fn findings_in_names(sources: &[Source]) -> Vec<String> {
    let mut found = each_type_name_stands_in_one_file(sources);
    for source in sources {
        found.extend(no_term_is_an_everyday_word(source));
        found.extend(no_parameter_is_a_tuple(source));
    }
    found
}

fn at(source: &Source, offset: usize, what: &str) -> String {
    format!("{}:{}: {what}", source.path, source.line_of(offset))
}

/// Offsets of `word` in `code` that are not part of a longer identifier on the sides where `word` is one.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let ident = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = code.as_bytes();
    let (first, last) = (word.as_bytes()[0], word.as_bytes()[word.len() - 1]);
    code.match_indices(word).map(|(i, _)| i).filter(move |i| {
        let before = i.checked_sub(1).map(|p| bytes[p]);
        let after = bytes.get(i + word.len()).copied();
        !(ident(first) && before.is_some_and(ident) || ident(last) && after.is_some_and(ident))
    })
}

pub(super) fn first_line_says_why(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    if first
        .strip_prefix("//! ")
        .is_some_and(|why| !why.trim().is_empty() && why != "(to come)")
    {
        return Vec::new();
    }
    vec![at(source, 0, "the first line does not say why the file exists")]
}

pub(super) fn imports_point_down(source: &Source) -> Vec<String> {
    let modules = source.modules();
    let Some(own) = modules.first().filter(|_| source.path.starts_with("src/")) else {
        return Vec::new();
    };
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == own) else {
        return if *own == "cli" {
            Vec::new()
        } else {
            vec![at(source, 0, "a module that is in no layer")]
        };
    };
    let root = ["super::"].repeat(modules.len()).concat();
    let mut found = Vec::new();
    for prefix in ["crate::", root.as_str()] {
        for start in words(&source.product, prefix) {
            if prefix != "crate::" && source.product[..start].ends_with("super::") {
                continue;
            }
            for name in first_names(&source.product[start + prefix.len()..]) {
                if name != *own && name != "super" && !allowed.split(' ').any(|a| a == name) {
                    found.push(at(source, start, &format!("{own} may not use {name}")));
                }
            }
        }
    }
    found
}

/// The first segment of a path, or of each path in a brace list.
fn first_names(rest: &str) -> Vec<&str> {
    fn name(text: &str) -> &str {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        &text[..end]
    }
    let Some(list) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let mut names = vec![name(list.trim_start())];
    let mut depth = 1;
    for (i, b) in list.bytes().enumerate() {
        match b {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 1 => names.push(name(list[i + 1..].trim_start())),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

pub(super) fn only_async_layers_await(source: &Source) -> Vec<String> {
    let modules = source.modules();
    if modules.first().is_none_or(|m| MAY_AWAIT.contains(m)) {
        return Vec::new();
    }
    [".await", "async fn", "async move", "block_on("]
        .iter()
        .flat_map(|word| words(&source.product, word).map(move |i| at(source, i, &format!("`{word}` in a layer that does not wait"))))
        .collect()
}

/// clippy.toml bans the other clocks. The tests of a running gateway may ask the library of dates what time it is.
pub(super) fn no_date_is_read_from_the_library(source: &Source) -> Vec<String> {
    ["Timestamp::now", "Zoned::now"]
        .iter()
        .flat_map(|word| words(&source.product, word).map(move |i| at(source, i, &format!("`{word}`: base/clock.rs reads the clocks"))))
        .collect()
}

pub(super) fn nothing_is_left_to_do(source: &Source) -> Vec<String> {
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")]
        .iter()
        .flat_map(|word| words(&source.text, word).map(|i| at(source, i, "work left in a comment")))
        .collect()
}

pub(super) fn names_are_words_of_the_field(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (start, name) in names(source, &["fn", "struct", "enum", "trait", "type", "mod"]) {
        let vague = ["Manager", "Handler", "Helper", "Utils"].iter().any(|v| name.ends_with(v));
        if vague || name.starts_with("get_") || matches!(name, "utils" | "helpers" | "common" | "misc") {
            found.push(at(source, start, &format!("the name `{name}` says nothing")));
        }
    }
    found
}

/// Everyday words that are no term. The field has a term for each: docs/glossary.md.
const EVERYDAY: [&str; 16] = [
    "afterothers",
    "asked",
    "desk",
    "found",
    "heard",
    "held",
    "kept",
    "place",
    "said",
    "scene",
    "seen",
    "surroundings",
    "told",
    "turn",
    "wanted",
    "whereabouts",
];

pub(super) fn no_term_is_an_everyday_word(source: &Source) -> Vec<String> {
    names(source, &["struct", "enum", "trait", "type", "mod"])
        .filter(|(_, name)| EVERYDAY.contains(&name.to_ascii_lowercase().as_str()))
        .map(|(start, name)| {
            at(
                source,
                start,
                &format!("`{name}` is no term; docs/glossary.md has those of the field"),
            )
        })
        .collect()
}

/// The items that these keywords declare, with their names.
fn names<'s>(source: &'s Source, keywords: &'static [&'static str]) -> impl Iterator<Item = (usize, &'s str)> {
    keywords.iter().flat_map(move |keyword| {
        words(&source.product, keyword).filter_map(move |start| {
            let rest = source.product[start + keyword.len()..].trim_start();
            // A macro declares names that only its callers know.
            first_names(rest).first().filter(|name| !name.is_empty()).map(|name| (start, *name))
        })
    })
}

/// A type name that others can use stands in one file, so that a reader who meets it knows which type it is.
pub(super) fn each_type_name_stands_in_one_file(sources: &[Source]) -> Vec<String> {
    let mut files: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        for (start, name) in names(source, &["struct", "enum", "trait", "type"]) {
            let line = source.product[..start].rsplit('\n').next().unwrap_or_default();
            if line.trim_start().starts_with("pub") {
                files.entry(name).or_default().insert(&source.path);
            }
        }
    }
    let twice = files.iter().filter(|(_, paths)| paths.len() > 1);
    twice
        .map(|(name, paths)| {
            let paths: Vec<&str> = paths.iter().copied().collect();
            format!("the type name `{name}` stands in more than one file: {}", paths.join(", "))
        })
        .collect()
}

/// A tuple that only groups arguments hides how many there are, and what each is called where the function is called.
pub(super) fn no_parameter_is_a_tuple(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for start in words(&source.product, "fn") {
        let Some(open) = parameters_of(&source.product, start) else {
            continue;
        };
        for parameter in parameters(&source.product[open..]) {
            let bound = parameter.trim_start();
            let of_type = parameter
                .split_once(": ")
                .map_or("", |(_, of_type)| of_type.trim_start_matches('&'));
            let of_type = of_type.strip_prefix("mut ").unwrap_or(of_type);
            if bound.starts_with('(') || (of_type.starts_with('(') && !of_type.starts_with("()")) {
                found.push(at(source, start, &format!("the parameter `{}` is a tuple", bound.trim_end())));
            }
        }
    }
    found
}

/// Where the parentheses of the function's parameters open; `None` for the type of a function pointer.
fn parameters_of(code: &str, start: usize) -> Option<usize> {
    let rest = code[start + "fn".len()..].trim_start();
    let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').filter(|length| *length > 0)?;
    let mut depth = 0_i32;
    let mut before = ' ';
    for (i, c) in rest[name..].char_indices() {
        match c {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            '(' if depth == 0 => return Some(code.len() - rest.len() + name + i),
            _ => {}
        }
        before = c;
    }
    None
}

/// The texts between the commas of a list in parentheses.
fn parameters(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut begin, mut before) = (0_i32, 1, ' ');
    for (i, c) in list.char_indices() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            '>' if matches!(before, '-' | '=') => {}
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 1 => {
                parts.push(&list[begin..i]);
                begin = i + 1;
            }
            _ => {}
        }
        before = c;
        if depth == 0 {
            parts.push(&list[begin..i]);
            break;
        }
    }
    parts
}

/// The builders of hyper and `h2` stand in one file each, so that no connection is made without its timers; the
/// builders whose timers do not work stand nowhere.
pub(super) fn builders_stand_in_one_file(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    // `http1::handshake` is a client's: that of the command line and that of key sets, each under one deadline.
    for builder in [
        "http1::Builder",
        "http2::Builder",
        "http2::handshake",
        "h2::server::Builder",
        "h2::server::handshake",
    ] {
        let files: Vec<&str> = sources
            .iter()
            .filter(|s| words(&s.product, builder).next().is_some())
            .map(|s| s.path.as_str())
            .collect();
        if files.len() > 1 {
            found.push(format!("`{builder}` stands in more than one file: {}", files.join(", ")));
        }
    }
    for banned in ["conn::auto", "client::legacy"] {
        for source in sources {
            found.extend(words(&source.product, banned).map(|i| at(source, i, &format!("`{banned}` has no working time limits"))));
        }
    }
    found
}

/// The name of the module that a file is, and the files that may declare it; none for the root of a crate.
pub(super) fn module_of(path: &str) -> Option<(String, Vec<String>)> {
    let path = path.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let (folder, name) = path.rsplit_once('/')?;
    if name == "main" || name == "lib" || folder == "tests" {
        return None;
    }
    let parents = [
        format!("{folder}/mod.rs"),
        format!("{folder}.rs"),
        format!("{folder}/main.rs"),
        format!("{folder}/lib.rs"),
    ];
    Some((name.to_owned(), parents.into()))
}

/// Whether a file declares this module.
pub(super) fn declares(text: &str, name: &str) -> bool {
    let declared = format!("mod {name};");
    text.lines().any(|line| {
        let line = line.trim_start();
        line.ends_with(&declared) && !line.starts_with("//")
    })
}
