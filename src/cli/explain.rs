//! `durward explain`: what the running gateway would do with a request, and why.

use std::io::{self, Read as _, Write};
use std::net::IpAddr;
use std::path::Path;

use clap::Args;
use zeroize::Zeroizing;

use crate::gateway::{ExplainHeader, ExplainRequest, Explanation};

use super::audit::Directories;
use super::client::OperatorClient;
use super::failure::{Exit, Failure};
use super::output::{Printer, visible};

mod recorded;

/// Largest file of headers: the largest head that the gateway reads.
const MAX_FILE: u64 = 32 * 1024;

/// Nothing is sent to any service, no rate limit is counted, no use is noted, and nothing is written to the access log or the
/// audit trail. Credentials are masked in the answer.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The method of the request: GET, POST, … Or, without a URL, the id of a request that was sent: its entry is read from
    /// the audit trail.
    #[arg(value_name = "METHOD|REQUEST_ID")]
    subject: String,
    /// The URL as the client would send it: https://host/path?query. The scheme is that of the listener, and nothing in the
    /// path is normalised. `OPTIONS *` is written https://host*.
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// A header of the request, 'Name: value'; may be given several times. What stands here is visible in the list of
    /// processes, so give credentials with -H @FILE, or with -H @- from standard input: a file with one header on each line.
    #[arg(short = 'H', long = "header", value_name = "HEADER", requires = "url")]
    headers: Vec<HeaderArg>,
    /// The address that connects to the gateway: the client's, or that of the proxy in front.
    #[arg(long, value_name = "ADDRESS", requires = "url")]
    client: Option<IpAddr>,
    #[command(flatten)]
    directories: Directories,
}

/// A value of `-H`. Its `Debug` shows no value.
#[derive(Clone)]
struct HeaderArg(Zeroizing<String>);

impl std::str::FromStr for HeaderArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl std::fmt::Debug for HeaderArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeaderArg(..)")
    }
}

pub(crate) fn run(config: &Path, args: &ExplainArgs, printer: &Printer) -> Result<(), Failure> {
    let Some(url) = &args.url else {
        return recorded::run(config, &args.directories, &args.subject, printer);
    };
    let request = ExplainRequest {
        method: args.subject.clone(),
        url: url.clone(),
        headers: headers(&args.headers)?,
        client: args.client,
    };
    let client = OperatorClient::of_config(config)?;
    let explanation: Explanation = client.post("/v1/explain", &request)?;
    printer.print(&explanation, |out| show(out, &explanation))
}

fn headers(given: &[HeaderArg]) -> Result<Vec<ExplainHeader>, Failure> {
    let mut headers = Vec::new();
    for header in given {
        match header.0.strip_prefix('@') {
            None => headers.push(header_of(&header.0, false)?),
            Some(file) => {
                let text = Zeroizing::new(read(file)?);
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    headers.push(header_of(line, true)?);
                }
            }
        }
    }
    Ok(headers)
}

/// Reads one header. The error does not quote it, since it may be a credential without its name.
fn header_of(line: &str, secret: bool) -> Result<ExplainHeader, Failure> {
    let wrong = || Failure::new(Exit::Usage, "a header is written 'Name: value', or @FILE with one on each line");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    Ok(ExplainHeader {
        name: name.to_owned(),
        value: value.trim().to_owned(),
        secret,
    })
}

fn read(file: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Usage, format!("the headers cannot be read: {error}"));
    let mut text = String::new();
    let read = match file {
        "-" => io::stdin().lock().take(MAX_FILE + 1).read_to_string(&mut text),
        _ => std::fs::File::open(file)
            .map_err(failed)?
            .take(MAX_FILE + 1)
            .read_to_string(&mut text),
    };
    match read.map_err(failed)? {
        length if u64::try_from(length).is_ok_and(|length| length <= MAX_FILE) => Ok(text),
        _ => Err(Failure::new(
            Exit::Usage,
            "the file of headers is larger than 32 KiB, the largest head of a request",
        )),
    }
}

fn show(out: &mut dyn Write, explained: &Explanation) -> io::Result<()> {
    verdict(out, explained)?;
    let target = explained.host.iter().chain(&explained.path).map(String::as_str).collect::<String>();
    line(out, "request", &format!("{} {target}", explained.method))?;
    line(out, "client", &explained.client)?;
    match &explained.route {
        Some(route) => {
            let to = route
                .upstream
                .as_ref()
                .map_or_else(|| "durward itself".to_owned(), |name| format!("upstream {name}"));
            line(
                out,
                "route",
                &format!("{}: {} {} to {to}", route.name, route.methods.join(","), route.path),
            )?;
            let needs = match (route.surfaces.as_slice(), route.scopes.as_str()) {
                ([], _) => "public".to_owned(),
                (surfaces, "") => format!("a caller of {}", surfaces.join(" or ")),
                (surfaces, scopes) => format!("a caller of {} with {scopes}", surfaces.join(" or ")),
            };
            line(out, "access", &needs)?;
        }
        None => line(out, "route", "none")?,
    }
    for near in &explained.near {
        line(out, "near", &format!("{}: {}", near.route, near.lacks))?;
    }
    if let Some(credential) = &explained.credential {
        line(out, "credential", &credential.found.join(", "))?;
        let known = [
            ("surface", &credential.surface),
            ("id", &credential.id),
            ("state", &credential.state),
            ("tenant", &credential.tenant),
            ("subject", &credential.subject),
            ("mode", &credential.mode),
            ("scopes", &credential.scopes),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                line(out, &format!("  {name}"), value)?;
            }
        }
    }
    if let Some(facts) = &explained.facts {
        let text = format!("{} ms old, from {}; used until {} ms", facts.age_ms, facts.from, facts.max_age_ms);
        line(out, "facts", &text)?;
    }
    writeln!(out)?;
    for check in &explained.checks {
        let detail = check.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        writeln!(out, "{:<8}  {}{detail}", check.result, check.question)?;
    }
    if let Some(upstream) = &explained.upstream {
        writeln!(out, "\nto {}:", upstream.upstream)?;
        writeln!(out, "  {} {}", upstream.method, upstream.target)?;
        for (name, value) in &upstream.headers {
            writeln!(out, "  {name}: {value}")?;
        }
    }
    if let Some(response) = &explained.response {
        writeln!(out, "\nthe gateway answers {}:", response.status)?;
        for (name, value) in &response.headers {
            writeln!(out, "  {name}: {value}")?;
        }
        if !response.body.is_empty() {
            writeln!(out, "\n  {}", response.body)?;
        }
    }
    for remark in &explained.remarks {
        writeln!(out, "\nnote: {remark}")?;
    }
    Ok(())
}

fn verdict(out: &mut dyn Write, explained: &Explanation) -> io::Result<()> {
    let reason = match (&explained.denial, &explained.cause) {
        (Some(denial), Some(cause)) => format!("{denial} ({cause})"),
        (Some(denial), None) => denial.clone(),
        (None, _) => String::new(),
    };
    match explained.outcome.as_str() {
        "refused" => writeln!(out, "refused: {reason}\n"),
        "reported" => writeln!(
            out,
            "forwarded without identity, since the route only reports; it would be refused: {reason}\n"
        ),
        "served" => writeln!(out, "served by durward itself\n"),
        "answered" => writeln!(out, "answered by the gateway\n"),
        _ => writeln!(out, "forwarded\n"),
    }
}

fn line(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{name:<11}  {}", visible(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_a_name_and_its_error_quotes_nothing() {
        let header = header_of("X-Api-Key:  canary ", false).ok().unwrap();
        assert_eq!(
            (header.name.as_str(), header.value.as_str(), header.secret),
            ("X-Api-Key", "canary", false)
        );
        let Err(failure) = header_of("Bearer canary", false) else {
            panic!("a header without a name")
        };
        assert!(!failure.message.contains("canary"));
    }

    #[test]
    fn headers_of_a_file_are_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Authorization: Bearer canary\n\nX-A: 1\n").unwrap();
        let given: HeaderArg = format!("@{}", file.path().display()).parse().unwrap();
        let read = headers(std::slice::from_ref(&given)).ok().unwrap();
        let read: Vec<_> = read.iter().map(|header| (header.name.as_str(), header.secret)).collect();
        assert_eq!(read, [("Authorization", true), ("X-A", true)]);
        assert!(!format!("{given:?}").contains("durward"));
    }
}
