//! The entry that the audit trail gets of a request: begun when the head was examined, written when the request has ended.

use crate::audit::entry::{RequestEntry, ShownHead};
use crate::audit::trail::DurableReceipt;
use crate::base::clock::instant;
use crate::base::denial::Denial;
use crate::decide::audit::RouteAudit;
use crate::decide::route::Access;
use crate::gateway::open_stream::RequestSummary;
use crate::gateway::worker::SnapshotView;
use crate::telemetry::AccessLine;
use crate::wire::head::RequestHead;

use super::{AccessRecord, Completion, RecordFields, access_line};

/// What an entry needs of a request besides its access line. The buffers are reused.
#[derive(Default)]
pub(super) struct EntryParts {
    /// Whether the trail has room for the entry, and waits for it.
    pub(super) is_begun: bool,
    head: ShownHead,
    pub(super) trace_id: String,
    pub(super) tls: Option<&'static str>,
}

impl EntryParts {
    /// Removes everything about the request and keeps the allocations.
    pub(super) fn clear(&mut self) {
        self.is_begun = false;
        self.head.clear();
        self.trace_id.clear();
        self.tls = None;
    }
}

impl AccessRecord {
    /// Takes room in the audit trail for the entry of this request, and collects what the entry shows of its head. Nothing
    /// is done where there is no trail, or where the route has no entries.
    ///
    /// # Errors
    /// `NotRecordable` when there is no room, and `audit.on_full` is `refuse`.
    pub(in crate::gateway) fn begin_entry(&mut self, head: &RequestHead) -> Result<(), Denial> {
        let Some(recorder) = &self.worker.recorder else { return Ok(()) };
        let route = self.route();
        let Some(record) = &mut self.record else { return Ok(()) };
        let Some(view) = &record.view else { return Ok(()) };
        if route.is_some_and(|index| view.snapshot.routes[index.0].options.audit == RouteAudit::Off) {
            return Ok(());
        }
        if !recorder.admits() {
            return Err(Denial::NotRecordable);
        }
        view.entry_rules.collect(head, &mut record.entry.head);
        record.entry.is_begun = true;
        Ok(())
    }

    /// Whether the answer is only sent when an entry of it is on the disk.
    #[must_use]
    pub fn waits_for_disk(&self) -> bool {
        let recorder = self.worker.recorder.as_ref();
        recorder.is_some_and(|recorder| recorder.waits_for_disk()) && self.record.as_ref().is_some_and(|record| record.entry.is_begun)
    }

    /// Writes an entry that the request is about to be answered. `None` where none is to be written.
    pub(in crate::gateway) fn push_answered(&self) -> Option<DurableReceipt> {
        let recorder = self.worker.recorder.as_ref().filter(|_| self.waits_for_disk())?;
        let record = self.record.as_deref()?;
        let view = record.view.as_deref()?;
        let summary = record.state.summary.borrow();
        let line = access_line(record, &summary, view, self.worker.positions(), 0, Completion::Complete, instant());
        Some(recorder.push_answered(&request_entry(record, &line, &summary, view)))
    }

    /// Whether a request that cannot be recorded is refused.
    pub(in crate::gateway) fn refuses_unrecorded(&self) -> bool {
        self.worker.recorder.as_ref().is_some_and(|recorder| recorder.refuses())
    }

    /// Writes the entry of the request, which has ended.
    pub(super) fn write_entry(&self, record: &RecordFields, line: &AccessLine<'_>, summary: &RequestSummary, view: &SnapshotView) {
        if record.entry.is_begun
            && let Some(recorder) = &self.worker.recorder
        {
            let mut bodies = record.bodies.as_ref().map(|bodies| bodies.take()).unwrap_or_default();
            if !bodies.is_empty() {
                bodies.request_id.push_str(&record.request_id);
            }
            recorder.push(&request_entry(record, line, summary, view), bodies);
        }
    }
}

fn request_entry<'a>(
    record: &'a RecordFields,
    line: &'a AccessLine<'a>,
    summary: &RequestSummary,
    view: &'a SnapshotView,
) -> RequestEntry<'a> {
    let route = summary.route.and_then(|index| view.snapshot.routes.get(index.0));
    RequestEntry {
        line,
        head: &record.entry.head,
        rules: &view.entry_rules,
        trace_id: super::some(&record.entry.trace_id),
        tls: record.entry.tls,
        mode: record.facts.as_ref().and_then(|facts| facts.credential.mode),
        scopes_needed: route.and_then(|route| match &route.access {
            Access::Surfaces { scopes, .. } => super::some(scopes.joined()),
            Access::Public => None,
        }),
        snapshot: view.version(),
    }
}

/// The trace id of a `traceparent` field (W3C Trace Context, section 3.2).
pub(super) fn trace_id(traceparent: &[u8]) -> Option<&str> {
    let id = traceparent.get(3..35)?;
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_valid = traceparent.get(2) == Some(&b'-')
        && traceparent.get(35) == Some(&b'-')
        && id.iter().all(is_hex)
        && id.iter().any(|byte| *byte != b'0');
    std::str::from_utf8(id).ok().filter(|_| is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_read_from_a_valid_traceparent_only() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let field = format!("00-{id}-00f067aa0ba902b7-01");
        assert_eq!(trace_id(field.as_bytes()), Some(id));
        let wrong = [
            field.replace('b', "B"),
            field.replace("00-4", "00_4"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            "00-4bf9".to_owned(),
            String::new(),
        ];
        for wrong in &wrong {
            assert_eq!(trace_id(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
