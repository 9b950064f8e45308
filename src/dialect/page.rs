//! Pages for people: plain HTML that works without a script, for the steps of a sign-on that a browser sees.
//!
//! A page holds no secret, loads nothing, and may not be shown in a frame. Every value is written as HTML text, whatever
//! it holds: names of providers are written by tenants.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

use crate::base::denial::Denial;
use crate::base::fingerprint::sha256;

const NAME: &str = "page";

static STYLE: &str = include_str!("page/style.css").trim_ascii();

static TEMPLATE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    // A test renders every page, so the template is right.
    let _ = environment.add_template(NAME, include_str!("page/page.html"));
    environment
});

/// A page.
#[derive(Debug, Clone, Default)]
pub struct HtmlPage<'p> {
    pub title: &'p str,
    /// Its paragraphs.
    pub lines: Vec<String>,
    /// Where to go from here.
    pub choices: Vec<PageChoice>,
    /// What a button sends to another site.
    pub form: Option<PageForm>,
    /// The id of the request, which an administrator finds in the audit trail.
    pub request_id: Option<&'p str>,
}

/// One way on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageChoice {
    pub name: String,
    pub url: String,
}

/// A form with a button. Without a script, people press it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageForm {
    pub action: String,
    /// Names and values of its hidden fields.
    pub fields: Vec<(String, String)>,
    pub button: String,
}

/// A page ready to be sent.
#[derive(Debug, Clone)]
pub struct RenderedPage {
    pub body: Bytes,
    /// Header fields of every page, `Content-Type` among them.
    pub fields: Vec<(String, String)>,
}

impl HtmlPage<'_> {
    /// Writes the page.
    ///
    /// # Errors
    /// [`Denial::Internal`] if the template cannot be rendered, which its tests rule out.
    pub fn render(&self) -> Result<RenderedPage, Denial> {
        let choices = self
            .choices
            .iter()
            .map(|choice| context! { name => choice.name, url => choice.url });
        let form = self.form.as_ref().map(|form| {
            let fields = form.fields.iter().map(|(name, value)| context! { name => name, value => value });
            context! { action => form.action, button => form.button, fields => fields.collect::<Vec<_>>() }
        });
        let context = context! {
            title => self.title,
            style => Value::from_safe_string(STYLE.to_owned()),
            lines => self.lines,
            choices => choices.collect::<Vec<_>>(),
            form => form,
            request_id => self.request_id,
        };
        let text = TEMPLATE
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|error| {
                tracing::error!(%error, "a page cannot be written");
                Denial::Internal
            })?;
        let target = self.form.as_ref().map_or("'none'", |form| form_target(&form.action));
        Ok(RenderedPage {
            body: text.into(),
            fields: [
                ("Content-Type", "text/html; charset=utf-8".to_owned()),
                ("Content-Security-Policy", policy(target)),
                ("X-Content-Type-Options", "nosniff".to_owned()),
                ("X-Frame-Options", "DENY".to_owned()),
                // The address of the page may hold a code of the provider.
                ("Referrer-Policy", "no-referrer".to_owned()),
                ("Cross-Origin-Opener-Policy", "same-origin".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
        })
    }
}

/// Nothing but our own style, and forms to one scheme.
fn policy(form_target: &str) -> String {
    let mut policy = format!(
        "default-src 'none'; style-src 'sha256-{}'",
        STANDARD.encode(sha256(STYLE.as_bytes()))
    );
    let _ = write!(policy, "; base-uri 'none'; frame-ancestors 'none'; form-action {form_target}");
    policy
}

/// Where a form of this address may lead. The scheme alone is named: providers redirect to hosts of theirs that nobody lists, and
/// browsers hold redirects against the policy too.
fn form_target(address: &str) -> &'static str {
    if address.starts_with("https://") {
        "https:"
    } else if address.starts_with("http://") {
        "http: https:"
    } else {
        "'none'"
    }
}

/// The words of the page for a sign-on that was refused: its title, and what people can do.
#[must_use]
pub fn refusal_words(denial: Denial, contact: &str) -> (&'static str, Vec<String>) {
    let ask = format!("If this happens again, ask {contact} and tell them the number below.");
    let told = |line: &str| vec![line.to_owned(), ask.clone()];
    match denial {
        Denial::NoRole => (
            "You have no role here",
            vec![
                "You are known, but your account has no role that opens this application.".to_owned(),
                format!("Ask {contact} to give you access, and tell them the number below."),
            ],
        ),
        Denial::SignOnRefused => (
            "You could not be signed in",
            vec![
                "Your organisation's sign-in service sent you back, and the sign-in was refused here.".to_owned(),
                format!("Ask {contact} and tell them the number below: it shows them the reason."),
            ],
        ),
        Denial::SignOnInvalid => (
            "This sign-in cannot go on",
            told(
                "It took longer than ten minutes, was finished already, or was begun in another browser. Go back to the application and sign in again.",
            ),
        ),
        Denial::ProviderFailed => (
            "Your sign-in service did not answer",
            told("Your organisation's sign-in service could not be reached, or its answer could not be read. Try again in a moment."),
        ),
        Denial::RateLimited => ("Too many attempts", told("Wait a moment, and try again.")),
        Denial::StoreUnavailable | Denial::CorruptRecord | Denial::Overloaded | Denial::NotRecordable => {
            ("This does not work at the moment", told("Try again in a moment."))
        }
        Denial::NotFound | Denial::NoRoute => (
            "There is nothing to sign in to here",
            told("The address names no organisation that signs in this way."),
        ),
        Denial::InactiveTenant => (
            "This organisation is not active",
            vec![format!("Ask {contact} and tell them the number below.")],
        ),
        _ => ("This request was refused", told("Go back to the application and try again.")),
    }
}

/// The words of the page for a log-out that was refused.
#[must_use]
pub fn log_out_words(denial: Denial, contact: &str) -> (&'static str, Vec<String>) {
    match denial {
        Denial::SignOnInvalid | Denial::SignOnRefused => (
            "This log-out was refused",
            vec![
                "What your browser brought was refused, and has ended no session. If you are still logged in, log out in the application."
                    .to_owned(),
                format!("If this happens again, ask {contact} and tell them the number below."),
            ],
        ),
        _ => refusal_words(denial, contact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: &RenderedPage) -> String {
        String::from_utf8(page.body.to_vec()).unwrap()
    }

    fn field<'p>(page: &'p RenderedPage, name: &str) -> &'p str {
        page.fields.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    #[test]
    fn every_value_is_written_as_text_of_the_page() {
        let hostile = r#""><script>alert(1)</script><a href='x"#;
        let page = HtmlPage {
            title: hostile,
            lines: vec![hostile.to_owned()],
            choices: vec![PageChoice {
                name: hostile.to_owned(),
                url: format!("/v1/sso?a=1&provider={hostile}"),
            }],
            form: Some(PageForm {
                action: "https://idp.example/sso?a=1".to_owned(),
                fields: vec![(hostile.to_owned(), hostile.to_owned())],
                button: hostile.to_owned(),
            }),
            request_id: Some(hostile),
        };
        let page = page.render().unwrap();
        let body = text(&page);
        assert!(!body.contains("<script") && !body.contains("alert(1)<"), "{body}");
        assert_eq!(body.matches("<a ").count(), 1, "{body}");
        assert!(!body.contains("='x"), "{body}");
        assert!(body.contains("&lt;script&gt;"), "{body}");
        assert!(field(&page, "Content-Security-Policy").ends_with("form-action https:"));
    }

    #[test]
    fn a_page_loads_nothing_and_needs_no_script() {
        let page = HtmlPage {
            title: "Sign in",
            lines: Vec::new(),
            ..HtmlPage::default()
        };
        let page = page.render().unwrap();
        let (body, policy) = (text(&page), field(&page, "Content-Security-Policy"));
        for absent in ["<script", "src=", "<link", "style=\"", "@import", "url(", "<form", "<ul"] {
            assert!(!body.contains(absent), "{absent}: {body}");
        }
        assert!(body.contains(STYLE), "the style is written as it is, or its hash is wrong");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        for part in ["base-uri 'none'", "frame-ancestors 'none'", "form-action 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert_eq!(field(&page, "Referrer-Policy"), "no-referrer");
    }

    #[test]
    fn the_address_of_a_form_cannot_change_the_policy() {
        for (action, target) in [
            ("https://idp.example/a", "https:"),
            ("https://idp.example;script-src *", "https:"),
            ("http://localhost:8080/sso", "http: https:"),
            ("/relative", "'none'"),
            ("javascript:alert(1)", "'none'"),
        ] {
            assert_eq!(form_target(action), target, "{action}");
        }
    }

    #[test]
    fn a_person_without_a_role_is_told_whom_to_ask() {
        let (title, lines) = refusal_words(Denial::NoRole, "the service desk (desk@acme.example)");
        let page = HtmlPage {
            title,
            lines,
            request_id: Some("req-1"),
            ..HtmlPage::default()
        };
        let body = text(&page.render().unwrap());
        assert!(body.contains("You have no role here"), "{body}");
        assert!(body.contains("desk@acme.example") && body.contains("req-1"), "{body}");
    }

    #[test]
    fn every_denial_has_words() {
        for row in crate::base::denial::DENIALS {
            for (title, lines) in [refusal_words(row.denial, "us"), log_out_words(row.denial, "us")] {
                assert!(!title.is_empty() && !lines.is_empty(), "{}", row.label);
            }
        }
    }
}
