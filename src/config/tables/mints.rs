//! `[[routes.mint]]`: what a served route makes, for how long, and on what it hangs.

use std::time::Duration;

use toml::de::DeValue;

use crate::base::scope::{Mode, ScopeSet};
use crate::config::declare::{DeclaredTable, Pairs, SettingValue, absent, duration, required, table};
use crate::config::reader::{RawEntry, shorten};
use crate::config::schema::ValueKind;
use crate::config::source::{Located, Span};
use crate::config::units::{secs, write_duration};
use crate::decide::surface::{Minting, Recipe, SessionRecord, SessionSurface, Surface, SurfaceIndex};
use crate::dialect::answer::MAX_MINTED;
use crate::snapshot::served_route::{Mint, MintLifetime, ModeSource, ParentSource, ScopeSource, ValueSource};

use super::Builder;
use super::sources::{FieldRequirement, ParentPresence, PersonPresence, SOURCE_FORMS, SourceScope};

/// Longest life of anything a route makes: ten years. What should live longer has no `lifetime`.
const LONGEST: Duration = secs(3_653 * 86_400);

table! {
    /// One credential that a route with `serve = "mint"` makes. Several are made in order, all or none. Scopes, mode,
    /// tenant and lifetime are never beyond the caller's, except what `grants` names.
    pub struct MintTable = "`[[routes.mint]]`" {
        /// The surface it is for: keys, pairs, accounts, or session tokens of a surface with `lifetime`.
        surface: Option<Located<String>> = required();
        /// What it hangs on: when the parent ends, it ends, and scopes that the parent loses, it loses. With `tenant` (or
        /// `none`) it hangs on its tenant alone. It is then given scopes that its caller holds when it is made, or that
        /// `grants` names, and keeps them: the end, rotation or narrowing of its caller does not affect it. `person`, on routes that
        /// finish a sign-on: the person who signs on.
        parent: Option<Located<ParentValue>> = absent("`tenant`");
        /// Who acts by it.
        subject: Option<Located<ValueSource>> = absent("none");
        /// Its name for people.
        name: Option<Located<ValueSource>> = absent("none");
        /// What it is for, at most 1024 bytes; stored, and shown in lists and to operators.
        description: Option<Located<ValueSource>> = absent("none");
        /// Of an account: its e-mail address. One that is taken is `taken`.
        login: Option<Located<ValueSource>> = absent("none");
        /// Of an account: its password, from a body field of type `secret`.
        password: Option<Located<ValueSource>> = absent("none: nobody can log in");
        /// Its mode.
        mode: Option<Located<ModeValue>> = absent("`caller`; on public routes `none`");
        /// Its scopes, within the caller's and `grants`; what is asked for beyond them is `insufficient_scope`.
        scopes: Option<Located<ScopesValue>> = absent("none");
        /// Scopes this route may give although its caller lacks them: your word. They are the new credential's own, and
        /// stay with it whatever its parent loses.
        grants: Vec<Located<String>> = absent("none");
        /// Ids of its roles. Roles that are written here as constants may be names of roles of the configuration. Their
        /// scopes are judged as `scopes` are.
        roles: Option<Located<ValueSource>> = absent("none");
        /// What is kept with it, and written into a session token; at most 16.
        claims: Pairs<ValueSource> = absent("none");
        /// How long it lives unless the caller chooses; with records of their own, how long the whole session may last.
        /// Never beyond what it hangs on.
        lifetime: Option<Located<Duration>> = absent("without end; on session surfaces the surface's `lifetime`"), duration(secs(1), LONGEST);
        /// The longest a caller may choose; more is a validation error.
        max_lifetime: Option<Located<Duration>> = absent("required with `lifetime_from`"), duration(secs(1), LONGEST);
        /// `body.<field>` of type `integer`: the lifetime in seconds.
        lifetime_from: Option<Located<String>> = absent("callers do not choose");
        /// It ends after so long without use; `lifetime` is then the absolute limit and must be there.
        idle: Option<Located<Duration>> = absent("it does not end by disuse"), duration(secs(60), LONGEST);
    }
}

table! {
    /// A record of the caller's tenant that is in force; otherwise `record_not_found`.
    pub struct ParentTable = "`parent`" {
        /// Its surface.
        surface: Located<String> = required();
        /// Its id.
        id: Located<ValueSource> = required();
    }
}

/// What a new credential hangs on.
#[derive(Debug)]
pub enum ParentValue {
    /// `tenant`
    None,
    /// `caller`
    Caller,
    /// `caller.parent`
    CallersParent,
    /// `person`
    Person,
    /// `minted.<number>`
    Minted(usize),
    Record(ParentTable),
}

impl SettingValue for ParentValue {
    const KIND: ValueKind = ValueKind::Either(
        "`tenant`, `caller`, `caller.parent`, `person`, `minted.<number>` (from 0), or a table",
        &[ValueKind::Text, ValueKind::Table(ParentTable::schema)],
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.value {
            DeValue::String(text) => match text.as_ref() {
                "tenant" | "none" => Some(Self::None),
                "caller" => Some(Self::Caller),
                "caller.parent" => Some(Self::CallersParent),
                "person" => Some(Self::Person),
                text => match text.strip_prefix("minted.").and_then(|n| n.parse().ok()) {
                    Some(number) => Some(Self::Minted(number)),
                    None => entry.wrong(),
                },
            },
            _ => ParentTable::parse(entry).map(Self::Record),
        }
    }
}

/// The mode of a new credential.
#[derive(Debug)]
pub enum ModeValue {
    /// `caller`
    Caller,
    /// `none`
    Unset,
    /// `live` or `test`
    Fixed(Mode),
    From(ValueSource),
}

impl SettingValue for ModeValue {
    const KIND: ValueKind = ValueKind::Either(
        "`caller`, `none`, `live` or `test` (for callers without a mode), or a source of one of these two words",
        SOURCE_FORMS,
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.text()? {
            "caller" => Some(Self::Caller),
            "none" => Some(Self::Unset),
            text => match Mode::parse(text) {
                Some(mode) => Some(Self::Fixed(mode)),
                None => ValueSource::parse(entry).map(Self::From),
            },
        }
    }
}

/// The scopes of a new credential.
#[derive(Debug)]
pub enum ScopesValue {
    /// `caller`
    Caller,
    /// `person`
    Person,
    Fixed(Vec<Located<String>>),
    From(ValueSource),
}

impl SettingValue for ScopesValue {
    const KIND: ValueKind = ValueKind::Either(
        "`caller` (all of the caller's), `person` (all of the person's who signs on), a source, or a list of scopes",
        SOURCE_FORMS,
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.value {
            DeValue::String(text) if text == "caller" => Some(Self::Caller),
            DeValue::String(text) if text == "person" => Some(Self::Person),
            DeValue::Array(_) => Vec::parse(entry).map(Self::Fixed),
            _ => ValueSource::parse(entry).map(Self::From),
        }
    }
}

/// Most claims of one record.
const MAX_CLAIMS: usize = 16;

impl Builder<'_> {
    /// Everything a route makes. A mint with mistakes is left out.
    pub(super) fn mints(&self, in_scope: &SourceScope<'_>, written: &[MintTable]) -> Vec<Mint> {
        if let Some(extra) = written.get(MAX_MINTED) {
            self.report
                .error(&extra.at, format!("a route makes at most {MAX_MINTED} credentials"), None);
        }
        let earlier: Vec<Option<&str>> = written.iter().map(|m| m.surface.as_ref().map(|s| s.value.as_str())).collect();
        let mints: Vec<Mint> = written
            .iter()
            .enumerate()
            .filter_map(|(i, mint)| self.mint(in_scope, mint, earlier.get(..i).unwrap_or_default()))
            .collect();
        self.check_within_minted(written, &mints);
        mints
    }

    fn mint(&self, in_scope: &SourceScope<'_>, written: &MintTable, earlier: &[Option<&str>]) -> Option<Mint> {
        let name = written.surface.as_ref()?;
        let index = self.find_surface(in_scope, name)?;
        let surface = in_scope.surface(index)?;
        let parent = self.parent(in_scope, written, earlier);
        let parents = match parent {
            ParentSource::None => ParentPresence::None,
            _ => ParentPresence::Known,
        };
        self.check_mintable(in_scope, surface, name, written, earlier);
        self.check_constants(in_scope, written);
        let source = |s: &Option<Located<ValueSource>>| s.as_ref().map(|s| self.check_source(in_scope, s, parents));
        if let Some(extra) = written.claims.get(MAX_CLAIMS) {
            self.report
                .error(&extra.0.at, format!("a record has at most {MAX_CLAIMS} claims"), None);
        }
        if let Some(Located {
            value: ValueSource::Body(field),
            at,
        }) = &written.roles
        {
            self.check_field(in_scope, field, FieldRequirement::List, at);
        }
        Some(Mint {
            surface: index,
            subject: source(&written.subject),
            name: source(&written.name),
            description: source(&written.description),
            login: source(&written.login),
            password: self.password(in_scope, written),
            mode: self.mode(in_scope, surface, written, parents),
            scopes: self.scope_source(in_scope, written, parents),
            grants: self.scopes(&written.grants),
            roles: self.role_source(in_scope, written, parents),
            claims: written
                .claims
                .iter()
                .map(|(claim, from)| {
                    self.check_claim_name(claim, surface);
                    (claim.value.clone(), self.check_source(in_scope, from, parents))
                })
                .collect(),
            lifetime: self.lifetime(in_scope, surface, written),
            idle: self.idle(surface, written),
            parent,
        })
    }

    fn parent(&self, in_scope: &SourceScope<'_>, written: &MintTable, earlier: &[Option<&str>]) -> ParentSource {
        let Some(parent) = &written.parent else { return ParentSource::None };
        match &parent.value {
            ParentValue::None => ParentSource::None,
            ParentValue::Caller | ParentValue::CallersParent if !in_scope.has_caller() => {
                self.nobody_calls(&parent.at);
                ParentSource::None
            }
            ParentValue::Caller => ParentSource::Caller,
            ParentValue::CallersParent => ParentSource::CallersParent,
            ParentValue::Person => {
                self.check_person(in_scope, &parent.at);
                ParentSource::Person
            }
            ParentValue::Minted(number) => {
                if *number >= earlier.len() {
                    self.report.error(
                        &parent.at,
                        format!("`minted.{number}` is not made before this"),
                        Some(format!("{} made before it, counted from 0", earlier.len())),
                    );
                }
                ParentSource::Minted(*number)
            }
            ParentValue::Record(ParentTable { surface: name, id, .. }) => {
                let id = self.check_source(in_scope, id, ParentPresence::None);
                let found = self.record_surface(in_scope, name);
                let of = found.and_then(|index| in_scope.surface(index));
                if of.is_some_and(|surface| matches!(surface.kind.recipe(), Recipe::Signing(_))) {
                    let message = format!("`{}` has signing secrets, and no record can hang on them", shorten(&name.value));
                    self.report.error(&name.at, message, None);
                }
                found.map_or(ParentSource::None, |surface| ParentSource::Record { surface, id })
            }
        }
    }

    /// Only where a sign-on is finished there is a person who signs on.
    fn check_person(&self, in_scope: &SourceScope<'_>, at: &Span) {
        if in_scope.person == PersonPresence::Absent {
            self.report.error(
                at,
                "nobody signs on by this route",
                Some("`person` belongs to routes with `serve = \"sso_finish\"` or `serve = \"saml_finish\"`".to_owned()),
            );
        }
    }

    /// Whether credentials of this surface can be made so.
    fn check_mintable(
        &self,
        in_scope: &SourceScope<'_>,
        surface: &Surface,
        name: &Located<String>,
        written: &MintTable,
        earlier: &[Option<&str>],
    ) {
        let account = matches!(surface.kind.recipe(), Recipe::Account);
        for (source, key) in [(&written.login, "login"), (&written.password, "password")] {
            if let (Some(source), false) = (source, account) {
                self.report.error(
                    &source.at,
                    format!("`{key}` belongs to accounts, and `{}` has none", surface.name),
                    None,
                );
            }
        }
        if let (Some(password), true, None) = (&written.password, account, &written.login) {
            self.report.error(&password.at, "a password without a `login` opens nothing", None);
        }
        let Some(SessionSurface {
            record, minting, rules, ..
        }) = surface.kind.session()
        else {
            return;
        };
        if minting.is_none() {
            self.report.error(
                &name.at,
                format!("tokens of `{}` are minted elsewhere", surface.name),
                Some("give the surface a `lifetime`".to_owned()),
            );
        }
        if let SessionRecord::Sub(records) = record {
            self.check_token_parent(in_scope, records.as_str(), name, written, earlier);
            self.check_token_scopes(surface, records.as_str(), rules.scopes_claim.is_some(), written);
        }
    }

    /// What a token without a record of its own may do is what its record may, less what the token itself says. Scopes
    /// that it does not say, and roles, which only records have, would be told to the caller and not be true.
    fn check_token_scopes(&self, surface: &Surface, records: &str, says_scopes: bool, written: &MintTable) {
        if let (Some(scopes), false) = (&written.scopes, says_scopes) {
            self.report.error(
                &scopes.at,
                format!(
                    "a token of `{}` does not say its scopes: it would open all that its record of `{records}` may",
                    surface.name
                ),
                Some("give the surface a `scopes_claim`, or leave `scopes` out".to_owned()),
            );
        }
        if let Some(roles) = &written.roles {
            self.report.error(
                &roles.at,
                format!("a token of `{}` has no record of its own that could have roles", surface.name),
                Some(format!("leave `roles` out: those of its record of `{records}` count")),
            );
        }
    }

    /// A token without a record of its own hangs on one of the surface its `sub` names.
    fn check_token_parent(
        &self,
        in_scope: &SourceScope<'_>,
        records: &str,
        name: &Located<String>,
        written: &MintTable,
        earlier: &[Option<&str>],
    ) {
        let at = written.parent.as_ref().map_or(&name.at, |p| &p.at);
        let fits = match written.parent.as_ref().map(|p| &p.value) {
            None | Some(ParentValue::None) => false,
            Some(ParentValue::Caller) => in_scope.callers().all(|s| s.record_surface().as_str() == records),
            Some(ParentValue::Minted(number)) => earlier.get(*number).is_none_or(|s| s.is_none_or(|s| s == records)),
            Some(ParentValue::Record(parent)) => parent.surface.value == records,
            Some(ParentValue::CallersParent) => true,
            // Such a session has a record of its own, which is checked where the route is built.
            Some(ParentValue::Person) => true,
        };
        if !fits {
            self.report.error(
                at,
                format!(
                    "a token of `{}` hangs on a record of `{records}`, and this is none",
                    shorten(&name.value)
                ),
                Some("name it with `parent`".to_owned()),
            );
        }
    }

    fn password(&self, in_scope: &SourceScope<'_>, written: &MintTable) -> Option<ValueSource> {
        let password = written.password.as_ref()?;
        match &password.value {
            ValueSource::Body(field) => self.check_field(in_scope, field, FieldRequirement::Secret, &password.at),
            _ => self.report.error(
                &password.at,
                "a password comes from a body field of type `secret`",
                Some("password = \"body.password\"".to_owned()),
            ),
        }
        Some(password.value.clone())
    }

    fn mode(&self, in_scope: &SourceScope<'_>, surface: &Surface, written: &MintTable, parents: ParentPresence) -> ModeSource {
        let prefixes = surface.prefixes();
        let moded = !prefixes.is_empty() && prefixes.iter().all(|p| p.mode.is_some());
        let at = written.mode.as_ref().map_or(&written.at, |m| &m.at);
        let mode = match written.mode.as_ref().map(|m| &m.value) {
            None if !in_scope.has_caller() => ModeSource::Unset,
            None => ModeSource::Caller,
            Some(ModeValue::Caller) => {
                if !in_scope.has_caller() {
                    self.nobody_calls(at);
                }
                ModeSource::Caller
            }
            Some(ModeValue::Unset) => ModeSource::Unset,
            Some(ModeValue::Fixed(mode)) => ModeSource::CallerOr(*mode),
            Some(ModeValue::From(source)) => {
                let source = Located {
                    value: source.clone(),
                    at: at.clone(),
                };
                if let ValueSource::Body(field) = &source.value
                    && let Some(field) = in_scope.field(field)
                    && (field.one_of.is_empty() || field.one_of.iter().any(|m| m != "live" && m != "test"))
                {
                    self.report.error(
                        at,
                        format!("the field `{}` must be limited to `live` and `test`", field.name),
                        Some("one_of = [\"live\", \"test\"]".to_owned()),
                    );
                }
                ModeSource::From(self.check_source(in_scope, &source, parents))
            }
        };
        if moded && mode == ModeSource::Unset {
            self.report.error(
                at,
                format!("keys of `{}` tell a mode by their prefix: this one would have none", surface.name),
                Some("mode = \"live\", or a source of one".to_owned()),
            );
        }
        mode
    }

    fn scope_source(&self, in_scope: &SourceScope<'_>, written: &MintTable, parents: ParentPresence) -> ScopeSource {
        let Some(scopes) = &written.scopes else { return ScopeSource::None };
        match &scopes.value {
            ScopesValue::Caller => {
                if !in_scope.has_caller() {
                    self.nobody_calls(&scopes.at);
                }
                ScopeSource::Caller
            }
            ScopesValue::Person => {
                self.check_person(in_scope, &scopes.at);
                ScopeSource::Caller
            }
            ScopesValue::Fixed(list) => {
                let fixed: ScopeSet = self.scopes(list);
                self.check_fixed(in_scope, list, &written.grants);
                ScopeSource::Fixed(fixed)
            }
            ScopesValue::From(ValueSource::Constant(value)) => self.constant_scopes(in_scope, value, &scopes.at, written),
            ScopesValue::From(source) => {
                let source = Located {
                    value: source.clone(),
                    at: scopes.at.clone(),
                };
                ScopeSource::From(self.check_source(in_scope, &source, parents))
            }
        }
    }

    /// On a public route nobody holds a scope: what is given there must be granted.
    pub(super) fn check_fixed(&self, in_scope: &SourceScope<'_>, list: &[Located<String>], grants: &[Located<String>]) {
        // Whoever signs on is given a session as a caller is, within what the person may do.
        if in_scope.has_caller() || in_scope.person == PersonPresence::SignsOn {
            return;
        }
        if let Some(scope) = list.iter().find(|s| !grants.iter().any(|g| g.value == s.value)) {
            self.report.error(
                &scope.at,
                "the caller of a public route holds no scopes",
                Some(format!("name it in `grants` as well: grants = [\"{}\"]", shorten(&scope.value))),
            );
        }
    }

    fn check_claim_name(&self, claim: &Located<String>, surface: &Surface) {
        const OWN: [&str; 8] = ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "kind"];
        let token = surface.kind.session().is_some();
        if claim.value.is_empty()
            || claim.value.len() > 64
            || !claim.value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        {
            self.report.error(
                &claim.at,
                format!("`{}` is not the name of a claim", shorten(&claim.value)),
                Some("1 to 64 letters, digits, `_` and `-`".to_owned()),
            );
        } else if token && OWN.contains(&claim.value.as_str()) {
            self.report.error(
                &claim.at,
                format!("`{}` is the token's own", claim.value),
                Some("it is set by the gateway".to_owned()),
            );
        }
    }

    fn lifetime(&self, in_scope: &SourceScope<'_>, surface: &Surface, written: &MintTable) -> MintLifetime {
        let from = written
            .lifetime_from
            .as_ref()
            .and_then(|text| self.body_source(in_scope, text, FieldRequirement::Integer));
        if let (Some(text), None) = (&written.lifetime_from, &written.max_lifetime) {
            self.report.error(
                &text.at,
                "a caller who chooses a lifetime needs a bound",
                Some("max_lifetime = \"30d\"".to_owned()),
            );
        }
        if let (Some(max), None) = (&written.max_lifetime, &written.lifetime_from) {
            self.report
                .error(&max.at, "`max_lifetime` has no effect without `lifetime_from`", None);
        }
        if let (Some(own), Some(max)) = (&written.lifetime, &written.max_lifetime)
            && own.value > max.value
        {
            let message = format!("`lifetime` is longer than `max_lifetime`, which is {}", write_duration(max.value));
            self.report.error(&own.at, message, None);
        }
        let of_surface = minting(surface).map(|m| m.lifetime);
        MintLifetime {
            default: written.lifetime.as_ref().map(|l| l.value).or(of_surface),
            max: written.max_lifetime.as_ref().map(|l| l.value),
            from: from.map(ValueSource::Body),
        }
    }

    fn idle(&self, surface: &Surface, written: &MintTable) -> Option<Duration> {
        let idle = written.idle.as_ref()?;
        if !surface.has_records() {
            self.report.error(
                &idle.at,
                format!("`{}` has no records of its own: nothing says when a token was used", surface.name),
                None,
            );
        }
        match &written.lifetime {
            None => self.report.error(
                &idle.at,
                "an idle limit needs an absolute one",
                Some("lifetime = \"7d\"".to_owned()),
            ),
            Some(lifetime) if idle.value >= lifetime.value => self.report.error(
                &idle.at,
                "it would end before it can be idle so long",
                Some(format!("`lifetime` is {}", write_duration(lifetime.value))),
            ),
            Some(_) => {}
        }
        Some(idle.value)
    }

    /// The mint whose token becomes a cookie: the last one of a surface with a cookie.
    pub(super) fn cookie_mint(&self, in_scope: &SourceScope<'_>, mints: &[Mint]) -> Option<usize> {
        mints.iter().rposition(|mint| has_cookie(in_scope, mint.surface))
    }
}

fn has_cookie(in_scope: &SourceScope<'_>, surface: SurfaceIndex) -> bool {
    in_scope.surface(surface).and_then(minting).is_some_and(|m| m.cookie.is_some())
}

fn minting(surface: &Surface) -> Option<&Minting> {
    surface.kind.session()?.minting.as_deref()
}
