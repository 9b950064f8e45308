//! `durward providers …`.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::base::text::parse_duration;
use crate::sign_on::management::forms::{
    CreateProvider, MAX_SECRET, PlainSecret, ProviderList, ProviderSecrets, ProviderTest, ProviderView, UpdateProvider,
};

use super::args::{Page, WaitArgs};
use super::client::{OperatorClient, path_id};
use super::failure::{Exit, Failure};
use super::output::{self, Printer};
use super::wait::ChangeRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// Make an identity provider of a tenant. An OpenID Connect client's secret, or its private key, is read from standard input.
    Create(Box<ProviderCreateArgs>),
    /// List identity providers in the order of their ids.
    List {
        /// Only those of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Show the identity provider with this id, without its secrets.
    Show {
        /// The id of the provider.
        id: String,
    },
    /// Change an identity provider; only the given options change. Its secrets are sealed anew.
    Update(Box<ProviderUpdateArgs>),
    /// Ask an identity provider what a sign-on would ask, and say everything that is wrong; exit code 1 if something is.
    Test {
        /// The id of the provider.
        id: String,
    },
    /// Disable an identity provider, and everybody who signed on through it, until it is enabled again.
    Disable {
        /// The id of the provider.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Enable an identity provider that was disabled.
    Enable {
        /// The id of the provider.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Delete an identity provider and its secrets for ever; who signed on through it is logged out.
    Delete {
        /// The id of the provider.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProviderKind {
    /// OpenID Connect.
    Oidc,
    /// SAML 2.0.
    Saml,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ProviderCreateArgs {
    /// The tenant whose people it knows.
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// The protocol that it speaks.
    #[arg(long, value_name = "KIND")]
    kind: ProviderKind,
    /// The name that people see; without it, the id of the tenant.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The surface of the sessions that it gives; needed when there are several surfaces of sessions.
    #[arg(long, value_name = "NAME")]
    surface: Option<String>,
    /// The surface of its people's accounts; needed when there are several surfaces of accounts.
    #[arg(long, value_name = "NAME")]
    account_surface: Option<String>,
    /// A scope that its people may have; may be given several times. With the roles it is their ceiling.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A role whose scopes its people may have, by id or name; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    #[command(flatten)]
    settings: ProviderSettingsArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ProviderUpdateArgs {
    /// The id of the provider.
    id: String,
    /// Another name that people see.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Replaces the scopes that its people may have; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE", conflicts_with = "no_scopes")]
    scopes: Vec<String>,
    /// Removes all of these scopes.
    #[arg(long)]
    no_scopes: bool,
    /// Replaces the roles whose scopes its people may have; may be given several times.
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "no_roles")]
    roles: Vec<String>,
    /// Removes all of these roles.
    #[arg(long)]
    no_roles: bool,
    /// Removes all domains.
    #[arg(long, conflicts_with = "domains")]
    no_domains: bool,
    /// Read a new secret of the client, or its new private key, from standard input.
    #[arg(long)]
    new_secret: bool,
    #[command(flatten)]
    settings: ProviderSettingsArgs,
    #[command(flatten)]
    wait: WaitArgs,
}

/// What both commands may say of the settings.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProviderSettingsArgs {
    /// A domain of e-mail addresses whose people belong to it; may be given several times. You say that the tenant owns it.
    #[arg(long = "domain", value_name = "DOMAIN")]
    domains: Vec<String>,
    /// Whether an account is made for a person who signs on for the first time.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provision: Option<bool>,
    /// The longest session: 8h, 30m.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    max_session: Option<Duration>,
    /// The claim that identifies a person, instead of `sub` or the name id.
    #[arg(long, value_name = "CLAIM")]
    subject_claim: Option<String>,
    /// The claim with the e-mail address, instead of `email`.
    #[arg(long, value_name = "CLAIM")]
    email_claim: Option<String>,
    /// The claim with the name, instead of `name` or `displayName`.
    #[arg(long, value_name = "CLAIM")]
    name_claim: Option<String>,
    /// A claim that the account keeps; may be given several times.
    #[arg(long = "keep-claim", value_name = "CLAIM")]
    keep_claims: Vec<String>,
    /// The claim whose values give roles and scopes.
    #[arg(long, value_name = "CLAIM")]
    role_claim: Option<String>,
    /// A role that a value of that claim gives, by id or name: VALUE=ROLE; may be given several times.
    #[arg(long = "map-role", value_name = "VALUE=ROLE", value_parser = parse_mapping)]
    map_roles: Vec<ValueMapping>,
    /// A scope that a value of that claim gives: VALUE=SCOPE; may be given several times.
    #[arg(long = "map-scope", value_name = "VALUE=SCOPE", value_parser = parse_mapping)]
    map_scopes: Vec<ValueMapping>,
    /// A role of people whom no value gives anything; may be given several times.
    #[arg(long = "default-role", value_name = "ROLE")]
    default_roles: Vec<String>,
    #[command(flatten)]
    oidc: OidcArgs,
    #[command(flatten)]
    saml: SamlArgs,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "OpenID Connect")]
pub(crate) struct OidcArgs {
    /// The issuer, without `/.well-known/openid-configuration`.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Our id at the provider.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// How we authenticate at the provider; by default with a secret in `Authorization: Basic`.
    #[arg(long, value_name = "METHOD", value_parser = ["client_secret_basic", "client_secret_post", "private_key_jwt"])]
    auth: Option<String>,
    /// A scope that we ask for, instead of openid, email and profile; may be given several times.
    #[arg(long = "oidc-scope", value_name = "SCOPE")]
    oidc_scopes: Vec<String>,
    /// What the provider does although the person is logged in there.
    #[arg(long, value_name = "WORD", value_parser = ["login", "consent", "select_account"])]
    prompt: Option<String>,
    /// The longest time since the person logged in at the provider: 12h.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    max_age: Option<Duration>,
    /// A level of assurance that we ask for; may be given several times.
    #[arg(long = "acr", value_name = "VALUE")]
    acr_values: Vec<String>,
    /// Whether claims are fetched from the userinfo endpoint too.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    userinfo: Option<bool>,
    /// Whether the provider is asked again, with a refresh token, when a session of its people is renewed.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    refresh_tokens: Option<bool>,
    /// An algorithm that ID tokens may have, instead of those that fit the keys; may be given several times.
    #[arg(long = "id-token-alg", value_name = "ALG")]
    id_token_algs: Vec<String>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "SAML 2.0")]
pub(crate) struct SamlArgs {
    /// The provider's metadata, from which everything else is taken that it must say: a file, or an address that the gateway
    /// fetches once.
    #[arg(long, value_name = "FILE|URL")]
    metadata: Option<String>,
    /// The entity id of the provider.
    #[arg(long, value_name = "ID")]
    entity_id: Option<String>,
    /// The address for requests by redirect.
    #[arg(long, value_name = "URL")]
    sso_url: Option<String>,
    /// The address for requests by POST.
    #[arg(long, value_name = "URL")]
    sso_post_url: Option<String>,
    /// The address for single logout by redirect.
    #[arg(long, value_name = "URL")]
    slo_url: Option<String>,
    /// The address for single logout by POST.
    #[arg(long, value_name = "URL")]
    slo_post_url: Option<String>,
    /// The address for our answers of single logout, if it is another one.
    #[arg(long, value_name = "URL")]
    slo_response_url: Option<String>,
    /// A file with certificates of the provider, PEM or DER; may be given several times. With `update`, all of them are replaced.
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,
    /// Our entity id, instead of the address of our metadata.
    #[arg(long, value_name = "ID")]
    sp_entity_id: Option<String>,
    /// Whether we sign requests.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sign_requests: Option<bool>,
    /// What of an answer must be signed.
    #[arg(long, value_name = "PART", value_parser = ["response", "assertion", "either"])]
    want: Option<String>,
    /// Whether assertions must be encrypted.
    #[arg(long, value_name = "WORD", value_parser = ["optional", "required"])]
    encryption: Option<String>,
    /// Whether the provider may send a person without our having asked.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    idp_initiated: Option<bool>,
    /// The form of name ids that we ask for.
    #[arg(long, value_name = "URN")]
    name_id_format: Option<String>,
    /// How much the provider's clock may differ: 60s.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    skew: Option<Duration>,
}

/// What one value of a claim gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueMapping {
    value: String,
    given: String,
}

/// Reads `VALUE=GIVEN`. A value may hold `=`, as names of groups in directories do; what it gives does not.
fn parse_mapping(text: &str) -> Result<ValueMapping, String> {
    match text.rsplit_once('=') {
        Some((value, given)) if !value.is_empty() && !given.is_empty() => Ok(ValueMapping {
            value: value.to_owned(),
            given: given.to_owned(),
        }),
        _ => Err("write VALUE=ROLE or VALUE=SCOPE".into()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let one_word = Some(text).filter(|text| !text.contains(' '));
    let duration = one_word.and_then(|text| parse_duration(text, &["s", "m", "h", "d"]));
    duration.ok_or_else(|| "write a duration: 60s, 30m, 8h".into())
}

pub(crate) fn run(client: &OperatorClient, command: &ProviderCommand, printer: &Printer) -> Result<(), Failure> {
    let provider: ProviderView = match command {
        ProviderCommand::Create(args) => client.post("/v1/providers", &creation(args, printer)?)?,
        ProviderCommand::Show { id } => client.get(&format!("/v1/providers/{}", path_id(id)?))?,
        ProviderCommand::Update(args) => {
            let request = update(client, args, printer)?;
            return change(client, printer, &args.wait, &args.id, "", &request);
        }
        ProviderCommand::Test { id } => {
            let test: ProviderTest = client.post(&format!("/v1/providers/{}/test", path_id(id)?), &())?;
            printer.print(&test, |out| checks(out, &test))?;
            if test.passed {
                return Ok(());
            }
            return Err(Failure::new(Exit::Failed, "nobody can sign on through this provider"));
        }
        ProviderCommand::Disable { id, wait } => return change(client, printer, wait, id, "/disable", &()),
        ProviderCommand::Enable { id, wait } => return change(client, printer, wait, id, "/enable", &()),
        ProviderCommand::Delete { id, wait } => return change(client, printer, wait, id, "/delete", &()),
        ProviderCommand::List { tenant, page } => {
            let list: ProviderList = client.get(&format!("/v1/providers?{}", page.query(&[("tenant", tenant.as_deref())])?))?;
            printer.print(&list, |out| table(out, &list))?;
            printer.more(list.next.as_deref());
            return Ok(());
        }
    };
    printer.print(&provider, |out| show(out, &provider))
}

fn change(
    client: &OperatorClient,
    printer: &Printer,
    wait: &WaitArgs,
    id: &str,
    verb: &str,
    body: &impl serde::Serialize,
) -> Result<(), Failure> {
    let change = ChangeRequest {
        client,
        wait,
        printer,
        path: format!("/v1/providers/{}{verb}", path_id(id)?),
        id,
    };
    change.make(body, |out, provider: &ProviderView| show(out, provider))
}

fn creation(args: &ProviderCreateArgs, printer: &Printer) -> Result<CreateProvider, Failure> {
    let mut settings = patch(&args.settings, args.kind)?;
    for (name, surface) in [("session", &args.surface), ("account", &args.account_surface)] {
        if let Some(surface) = surface {
            settings.insert(name.into(), surface.as_str().into());
        }
    }
    let metadata = read_metadata(&args.settings.saml, args.kind)?;
    Ok(CreateProvider {
        metadata: metadata.text,
        metadata_url: metadata.url,
        tenant: args.tenant.clone(),
        name: args.name.clone(),
        scopes: args.scopes.clone(),
        roles: args.roles.clone(),
        settings,
        secrets: match args.kind {
            ProviderKind::Oidc => read_secret(args.settings.oidc.auth.as_deref(), printer)?,
            ProviderKind::Saml => ProviderSecrets::default(),
        },
    })
}

/// The kind of a provider and how it authenticates are asked of the gateway, since the options need not repeat them.
fn update(client: &OperatorClient, args: &ProviderUpdateArgs, printer: &Printer) -> Result<UpdateProvider, Failure> {
    let known: ProviderView = client.get(&format!("/v1/providers/{}", path_id(&args.id)?))?;
    let kind = if known.kind == "saml" {
        ProviderKind::Saml
    } else {
        ProviderKind::Oidc
    };
    let mut settings = patch(&args.settings, kind)?;
    if args.no_domains {
        settings.insert("domains".into(), json!([]));
    }
    let auth = known.settings.pointer("/protocol/oidc/auth").and_then(Value::as_str);
    let auth = args.settings.oidc.auth.as_deref().or(auth);
    let replaced = |words: &Vec<String>, removed: bool| (removed || !words.is_empty()).then(|| words.clone());
    let metadata = read_metadata(&args.settings.saml, kind)?;
    Ok(UpdateProvider {
        name: args.name.clone(),
        metadata: metadata.text,
        metadata_url: metadata.url,
        scopes: replaced(&args.scopes, args.no_scopes),
        roles: replaced(&args.roles, args.no_roles),
        settings,
        secrets: if args.new_secret {
            read_secret(auth, printer)?
        } else {
            ProviderSecrets::default()
        },
    })
}

/// The settings that the options name, as a merge patch.
fn patch(args: &ProviderSettingsArgs, kind: ProviderKind) -> Result<Map<String, Value>, Failure> {
    let (oidc, saml) = (oidc_patch(&args.oidc), saml_patch(&args.saml)?);
    let (own, foreign, name) = match kind {
        ProviderKind::Oidc => (oidc, saml, "oidc"),
        ProviderKind::Saml => (saml, oidc, "saml"),
    };
    if let Some(member) = foreign.keys().next() {
        let message = format!("this is a provider of kind {name}, and `{member}` is a setting of the other kind");
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut patch = Map::new();
    let seconds = |time: &Option<Duration>| time.map(|time| Value::from(time.as_secs()));
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    put(&mut patch, "domains", list(&args.domains));
    put(&mut patch, "provision", args.provision.map(Value::from));
    put(&mut patch, "max_session", seconds(&args.max_session));
    put(&mut patch, "subject", text(&args.subject_claim));
    put(&mut patch, "email", text(&args.email_claim));
    put(&mut patch, "name", text(&args.name_claim));
    put(&mut patch, "claims", list(&args.keep_claims));
    put(&mut patch, "roles", roles_patch(args));
    if !own.is_empty() {
        let mut protocol = Map::new();
        protocol.insert(name.into(), Value::Object(own));
        patch.insert("protocol".into(), Value::Object(protocol));
    }
    Ok(patch)
}

/// Rows of one value are one row.
fn roles_patch(args: &ProviderSettingsArgs) -> Option<Value> {
    let mut roles = Map::new();
    put(&mut roles, "claim", args.role_claim.as_deref().map(Value::from));
    let mut rows: Vec<(&str, Vec<&str>, Vec<&str>)> = Vec::new();
    let all = args.map_roles.iter().map(|one| (one, true));
    for (one, is_role) in all.chain(args.map_scopes.iter().map(|one| (one, false))) {
        let at = rows.iter().position(|(value, ..)| *value == one.value).unwrap_or_else(|| {
            rows.push((&one.value, Vec::new(), Vec::new()));
            rows.len() - 1
        });
        if let Some((_, roles, scopes)) = rows.get_mut(at) {
            if is_role { roles } else { scopes }.push(&one.given);
        }
    }
    if !rows.is_empty() {
        let row = |(value, roles, scopes): &(&str, Vec<&str>, Vec<&str>)| json!({ "value": value, "roles": roles, "scopes": scopes });
        roles.insert("table".into(), rows.iter().map(row).collect());
    }
    put(&mut roles, "default", list(&args.default_roles));
    (!roles.is_empty()).then_some(Value::Object(roles))
}

fn oidc_patch(args: &OidcArgs) -> Map<String, Value> {
    let mut patch = Map::new();
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    put(&mut patch, "issuer", text(&args.issuer));
    put(&mut patch, "client_id", text(&args.client_id));
    put(&mut patch, "auth", text(&args.auth));
    put(&mut patch, "scopes", list(&args.oidc_scopes));
    put(&mut patch, "prompt", text(&args.prompt));
    put(&mut patch, "max_age", args.max_age.map(|time| time.as_secs().into()));
    put(&mut patch, "acr_values", list(&args.acr_values));
    put(&mut patch, "userinfo", args.userinfo.map(Value::from));
    put(&mut patch, "refresh_tokens", args.refresh_tokens.map(Value::from));
    put(&mut patch, "id_token_algs", list(&args.id_token_algs));
    patch
}

fn saml_patch(args: &SamlArgs) -> Result<Map<String, Value>, Failure> {
    let mut patch = Map::new();
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let mut certificates = Vec::new();
    for file in &args.certificates {
        certificates.extend(read_certificates(file)?);
    }
    put(&mut patch, "entity_id", text(&args.entity_id));
    put(&mut patch, "sso_redirect_url", text(&args.sso_url));
    put(&mut patch, "sso_post_url", text(&args.sso_post_url));
    put(&mut patch, "slo_url", text(&args.slo_url));
    put(&mut patch, "slo_post_url", text(&args.slo_post_url));
    put(&mut patch, "slo_response_url", text(&args.slo_response_url));
    put(&mut patch, "certificates", list(&certificates));
    put(&mut patch, "sp_entity_id", text(&args.sp_entity_id));
    put(&mut patch, "sign_requests", args.sign_requests.map(Value::from));
    put(&mut patch, "want", text(&args.want));
    put(&mut patch, "encryption", text(&args.encryption));
    put(&mut patch, "idp_initiated", args.idp_initiated.map(Value::from));
    put(&mut patch, "name_id_format", text(&args.name_id_format));
    put(&mut patch, "skew", args.skew.map(|time| time.as_secs().into()));
    Ok(patch)
}

fn put(patch: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        patch.insert(name.to_owned(), value);
    }
}

fn list(words: &[String]) -> Option<Value> {
    (!words.is_empty()).then(|| words.into())
}

/// Metadata that the options name.
#[derive(Default)]
struct MetadataOption {
    text: Option<String>,
    url: Option<String>,
}

/// Longest metadata in a file: with quotes escaped they still fit into a call of the operator API.
const MAX_METADATA: usize = 48 * 1024;

fn read_metadata(args: &SamlArgs, kind: ProviderKind) -> Result<MetadataOption, Failure> {
    let Some(metadata) = &args.metadata else {
        return Ok(MetadataOption::default());
    };
    if kind == ProviderKind::Oidc {
        return Err(Failure::new(
            Exit::Usage,
            "metadata are of SAML: a provider of OpenID Connect is found by `--issuer`",
        ));
    }
    if metadata.starts_with("https://") || metadata.starts_with("http://") {
        return Ok(MetadataOption {
            url: Some(metadata.clone()),
            text: None,
        });
    }
    let failed = |why: String| Failure::new(Exit::Usage, format!("{metadata}: {why}"));
    let text = std::fs::read_to_string(metadata).map_err(|error| failed(error.to_string()))?;
    if text.len() > MAX_METADATA {
        return Err(failed(format!(
            "it has more than {MAX_METADATA} bytes: leave in only this provider, or give the address of the metadata"
        )));
    }
    Ok(MetadataOption {
        text: Some(text),
        url: None,
    })
}

/// Largest file with certificates.
const MAX_FILE: u64 = 256 * 1024;

/// Every certificate in a file, as DER in base64.
fn read_certificates(file: &Path) -> Result<Vec<String>, Failure> {
    let failed = |why: String| Failure::new(Exit::Usage, format!("{}: {why}", file.display()));
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed("it is too large for certificates".into()));
    }
    if bytes.first() == Some(&0x30) {
        return Ok(vec![STANDARD.encode(bytes)]);
    }
    let found: Result<Vec<String>, _> = CertificateDer::pem_slice_iter(&bytes)
        .map(|certificate| certificate.map(|der| STANDARD.encode(der)))
        .collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(failed("it holds no certificates in PEM, and is none in DER".into())),
    }
}

/// Reads what the client authenticates with from standard input: a private key as PEM, or a secret of one line.
fn read_secret(auth: Option<&str>, printer: &Printer) -> Result<ProviderSecrets, Failure> {
    let is_key = auth == Some("private_key_jwt");
    let input = io::stdin();
    if input.is_terminal() {
        printer.remark(if is_key {
            "private key in PKCS #8 as PEM (Ctrl-D ends it):"
        } else {
            "client secret (it is shown while you type; Ctrl-D ends it):"
        });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    // More than the longest secret, so that a longer one is noticed.
    let limit = MAX_SECRET as u64 + 3;
    input
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("standard input cannot be read: {error}")))?;
    let text = std::str::from_utf8(&bytes).ok();
    let text = if is_key {
        text
    } else {
        text.map(|text| text.trim_end_matches(['\r', '\n']))
    };
    let text = text.filter(|text| !text.is_empty() && text.len() <= MAX_SECRET).ok_or_else(|| {
        let message = format!("standard input has no secret of 1 to {MAX_SECRET} bytes");
        Failure::new(Exit::Usage, message)
    })?;
    let secret = Some(PlainSecret::new(text.to_owned()));
    Ok(if is_key {
        ProviderSecrets {
            private_key: secret,
            ..ProviderSecrets::default()
        }
    } else {
        ProviderSecrets {
            client_secret: secret,
            ..ProviderSecrets::default()
        }
    })
}

fn checks(out: &mut dyn io::Write, test: &ProviderTest) -> io::Result<()> {
    let rows = test
        .checks
        .iter()
        .map(|check| [check.name.clone(), check.outcome.clone(), check.why.clone()]);
    output::table(out, ["CHECK", "OUTCOME", "WHY"], &rows.collect::<Vec<_>>())
}

fn table(out: &mut dyn io::Write, list: &ProviderList) -> io::Result<()> {
    let rows = list.providers.iter().map(|provider| {
        [
            provider.id.clone(),
            provider.state.clone(),
            provider.kind.clone(),
            provider.tenant.clone(),
            provider.domains.join(" "),
            provider.name.clone(),
        ]
    });
    let head = ["ID", "STATE", "KIND", "TENANT", "DOMAINS", "NAME"];
    output::table(out, head, &rows.collect::<Vec<_>>())
}

fn show(out: &mut dyn io::Write, provider: &ProviderView) -> io::Result<()> {
    let (scopes, roles) = (provider.scopes.join(" "), provider.roles.join(" "));
    output::fields(
        out,
        &[
            ("id", &provider.id),
            ("state", &provider.state),
            ("kind", &provider.kind),
            ("tenant", &provider.tenant),
            ("name", &provider.name),
            ("scopes", &scopes),
            ("roles", &roles),
            ("created", &provider.created_at),
        ],
    )?;
    let settings = serde_json::to_string_pretty(&provider.settings).unwrap_or_default();
    writeln!(out, "settings {settings}")?;
    provider.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_an_equals_sign_and_what_it_gives_does_not() {
        for (text, value, given) in [
            ("admins=admin", "admins", "admin"),
            ("cn=admins,dc=acme=admin", "cn=admins,dc=acme", "admin"),
        ] {
            let mapping = parse_mapping(text).unwrap();
            assert_eq!((mapping.value.as_str(), mapping.given.as_str()), (value, given));
        }
        for bad in ["", "=", "admins", "admins=", "=admin"] {
            assert!(parse_mapping(bad).is_err(), "{bad}");
        }
    }
}
