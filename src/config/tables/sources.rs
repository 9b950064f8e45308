//! Sources of values on served routes: `path.id`, `body.role`, `caller.id`, `parent.login`, or a constant; and whether
//! what they name is there.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use crate::config::declare::SettingValue;
use crate::config::reader::{RawEntry, shorten};
use crate::config::report::suggest;
use crate::config::schema::ValueKind;
use crate::config::source::{Located, Span};
use crate::decide::route::Access;
use crate::decide::surface::{Recipe, Surface, SurfaceIndex};
use crate::snapshot::body_schema::{FieldKind, FieldSpec};
use crate::snapshot::served_route::{RecordFact, TextOrList as ConstantValue, ValueSource};

use super::Builder;
use super::gateway::GatewayTable;
use super::routes::RouteTable;
use super::serve::ServeTable;

/// How a source is written.
const SOURCE: &str = "source: `path.<parameter>`, `body.<field>`, `caller.<fact>`, `parent.<fact>`, `=<text>`, or a list of texts";

/// What may be written as a source.
pub(super) const SOURCE_FORMS: &[ValueKind] = &[ValueKind::Text, ValueKind::Texts];

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

/// Reads the text of a source.
#[must_use]
pub(super) fn parse(text: &str) -> Option<ValueSource> {
    if let Some(constant) = text.strip_prefix('=') {
        return Some(ValueSource::Constant(ConstantValue::Text(constant.to_owned())));
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

impl SettingValue for ValueSource {
    const KIND: ValueKind = ValueKind::Either(SOURCE, SOURCE_FORMS);

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.value {
            DeValue::String(text) => parse(text).or_else(|| entry.error(format!("`{}` is not a source", shorten(text)), help(text))),
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                match texts.collect::<Option<Vec<String>>>() {
                    Some(texts) => Some(Self::Constant(ConstantValue::List(texts))),
                    None => entry.wrong(),
                }
            }
            _ => entry.wrong(),
        }
    }
}

fn help(text: &str) -> String {
    if let Some((of @ ("caller" | "parent"), what)) = text.split_once('.') {
        let known = FACTS.iter().map(|(name, _)| *name).chain(["claims.<name>"]);
        return suggest(what, known, &format!("`{of}.`"));
    }
    format!("write {SOURCE}")
}

/// Claims that credentials of each surface may have, by its name.
pub(super) type Claims = BTreeMap<String, BTreeSet<String>>;

/// One served route while it is built.
pub(super) struct SourceScope<'s> {
    pub(super) surfaces: &'s [Surface],
    pub(super) claims: &'s Claims,
    /// Accepted surfaces; none on a public route.
    pub(super) accepted: &'s [SurfaceIndex],
    pub(super) params: Vec<String>,
    pub(super) fields: Vec<FieldSpec>,
    pub(super) person: PersonPresence,
}

impl<'s> SourceScope<'s> {
    pub(super) fn new(surfaces: &'s [Surface], claims: &'s Claims, access: &'s Access, written: &RouteTable) -> Self {
        let pattern = written.path.as_ref().map_or("", |p| p.value.as_str());
        Self {
            surfaces,
            claims,
            accepted: match access {
                Access::Public => &[],
                Access::Surfaces { surfaces, .. } => surfaces,
            },
            params: pattern
                .split('/')
                .filter_map(|s| Some(s.strip_prefix('{')?.strip_suffix('}')?.to_owned()))
                .collect(),
            fields: Vec::new(),
            person: match written.serve().and_then(|serve| serve.action.as_ref()) {
                Some(action) if action.value.finishes_sign_on() => PersonPresence::SignsOn,
                _ => PersonPresence::Absent,
            },
        }
    }

    pub(super) fn surface(&self, index: SurfaceIndex) -> Option<&'s Surface> {
        self.surfaces.get(index.0)
    }

    pub(super) fn callers(&self) -> impl Iterator<Item = &'s Surface> {
        self.accepted.iter().filter_map(|index| self.surface(*index))
    }

    pub(super) const fn has_caller(&self) -> bool {
        !self.accepted.is_empty()
    }

    pub(super) fn field(&self, name: &str) -> Option<&FieldSpec> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// Claims that a credential of this surface may have.
    pub(super) fn claims_of(&self, surface: &Surface) -> impl Iterator<Item = &'s String> {
        self.claims.get(surface.name.as_str()).into_iter().flatten()
    }

    /// Claims that a caller may have.
    pub(super) fn caller_claims(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.callers().flat_map(|s| self.claims_of(s)).collect();
        all.into_iter().cloned().collect()
    }
}

/// Whether somebody signs on by a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PersonPresence {
    Absent,
    SignsOn,
}

/// Whether a source may speak of a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParentPresence {
    Known,
    None,
}

impl Builder<'_> {
    /// Every claim that is minted, or becomes a header, by surface.
    pub(super) fn known_claims(&self, gateway: &GatewayTable, routes: &[&RouteTable]) -> Claims {
        let mut claims = Claims::new();
        for surface in &gateway.surfaces {
            let own = claims.entry(surface.name.value.clone()).or_default();
            own.extend(surface.kind.claim_headers().iter().map(|(claim, _)| claim.value.clone()));
        }
        for mint in routes.iter().filter_map(|r| r.serve()).flat_map(ServeTable::mints) {
            let Some(surface) = &mint.surface else { continue };
            let own = claims.entry(surface.value.clone()).or_default();
            own.extend(mint.claims.iter().map(|(claim, _)| claim.value.clone()));
        }
        claims
    }

    /// Reports a source that refers to something that is not there. Answers the source itself.
    pub(super) fn check_source(&self, in_scope: &SourceScope<'_>, source: &Located<ValueSource>, parents: ParentPresence) -> ValueSource {
        match &source.value {
            ValueSource::Constant(_) => {}
            ValueSource::Path(name) if !in_scope.params.contains(name) => self.report.error(
                &source.at,
                format!("the path has no parameter `{}`", shorten(name)),
                Some(suggest(name, in_scope.params.iter().map(String::as_str), "a parameter")),
            ),
            ValueSource::Body(name) => match in_scope.field(name).map(|field| &field.kind) {
                None => self.unknown_field(in_scope, name, &source.at),
                Some(FieldKind::Object | FieldKind::Any { .. }) => self.report.error(
                    &source.at,
                    format!("`{}` may be an object, which cannot be used as a value here", shorten(name)),
                    Some("name a field of the object, or a field of another type".to_owned()),
                ),
                Some(_) => {}
            },
            ValueSource::Path(_) => {}
            ValueSource::Caller(fact) => {
                if !in_scope.has_caller() {
                    self.nobody_calls(&source.at);
                } else if let RecordFact::Claim(claim) = fact {
                    self.check_claim(claim, &in_scope.caller_claims(), &source.at);
                }
            }
            ValueSource::Parent(_) if parents == ParentPresence::None => {
                self.report
                    .error(&source.at, "there is no parent here", Some("name one with `parent`".to_owned()))
            }
            ValueSource::Parent(_) => {}
        }
        source.value.clone()
    }

    pub(super) fn nobody_calls(&self, at: &Span) {
        self.report.error(
            at,
            "nobody is known on a public route",
            Some("name the surfaces it accepts: access = { surfaces = [\"…\"] }".to_owned()),
        );
    }

    /// A claim that nothing in the configuration gives: the operator's tools may, so it may be right.
    fn check_claim(&self, claim: &str, known: &[String], at: &Span) {
        if !known.iter().any(|k| k == claim) {
            self.report.warning(
                at,
                format!("no caller of this route is given a claim `{}` here", shorten(claim)),
                Some(suggest(claim, known.iter().map(String::as_str), "a claim")),
            );
        }
    }

    fn unknown_field(&self, in_scope: &SourceScope<'_>, name: &str, at: &Span) {
        self.report.error(
            at,
            format!("the body has no field `{}`", shorten(name)),
            Some(suggest(name, in_scope.fields.iter().map(|f| f.name.as_str()), "a field")),
        );
    }

    /// A source that must be a body field of some kind: `body.<field>`. Answers the field's name.
    pub(super) fn body_source(&self, in_scope: &SourceScope<'_>, text: &Located<String>, wanted: FieldRequirement) -> Option<String> {
        let Some(name) = text.value.strip_prefix("body.") else {
            self.report.error(
                &text.at,
                format!("`{}` is not a field of the body", shorten(&text.value)),
                Some("write `body.<field>`".to_owned()),
            );
            return None;
        };
        self.check_field(in_scope, name, wanted, &text.at);
        Some(name.to_owned())
    }

    /// Reports a field that is not there or not of the kind that is needed.
    pub(super) fn check_field(&self, in_scope: &SourceScope<'_>, name: &str, wanted: FieldRequirement, at: &Span) {
        match in_scope.field(name) {
            None => self.unknown_field(in_scope, name, at),
            Some(field) if !wanted.fits(&field.kind) => {
                self.report
                    .error(at, format!("the field `{name}` must be of type `{}` here", wanted.word()), None)
            }
            Some(_) => {}
        }
    }

    /// The surface of a name. An unknown one is reported, unless it was written and could not be built.
    pub(super) fn surface_index(&self, surfaces: &[Surface], name: &Located<String>) -> Option<SurfaceIndex> {
        let found = self.surface_indices.borrow().get(&name.value).copied();
        if found.is_none() && !self.is_broken_surface(&name.value) {
            self.report.error(
                &name.at,
                format!("there is no surface `{}`", shorten(&name.value)),
                suggest(&name.value, surfaces.iter().map(|s| s.name.as_str()), "a surface"),
            );
        }
        found
    }

    /// The surface of a name, for what needs one with records.
    pub(super) fn find_surface(&self, in_scope: &SourceScope<'_>, name: &Located<String>) -> Option<SurfaceIndex> {
        self.surface_index(in_scope.surfaces, name)
    }

    /// The surface of a name, if it has records of its own.
    pub(super) fn record_surface(&self, in_scope: &SourceScope<'_>, name: &Located<String>) -> Option<SurfaceIndex> {
        let index = self.find_surface(in_scope, name)?;
        let surface = in_scope.surface(index)?;
        if !surface.has_records() {
            self.report.error(
                &name.at,
                format!("`{}` has no records of its own", shorten(&name.value)),
                Some(format!("its tokens hang on records of `{}`", surface.record_surface())),
            );
        }
        Some(index)
    }

    /// The surface of a name, if it is one of accounts.
    pub(super) fn account_surface(&self, in_scope: &SourceScope<'_>, name: &Located<String>) -> Option<SurfaceIndex> {
        let index = self.find_surface(in_scope, name)?;
        if !matches!(in_scope.surface(index)?.kind.recipe(), Recipe::Account) {
            self.report.error(
                &name.at,
                format!("`{}` has no passwords", shorten(&name.value)),
                Some("name a surface of kind `account`".to_owned()),
            );
        }
        Some(index)
    }
}

/// What a field must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldRequirement {
    Secret,
    Integer,
    List,
}

impl FieldRequirement {
    const fn fits(self, kind: &FieldKind) -> bool {
        matches!(
            (self, kind),
            (Self::Secret, FieldKind::Secret { .. })
                | (Self::Integer, FieldKind::Integer { .. })
                | (Self::List, FieldKind::TextList { .. })
        )
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Integer => "integer",
            Self::List => "list",
        }
    }
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
        assert_eq!(parse("="), Some(ValueSource::Constant(ConstantValue::Text(String::new()))));
        assert_eq!(parse("=body.x"), Some(ValueSource::Constant(ConstantValue::Text("body.x".into()))));
        for bad in ["", "id", "path", "path.", "caller.password", "caller.claims.", "query.x", "Body.x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
