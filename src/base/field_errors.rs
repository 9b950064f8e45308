//! What is wrong with which field of a body: it rides beside a denial, which stays one word.

/// Most messages kept for one request: a body with more mistakes than this is not helped by hearing
/// of all of them, and an answer must not grow with what a stranger sends.
pub const MAX_FIELD_ERRORS: usize = 32;

/// Longest name of a field that is repeated in an answer, in characters: names of unknown fields come
/// from the caller.
pub const MAX_FIELD_NAME: usize = 64;

/// Messages by field, in the order they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<(String, Vec<String>)>);

impl FieldErrors {
    /// Adds a message about a field. Beyond [`MAX_FIELD_ERRORS`] nothing is added; a longer name is
    /// cut to [`MAX_FIELD_NAME`] characters.
    pub fn push(&mut self, field: &str, message: impl Into<String>) {
        if self.0.iter().map(|(_, messages)| messages.len()).sum::<usize>() >= MAX_FIELD_ERRORS {
            return;
        }
        let end = field.char_indices().nth(MAX_FIELD_NAME).map_or(field.len(), |(i, _)| i);
        let field = field.get(..end).unwrap_or(field);
        match self.0.iter_mut().find(|(name, _)| name == field) {
            Some((_, messages)) => messages.push(message.into()),
            None => self.0.push((field.to_owned(), vec![message.into()])),
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fields with their messages.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(field, messages)| (field.as_str(), messages.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_field_stay_together_and_in_order() {
        let mut errors = FieldErrors::default();
        assert!(errors.is_empty());
        errors.push("b", "1");
        errors.push("a", "2");
        errors.push("b", "3");
        let all: Vec<_> = errors.iter().collect();
        assert_eq!(all, [("b", &["1".to_owned(), "3".to_owned()][..]), ("a", &["2".to_owned()][..])]);
    }

    #[test]
    fn what_a_stranger_sends_cannot_make_them_long() {
        let mut errors = FieldErrors::default();
        for i in 0..1_000 {
            errors.push(&format!("{i}{}", "ä".repeat(1_000)), "m");
        }
        assert_eq!(errors.iter().count(), MAX_FIELD_ERRORS);
        assert!(errors.iter().all(|(field, _)| field.chars().count() == MAX_FIELD_NAME));
    }
}
