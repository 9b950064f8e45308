//! Between the domain's values and their texts: what operators write is parsed, and values are rendered for the JSON.

use std::time::Duration;

use crate::base;
use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, RoleId, Subject, SurfaceName, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::base::scope::{Mode, Scope, ScopeSet};

use super::error::OperationError;

/// Most entries of one page; stores cap lists at the same number.
pub(crate) const PAGE: usize = 1_000;

/// Longest name for people, in bytes: one line of a list.
const MAX_NAME: usize = 200;

/// Longest description, in bytes: a paragraph, and what stores take.
const MAX_DESCRIPTION: usize = 1024;

/// Reads `45s`, `90m`, `12h`, `30d`, `2w` or `0`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, OperationError> {
    let wrong = || OperationError::Usage(format!("`{}` is not a duration: write 45s, 90m, 12h, 30d or 2w", printable(text)));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let one_word = Some(text).filter(|text| !text.contains(' '));
    let duration = one_word.and_then(|text| base::text::parse_duration(text, &["s", "m", "h", "d", "w"]));
    duration.ok_or_else(wrong)
}

/// Reads the time at which something ends: a duration from `now`, or a date and time. It must lie ahead.
pub(crate) fn parse_expiry(text: &str, now: UnixMillis) -> Result<UnixMillis, OperationError> {
    let at = match parse_duration(text) {
        Ok(duration) => now.plus(duration),
        Err(_) => UnixMillis(
            text.parse::<jiff::Timestamp>()
                .map_err(|_| {
                    OperationError::Usage(format!(
                        "`{}` is not a time: write a duration (12h, 30d) or a date and time (2027-01-31T00:00:00Z)",
                        printable(text)
                    ))
                })?
                .as_millisecond(),
        ),
    };
    if at <= now {
        return Err(OperationError::Usage(format!("the expiry {} is not in the future", write(at))));
    }
    if jiff::Timestamp::from_millisecond(at.0).is_err() {
        return Err(OperationError::Usage("the expiry lies beyond the year 9999".into()));
    }
    Ok(at)
}

pub(crate) fn parse_id(id: &str) -> Result<CredentialId, OperationError> {
    CredentialId::parse(id).map_err(|e| OperationError::Usage(format!("`{}` is not a credential id: {e}", printable(id))))
}

pub(crate) fn parse_surface(name: &str) -> Result<SurfaceName, OperationError> {
    SurfaceName::parse(name).map_err(|e| OperationError::Usage(format!("`{}` is not a surface name: {e}", printable(name))))
}

pub(crate) fn parse_subject(subject: &str) -> Result<Subject, OperationError> {
    Subject::parse(subject).map_err(|e| OperationError::Usage(format!("`{}` is not a subject: {e}", printable(subject))))
}

pub(crate) fn parse_scopes(words: &[String]) -> Result<ScopeSet, OperationError> {
    let parse = |word: &String| Scope::parse(word).map_err(|e| OperationError::Usage(format!("`{}` is not a scope: {e}", printable(word))));
    words.iter().map(parse).collect()
}

pub(crate) fn parse_name(name: &str) -> Result<String, OperationError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(OperationError::Usage(format!(
            "`{}` is not a name: 1 to {MAX_NAME} bytes without control characters",
            printable(name)
        )));
    }
    Ok(name.to_owned())
}

pub(crate) fn parse_tenant(id: &str) -> Result<TenantId, OperationError> {
    TenantId::parse(id).map_err(|e| OperationError::Usage(format!("`{}` is not a tenant id: {e}", printable(id))))
}

pub(crate) fn parse_role_id(id: &str) -> Result<RoleId, OperationError> {
    RoleId::parse(id).map_err(|e| OperationError::Usage(format!("`{}` is not a role id: {e}", printable(id))))
}

pub(crate) fn parse_description(text: &str) -> Result<String, OperationError> {
    if text.len() > MAX_DESCRIPTION || text.chars().any(char::is_control) {
        return Err(OperationError::Usage(format!(
            "a description has at most {MAX_DESCRIPTION} bytes and no control characters"
        )));
    }
    Ok(text.to_owned())
}

/// Writes RFC 3339 in UTC.
pub(crate) fn write(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| format!("{} ms", at.0), |t| t.to_string())
}

/// What an operator typed, safe to print again.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

pub(crate) fn mode_word(mode: Option<Mode>) -> Option<String> {
    mode.map(|m| m.as_str().to_owned())
}

pub(crate) fn scope_words(scopes: &ScopeSet) -> Vec<String> {
    scopes.iter().map(|s| s.as_str().to_owned()).collect()
}

pub(crate) fn role_words(record: &CredentialRecord) -> Vec<String> {
    record.roles().iter().map(|role| role.as_str().to_owned()).collect()
}

pub(crate) const fn state_word(state: CredentialState) -> &'static str {
    crate::sign_on::management::forms::state_word(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_307_838_042);

    #[test]
    fn durations_have_a_unit_and_nothing_else() {
        for (text, secs) in [
            ("0", 0),
            ("45s", 45),
            ("90m", 5_400),
            ("1h", 3_600),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for text in [
            "",
            "h",
            "10",
            "-1h",
            "+1h",
            "1.5h",
            "1 h",
            "1h30m",
            "99999999999999999999d",
            "9999999999999999999w",
            "1é",
        ] {
            assert!(matches!(parse_duration(text), Err(OperationError::Usage(_))), "{text}");
        }
    }

    #[test]
    fn an_expiry_lies_ahead() {
        assert_eq!(parse_expiry("30d", NOW), Ok(NOW.plus(Duration::from_secs(2_592_000))));
        assert_eq!(
            parse_expiry("2027-01-31T00:00:00Z", NOW).map(write),
            Ok("2027-01-31T00:00:00Z".into())
        );
        assert_eq!(
            parse_expiry("2027-01-31T01:00:00+01:00", NOW).map(write),
            Ok("2027-01-31T00:00:00Z".into())
        );
        for text in ["0", "2020-01-01T00:00:00Z", "tomorrow", "2027-01-31", "300000000d"] {
            assert!(matches!(parse_expiry(text, NOW), Err(OperationError::Usage(_))), "{text}");
        }
    }
}
