//! Sources of values on served routes: `path.id`, `body.role`, `caller.id`, `parent.login`, or a constant.

use toml::Spanned;
use toml::de::DeValue;

use crate::config::reader::{Section, shorten};
use crate::config::report::suggest;
use crate::config::source::Located;
use crate::snapshot::served_route::{RecordFact, TextOrList, ValueSource};

/// How a source is written, for schemas.
pub const SOURCE: &str = "source: `path.<parameter>`, `body.<field>`, `caller.<fact>`, `parent.<fact>`, `=<text>`, or a list of texts";

/// What can be asked of a caller or a parent, besides `claims.<name>`.
const FACTS: [(&str, RecordFact); 7] = [
    ("id", RecordFact::Id),
    ("subject", RecordFact::Subject),
    ("tenant", RecordFact::Tenant),
    ("mode", RecordFact::Mode),
    ("scopes", RecordFact::Scopes),
    ("login", RecordFact::Login),
    ("name", RecordFact::Name),
];

/// Reads a source, if it is there.
#[must_use]
pub fn read(section: &Section<'_>, name: &str) -> Option<Located<ValueSource>> {
    read_value(section, name, section.raw(name)?)
}

/// Reads a table of sources in the order they are written; empty if it is absent.
#[must_use]
pub fn read_table(section: &Section<'_>, name: &str) -> Vec<(Located<String>, Located<ValueSource>)> {
    let Some(value) = section.raw(name) else { return Vec::new() };
    let DeValue::Table(table) = value.get_ref() else {
        return section.wrong(name, value, value.get_ref()).unwrap_or_default();
    };
    let mut found: Vec<_> = table
        .iter()
        .filter_map(|(key, value)| {
            let source = read_value(section, name, value)?;
            let at = crate::config::source::Place::new(source.at.source, &key.span());
            let value = key.get_ref().clone().into_owned();
            Some((Located { value, at }, source))
        })
        .collect();
    found.sort_by_key(|(key, _)| key.at.start);
    found
}

/// Reads the text of a source.
#[must_use]
pub fn parse(text: &str) -> Option<ValueSource> {
    if let Some(constant) = text.strip_prefix('=') {
        return Some(ValueSource::Constant(TextOrList::Text(constant.to_owned())));
    }
    let (of, what) = text.split_once('.')?;
    if what.is_empty() {
        return None;
    }
    match of {
        "path" => Some(ValueSource::Path(what.to_owned())),
        "body" => Some(ValueSource::Body(what.to_owned())),
        "caller" => fact(what).map(ValueSource::Caller),
        "parent" => fact(what).map(ValueSource::Parent),
        _ => None,
    }
}

fn fact(what: &str) -> Option<RecordFact> {
    if let Some(claim) = what.strip_prefix("claims.") {
        return (!claim.is_empty()).then(|| RecordFact::Claim(claim.to_owned()));
    }
    FACTS.iter().find(|(name, _)| *name == what).map(|(_, fact)| fact.clone())
}

fn read_value(section: &Section<'_>, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Located<ValueSource>> {
    let at = section.place(value);
    let source = match value.get_ref() {
        DeValue::String(text) => match parse(text) {
            Some(source) => source,
            None => {
                section
                    .report()
                    .error(&at, format!("`{}` is not a source", shorten(text)), Some(help(text)));
                return None;
            }
        },
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            match texts.collect::<Option<Vec<String>>>() {
                Some(texts) => ValueSource::Constant(TextOrList::List(texts)),
                None => return section.wrong(name, value, value.get_ref()),
            }
        }
        other => return section.wrong(name, value, other),
    };
    Some(Located { value: source, at })
}

fn help(text: &str) -> String {
    if let Some((of @ ("caller" | "parent"), what)) = text.split_once('.') {
        let known = FACTS.iter().map(|(name, _)| *name).chain(["claims.<name>"]);
        return suggest(what, known, &format!("`{of}.`"));
    }
    format!("write {SOURCE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_other_texts_are_not() {
        assert_eq!(parse("path.id"), Some(ValueSource::Path("id".into())));
        assert_eq!(parse("body.role"), Some(ValueSource::Body("role".into())));
        assert_eq!(
            parse("caller.claims.tid"),
            Some(ValueSource::Caller(RecordFact::Claim("tid".into())))
        );
        assert_eq!(parse("parent.login"), Some(ValueSource::Parent(RecordFact::Login)));
        assert_eq!(parse("="), Some(ValueSource::Constant(TextOrList::Text(String::new()))));
        assert_eq!(parse("=body.x"), Some(ValueSource::Constant(TextOrList::Text("body.x".into()))));
        for bad in ["", "id", "path", "path.", "caller.password", "caller.claims.", "query.x", "Body.x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
