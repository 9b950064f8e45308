//! What an explanation says, put together from the notes of the steps. Every member is free of secrets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::Now;
use crate::base::denial::Denial;
use crate::base::principal::{CredentialState, Facts, Principal};
use crate::decide::authorize::{Check, scopes_held};
use crate::decide::rate::RateVerdict;
use crate::decide::route::{Destination, Lack, Route, near_routes};
use crate::decide::surface::Surface;
use crate::snapshot::Snapshot;
use crate::wire::fields::Fields;
use crate::wire::head::RequestHead;

use super::mask::GivenSecrets;
use super::trace::{TraceNotes, TracedEnd};
use super::{Access, ExplainError, ExplainRequest, GatewayResponse, NoBody, ResponseBody, RouteIndex};
use crate::gateway::access_record::NotedRequest;
use crate::gateway::worker::SnapshotView;
use crate::store::events::Positions;

/// What would become of a request, and why. The form of the operator API's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// `forwarded`, `served`, `answered` (by the gateway, as a preflight), `refused`, or `reported`: forwarded as nobody's,
    /// although it would be refused, since its route only reports.
    pub outcome: String,
    /// The configuration that decided.
    pub configuration: u64,
    pub method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The client's address, behind trusted proxies.
    pub client: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteExplained>,
    /// Routes that lack one thing only.
    pub near: Vec<NearRouteExplained>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialExplained>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<FactsExplained>,
    /// The checks that were made, in order. The last one refused, if the request is refused.
    pub checks: Vec<CheckExplained>,
    /// The reason in the closed list of reasons, if the request is refused or reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<String>,
    /// What exactly is wrong with the credential. Callers are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The head that would go to the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<OutgoingExplained>,
    /// What the gateway itself would answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseExplained>,
    /// What a reader should know besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteExplained {
    pub name: String,
    /// Empty: any host.
    pub hosts: Vec<String>,
    pub methods: Vec<String>,
    pub path: String,
    /// Surfaces whose callers may use it; empty on a public route.
    pub surfaces: Vec<String>,
    pub scopes: String,
    /// The service behind it; `None` for a served route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Whether it only reports refusals.
    pub report_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearRouteExplained {
    pub route: String,
    pub lacks: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialExplained {
    /// The headers and cookies in which credentials were found.
    pub found: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surface: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The scopes that the caller holds now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<String>,
    /// `active`, `disabled` or `revoked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsExplained {
    pub age_ms: u64,
    /// From this age on they may not be used.
    pub max_age_ms: u64,
    /// `memory` or `store`.
    pub from: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckExplained {
    pub check: String,
    /// What was asked.
    pub question: String,
    /// `passed`, `refused` or `reported`.
    pub result: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingExplained {
    pub upstream: String,
    pub method: String,
    pub target: String,
    /// Names and values, in order. `Host` and the framing are written with the connection.
    pub headers: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseExplained {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// Where an explanation is put together from.
struct Sources<'a> {
    snapshot: &'a Snapshot,
    noted: &'a NotedRequest,
    notes: &'a TraceNotes,
    head: &'a RequestHead,
    secrets: &'a GivenSecrets,
    ages: Ages<'a>,
}

/// What the age of facts is measured by.
#[derive(Clone, Copy)]
pub(super) struct Ages<'a> {
    pub(super) now: Now,
    /// The age from which facts may not be used.
    pub(super) max_age: Duration,
    pub(super) positions: &'a Positions,
}

/// # Errors
/// [`ExplainError::Ended`] when the record of the request is gone, which no path does.
pub(super) fn assemble(
    request: &ExplainRequest,
    view: &SnapshotView,
    head: &RequestHead,
    response: &GatewayResponse<NoBody>,
    notes: &TraceNotes,
    ages: Ages<'_>,
) -> Result<Explanation, ExplainError> {
    let noted = response.observer.noted().ok_or(ExplainError::Ended)?;
    let snapshot = &view.snapshot;
    let secrets = GivenSecrets::of(request, &snapshot.surfaces);
    let sources = Sources {
        snapshot,
        noted: &noted,
        notes,
        head,
        secrets: &secrets,
        ages,
    };
    let method = request.method.clone();
    let denial = noted.denial.or(noted.reported);
    let outcome = match (&noted.denial, &noted.reported, &notes.end) {
        (Some(_), _, _) => "refused",
        (None, Some(_), _) => "reported",
        (None, None, Some(TracedEnd::Upstream { .. })) => "forwarded",
        (None, None, Some(TracedEnd::Served)) => "served",
        (None, None, None) => "answered",
    };
    Ok(Explanation {
        outcome: outcome.to_owned(),
        configuration: view.version(),
        method: secrets.mask(&method),
        host: text(&noted.host, &secrets),
        path: (!noted.path.is_empty()).then(|| secrets.mask_target(&noted.path)),
        client: noted.client.to_string(),
        route: noted.route.and_then(|index| route(snapshot, index)),
        near: near(&sources),
        credential: credential(&sources),
        facts: facts(&sources),
        checks: checks(&sources),
        denial: denial.map(|denial| denial.label().to_owned()),
        cause: denial.and(noted.cause).map(str::to_owned),
        upstream: outgoing(&sources),
        response: (matches!(outcome, "refused" | "answered")).then(|| answered(response, &secrets)),
        remarks: remarks(&sources, denial),
    })
}

fn text(text: &str, secrets: &GivenSecrets) -> Option<String> {
    (!text.is_empty()).then(|| secrets.mask(text))
}

fn route(snapshot: &Snapshot, index: RouteIndex) -> Option<RouteExplained> {
    let route = snapshot.routes.get(index.0)?;
    let (surfaces, scopes) = match &route.access {
        Access::Public => (Vec::new(), String::new()),
        Access::Surfaces { surfaces, scopes } => {
            let names = surfaces.iter().filter_map(|index| snapshot.surfaces.get(index.0));
            (
                names.map(|surface| surface.name.as_str().to_owned()).collect(),
                scopes.joined().to_owned(),
            )
        }
    };
    let upstream = match route.destination {
        Destination::Upstream(index) => snapshot.upstreams.get(index.0).map(|spec| spec.name.to_string()),
        Destination::Served(_) => None,
    };
    Some(RouteExplained {
        name: route.name.clone(),
        hosts: route.hosts.clone(),
        methods: route.methods.iter().map(|method| method.as_str().to_owned()).collect(),
        path: route.pattern.clone(),
        surfaces,
        scopes,
        upstream,
        report_only: route.options.report_only,
    })
}

fn near(sources: &Sources<'_>) -> Vec<NearRouteExplained> {
    let Sources { snapshot, noted, .. } = sources;
    let Some(method) = noted.method.filter(|_| !noted.path.is_empty()) else {
        return Vec::new();
    };
    let near = near_routes(&snapshot.routes, noted.route, method, &noted.host, &noted.path);
    let tell = |route: &Route, lacks: &Lack| match lacks {
        Lack::Host => format!("it takes {}, not this host", route.hosts.join(", ")),
        Lack::Method => {
            let methods: Vec<&str> = route.methods.iter().map(|method| method.as_str()).collect();
            format!("it takes {}, not this method", methods.join(", "))
        }
        Lack::Segment { has, requested } => format!(
            "its path has `{has}` where the request has `{}`",
            sources.secrets.mask_target(requested)
        ),
        Lack::Length { wanted, requested } => format!("its path has {wanted} segments, the request's has {requested}"),
        Lack::Specificity => "it matches too, but its host or path is less specific".to_owned(),
    };
    near.iter()
        .filter_map(|near| {
            let route = snapshot.routes.get(near.route.0)?;
            Some(NearRouteExplained {
                route: format!("{} ({})", route.name, route.pattern),
                lacks: tell(route, &near.lacks),
            })
        })
        .collect()
}

/// The headers and cookies of the request that carry credentials on any surface.
fn found_in(surfaces: &[Surface], fields: &Fields) -> Vec<String> {
    let mut found = Vec::new();
    for field in fields.iter() {
        let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
        if surfaces.iter().any(|surface| surface.uses_header(field.name)) {
            found.push(format!("header {name}"));
        } else if name == "cookie" {
            let pairs = String::from_utf8_lossy(field.value).into_owned();
            let names = pairs
                .split(';')
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, _)| name.trim());
            let carrying = names.filter(|name| surfaces.iter().any(|surface| surface.cookies().any(|own| own == *name)));
            found.extend(carrying.map(|name| format!("cookie {name}")));
        }
    }
    found
}

fn credential(sources: &Sources<'_>) -> Option<CredentialExplained> {
    let Sources {
        snapshot, noted, notes, ..
    } = sources;
    let found = found_in(&snapshot.surfaces, &sources.head.fields);
    let facts = noted.facts.as_ref();
    if found.is_empty() && facts.is_none() {
        return None;
    }
    let record = facts.map(|facts| &facts.credential);
    let subject = noted.subject.as_ref().or_else(|| record?.subject.as_ref());
    let scopes = notes.principal.as_ref().map(|principal| principal.scopes().joined().to_owned());
    // The token's own scopes are known only for a caller who was admitted.
    let derived = || facts.map(|facts| scopes_held(Principal::new(facts.clone(), None), &snapshot.scope_grants));
    Some(CredentialExplained {
        found,
        surface: noted
            .surface
            .and_then(|index| snapshot.surfaces.get(index.0))
            .map(|surface| surface.name.as_str().to_owned()),
        id: record.map(|record| record.id.as_str().to_owned()),
        tenant: facts.map(|facts| facts.tenant.id.as_str().to_owned()),
        subject: subject.map(|subject| subject.as_str().to_owned()),
        mode: record.and_then(|record| record.mode).map(|mode| mode.as_str().to_owned()),
        scopes: scopes.or_else(derived),
        state: record.map(|record| {
            let state = match record.state {
                CredentialState::Active => "active",
                CredentialState::Disabled => "disabled",
                CredentialState::Revoked { .. } => "revoked",
            };
            state.to_owned()
        }),
    })
}

fn facts(sources: &Sources<'_>) -> Option<FactsExplained> {
    let facts: &Facts = sources.noted.facts.as_ref()?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Some(FactsExplained {
        age_ms: millis(sources.ages.now.boot.since(sources.ages.positions.counts_from(facts))),
        max_age_ms: millis(sources.ages.max_age),
        from: sources.notes.looked_up.map_or("memory", |_| "store").to_owned(),
    })
}

fn checks(sources: &Sources<'_>) -> Vec<CheckExplained> {
    let Sources { noted, notes, .. } = sources;
    let refused = noted.denial.and(notes.checks.last().copied());
    let explain = |check: &Check| {
        let result = if Some(*check) == refused {
            "refused"
        } else if Some(*check) == notes.reported {
            "reported"
        } else {
            "passed"
        };
        CheckExplained {
            check: check.label().to_owned(),
            question: check.question().to_owned(),
            result: result.to_owned(),
            detail: detail(sources, *check),
        }
    };
    notes.checks.iter().map(explain).collect()
}

/// What a reader needs to understand the result of a check.
fn detail(sources: &Sources<'_>, check: Check) -> Option<String> {
    let Sources { snapshot, noted, .. } = sources;
    let route = noted.route.and_then(|index| snapshot.routes.get(index.0));
    match check {
        Check::Route => route.map(|route| route.name.clone()),
        Check::Scopes => match &route?.access {
            Access::Surfaces { scopes, .. } => Some(format!(
                "needed: {}",
                if scopes.joined().is_empty() { "none" } else { scopes.joined() }
            )),
            Access::Public => None,
        },
        Check::AddressLimit | Check::CallerLimit => {
            let route = route?;
            let first = route.limits.before.len();
            let of_address = check == Check::AddressLimit;
            let told = noted.verdicts.iter().filter(|verdict| (verdict.limit < first) == of_address);
            let told = told.map(|told| {
                let limit = route.limits.before.get(told.limit);
                let limit = limit.or_else(|| route.limits.after.get(told.limit.checked_sub(first)?));
                let name = limit.map_or("", |limit| limit.name.as_str());
                match told.verdict {
                    RateVerdict::Admitted { remaining, .. } => format!("{name}: {remaining} more after this one"),
                    RateVerdict::Refused { retry_after } => format!("{name}: used up for {} s", retry_after.as_secs() + 1),
                }
            });
            let told: Vec<String> = told.collect();
            (!told.is_empty()).then(|| told.join("; "))
        }
        _ => None,
    }
}

fn outgoing(sources: &Sources<'_>) -> Option<OutgoingExplained> {
    let TracedEnd::Upstream {
        upstream,
        method,
        target,
        fields,
    } = sources.notes.end.as_ref()?
    else {
        return None;
    };
    let lines = String::from_utf8_lossy(fields);
    let lines = lines.split("\r\n").filter_map(|line| line.split_once(':'));
    Some(OutgoingExplained {
        upstream: sources
            .snapshot
            .upstreams
            .get(upstream.0)
            .map_or_else(String::new, |spec| spec.name.to_string()),
        method: method.as_str().to_owned(),
        target: sources.secrets.mask_target(&String::from_utf8_lossy(target)),
        headers: lines
            .map(|(name, value)| (name.to_owned(), sources.secrets.mask_field(name, value.trim())))
            .collect(),
    })
}

fn answered(response: &GatewayResponse<NoBody>, secrets: &GivenSecrets) -> ResponseExplained {
    let body = match &response.body {
        ResponseBody::Bytes(bytes) => secrets.mask(&String::from_utf8_lossy(bytes)),
        ResponseBody::Empty | ResponseBody::Upstream(_) => String::new(),
    };
    let fields = response.head.fields.iter();
    ResponseExplained {
        status: response.head.status,
        headers: fields
            .map(|field| {
                let value = String::from_utf8_lossy(field.value);
                (String::from_utf8_lossy(field.name).into_owned(), secrets.mask(&value))
            })
            .collect(),
        body,
    }
}

fn remarks(sources: &Sources<'_>, denial: Option<Denial>) -> Vec<String> {
    let Sources { notes, .. } = sources;
    let mut remarks = Vec::new();
    if notes.looked_up == Some("issuer") {
        remarks
            .push("the issuer's keys that are known here do not have the token's; a request would have them fetched once more".to_owned());
    }
    if matches!(notes.end, Some(TracedEnd::Served)) {
        remarks.push("durward answers this route itself; what the body says is not judged here, and nothing was done".to_owned());
    }
    if denial == Some(Denial::StoreUnavailable) {
        remarks.push("the store did not answer: whether the credential is valid is not known".to_owned());
    }
    remarks
}
