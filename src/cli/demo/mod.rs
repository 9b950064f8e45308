//! `durward demo`: the shipped configuration, a sample upstream, credentials, and calls to paste.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::admin::keys::{CreateKey, CreatedKey, KeyMade};
use crate::admin::tenants::{CreateTenant, TenantView};
use crate::base::clock::{Clock as _, SystemClock};
use crate::decide::token;

mod folder;
pub(crate) mod sample_upstream;

use super::client::OperatorClient;
use super::failure::{Exit, Failure};
use super::output::Printer;
use super::serve::{self, AccessLines};
use folder::DemoFolder;
use sample_upstream::SampleUpstream;

const TENANT: &str = "acme";

/// How long the session of the demo lives: longer than people look at a demo.
const SESSION: Duration = Duration::from_secs(8 * 3_600);

/// Runs until SIGINT or SIGTERM. The folder of the demo is removed last, after everything that uses it has ended.
pub(crate) fn run(printer: &Printer) -> Result<(), Failure> {
    let here = std::env::current_dir().unwrap_or_default();
    let (site, socket) = DemoFolder::prepare(&here)?;
    for remark in &site.remarks {
        printer.remark(&format!("note: {remark}"));
    }
    let failed = |error| Failure::new(Exit::Failed, format!("the sample upstream cannot be started: {error}"));
    let escrow = SampleUpstream::start(socket).map_err(failed)?;
    // The log of the demo is for people, and so is its failure.
    let running = serve::start(&site.config(), AccessLines::Stderr, printer).map_err(|failure| Failure { logged: false, ..failure })?;
    let script = DemoScript::make(&site, &OperatorClient::new(site.socket(), Path::new(&site.config())))?;
    printer.print(&script, |out| script.write(out))?;
    let ended = running.wait();
    drop(escrow);
    drop(site);
    ended
}

/// Everything the demo made and shows.
#[derive(Debug, Serialize)]
pub(crate) struct DemoScript {
    http: String,
    https: String,
    config: String,
    certificate: String,
    tenant: &'static str,
    credentials: Credentials,
    calls: Vec<DemoCall>,
}

#[derive(Debug, Serialize)]
struct Credentials {
    api_live: KeyMade,
    api_test: KeyMade,
    pair_live: KeyMade,
    pair_test: KeyMade,
    dashboard: SessionMade,
}

#[derive(Serialize)]
struct SessionMade {
    token: String,
    hangs_on: String,
}

impl std::fmt::Debug for SessionMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionMade")
            .field("hangs_on", &self.hangs_on)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize)]
struct DemoCall {
    about: &'static str,
    command: String,
    /// The status it answers; none for a command of durward's.
    status: Option<u16>,
}

impl DemoScript {
    /// Makes the tenant and the credentials through the operator API, as an operator would.
    pub(crate) fn make(site: &DemoFolder, client: &OperatorClient) -> Result<Self, Failure> {
        let _: TenantView = client.post("/v1/tenants", &CreateTenant { id: TENANT.into() })?;
        let make = |surface: &str, mode: &str| -> Result<KeyMade, Failure> {
            let request = CreateKey {
                surface: surface.into(),
                tenant: TENANT.into(),
                mode: Some(mode.into()),
                scopes: vec!["orders:read".into()],
                name: Some("demo".into()),
                ..CreateKey::default()
            };
            Ok(client.post::<CreatedKey>("/v1/keys", &request)?.credential)
        };
        let api_live = make("api", "live")?;
        let credentials = Credentials {
            dashboard: mint_session(site, &api_live.id)?,
            api_test: make("api", "test")?,
            pair_live: make("pair", "live")?,
            pair_test: make("pair", "test")?,
            api_live,
        };
        let http = format!("http://127.0.0.1:{}", site.http);
        let https = format!("https://localhost:{}", site.https);
        let calls = calls(&http, &https, site, &credentials);
        Ok(Self {
            http,
            https,
            config: site.config().display().to_string(),
            certificate: site.certificate().display().to_string(),
            tenant: TENANT,
            credentials,
            calls,
        })
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "durward guards a sample escrow service at {} and {}", self.http, self.https)?;
        writeln!(out, "configuration {} (fresh state, gone when the demo ends)\n", self.config)?;
        writeln!(out, "Paste these, in this order, into another terminal:\n")?;
        for (number, step) in self.calls.iter().enumerate() {
            let status = step.status.map(|status| format!(" -> {status}")).unwrap_or_default();
            writeln!(out, "{}. {}{status}\n\n    {}\n", number + 1, step.about, step.command)?;
        }
        writeln!(out, "Ctrl-C stops the demo and removes what it made.")
    }
}

/// A session as an issuer would mint it: its parent is a key, and it ends with the key.
fn mint_session(site: &DemoFolder, hangs_on: &str) -> Result<SessionMade, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("the demo's session cannot be made: {error}"));
    let secret = site.session_secret().map_err(|error| failed(&error))?;
    let now = SystemClock.now().wall;
    let claims = serde_json::json!({
        "kind": "dashboard_session",
        "sub": hangs_on,
        "iat": now.secs(),
        "exp": now.plus(SESSION).secs(),
    });
    let claims = claims.as_object().cloned().unwrap_or_default();
    let token = token::mint(&secret, &claims).map_err(|error| failed(&error))?;
    Ok(SessionMade {
        token,
        hangs_on: hangs_on.to_owned(),
    })
}

fn calls(http: &str, https: &str, site: &DemoFolder, made: &Credentials) -> Vec<DemoCall> {
    let live = &made.api_live.key;
    let pair = (&made.pair_live.key, made.pair_live.secret.as_deref().unwrap_or_default());
    let certificate = quote(&site.certificate().display().to_string());
    let step = |about, status, command| DemoCall {
        about,
        command,
        status: Some(status),
    };
    let first = format!("curl -si -H 'Authorization: Bearer {live}' {http}/v1/orders/42");
    vec![
        step("A live key passes; the answer shows what the service was sent", 200, first.clone()),
        step(
            "A key pair passes on the same route",
            200,
            format!(
                "curl -si -H 'x-api-key: {}' -H 'x-api-secret: {}' {http}/v1/orders/42",
                pair.0, pair.1
            ),
        ),
        step(
            "A session passes where sessions are accepted",
            200,
            format!(
                "curl -si -H 'X-Dashboard-Session: {}' {http}/dashboard/summary",
                made.dashboard.token
            ),
        ),
        step(
            "The same over TLS and HTTP/2, with a test key",
            200,
            format!(
                "curl -si --cacert {certificate} -H 'Authorization: Bearer {}' {https}/v1/orders/42",
                made.api_test.key
            ),
        ),
        step("No key", 401, format!("curl -si {http}/v1/orders/42")),
        step(
            "A key without the scope `orders:write`",
            403,
            format!("curl -si -X POST -H 'Authorization: Bearer {live}' {http}/v1/orders/42"),
        ),
        step(
            "A spoofed tenant does not arrive: the service still sees `acme`",
            200,
            format!("curl -si -H 'X-Tenant-Id: evil' -H 'Authorization: Bearer {live}' {http}/v1/orders/42"),
        ),
        step(
            "A spoofed tenant in disguise is refused",
            400,
            format!("curl -si -H 'X_Tenant_Id: evil' -H 'Authorization: Bearer {live}' {http}/v1/orders/42"),
        ),
        DemoCall {
            about: "Revoke the live key",
            command: format!(
                "{} keys revoke {} --config {}",
                own_name(),
                made.api_live.id,
                quote(&site.config().display().to_string())
            ),
            status: None,
        },
        step("The first call again", 401, first),
    ]
}

/// How this program is called from here: by its name if its folder is on the path, or else by its path.
fn own_name() -> String {
    let Ok(own) = std::env::current_exe() else {
        return "durward".into();
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    if own.file_name().is_some_and(|name| name == "durward") && std::env::split_paths(&folders).any(|f| Some(f.as_path()) == own.parent()) {
        return "durward".into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let shown = own.strip_prefix(&here).map_or(
        own.as_path(),
        |inside| if inside.parent() == Some(Path::new("")) { &own } else { inside },
    );
    quote(&shown.display().to_string())
}

/// A word for a shell.
fn quote(word: &str) -> String {
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-:+=@%".contains(&b)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_for_a_shell_stay_one_word() {
        assert_eq!(quote("/tmp/durward-demo-1/gateway.toml"), "/tmp/durward-demo-1/gateway.toml");
        assert_eq!(quote("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(quote("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quote(""), "''");
    }
}
