//! Routes by which a tenant's own administrators manage its identity providers.

use crate::config::declare::{absent, choice, required, table};
use crate::config::source::{Located, Span};
use crate::decide::method::Method;
use crate::decide::surface::{Recipe, SessionRecord, Surface};
use crate::dialect::answer::{AnswerNames, AnswerSubject, AnswerTemplate};
use crate::snapshot::body_schema::{BodySchema, FieldKind, FieldMessages, FieldPresence, FieldSpec, TextFormat};
use crate::snapshot::provider_route::{ProviderOperation, ProviderRoute, ProviderSurfaces};
use crate::snapshot::served_route::{Action, ValueSource};

use super::Builder;
use super::body::MAX_BODY;
use super::routes::{RouteInputs, RouteTable};
use super::serve::ServeTable;
use super::sources::{ParentPresence, SourceScope};

table! {
    /// One operation of a tenant's own administrators on its identity providers. The tenant is always the caller's. The body of
    /// `create` and `update` is the JSON of the operator API without `tenant`: `name`, `scopes`, `roles`, `settings`, `metadata`,
    /// `metadata_url`, `secrets`; its `max_body` is 64 KiB unless set. The answer is the JSON of the operator API unless
    /// `[routes.answer]` has a body. See [sign-on.md](sign-on.md#administrators-of-a-tenant).
    pub struct ProvidersTable = "`[[routes]]` with `serve = \"providers\"`" {
        /// What is done. `list` and `show` are for GET, the others for methods that change something.
        operation: Located<OperationWord> = required();
        /// Which provider, for example `path.id`. One of another tenant is `record_not_found`.
        id: Option<Located<ValueSource>> = absent("required, but for `list` and `create`");
        /// `create`: the surface of the sessions that new providers give.
        session: Option<Located<String>> = absent("the only surface of sessions with `record = \"own\"`");
        /// `create`: the surface of the accounts of their people.
        account: Option<Located<String>> = absent("the only surface of kind `account`");
        /// Scopes that a provider may give although the caller lacks them. A provider that may give any other scope that the
        /// caller lacks is not made, and if it exists, it can only be seen, tested and disabled.
        grants: Vec<Located<String>> = absent("none");
        /// Claims that a provider may let accounts keep. A provider that keeps another claim can only be seen, tested and
        /// disabled.
        claims: Vec<Located<String>> = absent("none");
    }
}

choice! {
    pub enum OperationWord {
        List = "list",
        Show = "show",
        Create = "create",
        Update = "update",
        Test = "test",
        Disable = "disable",
        Enable = "enable",
        Delete = "delete",
    }
}

/// One route while it is built.
#[derive(Clone, Copy)]
pub(super) struct ProvidersPlace<'w> {
    pub(super) written: &'w RouteTable,
    pub(super) serve: &'w ServeTable,
    pub(super) table: &'w ProvidersTable,
    /// Where `serve` stands.
    pub(super) at: &'w Span,
}

impl Builder<'_> {
    /// An operation on providers. Everything that is wrong with it is reported.
    pub(super) fn providers(&self, shared: &RouteInputs<'_>, in_scope: &SourceScope<'_>, place: ProvidersPlace<'_>) -> Option<Action> {
        let ProvidersPlace { serve, table, at, .. } = place;
        if shared.sign_on.settings.is_none() {
            self.report.error(
                at,
                "identity providers need single sign-on",
                Some("add `[sign_on]` with `public_url` and `return_to` to `gateway.toml`".to_owned()),
            );
        }
        if in_scope.callers().any(Surface::is_presented_in_body) {
            self.report.error(
                at,
                "the body of this route is that of a provider, and holds no credential",
                Some("accept sessions or keys".to_owned()),
            );
        }
        if let Some(field) = serve.body.first() {
            self.report
                .error(&field.name.at, "the fields of this body are those of the operator API", None);
        }
        self.check_provider_methods(place);
        let word = table.operation.value;
        let surfaces = self.provider_surfaces(in_scope, place);
        let id = self.provider_id(in_scope, place);
        Some(Action::Providers(Box::new(ProviderRoute {
            operation: match word {
                OperationWord::List => ProviderOperation::List,
                OperationWord::Create => ProviderOperation::Create(surfaces?),
                OperationWord::Show => ProviderOperation::Show(id?),
                OperationWord::Update => ProviderOperation::Update(id?),
                OperationWord::Test => ProviderOperation::Test(id?),
                OperationWord::Disable => ProviderOperation::Disable(id?),
                OperationWord::Enable => ProviderOperation::Enable(id?),
                OperationWord::Delete => ProviderOperation::Delete(id?),
            },
            grants: self.scopes(&table.grants),
            claims: table.claims.iter().map(|claim| claim.value.clone()).collect(),
        })))
    }

    fn check_provider_methods(&self, place: ProvidersPlace<'_>) {
        let reads = matches!(place.table.operation.value, OperationWord::List | OperationWord::Show);
        let is_read = |method: &Located<String>| matches!(Method::parse(method.value.as_bytes()), Ok(Method::Get | Method::Head));
        let fits = place
            .written
            .methods
            .as_ref()
            .is_some_and(|methods| methods.iter().all(|method| is_read(method) == reads));
        if !fits {
            let word = place.table.operation.value.as_str();
            let (message, help) = if reads {
                (format!("`{word}` is for GET alone"), "methods = [\"GET\"]")
            } else {
                (format!("`{word}` is for a method that changes something"), "methods = [\"POST\"]")
            };
            self.report.error(&place.table.operation.at, message, Some(help.to_owned()));
        }
    }

    /// Which provider; `None` where no source is needed, and where it is missing, which is reported.
    fn provider_id(&self, in_scope: &SourceScope<'_>, place: ProvidersPlace<'_>) -> Option<ValueSource> {
        let word = place.table.operation.value;
        let is_of_one = !matches!(word, OperationWord::List | OperationWord::Create);
        match (&place.table.id, is_of_one) {
            (Some(id), true) => Some(self.check_source(in_scope, id, ParentPresence::None)),
            (None, false) => None,
            (Some(id), false) => {
                self.report
                    .error(&id.at, format!("`{}` is of no provider in particular", word.as_str()), None);
                None
            }
            (None, true) => {
                self.report.error(
                    &place.table.operation.at,
                    format!("`{}` is of one provider: which one?", word.as_str()),
                    Some("id = \"path.id\"".to_owned()),
                );
                None
            }
        }
    }

    fn provider_surfaces(&self, in_scope: &SourceScope<'_>, place: ProvidersPlace<'_>) -> Option<ProviderSurfaces> {
        let table = place.table;
        if table.operation.value != OperationWord::Create {
            for name in table.session.iter().chain(&table.account) {
                self.report
                    .error(&name.at, "a provider has its surfaces from when it is made", None);
            }
            return None;
        }
        let is_session = |surface: &Surface| {
            let session = surface.kind.session();
            session.is_some_and(|session| session.record == SessionRecord::Own && session.minting.is_some())
        };
        let is_account = |surface: &Surface| matches!(surface.kind.recipe(), Recipe::Account);
        let session = self.provider_surface(in_scope, place, "session", table.session.as_ref(), is_session);
        let account = self.provider_surface(in_scope, place, "account", table.account.as_ref(), is_account);
        Some(ProviderSurfaces {
            session: session?,
            account: account?,
        })
    }

    fn provider_surface(
        &self,
        in_scope: &SourceScope<'_>,
        place: ProvidersPlace<'_>,
        member: &str,
        name: Option<&Located<String>>,
        fits: impl Fn(&Surface) -> bool,
    ) -> Option<String> {
        if let Some(name) = name {
            let surface = in_scope.surface(self.find_surface(in_scope, name)?)?;
            if !fits(surface) {
                let what = if member == "session" {
                    "sessions that durward makes and keeps (`record = \"own\"`)"
                } else {
                    "accounts"
                };
                self.report
                    .error(&name.at, format!("`{}` is no surface of {what}", surface.name), None);
            }
            return Some(surface.name.as_str().to_owned());
        }
        let mut all = in_scope.surfaces.iter().filter(|surface| fits(surface));
        match (all.next(), all.next()) {
            (Some(only), None) => Some(only.name.as_str().to_owned()),
            _ => {
                self.report.error(
                    &place.table.operation.at,
                    format!("on which surface are the {member}s of a new provider?"),
                    Some(format!("{member} = \"<surface>\"")),
                );
                None
            }
        }
    }
}

/// The body of the operation: what the operator API takes, but for the tenant.
pub(super) fn body_of(route: &ProviderRoute, written: BodySchema, is_default: bool) -> BodySchema {
    let field = |name: &str, kind: FieldKind| FieldSpec {
        name: name.to_owned(),
        kind,
        presence: FieldPresence::Optional,
        one_of: Vec::new(),
        messages: FieldMessages::default(),
    };
    let text = |name: &str, max: usize| {
        let format = TextFormat::Any;
        field(name, FieldKind::Text { min: 0, max, format })
    };
    let secret = |name: &str| field(name, FieldKind::Secret { min: 0, max: MAX_SECRET });
    let list = |name: &str| field(name, FieldKind::TextList { max_items: 256, max: 128 });
    let both = || {
        let max = usize::try_from(MAX_BODY).unwrap_or(usize::MAX);
        vec![
            list("scopes"),
            list("roles"),
            field("settings", FieldKind::Any { max, depth: 8 }),
            // It has lines, which a text has not.
            field("metadata", FieldKind::Any { max, depth: 0 }),
            text("metadata_url", 2_048),
            field("secrets", FieldKind::Object),
            secret("secrets.client_secret"),
            secret("secrets.private_key"),
        ]
    };
    let fields = match route.operation {
        ProviderOperation::Create(_) | ProviderOperation::Update(_) => std::iter::once(text("name", 200)).chain(both()).collect(),
        _ => Vec::new(),
    };
    BodySchema {
        max: if is_default && !fields.is_empty() {
            usize::try_from(MAX_BODY).unwrap_or(written.max)
        } else {
            written.max
        },
        fields,
        ..written
    }
}

/// What the answer is about.
pub(super) const fn subject_of(route: &ProviderRoute) -> AnswerSubject {
    match route.operation {
        ProviderOperation::List => AnswerSubject::Providers,
        ProviderOperation::Test(_) => AnswerSubject::ProviderTest,
        ProviderOperation::Show(_)
        | ProviderOperation::Create(_)
        | ProviderOperation::Update(_)
        | ProviderOperation::Disable(_)
        | ProviderOperation::Enable(_)
        | ProviderOperation::Delete(_) => AnswerSubject::Provider,
    }
}

/// Longest secret, in characters: as the operator API takes them.
const MAX_SECRET: usize = 8 * 1024;

/// The answer of a route without a template of its own: the JSON of the operator API.
pub(super) fn default_answer(route: &ProviderRoute, names: &AnswerNames) -> Option<AnswerTemplate> {
    let text = match route.operation {
        ProviderOperation::List => r#"{"providers":{{ items }},"next":{{ page.next }}}"#,
        ProviderOperation::Test(_) => "{{ test }}",
        _ => "{{ provider }}",
    };
    AnswerTemplate::parse(text, names).ok()
}
