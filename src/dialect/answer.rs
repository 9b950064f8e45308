//! Answers of served routes: a template over what was made or found. It is compiled and tried when the configuration
//! is loaded.

use minijinja::Value;
use serde_json::Map;

use super::template::{Template, TemplateError};
use crate::decide::audit::TENANT_MEMBERS;
use samples::Filling;

pub(crate) use samples::put;

mod samples;

/// The members of a credential that a template may use, besides `claims`: of one that was made (`credential`,
/// `minted`) or found (`items`). `key`, `secret` and `token` have a value only when the credential was just made.
pub const CREDENTIAL: [&str; 16] = [
    "id",
    "key",
    "secret",
    "token",
    "prefix",
    "last4",
    "mode",
    "scopes",
    "roles",
    "name",
    "description",
    "subject",
    "login",
    "created_at",
    "expires_at",
    "expires_in",
];

/// The members of a credential that are secrets.
pub const SECRETS: [&str; 3] = ["key", "secret", "token"];

/// The members of the caller that a template may use, besides `claims`.
pub const CALLER: [&str; 7] = ["id", "tenant", "subject", "mode", "scopes", "login", "name"];

/// The members of a role or a scope in `items`. Of a scope, `id` and `name` are the same.
pub const NAMED: [&str; 4] = ["id", "name", "description", "scopes"];

/// The members of an identity provider: of `provider`.
pub const PROVIDER: [&str; 10] = [
    "id",
    "state",
    "tenant",
    "name",
    "kind",
    "scopes",
    "roles",
    "settings",
    "warnings",
    "created_at",
];

/// The members of an identity provider in `items`.
pub const PROVIDER_SUMMARY: [&str; 6] = ["id", "state", "tenant", "name", "kind", "domains"];

/// The members of `test`, a test of an identity provider. Each of `checks` has `name`, `outcome` and `why`.
pub const PROVIDER_TEST: [&str; 3] = ["id", "passed", "checks"];

/// Records that the sample makes: as many as a route can have mints.
pub const MAX_MINTED: usize = 4;

/// The variables of an answer.
#[derive(Debug, Clone, Default)]
pub struct AnswerNames {
    pub path: Vec<String>,
    pub body: Vec<String>,
    /// Claims of the credentials that are made or listed.
    pub claims: Vec<String>,
    /// Claims that the caller may have.
    pub caller_claims: Vec<String>,
    pub subject: AnswerSubject,
    /// Whether there is a caller.
    pub caller: CallerPresence,
    /// The members of the answer of the service that the hook asked.
    pub hook: HookNames,
    /// Whether the template may show the secrets of what was made.
    pub secrets: Secrets,
}

/// The members of a service's answer that a template may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HookNames {
    /// Nothing: no service was asked.
    #[default]
    None,
    /// `hook` as a whole: an object, or `null` if the service could not answer.
    Whole,
    /// `hook.<name>` of these, with dots for members of members.
    Named(Vec<String>),
}

/// Whether the template may show the secrets of what was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secrets {
    /// In the answer: this once.
    #[default]
    Shown,
    /// Not to the service that is told.
    Withheld,
}

/// What the variables of an answer are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerSubject {
    /// Nothing: only path, body, caller and request.
    #[default]
    None,
    /// `credential`, the last of `minted`.
    Credential,
    /// `items`, credentials.
    Credentials,
    /// `items`, roles or scopes.
    Names,
    /// `items`, entries of the audit trail.
    Entries,
    /// `provider`, an identity provider.
    Provider,
    /// `items`, identity providers.
    Providers,
    /// `test`, what a test of an identity provider found.
    ProviderTest,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallerPresence {
    #[default]
    Absent,
    Present,
}

/// The template of an answer.
#[derive(Debug, Clone)]
pub struct AnswerTemplate {
    template: Template,
    /// All promised variables without values. A variable that is absent when the template is rendered is `null`.
    promised: serde_json::Value,
    /// The same for each of `minted` and `items`.
    item: serde_json::Value,
}

impl AnswerTemplate {
    /// Compiles a template and tries it twice: with all optional values present, and with all of them absent.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: &str, names: &AnswerNames) -> Result<Self, TemplateError> {
        let template = Template::parse(text, &names.variables())?;
        for filling in [Filling::Full, Filling::Sparse] {
            template.sample(&Value::from_serialize(names.sample(filling)))?;
        }
        Ok(Self {
            template,
            promised: names.sample(Filling::Sparse),
            item: names.item(Filling::Sparse),
        })
    }

    /// Whether the template uses this variable or a member of it.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        let variables = self.template.variables();
        variables.iter().any(|own| own.split('.').next() == Some(name))
    }

    /// Renders the answer of one request. A promised variable that the context lacks is `null`.
    ///
    /// # Errors
    /// [`TemplateError`] if the template does something that is impossible with these values. It was tried with the
    /// values that may be expected when the configuration was loaded.
    pub fn render(&self, context: &serde_json::Value) -> Result<Vec<u8>, TemplateError> {
        let mut context = context.clone();
        complete(&mut context, &self.promised);
        for list in ["minted", "items"] {
            let records = context.get_mut(list).and_then(serde_json::Value::as_array_mut);
            for record in records.into_iter().flatten() {
                complete(record, &self.item);
            }
        }
        self.template.render(&Value::from_serialize(&context)).map(String::into_bytes)
    }
}

/// Adds the members of `promised` that `object` lacks: objects with their members, empty lists, and `null` for the
/// rest.
fn complete(object: &mut serde_json::Value, promised: &serde_json::Value) {
    let (Some(object), Some(promised)) = (object.as_object_mut(), promised.as_object()) else {
        return;
    };
    for (name, member) in promised {
        let own = object.entry(name.clone()).or_insert_with(|| match member {
            serde_json::Value::Object(_) => Map::new().into(),
            serde_json::Value::Array(_) => Vec::<serde_json::Value>::new().into(),
            _ => serde_json::Value::Null,
        });
        complete(own, member);
    }
}

impl AnswerNames {
    /// Every variable with its dots.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        let mut all = vec!["request_id".to_owned()];
        let mut add = |of: &str, names: &mut dyn Iterator<Item = &str>| all.extend(names.map(|name| format!("{of}.{name}")));
        add("path", &mut self.path.iter().map(String::as_str));
        add("body", &mut self.body.iter().map(String::as_str));
        if self.caller == CallerPresence::Present {
            add("caller", &mut CALLER.into_iter());
            add("caller.claims", &mut self.caller_claims.iter().map(String::as_str));
        }
        if self.subject == AnswerSubject::Credential {
            add("credential", &mut self.of_credential());
            add("credential.claims", &mut self.claims.iter().map(String::as_str));
        }
        match &self.hook {
            HookNames::None => {}
            HookNames::Whole => all.push("hook".to_owned()),
            HookNames::Named(names) => all.extend(names.iter().map(|name| format!("hook.{name}"))),
        }
        match self.subject {
            AnswerSubject::Credential => all.push("minted".to_owned()),
            AnswerSubject::Credentials | AnswerSubject::Names | AnswerSubject::Providers => {
                all.extend(["items", "page.next", "page.more"].map(str::to_owned))
            }
            AnswerSubject::Entries => all.extend(["items", "page.next", "page.more", "page.missing"].map(str::to_owned)),
            AnswerSubject::Provider => all.extend(PROVIDER.map(|name| format!("provider.{name}"))),
            AnswerSubject::ProviderTest => all.extend(PROVIDER_TEST.map(|name| format!("test.{name}"))),
            AnswerSubject::None => {}
        }
        all
    }

    /// Whether the answer is about `items`.
    const fn is_list(&self) -> bool {
        matches!(
            self.subject,
            AnswerSubject::Credentials | AnswerSubject::Names | AnswerSubject::Entries | AnswerSubject::Providers
        )
    }

    fn of_credential(&self) -> impl Iterator<Item = &'static str> {
        let shown = self.secrets == Secrets::Shown;
        CREDENTIAL.into_iter().filter(move |name| shown || !SECRETS.contains(name))
    }

    /// The members of an item of `items`, for messages.
    #[must_use]
    pub const fn item_fields(&self) -> &'static [&'static str] {
        match self.subject {
            AnswerSubject::Names => &NAMED,
            AnswerSubject::Entries => &TENANT_MEMBERS,
            AnswerSubject::Credentials => &CREDENTIAL,
            AnswerSubject::Providers => &PROVIDER_SUMMARY,
            AnswerSubject::None | AnswerSubject::Credential | AnswerSubject::Provider | AnswerSubject::ProviderTest => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(subject: AnswerSubject) -> AnswerNames {
        AnswerNames {
            path: vec!["id".to_owned()],
            body: vec!["role".to_owned()],
            claims: vec!["tid".to_owned()],
            caller_claims: vec!["perms".to_owned()],
            subject,
            caller: CallerPresence::Present,
            ..AnswerNames::default()
        }
    }

    #[test]
    fn every_promised_variable_is_in_the_sample() {
        for subject in [
            AnswerSubject::None,
            AnswerSubject::Credential,
            AnswerSubject::Credentials,
            AnswerSubject::Names,
            AnswerSubject::Entries,
            AnswerSubject::Provider,
            AnswerSubject::Providers,
            AnswerSubject::ProviderTest,
        ] {
            let names = names(subject);
            for variable in names.variables() {
                let text = format!("{{{{ {variable} }}}}");
                assert!(AnswerTemplate::parse(&text, &names).is_ok(), "{variable}");
            }
            for field in names.item_fields() {
                let text = format!("[{{% for i in items %}}{{{{ i.{field} }}}}{{% if not loop.last %}},{{% endif %}}{{% endfor %}}]");
                assert!(AnswerTemplate::parse(&text, &names).is_ok(), "{field}");
            }
        }
    }

    #[test]
    fn what_is_not_promised_is_refused() {
        let refused = |text: &str, subject| AnswerTemplate::parse(text, &names(subject)).unwrap_err();
        for (text, subject) in [
            ("{{ path.other }}", AnswerSubject::None),
            ("{{ body.rol }}", AnswerSubject::None),
            ("{{ credential.id }}", AnswerSubject::None),
            ("{{ credential.claims.sub }}", AnswerSubject::Credential),
            ("{{ items }}", AnswerSubject::Credential),
            ("{{ caller.password }}", AnswerSubject::Credential),
        ] {
            assert!(matches!(refused(text, subject), TemplateError::Unknown(..)), "{text}");
        }
        let text = "[{% for i in items %}{{ i.idd }}{% endfor %}]";
        assert!(matches!(refused(text, AnswerSubject::Credentials), TemplateError::Rendering(..)));
        let anonymous = AnswerNames {
            caller: CallerPresence::Absent,
            ..names(AnswerSubject::None)
        };
        assert!(AnswerTemplate::parse("{{ caller.id }}", &anonymous).is_err());
    }

    #[test]
    fn what_a_service_told_is_usable_where_it_was_asked() {
        let asked = |hook| AnswerNames {
            hook,
            ..names(AnswerSubject::Credential)
        };
        let named = asked(HookNames::Named(vec!["amount".to_owned(), "buyer.name".to_owned()]));
        let text = r#"{"amount":{{ hook.amount }},"buyer":{{ hook.buyer.name }}}"#;
        let template = AnswerTemplate::parse(text, &named).unwrap();
        let write = |hook: serde_json::Value| String::from_utf8(template.render(&json!({ "hook": hook })).unwrap()).unwrap();
        assert_eq!(
            write(json!({"amount": 7, "buyer": {"name": "Ann"}})),
            r#"{"amount":7,"buyer":"Ann"}"#
        );
        assert_eq!(write(json!({})), r#"{"amount":null,"buyer":null}"#, "it could not answer");
        for text in ["{{ hook.amont }}", "{{ hook.buyer.iban }}"] {
            assert!(
                matches!(AnswerTemplate::parse(text, &named), Err(TemplateError::Unknown(..))),
                "{text}"
            );
        }
        let whole = asked(HookNames::Whole);
        let text = r#"{"id":{{ path.id }}{% if hook %}{% for name in hook %}{% if name != "id" %},{{ name }}:{{ hook[name] }}{% endif %}{% endfor %}{% endif %}}"#;
        let template = AnswerTemplate::parse(text, &whole).unwrap();
        let write = |hook: serde_json::Value| {
            let context = json!({ "hook": hook, "path": { "id": "tx_1" } });
            String::from_utf8(template.render(&context).unwrap()).unwrap()
        };
        assert_eq!(write(json!({"amount": 7, "id": "tx_9"})), r#"{"id":"tx_1","amount":7}"#);
        assert_eq!(write(serde_json::Value::Null), r#"{"id":"tx_1"}"#);
        assert!(
            AnswerTemplate::parse("{{ hook }}", &names(AnswerSubject::Credential)).is_err(),
            "nobody is asked"
        );
    }

    #[test]
    fn secrets_are_not_for_the_service_that_is_told() {
        let told = AnswerNames {
            secrets: Secrets::Withheld,
            ..names(AnswerSubject::Credential)
        };
        assert!(AnswerTemplate::parse("{{ minted[0].id }}", &told).is_ok());
        for text in [
            "{{ credential.key }}",
            "{{ minted[0].key }}",
            "{{ minted[0].token }}",
            "{{ credential.secret }}",
        ] {
            assert!(AnswerTemplate::parse(text, &told).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_must_be_json_when_it_is_empty_too() {
        let text = r#"{"data":[{% for i in items %}{"id":{{ i.id }}},{% endfor %}0]}"#;
        assert!(AnswerTemplate::parse(text, &names(AnswerSubject::Credentials)).is_ok());
        let text = r#"{"data":[{% for i in items %}{"id":{{ i.id }}}{% else %},{% endfor %}]}"#;
        assert!(AnswerTemplate::parse(text, &names(AnswerSubject::Credentials)).is_err());
    }

    #[test]
    fn what_an_item_of_a_list_has_not_is_null_beside_one_that_has_it() {
        let text = r#"[{% for i in items %}{{ i.claims.tid }},{{ i.name }},{% endfor %}0]"#;
        let template = AnswerTemplate::parse(text, &names(AnswerSubject::Credentials)).unwrap();
        let context = json!({ "items": [{ "claims": { "tid": "t-1" }, "name": "n" }, { "claims": {} }, {}] });
        let text = String::from_utf8(template.render(&context).unwrap()).unwrap();
        assert_eq!(text, r#"["t-1","n",null,null,null,null,0]"#);
    }

    #[test]
    fn an_answer_says_what_it_was_given() {
        let template = AnswerTemplate::parse(
            r#"{"id":{{ credential.id }},"tid":{{ credential.claims.tid }},"role":{{ body.role }},"of":{{ path.id }}}"#,
            &names(AnswerSubject::Credential),
        )
        .unwrap();
        let context = json!({
            "credential": {"id": "c\"1", "claims": {"tid": "t-1"}},
            "path": {"id": "p"},
            "body": {"role": "payer"},
        });
        let text = String::from_utf8(template.render(&context).unwrap()).unwrap();
        // What is promised and not there is nothing, not a failure.
        let bare = String::from_utf8(template.render(&json!({})).unwrap()).unwrap();
        assert_eq!(bare, r#"{"id":null,"tid":null,"role":null,"of":null}"#);
        assert_eq!(text, r#"{"id":"c\"1","tid":"t-1","role":"payer","of":"p"}"#);
    }
}
