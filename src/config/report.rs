//! Collects what is wrong while files are read, so that one mistake does not hide the next.

use std::cell::RefCell;
use std::path::PathBuf;

use super::error::{Location, Problem, ProblemSeverity};
use super::source::Span;

/// Most errors one load reports, and most warnings and notes. A file of garbage has as many as it has lines; a person reads
/// a screen or two. They are counted apart: no number of warnings hides an error, and with it that a configuration must not
/// be loaded.
pub(in crate::config) const MAX_PROBLEMS: usize = 200;

/// A growing list of problems, and the places whose text must not be shown.
#[derive(Debug, Default)]
pub struct ProblemReport {
    errors: RefCell<Vec<Problem>>,
    /// Warnings and notes.
    remarks: RefCell<Vec<Problem>>,
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
        !self.errors.borrow().is_empty()
    }

    /// What was collected: errors, the rest, masks.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Problem>, Vec<Problem>, Vec<Span>) {
        (self.errors.into_inner(), self.remarks.into_inner(), self.masks.into_inner())
    }

    fn add(&self, weight: ProblemSeverity, at: Location, message: String, help: Option<String>) {
        let mut problems = match weight {
            ProblemSeverity::Error => self.errors.borrow_mut(),
            ProblemSeverity::Warning | ProblemSeverity::Note => self.remarks.borrow_mut(),
        };
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
    use crate::config::source::SourceId;

    #[test]
    fn warnings_hide_no_error() {
        let report = ProblemReport::default();
        let at = Span::new(SourceId(0), &(0..1));
        for n in 0..2 * MAX_PROBLEMS {
            report.warning(&at, format!("{n}"), None);
        }
        assert!(!report.has_errors());
        report.error(&at, "the error", None);
        assert!(report.has_errors());
        let (errors, remarks, _) = report.into_parts();
        assert_eq!((errors.len(), remarks.len()), (1, MAX_PROBLEMS));
    }

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
