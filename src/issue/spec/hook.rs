//! Hooks: what a served route asks a service before its step, or tells it after.

use std::time::Duration;

use crate::decide::method::Method;
use crate::decide::route::UpstreamIndex;
use crate::dialect::answer::AnswerTemplate;

use super::Source;

/// One request to a service, before or after the step of an issuer.
#[derive(Debug)]
pub struct Hook {
    /// When it is sent.
    pub when: When,
    /// Where to.
    pub upstream: UpstreamIndex,
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: Vec<PathPart>,
    /// Its body; `None`: none.
    pub body: Option<AnswerTemplate>,
    /// How long the service has, from the wait for a connection to the last byte of its answer.
    pub deadline: Duration,
    /// What it means that it failed.
    pub on_failure: OnFailure,
    /// Which members of the service's answer are kept.
    pub fields: HookFields,
}

/// When a hook is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before anything is made or changed: the service may refuse, and its answer can be used.
    Before,
    /// When it was made or changed: the service is told.
    After,
}

/// What the failure of a hook means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The call is refused; what was made already is ended again.
    Refuse,
    /// The call goes on as if the service knew nothing.
    GoOn,
}

/// A part of a hook's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPart {
    /// As it is sent.
    Fixed(String),
    /// One whole segment.
    Value(HookValue),
}

/// What a segment of a hook's path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookValue {
    /// What a source says.
    Source(Source),
    /// The id of what was made or changed last.
    Credential,
}

/// Which members of a service's answer are kept for the answer's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookFields {
    /// None: it is not used.
    Unused,
    /// The whole object.
    Whole,
    /// These, with dots for members of members; what is not there is `null`.
    Named(Vec<String>),
}
