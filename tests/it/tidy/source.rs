//! Reads Rust source far enough to hold house rules: text with strings and comments blanked, test items removed.

use std::path::{Path, PathBuf};

/// One source file of the repository.
#[derive(Debug)]
pub(super) struct Source {
    /// Path from the repository's root, with `/`.
    pub(super) path: String,
    /// The text as it is.
    pub(super) text: String,
    /// The text with the inside of strings, characters and comments blanked; same lines, same columns.
    pub(super) code: String,
    /// `code` with everything under `#[cfg(test)]` blanked as well; blank for files that are tests as a whole.
    pub(super) product: String,
}

impl Source {
    /// Reads a text as the file of this path.
    pub(super) fn parse(path: &str, text: &str) -> Self {
        let code = blank_strings_and_comments(text);
        let product = if is_test_file(path) {
            blank(&code, 0..code.len())
        } else {
            blank_test_items(&code)
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            product,
        }
    }

    /// The 1-based line of a byte offset.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.code.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count() + 1
    }

    /// The path of modules below the crate's root: `src/store/mod.rs` is `["store"]`.
    pub(super) fn modules(&self) -> Vec<&str> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut parts: Vec<&str> = inner.split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) {
            parts.pop();
        }
        parts
    }
}

/// Every Rust file under these folders of the repository, tests marked as such.
pub(super) fn read_all(folders: &[&str]) -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    for folder in folders {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    let mut sources: Vec<Source> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            Source::parse(&path, &std::fs::read_to_string(file).unwrap())
        })
        .collect();
    let test_modules: Vec<String> = sources.iter().flat_map(test_module_paths).collect();
    for source in &mut sources {
        if test_modules
            .iter()
            .any(|m| source.path == format!("{m}.rs") || source.path.starts_with(&format!("{m}/")))
        {
            source.product = blank(&source.code, 0..source.code.len());
        }
    }
    sources
}

/// The repository's root.
pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn is_test_file(path: &str) -> bool {
    !path.starts_with("src/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Paths (without `.rs`) of modules declared as `#[cfg(test)] mod name;`.
fn test_module_paths(source: &Source) -> Vec<String> {
    let base = match source.path.strip_suffix("/mod.rs") {
        Some(folder) => folder.to_owned(),
        None if matches!(source.path.as_str(), "src/lib.rs" | "src/main.rs") => "src".to_owned(),
        None => source.path.trim_end_matches(".rs").to_owned(),
    };
    source
        .code
        .match_indices("#[cfg(test)]")
        .filter_map(|(at, attribute)| {
            let rest = source.code[at + attribute.len()..].trim_start();
            let rest = rest
                .strip_prefix("pub(crate) ")
                .or(rest.strip_prefix("pub(super) "))
                .unwrap_or(rest);
            let name = rest.strip_prefix("mod ")?.split_once(';')?.0;
            name.chars()
                .all(|c| c.is_alphanumeric() || c == '_')
                .then(|| format!("{base}/{name}"))
        })
        .collect()
}

/// Blanks each item that stands under `#[cfg(test)]`.
fn blank_test_items(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let end = end_of_item(&out, start);
        out = blank(&out, start..end);
        from = end;
    }
    out
}

/// Where the item that begins at `start` ends: after its `;` or its closing brace.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (i, b) in code.bytes().enumerate().skip(start) {
        match b {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && b == b'}' {
                    return i + 1;
                }
            }
            b';' if depth == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

fn blank(text: &str, range: std::ops::Range<usize>) -> String {
    let bytes = text
        .bytes()
        .enumerate()
        .map(|(i, b)| if range.contains(&i) && b != b'\n' { b' ' } else { b })
        .collect();
    String::from_utf8(bytes).unwrap_or_default()
}

/// What the scanner is in the middle of.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Code,
    Line,
    Block(usize),
    Text,
    Raw(usize),
}

fn blank_strings_and_comments(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let (mut i, mut inside) = (0, Inside::Code);
    while i < bytes.len() {
        let (next, width, keep) = step(bytes, i, inside);
        for b in &bytes[i..(i + width).min(bytes.len())] {
            out.push(if *b == b'\n' || (keep && b.is_ascii()) { *b } else { b' ' });
        }
        (i, inside) = (i + width, next);
    }
    String::from_utf8(out).unwrap_or_default()
}

/// What comes after the bytes at `i`, how many belong together, and whether they are code.
fn step(bytes: &[u8], i: usize, inside: Inside) -> (Inside, usize, bool) {
    let rest = &bytes[i..];
    match inside {
        Inside::Code => step_code(bytes, i),
        Inside::Line if rest[0] == b'\n' => (Inside::Code, 1, false),
        Inside::Line => (Inside::Line, 1, false),
        Inside::Block(depth) if rest.starts_with(b"*/") => (if depth == 1 { Inside::Code } else { Inside::Block(depth - 1) }, 2, false),
        Inside::Block(depth) if rest.starts_with(b"/*") => (Inside::Block(depth + 1), 2, false),
        Inside::Text if rest[0] == b'\\' => (Inside::Text, 2, false),
        Inside::Text if rest[0] == b'"' => (Inside::Code, 1, false),
        Inside::Raw(hashes) if rest[0] == b'"' && rest[1..].iter().take_while(|b| **b == b'#').count() >= hashes => {
            (Inside::Code, 1 + hashes, false)
        }
        other => (other, 1, false),
    }
}

fn step_code(bytes: &[u8], i: usize) -> (Inside, usize, bool) {
    let rest = &bytes[i..];
    if rest.starts_with(b"//") {
        return (Inside::Line, 2, false);
    }
    if rest.starts_with(b"/*") {
        return (Inside::Block(1), 2, false);
    }
    if rest[0] == b'"' {
        return (Inside::Text, 1, false);
    }
    let word_before = i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
    if rest[0] == b'r' && (!word_before || bytes[i - 1] == b'b') {
        let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            return (Inside::Raw(hashes), 2 + hashes, false);
        }
    }
    if rest[0] == b'\'' {
        return (Inside::Code, character_width(rest), false);
    }
    (Inside::Code, 1, true)
}

/// The width of a character literal, or 1 for the quote of a lifetime.
fn character_width(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|b| *b == b'\'');
        return close.map_or(1, |at| at + 4);
    }
    // One character of up to four bytes between two quotes; a lifetime has no second quote there.
    let closing = (2..=5).find(|at| rest.get(*at) == Some(&b'\''));
    match closing {
        Some(2) => 3,
        Some(at) if !rest[1].is_ascii() => at + 1,
        _ => 1,
    }
}
