//! `durward sessions …`.

use std::io;

use clap::Subcommand;

use crate::admin::sessions::{SessionList, SessionView, SessionsEnded};

use super::args::{Page, WaitArgs};
use super::client::OperatorClient;
use super::client::path_id;
use super::failure::Failure;
use super::output::{self, Printer};
use super::wait::ChangeRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List sessions in force: children of an account, a key or a token, and sessions that expire when idle.
    List {
        /// Only those of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Only those of this surface.
        #[arg(long, value_name = "NAME")]
        surface: Option<String>,
        /// Only children of the record with this id.
        #[arg(long, value_name = "ID")]
        parent: Option<String>,
        /// Only those of this subject.
        #[arg(long, value_name = "SUBJECT")]
        subject: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Revoke one session, or all sessions of a record.
    Revoke {
        /// The id of the session.
        #[arg(required_unless_present = "all_of", conflicts_with = "all_of")]
        id: Option<String>,
        /// End all sessions of the record with this id; the record itself stays in force.
        #[arg(long, value_name = "ID")]
        all_of: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

pub(crate) fn run(client: &OperatorClient, command: &SessionCommand, printer: &Printer) -> Result<(), Failure> {
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
            let list: SessionList = client.get(&format!("/v1/sessions?{}", page.query(&filters)?))?;
            printer.print(&list, |out| table(out, &list))?;
            printer.more(list.next.as_deref());
            Ok(())
        }
        SessionCommand::Revoke {
            all_of: Some(id), wait, ..
        } => {
            let change = ChangeRequest {
                client,
                wait,
                printer,
                path: format!("/v1/sessions/of/{}/revoke", path_id(id)?),
                id,
            };
            change.make(&(), |out, ended: &SessionsEnded| {
                let since = ended.valid_after.as_deref().unwrap_or_default();
                writeln!(out, "what hangs on {} and was made before {since} is ended", ended.id)
            })
        }
        SessionCommand::Revoke { id, wait, .. } => {
            let id = id.as_deref().unwrap_or_default();
            let change = ChangeRequest {
                client,
                wait,
                printer,
                path: format!("/v1/sessions/{}/revoke", path_id(id)?),
                id,
            };
            change.make(&(), |out, session: &SessionView| show(out, session))
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
