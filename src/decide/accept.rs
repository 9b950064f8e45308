//! Which form of an answer a client prefers: a page for people, or what programs read (RFC 9110, section 12.5.1).

use crate::wire::fields::Fields;

/// Most media ranges that are read. Browsers send about eight.
const MAX_RANGES: usize = 32;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerForm {
    /// What programs read.
    #[default]
    Json,
    /// A page for people.
    Html,
}

impl AnswerForm {
    /// The form that a request prefers. A page is sent only to a client that names `text/html` and does not prefer
    /// JSON, so that a program that takes anything is given JSON.
    #[must_use]
    pub fn preferred(fields: &Fields) -> Self {
        let ranges = fields.all("accept").flat_map(|value| value.split(|b| *b == b',')).take(MAX_RANGES);
        let (mut html, mut json) = (0, 0);
        for range in ranges {
            let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let media = parts.next().unwrap_or_default();
            let quality = parts.find_map(weight).unwrap_or(1_000);
            if media.eq_ignore_ascii_case(b"text/html") || media.eq_ignore_ascii_case(b"application/xhtml+xml") {
                html = html.max(quality);
            } else if media.eq_ignore_ascii_case(b"application/json") || media.eq_ignore_ascii_case(b"application/problem+json") {
                json = json.max(quality);
            }
        }
        if html > 0 && html >= json { Self::Html } else { Self::Json }
    }
}

/// The weight of a media range in thousandths; `None` for another parameter. A malformed weight counts as zero.
fn weight(parameter: &[u8]) -> Option<u32> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let value = std::str::from_utf8(value).ok().and_then(|text| text.parse::<f32>().ok());
    let value = value.filter(|value| (0.0..=1.0).contains(value)).unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    Some((value * 1_000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferred(values: &[&str]) -> AnswerForm {
        let mut fields = Fields::default();
        for value in values {
            fields.push(b"Accept", value.as_bytes());
        }
        AnswerForm::preferred(&fields)
    }

    #[test]
    fn a_browser_is_given_a_page_and_a_program_json() {
        for accept in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            "text/html",
            "TEXT/HTML; q=0.5, application/json;q=0.4",
            "application/json, text/html",
            "text/html;level=1;q=0.3",
        ] {
            assert_eq!(preferred(&[accept]), AnswerForm::Html, "{accept}");
        }
        for accept in [
            "*/*",
            "",
            "application/json",
            "application/json, text/html;q=0.9",
            "text/html;q=0",
            "text/html;q=2",
            "text/html;q=x",
            "text/*",
            "text/htmlx",
        ] {
            assert_eq!(preferred(&[accept]), AnswerForm::Json, "{accept}");
        }
        assert_eq!(preferred(&[]), AnswerForm::Json);
        assert_eq!(
            preferred(&["application/json;q=0.2", "text/html"]),
            AnswerForm::Html,
            "two lines are one list"
        );
    }
}
