//! Claims as rules ask for them, of our own tokens and of others'.

use crate::base::clock::UnixMillis;
use crate::base::scope::{Scope, ScopeSet};
use crate::base::token_fault::TokenFault;

use super::members::Value;

/// Most audiences of one token. Tokens are made for a few services; a list of thousands is made to be compared.
const MAX_AUDIENCES: usize = 64;

/// The last second of the year 9999: later times are mistakes or attempts at an overflow.
const MAX_TIME: i64 = 253_402_300_799;

/// A `NumericDate` (RFC 7519, section 2) in range, whole or with a fraction.
pub(in crate::decide) fn read_time(value: &Value<'_>) -> Result<UnixMillis, TokenFault> {
    match value {
        Value::Integer(seconds) if (0..=MAX_TIME).contains(seconds) => Ok(UnixMillis(seconds * 1000)),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "in range, and a millisecond is fine enough"
        )]
        Value::Fraction(seconds) if (0.0..=MAX_TIME as f64).contains(seconds) => Ok(UnixMillis((seconds * 1000.0).round() as i64)),
        _ => Err(TokenFault::MalformedTime),
    }
}

/// The times of a token: `exp`, and `iat` if it is there. Neither `iat` nor `nbf` lies after what the caller tolerates.
pub(in crate::decide) fn read_times(
    time: impl Fn(&str) -> Option<Result<UnixMillis, TokenFault>>,
    (latest_start, latest_issue): (UnixMillis, UnixMillis),
) -> Result<(UnixMillis, Option<UnixMillis>), TokenFault> {
    if time("nbf").transpose()?.is_some_and(|start| start > latest_start) {
        return Err(TokenFault::NotYetValid);
    }
    let issued_at = time("iat").transpose()?;
    if issued_at.is_some_and(|issued| issued > latest_issue) {
        return Err(TokenFault::IssuedInFuture);
    }
    let expires_at = time("exp").unwrap_or(Err(TokenFault::NoExpiry))?;
    Ok((expires_at, issued_at))
}

/// Whether a token is for this audience: a text, or a list of nothing but texts that has it, of at most [`MAX_AUDIENCES`].
pub(in crate::decide) fn check_audience(value: Option<&Value<'_>>, audience: &str) -> Result<(), TokenFault> {
    let named = match value {
        None => return Err(TokenFault::NoAudience),
        Some(Value::Text(text)) => text == audience,
        Some(Value::List(items)) => {
            items.len() <= MAX_AUDIENCES
                && items.iter().all(|item| item.text().is_some())
                && items.iter().any(|item| item.text() == Some(audience))
        }
        Some(_) => false,
    };
    if named { Ok(()) } else { Err(TokenFault::WrongAudience) }
}

/// Scopes of our own tokens, as a list of strings or as one string with spaces (RFC 8693, section 4.2). Without the
/// claim there is no scope; with one that is malformed there is no token.
pub(in crate::decide) fn read_scopes(value: Option<&Value<'_>>) -> Result<ScopeSet, TokenFault> {
    let parse = |word: &str| Scope::parse(word).map_err(|_| TokenFault::MalformedScopes);
    match value {
        None => Ok(ScopeSet::default()),
        Some(Value::Text(text)) => text.split(' ').filter(|word| !word.is_empty()).map(parse).collect(),
        Some(Value::List(items)) => items
            .iter()
            .map(|item| parse(item.text().ok_or(TokenFault::MalformedScopes)?))
            .collect(),
        Some(_) => Err(TokenFault::MalformedScopes),
    }
}

/// Scopes of others' tokens, at most those of `bound`. They may come from a list of groups or roles, of which some are
/// no scopes (`Domain Users`, an object): no route can ask for those, so they do not count, and the person is not
/// refused because of them.
pub(in crate::decide) fn read_foreign_scopes(value: Option<&Value<'_>>, bound: Option<&ScopeSet>) -> Result<ScopeSet, TokenFault> {
    let parse = |word: &str| match bound {
        Some(bound) => bound.find(word).cloned(),
        None => Scope::parse(word).ok(),
    };
    match value {
        None | Some(Value::Null) => Ok(ScopeSet::default()),
        Some(Value::Text(text)) => Ok(text.split(' ').filter_map(parse).collect()),
        Some(Value::List(items)) => Ok(items.iter().filter_map(|item| parse(item.text()?)).collect()),
        Some(_) => Err(TokenFault::MalformedScopes),
    }
}
