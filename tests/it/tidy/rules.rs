//! The house rules, each a function from sources to findings.

use super::source::Source;

/// Layers: a module may use itself and what stands in its row. Arrows point down.
const MAY_USE: [(&str, &str); 16] = [
    ("base", ""),
    ("wire", "base"),
    ("decide", "base wire"),
    ("telemetry", "base wire decide"),
    ("store", "base wire decide telemetry"),
    ("dialect", "base wire decide telemetry"),
    ("upstream", "base wire decide telemetry"),
    ("limit", "base wire decide telemetry store"),
    // `issue` runs what the snapshot holds; the snapshot knows nothing of who runs it.
    ("snapshot", "base wire decide telemetry store dialect upstream"),
    ("jwks", "base wire decide telemetry snapshot"),
    ("resolver", "base wire decide telemetry store snapshot jwks"),
    ("issue", "base wire decide telemetry store dialect snapshot resolver"),
    (
        "gateway",
        "base wire decide telemetry store dialect upstream snapshot resolver issue limit jwks",
    ),
    ("config", "base wire decide telemetry store dialect upstream snapshot issue"),
    (
        "server",
        "base wire decide telemetry store dialect upstream snapshot resolver issue limit jwks gateway",
    ),
    (
        "admin",
        "base wire decide telemetry store dialect upstream snapshot resolver issue limit jwks gateway config server",
    ),
];

/// Modules that may wait; everything else is a value in, a value out.
const MAY_AWAIT: [&str; 10] = [
    "gateway", "jwks", "limit", "resolver", "store", "issue", "upstream", "server", "admin", "cli",
];

/// Longest file and longest function, in lines; above the target a file is named, above the limit it is refused.
pub(super) const FILE_TARGET: usize = 400;
const FILE_LIMIT: usize = 500;
const FUNCTION_LIMIT: usize = 70;

/// Every rule over every source.
pub(super) fn findings(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for rule in [
            first_line_says_why,
            file_is_short,
            functions_are_short,
            imports_point_down,
            nothing_panics,
            clocks_are_read_in_one_place,
            only_async_layers_await,
            nothing_is_unsafe,
            nothing_is_left_to_do,
            only_the_shell_prints,
            names_are_words_of_the_house,
        ] {
            found.extend(rule(source));
        }
    }
    found.extend(builders_stand_in_one_file(sources));
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

pub(super) fn file_is_short(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= FILE_LIMIT {
        return Vec::new();
    }
    vec![at(source, 0, &format!("{lines} lines, more than {FILE_LIMIT}"))]
}

pub(super) fn functions_are_short(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for start in words(&source.code, "fn") {
        let Some((open, close)) = body_of(&source.code, start) else {
            continue;
        };
        let lines = source.code[open..close].lines().filter(|l| !l.trim().is_empty()).count();
        if lines > FUNCTION_LIMIT {
            found.push(at(
                source,
                start,
                &format!("a function of {lines} lines, more than {FUNCTION_LIMIT}"),
            ));
        }
    }
    found
}

/// The braces of the function that begins at `start`; `None` for a declaration or a function pointer.
fn body_of(code: &str, start: usize) -> Option<(usize, usize)> {
    let mut depth = 0_i32;
    let mut open = None;
    for (i, b) in code.bytes().enumerate().skip(start) {
        match b {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' => {
                open = open.or((depth == 0).then_some(i));
                depth += 1;
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some((open?, i));
                }
            }
            b';' | b',' if depth <= 0 && open.is_none() => return None,
            _ if depth < 0 => return None,
            _ => {}
        }
    }
    None
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

pub(super) fn nothing_panics(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for word in [
        ".unwrap()",
        ".expect(",
        ".unwrap_err()",
        ".expect_err(",
        "panic!",
        "todo!",
        "unimplemented!",
        "unreachable!",
        "dbg!",
    ] {
        for start in words(&source.product, word) {
            if !has_proof(&lines, source.line_of(start)) {
                found.push(at(source, start, &format!("`{word}` without a `// proof:` on the lines above")));
            }
        }
    }
    found
}

/// Whether the comment directly above this line holds a proof.
fn has_proof(lines: &[&str], line: usize) -> bool {
    lines[..line.saturating_sub(1)]
        .iter()
        .rev()
        .map(|l| l.trim_start())
        .take_while(|l| l.starts_with("//") || l.starts_with("#["))
        .any(|l| l.starts_with("// proof:"))
}

pub(super) fn clocks_are_read_in_one_place(source: &Source) -> Vec<String> {
    if source.path == "src/base/clock.rs" {
        return Vec::new();
    }
    [
        "Instant::now",
        "SystemTime::now",
        "clock_gettime",
        "Timestamp::now",
        "Zoned::now",
        "Utc::now",
    ]
    .iter()
    .flat_map(|word| words(&source.product, word).map(move |i| at(source, i, &format!("`{word}` outside base/clock.rs"))))
    .collect()
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

pub(super) fn nothing_is_unsafe(source: &Source) -> Vec<String> {
    words(&source.code, "unsafe").map(|i| at(source, i, "`unsafe`")).collect()
}

pub(super) fn nothing_is_left_to_do(source: &Source) -> Vec<String> {
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")]
        .iter()
        .flat_map(|word| words(&source.text, word).map(|i| at(source, i, "work left in a comment")))
        .collect()
}

pub(super) fn only_the_shell_prints(source: &Source) -> Vec<String> {
    if source.path == "src/main.rs" || source.path.starts_with("src/cli/") {
        return Vec::new();
    }
    ["println!", "print!", "eprintln!", "eprint!"]
        .iter()
        .flat_map(|word| words(&source.product, word).map(move |i| at(source, i, &format!("`{word}` outside the command line"))))
        .collect()
}

pub(super) fn names_are_words_of_the_house(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for keyword in ["fn", "struct", "enum", "trait", "mod"] {
        for start in words(&source.product, keyword) {
            let name = first_names(source.product[start + keyword.len()..].trim_start())[0];
            let vague = ["Manager", "Handler", "Helper", "Utils"].iter().any(|v| name.ends_with(v));
            if vague || name.starts_with("get_") || matches!(name, "utils" | "helpers" | "common" | "misc") {
                found.push(at(source, start, &format!("the name `{name}` says nothing")));
            }
        }
    }
    found
}

/// hyper's builders stand in one file each, so that no connection is made without its timers; the
/// builders whose timers do not work stand nowhere.
pub(super) fn builders_stand_in_one_file(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    // `http1::handshake` is a client's: that of the command line and that of key sets, each under one deadline.
    for builder in ["http1::Builder", "http2::Builder", "http2::handshake"] {
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
