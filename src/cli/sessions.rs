//! `durward sessions …`.

use std::io;

use crate::admin::sessions::{SessionList, SessionView, SessionsEnded};

use super::args::SessionCommand;
use super::client::Client;
use super::failure::Failure;
use super::keys::{list_query, path_id};
use super::output::{self, Printer};
use super::tenants::more;
use super::wait::Change;

pub(crate) fn run(client: &Client, command: &SessionCommand, printer: &Printer) -> Result<(), Failure> {
    match command {
        SessionCommand::List {
            tenant,
            surface,
            parent,
            subject,
            page,
        } => {
            let filters = [
                ("tenant", tenant.as_deref()),
                ("surface", surface.as_deref()),
                ("parent", parent.as_deref()),
                ("subject", subject.as_deref()),
            ];
            let list: SessionList = client.get(&format!("/v1/sessions?{}", list_query(&filters, page)?))?;
            printer.print(&list, |out| table(out, &list))?;
            more(printer, list.next.as_deref());
            Ok(())
        }
        SessionCommand::Revoke {
            all_of: Some(id), wait, ..
        } => {
            let change = Change {
                path: format!("/v1/sessions/of/{}/revoke", path_id(id)?),
                id,
            };
            change.make((client, wait, printer), &(), |out, ended: &SessionsEnded| {
                let since = ended.valid_after.as_deref().unwrap_or_default();
                writeln!(out, "what hangs on {} and was made before {since} is ended", ended.id)
            })
        }
        SessionCommand::Revoke { id, wait, .. } => {
            let id = id.as_deref().unwrap_or_default();
            let change = Change {
                path: format!("/v1/sessions/{}/revoke", path_id(id)?),
                id,
            };
            change.make((client, wait, printer), &(), |out, session: &SessionView| show(out, session))
        }
    }
}

fn table(out: &mut dyn io::Write, list: &SessionList) -> io::Result<()> {
    let rows = list.sessions.iter().map(|session| {
        [
            session.id.clone(),
            session.surface.clone(),
            session.tenant.clone(),
            session.subject.clone().unwrap_or_default(),
            session.parent.clone().unwrap_or_default(),
            session.created_at.clone(),
            session.ends_at.clone().unwrap_or_else(|| "never".to_owned()),
        ]
    });
    let head = ["ID", "SURFACE", "TENANT", "SUBJECT", "HANGS ON", "CREATED", "ENDS"];
    output::table(out, head, &rows.collect::<Vec<_>>())
}

fn show(out: &mut dyn io::Write, session: &SessionView) -> io::Result<()> {
    let scopes = session.scopes.join(" ");
    output::fields(
        out,
        &[
            ("id", &session.id),
            ("state", &session.state),
            ("surface", &session.surface),
            ("tenant", &session.tenant),
            ("subject", session.subject.as_deref().unwrap_or_default()),
            ("hangs on", session.parent.as_deref().unwrap_or_default()),
            ("mode", session.mode.as_deref().unwrap_or_default()),
            ("scopes", &scopes),
            ("created", &session.created_at),
            ("last used", session.last_used_at.as_deref().unwrap_or_default()),
            ("ends unused", session.idle_at.as_deref().unwrap_or_default()),
            ("expires", session.expires_at.as_deref().unwrap_or("never")),
        ],
    )
}
