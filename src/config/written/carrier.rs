//! Where credentials are carried and how keys begin.

use toml::de::DeValue;

use crate::base::scope::Mode;
use crate::config::reader::{Section, shorten};
use crate::config::report::suggest;
use crate::config::source::{Located, Place};
use crate::decide::surface::Carrier;

/// Prefixes with the modes they tell.
#[derive(Debug)]
pub struct WrittenPrefixes {
    /// Text and mode.
    pub all: Vec<(Located<String>, Option<Mode>)>,
    /// Where the list stands.
    pub at: Place,
}

/// Whether a surface may be carried in a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookies {
    /// Sessions.
    Allowed,
    /// Keys: a browser attaches cookies without anybody's intent.
    Refused,
}

/// Reads `carry`; `bearer` if it is absent.
#[must_use]
pub fn read_carriers(section: &Section<'_>, cookies: Cookies) -> Vec<Located<Carrier>> {
    if section.raw("carry").is_none() {
        return vec![Located {
            value: Carrier::BEARER,
            at: section.at(),
        }];
    }
    let texts = section.texts("carry");
    if texts.is_empty() {
        section.report().error(
            &section.place_of("carry"),
            "`carry` names no place",
            Some("remove it for `bearer`, or name at least one".to_owned()),
        );
    }
    texts
        .into_iter()
        .filter_map(|text| {
            let carrier = match text.value.split_once(':') {
                None if text.value == "bearer" => Some(Carrier::BEARER),
                Some(("header", name)) => Some(Carrier::Header(name.to_ascii_lowercase())),
                Some(("cookie", name)) if cookies == Cookies::Allowed => Some(Carrier::Cookie(name.to_owned())),
                _ => None,
            };
            if let Some(value) = carrier {
                return Some(Located { value, at: text.at });
            }
            let forms: &[&str] = match cookies {
                Cookies::Allowed => &["bearer", "header:<Name>", "cookie:<name>"],
                Cookies::Refused => &["bearer", "header:<Name>"],
            };
            section.report().error(
                &text.at,
                format!("a credential cannot be carried in `{}` here", shorten(&text.value)),
                Some(suggest(&text.value, forms.iter().copied(), "a place")),
            );
            None
        })
        .collect()
}

/// Reads a list or table of prefixes; empty if it is absent or wrong.
#[must_use]
pub fn read_prefixes(section: &Section<'_>, name: &str) -> WrittenPrefixes {
    let at = section.place_of(name);
    let Some(value) = section.raw(name) else {
        return WrittenPrefixes { all: Vec::new(), at };
    };
    if matches!(value.get_ref(), DeValue::Array(a) if a.is_empty()) || matches!(value.get_ref(), DeValue::Table(t) if t.is_empty()) {
        let help = "for example { live = \"acme_live_\", test = \"acme_test_\" }";
        section.report().error(&at, "at least one prefix is needed", Some(help.to_owned()));
    }
    let all = match value.get_ref() {
        DeValue::Array(_) => section.texts(name).into_iter().map(|text| (text, None)).collect(),
        DeValue::Table(_) => section
            .pairs(name)
            .into_iter()
            .filter_map(|(key, text)| {
                let mode = Mode::parse(&key.value);
                if mode.is_none() {
                    section.report().error(
                        &key.at,
                        format!("there is no mode `{}`", shorten(&key.value)),
                        Some(suggest(&key.value, ["live", "test"], "a mode")),
                    );
                }
                mode.map(|m| (text, Some(m)))
            })
            .collect(),
        other => section.wrong(name, value, other).unwrap_or_default(),
    };
    WrittenPrefixes { all, at }
}
