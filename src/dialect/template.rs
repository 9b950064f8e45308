//! Templates that can only write JSON. They are compiled and tried when the configuration is loaded, and every value
//! is written as a JSON value.
//!
//! The language is that of Jinja (crate `minijinja`) without functions, without other templates, and without filters
//! except `upper`: `{{ code | upper }}`. `{{ x }}` writes a whole JSON value, quotes included, whatever `autoescape`
//! says. So a value can never change the shape of a body.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::{Environment, ErrorKind, Output, State, UndefinedBehavior, Value};

/// The only template of an environment.
const NAME: &str = "t";

/// A compiled template. Cheap to clone.
#[derive(Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
}

/// Why a text is not a template. Ranges are bytes of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("this is not a template: {1}")]
    Syntax(Option<Range<usize>>, String),
    /// A variable that does not exist here.
    #[error("there is no variable `{1}` here")]
    Unknown(Option<Range<usize>>, String),
    #[error("the template cannot be rendered: {1}")]
    Rendering(Option<Range<usize>>, String),
    /// What comes out is not JSON.
    #[error("what the template writes is not JSON: {0}")]
    NotJson(String),
    /// `details` inside a text.
    #[error("`details` can only stand alone, as `{{{{ details }}}}`")]
    Details,
}

impl TemplateError {
    /// Where in the text, if it can be told.
    #[must_use]
    pub fn range(&self) -> Option<Range<usize>> {
        match self {
            Self::Syntax(range, _) | Self::Unknown(range, _) | Self::Rendering(range, _) => range.clone(),
            Self::NotJson(_) | Self::Details => None,
        }
    }
}

impl Template {
    /// Compiles a text and checks its variables. `names` holds the existing variables with dots (`credential.id`). A
    /// name with parts may be used as a whole.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`], [`TemplateError::Unknown`].
    pub fn parse(text: &str, names: &[String]) -> Result<Self, TemplateError> {
        let environment = compile(text).map_err(|error| TemplateError::Syntax(error.range(), reason(&error)))?;
        let template = Self {
            environment: Arc::new(environment),
        };
        let mut unknown = template.variables();
        unknown.retain(|name| !is_known(name, names));
        unknown.sort_unstable();
        match unknown.into_iter().next() {
            None => Ok(template),
            Some(name) => Err(TemplateError::Unknown(find_variable(text, &name), name)),
        }
    }

    /// A template that is known to be right. Tests check each one.
    pub(super) fn built_in(text: &'static str) -> Self {
        Self {
            environment: Arc::new(compile(text).unwrap_or_else(|_| bare())),
        }
    }

    /// The variables with dots, without those that the template itself sets.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        let found = self.environment.get_template(NAME).map(|t| t.undeclared_variables(true));
        found.unwrap_or_default().into_iter().collect()
    }

    /// Renders the template and checks that the result is JSON. For load time.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn sample(&self, context: &Value) -> Result<String, TemplateError> {
        let text = self.render(context)?;
        match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(TemplateError::NotJson(error.to_string())),
        }
    }

    /// Renders it.
    ///
    /// # Errors
    /// [`TemplateError::Rendering`] where the template does what cannot be done with these values.
    pub fn render(&self, context: &Value) -> Result<String, TemplateError> {
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|error| TemplateError::Rendering(error.range(), reason(&error)))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let template = self.environment.get_template(NAME);
        f.debug_tuple("Template")
            .field(&template.map_or_else(|_| String::new(), |t| t.source().to_owned()))
            .finish()
    }
}

fn bare() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(write_json);
    environment.add_filter("upper", upper);
    environment.set_keep_trailing_newline(false);
    environment
}

fn compile(text: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = bare();
    // Ranges of errors, for carets.
    environment.set_debug(true);
    environment.add_template_owned(NAME, text.trim_end().to_owned())?;
    Ok(environment)
}

/// A text in upper case. A value that is no text stays as it is.
fn upper(value: Value) -> Value {
    match value.as_str() {
        Some(text) => Value::from(text.to_uppercase()),
        None => value,
    }
}

/// Writes a value as JSON. This replaces automatic escaping, so no template can switch it off.
fn write_json(out: &mut Output<'_>, _: &State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    let text = serde_json::to_string(value)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, "this is not a JSON value").with_source(error))?;
    out.write_str(&text).map_err(minijinja::Error::from)
}

/// The error without the name of the template and without the values.
fn reason(error: &minijinja::Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::UndefinedError, _) => "a value that does not exist is used".to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    }
}

fn is_known(name: &str, names: &[String]) -> bool {
    names.iter().any(|known| {
        known
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The range of a variable in a text, inside `{{ }}` or `{% %}`.
fn find_variable(text: &str, name: &str) -> Option<Range<usize>> {
    let part = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'));
    text.match_indices(name).map(|(at, _)| at..at + name.len()).find(|range| {
        let before = text.get(..range.start).unwrap_or("");
        let opened = before.rfind("{{").max(before.rfind("{%"));
        let closed = before.rfind("}}").max(before.rfind("%}"));
        let whole = !part(range.start.checked_sub(1).and_then(|i| text.as_bytes().get(i))) && !part(text.as_bytes().get(range.end));
        whole && opened.is_some() && opened > closed
    })
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn rendered(text: &str, context: &Value) -> Result<String, TemplateError> {
        Template::parse(text, &names(&["a", "b.c", "b.d", "list"]))?.sample(context)
    }

    #[test]
    fn a_value_is_written_as_json_whatever_the_template_says() {
        let hostile = context! { a => "\",\"x\":\"<\n" };
        for text in [
            r#"{"v":{{ a }}}"#,
            r#"{"v":{% autoescape false %}{{ a }}{% endautoescape %}}"#,
            r#"{"v":{% set x = a %}{{ x }}}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(&rendered(text, &hostile).unwrap()).unwrap();
            assert_eq!(value, serde_json::json!({"v": "\",\"x\":\"<\n"}), "{text}");
        }
    }

    #[test]
    fn numbers_lists_objects_and_nothing_are_json_too() {
        let context = context! { a => 7, b => context! { c => Value::from(()), d => vec!["x"] }, list => Vec::<String>::new() };
        assert_eq!(
            rendered(r#"[{{ a }},{{ b.c }},{{ b.d }},{{ b }},{{ list }}]"#, &context).unwrap(),
            r#"[7,null,["x"],{"c":null,"d":["x"]},[]]"#
        );
    }

    #[test]
    fn loops_and_conditions_write_lists_and_members() {
        let text = r#"{"l":[{% for x in list %}{"v":{{ x }}}{% if not loop.last %},{% endif %}{% endfor %}]{% if b.c %},"c":{{ b.c }}{% endif %}}"#;
        let context = context! { list => vec!["1", "2"], b => context! { c => "y" } };
        assert_eq!(rendered(text, &context).unwrap(), r#"{"l":[{"v":"1"},{"v":"2"}],"c":"y"}"#);
        let context = context! { list => Vec::<String>::new(), b => context! { c => Value::from(()) } };
        assert_eq!(rendered(text, &context).unwrap(), r#"{"l":[]}"#);
    }

    #[test]
    fn upper_makes_a_text_upper_case_and_leaves_everything_else() {
        let hostile = context! { a => "not_found\",\"x\":\"", b => context! { c => Value::from(()), d => vec!["x"] }, list => vec![1] };
        let text = r#"[{{ a | upper }},{{ b.c | upper }},{{ b.d | upper }},{{ (a | upper) ~ "!" }}]"#;
        let value: serde_json::Value = serde_json::from_str(&rendered(text, &hostile).unwrap()).unwrap();
        let upper = "NOT_FOUND\",\"X\":\"";
        assert_eq!(value, serde_json::json!([upper, null, ["x"], format!("{upper}!")]));
        assert_eq!(
            rendered("{{ nothing | upper }}", &hostile).unwrap_err(),
            TemplateError::Unknown(Some(3..10), "nothing".into())
        );
    }

    #[test]
    fn an_unknown_variable_is_named_with_its_place() {
        for (text, name, at) in [
            (r#"{"codee":{{ codee }}}"#, "codee", 12),
            (r#"{"v":{{ b.e }}}"#, "b.e", 8),
            (r#"{"v":{% if x %}1{% else %}2{% endif %}}"#, "x", 11),
            (r#"{"v":{{ a.z }}}"#, "a.z", 8),
        ] {
            let error = rendered(text, &Value::from(())).unwrap_err();
            assert_eq!(error, TemplateError::Unknown(Some(at..at + name.len()), name.into()), "{text}");
        }
    }

    #[test]
    fn what_is_no_template_or_writes_no_json_is_refused() {
        assert!(matches!(rendered("{{ a", &Value::from(())), Err(TemplateError::Syntax(Some(_), _))));
        assert!(matches!(
            rendered(r#"{% include "x" %}"#, &Value::from(())),
            Err(TemplateError::Syntax(..))
        ));
        for filter in ["safe", "lower", "length"] {
            let text = format!("{{{{ a|{filter} }}}}");
            assert!(rendered(&text, &context! { a => "x" }).is_err(), "{filter}");
        }
        assert!(matches!(
            rendered(r#"{"v":"{{ a }}"}"#, &context! { a => "x" }),
            Err(TemplateError::NotJson(_))
        ));
        assert!(matches!(rendered("", &Value::from(())), Err(TemplateError::NotJson(_))));
        assert!(matches!(
            rendered("{{ list[0].z }}", &context! { list => vec![context! { y => 1 }] }),
            Err(TemplateError::Rendering(Some(_), _))
        ));
    }
}
