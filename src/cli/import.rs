//! `durward keys import`: one key from the command line, or many from a file. A mistake of a line is
//! reported by the name of its member, never by a value, since a value may be a key.

use std::io::{self, BufRead, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use crate::admin::import::ImportKey;
use crate::admin::keys::KeyView;

use super::args::KeyArgs;
use super::client::OperatorClient;
use super::failure::{Exit, Failure};
use super::output::{self, Form, Printer};

#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// JSON lines with the names of these options as members (`scopes` is a list, or one text with spaces); `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sha256", "secret_sha256", "id", "last4", "mode", "scopes", "subject", "expires", "name"])]
    pub(crate) file: Option<PathBuf>,
    /// The surface of the key; with a file, the default of its lines.
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    pub(crate) surface: Option<String>,
    /// The tenant of the key; with a file, the default of its lines.
    #[arg(long, value_name = "ID", required_unless_present = "file")]
    pub(crate) tenant: Option<String>,
    /// SHA-256 of the key, or of the publishable half, in hexadecimal.
    #[arg(long, value_name = "HEX", required_unless_present = "file")]
    pub(crate) sha256: Option<String>,
    /// SHA-256 of the secret half, for a pair.
    #[arg(long, value_name = "HEX")]
    pub(crate) secret_sha256: Option<String>,
    /// The id of the key; a new one is made when it is absent.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// The last four characters of the key, for lists.
    #[arg(long, value_name = "TEXT")]
    pub(crate) last4: Option<String>,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Longest line of an import file; a line with a hundred scopes is a tenth of it.
const MAX_LINE: u64 = 64 * 1024;

/// Members that a line may have.
const MEMBERS: [&str; 11] = [
    "surface",
    "tenant",
    "sha256",
    "secret_sha256",
    "id",
    "last4",
    "mode",
    "scopes",
    "subject",
    "expires",
    "name",
];

pub(crate) fn run(client: &OperatorClient, args: &ImportArgs, printer: &Printer) -> Result<(), Failure> {
    if let Some(file) = &args.file {
        return import_lines(client, args, file, printer);
    }
    let request = ImportKey {
        surface: args.surface.clone().unwrap_or_default(),
        tenant: args.tenant.clone().unwrap_or_default(),
        sha256: args.sha256.clone().unwrap_or_default(),
        secret_sha256: args.secret_sha256.clone(),
        id: args.id.clone(),
        last4: args.last4.clone(),
        mode: args.key.mode.clone(),
        scopes: args.key.scopes.clone(),
        subject: args.key.subject.clone(),
        expires: args.key.expires.clone(),
        name: args.key.name.clone(),
    };
    let key: KeyView = client.post("/v1/keys/import", &request)?;
    printer.print(&key, |out| output::key(out, &key))
}

/// Imports line by line. A line that fails is reported, and the import goes on, unless no gateway answers.
fn import_lines(client: &OperatorClient, args: &ImportArgs, file: &Path, printer: &Printer) -> Result<(), Failure> {
    let unreadable = |error: io::Error| Failure::new(Exit::Failed, format!("{} cannot be read: {error}", file.display()));
    let mut input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(io::BufReader::new(std::fs::File::open(file).map_err(unreadable)?))
    };
    let (mut number, mut done, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        if (&mut input).take(MAX_LINE).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        let text = if number == 1 { without_mark(&line)? } else { &line };
        if text.trim_ascii().is_empty() {
            continue;
        }
        match import_line(client, args, text).map_err(|failure| at_line(failure, number)) {
            Ok(key) => {
                done += 1;
                printer.print(&key, |out| writeln!(out, "{}  {}", key.id, key.tenant))?;
            }
            Err(failure) if failure.exit == Exit::Unavailable => return Err(failure),
            Err(failure) => {
                failed += 1;
                match printer.form() {
                    Form::Json => failure.print(Form::Json),
                    Form::Text => printer.remark(&failure.message),
                }
            }
        }
    }
    if failed > 0 {
        return Err(Failure::new(
            Exit::Failed,
            format!("{failed} of {} lines were not imported", failed + done),
        ));
    }
    Ok(())
}

/// The first line without the byte order mark with which some programs begin UTF-8.
fn without_mark(line: &[u8]) -> Result<&[u8], Failure> {
    if line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff]) {
        return Err(Failure::new(
            Exit::Usage,
            "the file is in UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
        ));
    }
    Ok(line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line))
}

fn at_line(failure: Failure, number: u64) -> Failure {
    Failure {
        message: format!("line {number}: {}", failure.message),
        line: Some(number),
        ..failure
    }
}

fn import_line(client: &OperatorClient, args: &ImportArgs, line: &[u8]) -> Result<KeyView, Failure> {
    let request = read(line, args).map_err(|what| Failure::new(Exit::Usage, what))?;
    client.post("/v1/keys/import", &request)
}

/// Reads one line. An error names the member that is wrong and never repeats a value, which may be a key.
fn read(line: &[u8], args: &ImportArgs) -> Result<ImportKey, String> {
    if line.len() as u64 >= MAX_LINE {
        return Err(format!(
            "it is longer than {MAX_LINE} bytes, or there is not one object in each line"
        ));
    }
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("it is not JSON (column {})", error.column()))?;
    let Value::Object(members) = value else {
        return Err("it is not a JSON object: { \"sha256\": \"…\", … }".to_owned());
    };
    if let Some(unknown) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(unknown_member(unknown));
    }
    let text = |name: &str| text(&members, name);
    let default = |own: Option<String>, given: &Option<String>| own.or_else(|| given.clone());
    let needed = |name: &str, value: Option<String>| value.ok_or_else(|| format!("the member `{name}` is missing"));
    let request = ImportKey {
        surface: needed("surface", default(text("surface")?, &args.surface))?,
        tenant: needed("tenant", default(text("tenant")?, &args.tenant))?,
        sha256: needed("sha256", text("sha256")?)?,
        secret_sha256: text("secret_sha256")?,
        id: text("id")?,
        last4: text("last4")?,
        mode: text("mode")?,
        scopes: scopes(members.get("scopes"))?,
        subject: text("subject")?,
        expires: text("expires")?,
        name: text("name")?,
    };
    // `Value` keeps the last of two members of one name. Which one was meant is not known.
    match serde_json::from_slice::<UniqueMembers>(line) {
        Ok(UniqueMembers) => Ok(request),
        Err(_) => Err("a member is repeated".to_owned()),
    }
}

fn text(members: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("the member `{name}` must be a text, and is {}", kind(other))),
    }
}

/// Scopes: a list of texts, or one text with blanks between them, as OAuth writes them (RFC 6749, section 3.3).
fn scopes(value: Option<&Value>) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| match item {
                Value::String(scope) => Ok(scope.clone()),
                other => Err(format!("the member `scopes` must be a list of texts, and {} is in it", kind(other))),
            })
            .collect(),
        Some(other) => Err(format!("the member `scopes` must be a list of texts, and is {}", kind(other))),
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "`true` or `false`",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn unknown_member(name: &str) -> String {
    let shown = (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let what = if shown {
        format!("there is no member `{name}`")
    } else {
        "a member has an unknown name".to_owned()
    };
    let hint = match name {
        "key" | "secret" | "hash" | "key_hash" => ": give the SHA-256 of the key as `sha256`, never the key itself".to_owned(),
        _ => format!(": there are {}", MEMBERS.join(", ")),
    };
    what + &hint
}

/// Can be read only from an object without repeated members.
struct UniqueMembers;

impl<'de> serde::Deserialize<'de> for UniqueMembers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> serde::de::Visitor<'de> for Names {
            type Value = UniqueMembers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
                let mut seen: Vec<String> = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                    if seen.contains(&name) {
                        return Err(serde::de::Error::custom("twice"));
                    }
                    seen.push(name);
                }
                Ok(UniqueMembers)
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::keys::KeyCommand;
    use crate::cli::{Cli, Command};

    const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn args(surface: Option<&str>, tenant: Option<&str>) -> ImportArgs {
        use clap::Parser as _;
        let mut words = vec!["durward", "keys", "import", "--file", "-"];
        words.extend(surface.iter().flat_map(|name| ["--surface", name]));
        words.extend(tenant.iter().flat_map(|name| ["--tenant", name]));
        let Command::Keys(keys) = Cli::parse_from(words).command else {
            panic!("keys");
        };
        match *keys {
            KeyCommand::Import(args) => args,
            _ => panic!("import"),
        }
    }

    fn told(line: &str) -> String {
        read(line.replace("HASH", HASH).as_bytes(), &args(Some("api"), None)).map_or_else(|what| what, |key| format!("{:?}", key.scopes))
    }

    #[test]
    fn what_is_meant_clearly_is_taken() {
        for (line, scopes) in [
            (r#"{"sha256":"HASH","tenant":"a"}"#, "[]"),
            (r#"{"sha256":"HASH","tenant":"a","scopes":null,"name":null,"mode":null}"#, "[]"),
            (r#"{"sha256":"HASH","tenant":"a","scopes":"b c"}"#, r#"["b", "c"]"#),
            (r#"{"sha256":"HASH","tenant":"a","scopes":["b"],"surface":"other"}"#, r#"["b"]"#),
        ] {
            assert_eq!(told(line), scopes, "{line}");
        }
        assert_eq!(without_mark("\u{feff}{}".as_bytes()).unwrap(), b"{}");
        assert!(without_mark(&[0xff, 0xfe, b'{', 0]).is_err());
    }

    #[test]
    fn what_is_wrong_is_told_by_its_member_and_no_value_is_repeated() {
        for (line, what) in [
            (r#"{"tenant":"a"}"#, "the member `sha256` is missing"),
            (r#"{"sha256":"HASH"}"#, "the member `tenant` is missing"),
            (r#"{"sha256":null,"tenant":"a"}"#, "the member `sha256` is missing"),
            (
                r#"{"sha256":12345678,"tenant":"a"}"#,
                "the member `sha256` must be a text, and is a number",
            ),
            (
                r#"{"sha256":"HASH","tenant":["a"]}"#,
                "the member `tenant` must be a text, and is a list",
            ),
            (
                r#"{"sha256":"HASH","tenant":"a","scopes":{}}"#,
                "the member `scopes` must be a list of texts, and is an object",
            ),
            (
                r#"{"sha256":"HASH","tenant":"a","scopes":["b",1]}"#,
                "the member `scopes` must be a list of texts, and a number is in it",
            ),
            (
                r#"{"key":"canary-4711","tenant":"a"}"#,
                "there is no member `key`: give the SHA-256 of the key as `sha256`, never the key itself",
            ),
            (r#"{"sha256":"HASH","tenant":"a","tenant":"b"}"#, "a member is repeated"),
            (r#"{"sha256":"canary-4711"#, "it is not JSON (column 22)"),
            (r#"["canary-4711"]"#, r#"it is not a JSON object: { "sha256": "…", … }"#),
        ] {
            assert_eq!(told(line), what, "{line}");
        }
        let odd = told(r#"{"Canary-4711-Canary":1}"#);
        assert!(odd.starts_with("a member has an unknown name") && !odd.contains("anary"), "{odd}");
    }
}
