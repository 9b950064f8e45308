//! What the worker of `explain` notes while one request goes through the steps of every request.

use std::cell::RefCell;

use crate::base::principal::Principal;
use crate::decide::authorize::Check;
use crate::decide::method::Method;
use crate::decide::route::UpstreamIndex;
use crate::resolver::Missing;

/// The notes about the request that is being explained. One request at a time.
#[derive(Default)]
pub(in crate::gateway) struct Trace(RefCell<TraceNotes>);

#[derive(Default)]
pub(super) struct TraceNotes {
    /// The checks that were begun, in order. The last one refused the request, if it was refused.
    pub(super) checks: Vec<Check>,
    /// The check whose refusal was only reported.
    pub(super) reported: Option<Check>,
    /// Where facts came from, if memory did not have them.
    pub(super) looked_up: Option<&'static str>,
    /// The caller who was admitted.
    pub(super) principal: Option<Principal>,
    pub(super) end: Option<TracedEnd>,
}

/// Where a request that is not refused would go.
pub(super) enum TracedEnd {
    /// To an upstream, with this head.
    Upstream {
        upstream: UpstreamIndex,
        method: Method,
        target: Vec<u8>,
        fields: Vec<u8>,
    },
    /// To the step of a served route.
    Served,
}

impl Trace {
    /// This check comes now; all before it have passed.
    pub(in crate::gateway) fn begin(&self, check: Check) {
        let mut notes = self.0.borrow_mut();
        // The tenant in the path is checked in two steps.
        notes.checks.retain(|begun| *begun != check);
        notes.checks.push(check);
    }

    /// Memory lacks this, and a request would get it.
    pub(in crate::gateway) fn note_missing(&self, missing: &Missing<'_>) {
        self.0.borrow_mut().looked_up = Some(match missing {
            Missing::Facts { .. } => "store",
            Missing::Key { .. } => "issuer",
            Missing::Uses { .. } => "newest uses",
        });
    }

    /// The check that was begun last has refused, and the route only reports.
    pub(in crate::gateway) fn note_reported(&self) {
        let mut notes = self.0.borrow_mut();
        notes.reported = notes.checks.last().copied();
    }

    pub(super) fn note_end(&self, principal: Option<&Principal>, end: TracedEnd) {
        let mut notes = self.0.borrow_mut();
        notes.principal = principal.cloned();
        notes.end = Some(end);
    }

    /// Takes the notes, so that the next request begins with none.
    pub(super) fn take(&self) -> TraceNotes {
        self.0.take()
    }
}
