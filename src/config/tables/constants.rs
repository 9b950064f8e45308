//! Constants of mints: what can never work is found when the configuration is read, not when somebody calls.

use crate::base::ids::{RoleId, Subject};
use crate::base::principal::{ClaimValue, MAX_ROLES, RecordClaims, RoleRecord};
use crate::base::scope::{Mode, Scope, ScopeSet};
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::{Located, Span};
use crate::issue::minting::MAX_NAME;
use crate::snapshot::served_route::{Mint, ParentSource, ScopeSource, TextOrList, ValueSource};

use super::Builder;
use super::mints::{MintTable, ModeValue, ScopesValue};
use super::serve::ServeTable;
use super::sources::{ParentPresence, SourceScope};

impl Builder<'_> {
    /// Where a mint's roles come from. Those that are written down are found by id or by name.
    pub(super) fn role_source(&self, in_scope: &SourceScope<'_>, written: &MintTable, parents: ParentPresence) -> Option<ValueSource> {
        let roles = written.roles.as_ref()?;
        let ValueSource::Constant(value) = &roles.value else {
            self.check_given(in_scope, &roles.at, written);
            return Some(self.check_source(in_scope, roles, parents));
        };
        let mut ids: Vec<String> = Vec::new();
        for word in words(value) {
            let at = self.word_in(&roles.at, &word);
            let Some(role) = self.configured_role(&word, &at) else { continue };
            self.check_granted(in_scope, &word, &at, &role.scopes, &written.grants);
            ids.push(role.id.as_str().to_owned());
        }
        if ids.len() > MAX_ROLES {
            self.report
                .error(&roles.at, format!("a record has at most {MAX_ROLES} roles"), None);
        }
        Some(ValueSource::Constant(TextOrList::List(ids)))
    }

    fn configured_role(&self, word: &str, at: &Span) -> Option<RoleRecord> {
        let roles = self.known_roles.borrow();
        let by_id = RoleId::parse(word).ok().and_then(|id| roles.find(&id).cloned());
        let found = by_id.or_else(|| roles.named(word).cloned());
        if found.is_none() {
            self.report.error(
                at,
                format!("there is no role `{}` in the configuration", shorten(word)),
                Some(suggest(
                    word,
                    roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(),
                    "a role",
                )),
            );
        }
        found
    }

    /// On a public route nobody holds a scope: what a role holds there must be granted.
    fn check_granted(&self, in_scope: &SourceScope<'_>, word: &str, at: &Span, scopes: &ScopeSet, grants: &[Located<String>]) {
        let missing = |scope: &&Scope| !grants.iter().any(|g| g.value == scope.as_str());
        if in_scope.has_caller() {
            return;
        }
        let missing: Vec<String> = scopes
            .iter()
            .filter(missing)
            .map(|scope| format!("\"{}\"", scope.as_str()))
            .collect();
        if !missing.is_empty() {
            self.report.error(
                at,
                format!(
                    "the caller of a public route does not hold the scopes of `{}`: every call would be 403",
                    shorten(word)
                ),
                Some(format!("name them in `grants` as well: grants = [{}]", missing.join(", "))),
            );
        }
    }

    /// On a public route nothing can be chosen that is not granted.
    fn check_given(&self, in_scope: &SourceScope<'_>, at: &Span, written: &MintTable) {
        if !in_scope.has_caller() && written.grants.is_empty() {
            self.report.error(
                at,
                "the caller of a public route holds no scopes: every scope that is asked for would be 403",
                Some("name in `grants` the scopes that may be asked for".to_owned()),
            );
        }
    }

    /// Scopes that are one constant text are those of a list.
    pub(super) fn constant_scopes(&self, in_scope: &SourceScope<'_>, value: &TextOrList, at: &Span, written: &MintTable) -> ScopeSource {
        let list: Vec<Located<String>> = words(value)
            .into_iter()
            .map(|word| {
                let at = self.word_in(at, &word);
                Located { value: word, at }
            })
            .collect();
        self.check_fixed(in_scope, &list, &written.grants);
        ScopeSource::Fixed(self.scopes(&list))
    }

    /// Constants that no record could have.
    pub(super) fn check_constants(&self, in_scope: &SourceScope<'_>, written: &MintTable) {
        let wrong = |at: &Span, what: &str, help: &str| self.report.error(at, format!("this cannot be {what}"), Some(help.to_owned()));
        for (source, what) in [
            (&written.subject, "a subject"),
            (&written.name, "a name"),
            (&written.login, "a login"),
        ] {
            if let Some((TextOrList::List(_), at)) = constant(source.as_ref()) {
                wrong(at, what, "one text belongs here, and this is a list");
            }
        }
        if let Some((TextOrList::Text(text), at)) = constant(written.subject.as_ref())
            && Subject::parse(text).is_err()
        {
            wrong(at, "a subject", "a subject is a short text without control characters");
        }
        if let Some((TextOrList::Text(text), at)) = constant(written.name.as_ref())
            && (text.len() > MAX_NAME || text.chars().any(char::is_control))
        {
            wrong(at, "a name", &format!("at most {MAX_NAME} bytes without control characters"));
        }
        if let Some(Located {
            value: ModeValue::From(ValueSource::Constant(value)),
            at,
        }) = &written.mode
            && !matches!(value, TextOrList::Text(text) if Mode::parse(text).is_some())
        {
            wrong(at, "a mode", "`live` or `test`");
        }
        for (claim, source) in &written.claims {
            if let Some((value, at)) = constant(Some(source))
                && RecordClaims::new([(claim.value.clone(), ClaimValue::from(value.clone()))]).is_err()
            {
                wrong(at, "a claim", "its texts are too long, too many, or have control characters");
            }
        }
        if let Some(Located {
            value: ScopesValue::From(ValueSource::Body(_) | ValueSource::Path(_)),
            at,
        }) = &written.scopes
        {
            self.check_given(in_scope, at, written);
        }
    }

    /// A record never may more than what it hangs on: roles that are written down are within what the one made before has.
    pub(super) fn check_within_minted(&self, written: &[MintTable], mints: &[Mint]) {
        if written.len() != mints.len() {
            return;
        }
        for (mint, written) in mints.iter().zip(written) {
            let (ParentSource::Minted(parent), Some(roles)) = (&mint.parent, &written.roles) else {
                continue;
            };
            let (Some(own), Some(may)) = (self.fixed_roles(mint), mints.get(*parent).and_then(|parent| self.fixed(parent))) else {
                continue;
            };
            if let Some(scope) = own.iter().find(|scope| !may.contains(scope)) {
                self.report.error(
                    &roles.at,
                    format!(
                        "`minted.{parent}` lacks `{}`, which these roles hold: every call would be 403",
                        scope.as_str()
                    ),
                    Some("give its parent the same roles or scopes".to_owned()),
                );
            }
        }
    }

    /// All that a mint gives, if it is the same for every caller.
    fn fixed(&self, mint: &Mint) -> Option<ScopeSet> {
        let scopes = match &mint.scopes {
            ScopeSource::None => ScopeSet::default(),
            ScopeSource::Fixed(scopes) => scopes.clone(),
            ScopeSource::Caller | ScopeSource::From(_) => return None,
        };
        Some(scopes.union(&self.fixed_roles(mint)?))
    }

    fn fixed_roles(&self, mint: &Mint) -> Option<ScopeSet> {
        let Some(source) = &mint.roles else {
            return Some(ScopeSet::default());
        };
        let ValueSource::Constant(value) = source else { return None };
        let roles = self.known_roles.borrow();
        let ids = words(value);
        let found = ids
            .iter()
            .filter_map(|id| RoleId::parse(id).ok().and_then(|id| roles.find(&id).cloned()));
        Some(found.flat_map(|role| role.scopes.iter().cloned().collect::<Vec<_>>()).collect())
    }

    /// Words in braces that no message fills in.
    pub(super) fn check_messages(&self, serve: &ServeTable) {
        const FILLED: [&str; 4] = ["field", "min", "max", "values"];
        for message in serve.body.iter().flat_map(|field| field.messages.all()) {
            let mut words = message.value.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
            if let Some((word, _)) = words.find(|(word, _)| !FILLED.contains(word)) {
                self.report.warning(
                    &message.at,
                    format!("`{{{}}}` is sent as written: it is not replaced by a value", shorten(word)),
                    Some("only `{field}`, `{min}`, `{max}` and `{values}` are replaced by values".to_owned()),
                );
            }
        }
    }

    /// Where a word of a value stands, if that can be told.
    fn word_in(&self, at: &Span, word: &str) -> Span {
        let found = self.source_text(at).and_then(|raw| raw.find(&format!("\"{word}\"")));
        found.map_or_else(
            || at.clone(),
            |start| Span {
                source: at.source,
                start: at.start + start,
                end: at.start + start + word.len() + 2,
            },
        )
    }
}

fn constant(source: Option<&Located<ValueSource>>) -> Option<(&TextOrList, &Span)> {
    match source {
        Some(Located {
            value: ValueSource::Constant(value),
            at,
        }) => Some((value, at)),
        _ => None,
    }
}

fn words(value: &TextOrList) -> Vec<String> {
    match value {
        TextOrList::List(words) => words.clone(),
        TextOrList::Text(text) => text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
    }
}
