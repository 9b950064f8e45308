//! Collects what is wrong while files are read, so that one mistake does not hide the next.

use std::cell::RefCell;
use std::path::PathBuf;

use super::error::{Location, Problem, ProblemSeverity};
use super::source::Span;

/// Most problems one load reports. A file of garbage has as many as it has lines; a person reads
/// a screen or two.
pub(super) const MAX_PROBLEMS: usize = 200;

/// A growing list of problems, and the places whose text must not be shown.
#[derive(Debug, Default)]
pub struct ProblemReport {
    problems: RefCell<Vec<Problem>>,
    masks: RefCell<Vec<Span>>,
}

impl ProblemReport {
    /// Adds an error at a place.
    pub fn error(&self, at: &Span, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.add(ProblemSeverity::Error, Location::Span(at.clone()), message.into(), help.into());
    }

    /// Adds a warning at a place.
    pub fn warning(&self, at: &Span, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.add(ProblemSeverity::Warning, Location::Span(at.clone()), message.into(), help.into());
    }

    /// Adds something good to know.
    pub fn note(&self, at: &Span, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.add(ProblemSeverity::Note, Location::Span(at.clone()), message.into(), help.into());
    }

    /// Adds an error about a file that could not be read.
    pub fn unreadable(&self, path: PathBuf, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.add(ProblemSeverity::Error, Location::File(path), message.into(), help.into());
    }

    /// Hides a place from every message.
    pub fn mask(&self, at: &Span) {
        self.masks.borrow_mut().push(at.clone());
    }

    /// Whether anything so far prevents loading.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|p| p.weight == ProblemSeverity::Error)
    }

    /// What was collected: errors, the rest, masks.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Problem>, Vec<Problem>, Vec<Span>) {
        let (errors, warnings) = self
            .problems
            .into_inner()
            .into_iter()
            .partition(|p| p.weight == ProblemSeverity::Error);
        (errors, warnings, self.masks.into_inner())
    }

    fn add(&self, weight: ProblemSeverity, at: Location, message: String, help: Option<String>) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS {
            problems.push(Problem { weight, at, message, help });
        }
    }
}

/// The word of `known` that `word` was probably meant to be.
#[must_use]
pub(super) fn closest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A third of the letters may be wrong: below that, people see the likeness; above, guesses annoy.
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&word.to_ascii_lowercase(), &k.to_ascii_lowercase()), k))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// "did you mean …", or the list of what there is.
#[must_use]
pub(in crate::config) fn suggest<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone, what: &str) -> String {
    if let Some(close) = closest(word, known.clone()) {
        return format!("did you mean `{close}`?");
    }
    let all: Vec<String> = known.into_iter().map(|k| format!("`{k}`")).collect();
    if all.is_empty() {
        format!("there is no {what} yet")
    } else {
        format!("{what} may be {}", all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = ["surfaces", "scopes", "max_age"];
        assert_eq!(closest("surface", known), Some("surfaces"));
        assert_eq!(closest("max-age", known), Some("max_age"));
        assert_eq!(closest("scoeps", known), Some("scopes"));
        assert_eq!(closest("listeners", known), None);
        assert_eq!(closest("x", known), None);
    }
}
