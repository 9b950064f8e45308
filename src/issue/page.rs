//! The page of a list that a caller requests: `?limit=` and `?after=`.

use crate::base::denial::FieldErrors;
use crate::base::percent::{decode, push_query};
use crate::store::MAX_LIST;

/// Longest `after` in bytes: as long as the longest id or scope.
const MAX_AFTER: usize = 255;

const BAD_AFTER: &str = "The after field is not valid.";

/// The page that a query requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items of the page, from 1 to [`MAX_LIST`], which is the default.
    pub limit: usize,
    /// The id of the last item before the page; `None` for the first page.
    pub after: Option<String>,
    /// The other parameters of the query, by name and value.
    pub filters: Vec<(String, String)>,
}

impl PageRequest {
    /// Reads the query of a list without filters.
    ///
    /// # Errors
    /// As [`parse_filtered`](Self::parse_filtered).
    pub fn parse(query: Option<&str>, unknown: Option<&str>) -> Result<Self, FieldErrors> {
        Self::parse_filtered(query, unknown, &[])
    }

    /// Reads a query. `unknown` is the message for unknown parameters, with `{field}` for the name.
    ///
    /// # Errors
    /// [`FieldErrors`] by parameter: unknown, malformed and repeated ones.
    pub fn parse_filtered(query: Option<&str>, unknown: Option<&str>, known: &[&str]) -> Result<Self, FieldErrors> {
        let mut errors = FieldErrors::default();
        let (mut limit, mut after, mut filters) = (None, None, Vec::<(String, String)>::new());
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "limit" if limit.is_none() => {
                    limit = value.parse().ok().filter(|n| (1..=MAX_LIST).contains(n));
                    if limit.is_none() {
                        errors.push(name, format!("The limit field must be a number from 1 to {MAX_LIST}."));
                    }
                }
                "after" if after.is_none() => {
                    after = decode(value).filter(|id| (1..=MAX_AFTER).contains(&id.len()));
                    if after.is_none() {
                        errors.push(name, BAD_AFTER);
                    }
                }
                name if known.contains(&name) && !filters.iter().any(|(own, _)| own == name) => {
                    match decode(value).filter(|value| (1..=MAX_AFTER).contains(&value.len())) {
                        Some(value) => filters.push((name.to_owned(), value)),
                        None => errors.push(name, format!("The {} field is not valid.", name.replace('_', " "))),
                    }
                }
                name if known.contains(&name) || matches!(name, "limit" | "after") => {
                    errors.push(name, format!("The {} field is there twice.", name.replace('_', " ")));
                }
                _ => {
                    let name = decode(name).unwrap_or_else(|| name.to_owned());
                    let template = unknown.unwrap_or("The {field} field is not known.");
                    errors.push(&name, template.replace("{field}", &name.replace('_', " ")));
                }
            }
        }
        if errors.is_empty() {
            let limit = limit.unwrap_or(MAX_LIST);
            Ok(Self { limit, after, filters })
        } else {
            Err(errors)
        }
    }

    /// Cuts this page out of a whole list. Returns it with the id after which the next page begins, if there is one.
    ///
    /// # Errors
    /// [`FieldErrors`] when no item has the id in `after`.
    pub fn cut<T>(&self, mut items: Vec<T>, id_of: impl Fn(&T) -> String) -> Result<(Vec<T>, Option<String>), FieldErrors> {
        if let Some(after) = &self.after {
            let position = items.iter().position(|item| id_of(item) == *after);
            items.drain(..=position.ok_or_else(|| self.bad_after())?);
        }
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = items.last().filter(|_| more).map(id_of);
        Ok((items, next))
    }

    /// The error for an `after` that no item has as its id.
    #[must_use]
    pub fn bad_after(&self) -> FieldErrors {
        let mut errors = FieldErrors::default();
        errors.push("after", BAD_AFTER);
        errors
    }

    /// The value of a `Link` field that leads to the next page, relative to the list itself (RFC 8288; RFC 3986,
    /// section 5.2.2).
    #[must_use]
    pub fn link(&self, next: &str) -> String {
        let mut query = b"after=".to_vec();
        push_query(&mut query, next);
        query.extend_from_slice(format!("&limit={}", self.limit).as_bytes());
        for (name, value) in &self.filters {
            query.extend_from_slice(format!("&{name}=").as_bytes());
            push_query(&mut query, value);
        }
        format!("<?{}>; rel=\"next\"", String::from_utf8_lossy(&query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: usize, after: Option<&str>) -> PageRequest {
        PageRequest {
            limit,
            after: after.map(str::to_owned),
            filters: Vec::new(),
        }
    }

    #[test]
    fn filters_stand_in_the_query_and_in_the_link_to_the_next_page() {
        let known = ["status", "since"];
        let page = PageRequest::parse_filtered(Some("since=2027-01-01T00%3A00%3A00Z&limit=2&status=4xx"), None, &known).unwrap();
        assert_eq!(
            page.link("n"),
            "<?after=n&limit=2&since=2027-01-01T00%3A00%3A00Z&status=4xx>; rel=\"next\""
        );
        for query in ["status=", "status=%zz", "status=4xx&status=5xx", "stats=4xx"] {
            assert!(PageRequest::parse_filtered(Some(query), None, &known).is_err(), "{query}");
        }
        assert!(PageRequest::parse(Some("status=4xx"), None).is_err(), "a list has no filters");
    }

    #[test]
    fn a_query_says_how_many_and_after_what() {
        for (query, expected) in [
            (None, page(1_000, None)),
            (Some(""), page(1_000, None)),
            (Some("limit=1"), page(1, None)),
            (Some("limit=1000&after=key_1"), page(1_000, Some("key_1"))),
            (Some("after=ur%6E%3Ax&"), page(1_000, Some("urn:x"))),
        ] {
            assert_eq!(PageRequest::parse(query, None), Ok(expected), "{query:?}");
        }
    }

    #[test]
    fn what_is_unknown_bad_or_twice_is_named() {
        let number = "The limit field must be a number from 1 to 1000.";
        for (query, field, message) in [
            ("limit=0", "limit", number),
            ("limit=1001", "limit", number),
            ("limit=-1", "limit", number),
            ("limit=x", "limit", number),
            ("limit", "limit", number),
            ("limit=1&limit=1", "limit", "The limit field is there twice."),
            ("after=a&after=a", "after", "The after field is there twice."),
            ("after=", "after", "The after field is not valid."),
            ("after=%FF", "after", "The after field is not valid."),
            ("after=%zz", "after", "The after field is not valid."),
            ("after=a%2", "after", "The after field is not valid."),
            ("page_no=2", "page_no", "The page no field is not known."),
            ("%6Cimit=2", "limit", "The limit field is not known."),
        ] {
            let errors = PageRequest::parse(Some(query), None).unwrap_err();
            assert_eq!(errors.iter().collect::<Vec<_>>(), [(field, &[message.to_owned()][..])], "{query}");
        }
        let errors = PageRequest::parse(Some("x=1&limit=y"), Some("No {field}.")).unwrap_err();
        assert_eq!(errors.iter().count(), 2);
        assert_eq!(errors.iter().next().unwrap().1, ["No x."]);
    }

    #[test]
    fn a_whole_list_is_cut_where_it_is_asked_for() {
        let items = || vec!["a", "b", "c"];
        let id = |item: &&str| (*item).to_owned();
        for (page, expected, next) in [
            (page(3, None), &["a", "b", "c"][..], None),
            (page(2, None), &["a", "b"][..], Some("b")),
            (page(2, Some("b")), &["c"][..], None),
            (page(1, Some("a")), &["b"][..], Some("b")),
            (page(9, Some("c")), &[][..], None),
        ] {
            let (cut, last) = page.cut(items(), id).unwrap();
            assert_eq!((cut.as_slice(), last.as_deref()), (expected, next), "{page:?}");
        }
        assert!(page(2, Some("z")).cut(items(), id).is_err());
        assert_eq!(page(2, None).link("a:b/c"), "<?after=a%3Ab%2Fc&limit=2>; rel=\"next\"");
        assert_eq!(page(2, None).link("b"), "<?after=b&limit=2>; rel=\"next\"");
    }
}
