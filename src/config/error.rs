//! Everything wrong with a configuration, all at once: with file, line, caret and what would be right.

use std::fmt;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::environment::Watch;
use super::source::{SourceFiles, Span};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemSeverity {
    /// The configuration does not load.
    Error,
    /// It loads, and probably does not do what was meant.
    Warning,
    /// It loads and is right; something will happen that is good to know.
    Note,
}

impl ProblemSeverity {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    Span(Span),
    /// A file that could not be read at all.
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub weight: ProblemSeverity,
    pub at: Location,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    pub help: Option<String>,
}

/// Whether a rendering may use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderStyle {
    /// For files, pipes and logs.
    Plain,
    Coloured,
}

/// Problems together with the texts they are in. Never empty when it is an error.
#[derive(Debug)]
pub struct Problems {
    sources: SourceFiles,
    problems: Vec<Problem>,
}

/// Why a configuration did not load: every mistake that could be found, in order of file and place.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.render(RenderStyle::Plain))]
pub struct ConfigErrors {
    /// The mistakes; at least one.
    pub problems: Problems,
    /// What was read, so that a repair is noticed wherever it happens.
    pub watch: Watch,
}

/// One problem with its position, for a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis<'p> {
    pub problem: &'p Problem,
    pub file: PathBuf,
    /// Line from 1; 0 for a file that could not be read.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
}

impl fmt::Display for Diagnosis<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.problem.message)?;
        match &self.problem.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl Problems {
    /// Sorts the problems by file and place and removes repetitions.
    #[must_use]
    pub fn new(sources: SourceFiles, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| match &p.at {
            Location::File(path) => (0, Some(path.clone()), None),
            Location::Span(place) => (1, None, Some(place.clone())),
        });
        problems.dedup();
        Self { sources, problems }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems in order, with their positions.
    pub fn iter(&self) -> impl Iterator<Item = Diagnosis<'_>> {
        self.problems.iter().map(|problem| {
            let (file, line, column) = self.position(problem);
            Diagnosis {
                problem,
                file,
                line,
                column,
            }
        })
    }

    fn position(&self, problem: &Problem) -> (PathBuf, usize, usize) {
        match &problem.at {
            Location::File(path) => (path.clone(), 0, 0),
            Location::Span(place) => self.sources.find(place.source).map_or_else(
                || (PathBuf::new(), 0, 0),
                |source| {
                    let (line, column) = source.line_column(place.start);
                    (source.label.clone(), line, column)
                },
            ),
        }
    }

    /// The problems as text with source lines and carets.
    #[must_use]
    pub fn render(&self, style: RenderStyle) -> String {
        let renderer = match style {
            RenderStyle::Plain => Renderer::plain(),
            RenderStyle::Coloured => Renderer::styled(),
        };
        let blocks: Vec<String> = self.problems.iter().map(|p| self.render_one(p, &renderer)).collect();
        blocks.join("\n\n")
    }

    /// The problems as a JSON array of `{"file","line","column","severity","message","help"}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.iter()
            .map(|d| {
                serde_json::json!({
                    "file": d.file.display().to_string(),
                    "line": d.line,
                    "column": d.column,
                    "severity": d.problem.weight.as_str(),
                    "message": d.problem.message,
                    "help": d.problem.help,
                })
            })
            .collect()
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let level = match problem.weight {
            ProblemSeverity::Error => Level::ERROR,
            ProblemSeverity::Warning => Level::WARNING,
            ProblemSeverity::Note => Level::NOTE,
        };
        let title = level.primary_title(problem.message.as_str());
        let mut group = match &problem.at {
            Location::File(path) => Group::with_title(title).element(Origin::path(path.display().to_string())),
            Location::Span(place) => match self.sources.find(place.source) {
                Some(source) => {
                    let excerpt = source.excerpt(place.start, place.end);
                    title.element(
                        Snippet::source(excerpt.text)
                            .line_start(excerpt.line)
                            .path(source.label.display().to_string())
                            .annotation(AnnotationKind::Primary.span(excerpt.span)),
                    )
                }
                None => Group::with_title(title),
            },
        };
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(RenderStyle::Plain))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::source::{SourceFile, SourceId};
    use super::*;

    /// As [`Problems::render`], with the whole file and not an excerpt.
    fn render_whole(text: &str, start: usize, end: usize) -> String {
        let source = SourceFile::new("a.toml".into(), text.to_owned());
        let title = Level::ERROR.primary_title("wrong");
        let snippet = Snippet::source(source.shown())
            .path("a.toml")
            .annotation(AnnotationKind::Primary.span(source.clamp(start, end)));
        Renderer::plain().render(&[title.element(snippet)])
    }

    fn render_excerpt(text: &str, start: usize, end: usize) -> String {
        let mut sources = SourceFiles::default();
        sources.add(SourceFile::new("a.toml".into(), text.to_owned()));
        let problem = Problem {
            weight: ProblemSeverity::Error,
            at: Location::Span(Span::new(SourceId(0), &(start..end))),
            message: "wrong".to_owned(),
            help: None,
        };
        Problems::new(sources, vec![problem]).render(RenderStyle::Plain)
    }

    proptest! {
        /// Of lines, and of stretches that may end beyond the text or inside a character.
        #[test]
        fn an_excerpt_shows_what_the_whole_file_shows(
            lines in prop::collection::vec("[a-z ={}#ä\t]{0,6}\r?", 0..24),
            start in 0_usize..140,
            length in 0_usize..60,
        ) {
            let text = lines.join("\n");
            prop_assert_eq!(render_excerpt(&text, start, start + length), render_whole(&text, start, start + length));
        }
    }
}
