//! The entries of one tenant, as that tenant may see them: a page of its own requests, without what tells about the operator.
//! Here alone is decided which entries and which members a tenant is given.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::base::clock::instant;
use crate::base::ids::TenantId;
use crate::base::scope::Mode;
use crate::decide::audit::TENANT_MEMBERS;

use super::query::{EntryQuery, Matches, QueryStep, StatusFilter};
use super::segments::{SegmentFile, Segments};

/// What the entries of a page must have, besides the tenant; all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantFilter {
    pub request: Option<String>,
    pub credential: Option<String>,
    pub route: Option<String>,
    pub denial: Option<String>,
    pub method: Option<String>,
    pub status: Option<StatusFilter>,
    /// In milliseconds since 1970.
    pub since: Option<i64>,
    /// The first time that is not meant any more.
    pub until: Option<i64>,
    /// The mode of who asks: test and live never meet.
    pub mode: Option<Mode>,
}

/// What one page may cost. A page that would cost more is shorter, and the next one goes on from there.
#[derive(Debug, Clone, Copy)]
pub struct PageBounds {
    /// Most entries of the page.
    pub entries: usize,
    /// Bytes of entries after which the page ends.
    pub size: usize,
    /// Bytes of lines after which no further block is read.
    pub read: u64,
    /// How long blocks are read.
    pub time: Duration,
}

/// Entries of one tenant, the newest first.
#[derive(Debug, Default)]
pub struct TenantPage {
    pub entries: Vec<TenantEntry>,
    /// The page after this one has entries before this number; `None`: there are no older ones.
    pub next: Option<u64>,
    /// What could not be read, for the operator.
    pub problems: Vec<String>,
}

/// The members of one entry that its tenant may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantEntry(Map<String, Value>);

impl TenantEntry {
    /// Reads a line of the trail. `None` where it is no request of this tenant.
    ///
    /// A request that was only reported as refused looks like one that was served, since the tenant need not know which
    /// checks the operator does not enforce.
    #[must_use]
    pub fn of_line(line: &str, tenant: &TenantId) -> Option<Self> {
        let mut members: Map<String, Value> = serde_json::from_str(line).ok()?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        if text("tenant") != Some(tenant.as_str()) || text("kind") != Some("request") {
            return None;
        }
        if members.contains_key("report_only") {
            members.remove("denial");
        }
        members.retain(|name, _| TENANT_MEMBERS.contains(&name.as_str()));
        Some(Self(members))
    }

    #[must_use]
    pub fn into_json(self) -> Value {
        self.0.into()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Whether it has what is asked for. Only members that the tenant may see are compared, so that a filter tells nothing else.
    fn meets(&self, filter: &TenantFilter) -> bool {
        let has = |name: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| self.text(name) == Some(wanted));
        let status = self.0.get("status").and_then(Value::as_u64);
        let status = match filter.status {
            None => true,
            Some(StatusFilter::Exact(wanted)) => status == Some(u64::from(wanted)),
            Some(StatusFilter::Class(class)) => status.map(|status| status / 100) == Some(u64::from(class)),
        };
        let mode = self.text("mode");
        has("request_id", &filter.request)
            && has("credential", &filter.credential)
            && has("route", &filter.route)
            && has("denial", &filter.denial)
            && has("method", &filter.method)
            && filter.mode.is_none_or(|own| mode.is_none_or(|mode| mode == own.as_str()))
            && status
    }
}

impl TenantFilter {
    /// The question to the index. It finds more than the filter means, since it knows neither modes nor what is hidden.
    fn query(&self, tenant: &TenantId, before: Option<u64>) -> EntryQuery {
        EntryQuery {
            tenant: Some(tenant.as_str().to_owned()),
            kind: Some("request".to_owned()),
            request: self.request.clone(),
            credential: self.credential.clone(),
            route: self.route.clone(),
            denial: self.denial.clone(),
            status: self.status,
            since: self.since,
            until: self.until,
            before,
            ..EntryQuery::default()
        }
    }
}

/// Reads the newest entries of a tenant that come before a position. Positions decide nothing about whose entries are read.
///
/// # Errors
/// When the directory cannot be read.
pub fn read_page(
    directory: &Path,
    tenant: &TenantId,
    filter: &TenantFilter,
    before: Option<u64>,
    bounds: PageBounds,
) -> io::Result<TenantPage> {
    let segments = Segments::open(directory)?;
    let query = filter.query(tenant, before);
    let mut matches = Matches::new(&segments, &query).by_index_only();
    let (begun, mut page, mut size) = (instant(), TenantPage::default(), 0);
    let mut newest_left = None;
    loop {
        match matches.step() {
            QueryStep::End => break,
            QueryStep::Read => {}
            QueryStep::Match(found) => {
                let entry = TenantEntry::of_line(&found.line, tenant).filter(|entry| entry.meets(filter));
                if let Some(entry) = entry {
                    if page.entries.len() >= bounds.entries || size >= bounds.size {
                        page.next = newest_left;
                        break;
                    }
                    size += found.line.len();
                    newest_left = Some(found.seq);
                    page.entries.push(entry);
                }
            }
        }
        // The position is always before the one that the page began at, so pages come to an end.
        if is_spent(&matches, bounds, begun)
            && let Some(position) = matches.position()
        {
            page.next = Some(position);
            break;
        }
    }
    let oldest = segments.list().first().map_or(0, SegmentFile::first);
    page.next = page.next.filter(|next| *next > oldest);
    page.problems = matches.problems().to_vec();
    Ok(page)
}

fn is_spent(matches: &Matches<'_>, bounds: PageBounds, begun: Instant) -> bool {
    matches.bytes() >= bounds.read || begun.elapsed() >= bounds.time
}

#[cfg(test)]
mod tests;
