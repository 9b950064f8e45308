//! The audit trail: what its settings become, and what is warned of.

use std::time::Duration;

use super::*;
use crate::audit::settings::{Durable, OnFull};
use crate::config::error::ProblemSeverity;
use crate::config::reload::reload_from;
use crate::decide::audit::{AuditPolicy, AuditedUrl, DEFAULT_HEADERS, RouteAudit};

/// What is told of a configuration that loads, with these tables of the gateway and these lines of the route.
fn told(gateway: &str, route: &str) -> Vec<String> {
    let loaded = check(&table(&[
        ("gateway.toml", &format!("{GATEWAY}{gateway}")),
        (
            "upstreams/orders.toml",
            &format!("{}{route}", ORDERS.replace("\"GET\"", "\"POST\"")),
        ),
    ]))
    .unwrap_or_else(|errors| panic!("{errors}"));
    let about_files = |d: &error::Diagnosis<'_>| !d.problem.message.ends_with("is not there yet");
    loaded
        .warnings
        .iter()
        .filter(about_files)
        .map(|d| {
            let word = match d.problem.weight {
                ProblemSeverity::Note => "note",
                ProblemSeverity::Warning => "warning",
                ProblemSeverity::Error => "error",
            };
            format!("{word}: {}", d.problem.message)
        })
        .collect()
}

#[test]
fn without_the_table_there_is_no_trail() {
    let loaded = check_with("", "").unwrap();
    assert_eq!(loaded.settings.audit, None);
    assert_eq!(loaded.snapshot.audit, AuditPolicy::default());
    assert_eq!(loaded.snapshot.routes[0].options.audit, RouteAudit::default());
    assert!(!loaded.snapshot.routes[0].options.report_only);
}

#[test]
fn an_empty_table_has_the_documented_defaults() {
    let loaded = check_with("audit = {}\n", "").unwrap();
    let audit = loaded.settings.audit.unwrap();
    assert_eq!(audit.directory, Path::new("/c/state/audit"));
    assert_eq!(audit.on_full, OnFull::DropAndCount);
    assert_eq!(audit.durable, Durable::Within(Duration::from_secs(1)));
    assert_eq!(audit.segment, 256 << 20);
    assert_eq!(audit.keep, Duration::from_secs(400 * 86_400));
    assert_eq!(audit.keep_bodies, Duration::from_secs(90 * 86_400));
    assert_eq!((audit.max_size, audit.checkpoint), (None, Duration::from_secs(10)));
    assert_eq!((audit.checkpoint_file, audit.checkpoint_command), (None, None));
    assert!(!audit.stdout);
    assert_eq!(loaded.snapshot.audit, AuditPolicy::default());
}

#[test]
fn the_fields_that_are_shown_by_default_are_those_of_the_documentation() {
    let about = tables::gateway::GatewayTable::SCHEMA
        .find("audit")
        .and_then(|key| key.kind.table())
        .and_then(|schema| schema.find("headers"))
        .map(|key| key.default);
    let names = DEFAULT_HEADERS.map(|name| format!("`{name}`")).join(", ");
    assert!(matches!(about, Some(schema::Fallback::Absent(text)) if text == names), "{names}");
}

#[test]
fn every_setting_of_the_trail_is_used() {
    let loaded = check_with(
        "[audit]\ndirectory = \"/var/log/durward\"\non_full = \"refuse\"\ndurable = \"each\"\nsegment = \"1MiB\"\nkeep = \"30d\"\n\
         keep_bodies = \"7d\"\nmax_size = \"2MiB\"\ncheckpoint = \"1m\"\ncheckpoint_file = \"/mnt/other/checkpoint\"\n\
         checkpoint_command = [\"keep\", \"--site\"]\nquery = [\"page\"]\nheaders = [\"X-Plan\", \"Accept\"]\nstdout = true\n",
        "[routes.audit]\nbody = { max = \"2KiB\", types = [\"Application/JSON\", \"text/plain\"], mask = [\"password\", \"items.*.iban\"] }\n\
         [[routes]]\npath = \"/health\"\naccess = \"public\"\naudit = \"off\"\n",
    )
    .unwrap();
    let audit = loaded.settings.audit.unwrap();
    assert_eq!(audit.directory, Path::new("/var/log/durward"));
    assert_eq!((audit.on_full, audit.durable), (OnFull::Refuse, Durable::Each));
    assert_eq!((audit.segment, audit.max_size), (1 << 20, Some(2 << 20)));
    assert_eq!(audit.keep_bodies, Duration::from_secs(7 * 86_400));
    assert_eq!(audit.checkpoint_file.unwrap(), Path::new("/mnt/other/checkpoint"));
    assert_eq!(audit.checkpoint_command.unwrap(), ["keep", "--site"]);
    assert!(audit.stdout);
    let shown = AuditedUrl::Redacted {
        shown: vec!["page".to_owned()],
    };
    assert_eq!(loaded.snapshot.audit.url, shown);
    assert_eq!(loaded.snapshot.audit.headers, ["x-plan", "accept"]);
    let RouteAudit::On {
        body: Some(body),
        answer: None,
    } = &loaded.snapshot.routes[0].options.audit
    else {
        panic!("{:?}", loaded.snapshot.routes[0].options.audit);
    };
    assert_eq!((body.max, body.types.len()), (2048, 2));
    assert_eq!(body.types, ["application/json", "text/plain"]);
    // The items of a list have no names.
    assert_eq!(body.mask, ["password", "items.*.iban", "items.iban"]);
    assert_eq!(loaded.snapshot.routes[1].options.audit, RouteAudit::Off);
}

#[test]
fn a_header_that_carries_credentials_is_never_shown() {
    let refused = |headers: &str| {
        let surface =
            "[surfaces.partner]\nkind = \"api_key\"\nprefixes = [\"p_\"]\ncarry = [\"header:X-Partner-Key\", \"header:Origin-Key\"]\n";
        let route = "[[routes]]\npath = \"/p\"\naccess = { surfaces = [\"partner\"] }\n";
        let gateway = format!("[audit]\nheaders = [{headers}]\n{surface}");
        check_with(&gateway, route).err().map(|errors| errors.to_string())
    };
    for name in ["X-Partner-Key", "x-partner-key", "X.Partner_Key", "origin-key"] {
        let text = refused(&format!("\"{name}\"")).unwrap_or_else(|| panic!("{name} is shown"));
        assert!(text.contains("carries credentials"), "{text}");
    }
    assert_eq!(refused("\"X-Partner\""), None);
}

#[test]
fn what_is_recorded_otherwise_than_meant_is_told() {
    let none: [&str; 0] = [];
    let audit = "[audit]\n";
    assert_eq!(told(audit, ""), none);
    let masked = "[routes.audit]\nbody = { mask = [\"password\"] }\n";
    assert_eq!(told(audit, masked), none);
    assert_eq!(told("", masked), ["warning: this body is not recorded: there is no audit trail"]);
    assert_eq!(
        told(audit, "[routes.audit]\nanswer = {}\n"),
        ["note: this body is recorded without a mask: all but card numbers, credentials and members with names of secrets can be read"]
    );
    assert_eq!(
        told(
            audit,
            "[routes.audit]\nbody = { types = [\"text/plain\"], mask = [\"password\"] }\n"
        ),
        ["warning: no mask can match: bodies of these types have no members"]
    );
    assert_eq!(
        told(
            audit,
            "[routes.audit]\nbody = { mask = [\"card.*\", \"card.number\", \"user.pin\", \"pin\", \"card\"] }\n"
        ),
        [
            "warning: `card.*` masks what `card` masks already",
            "warning: `card.number` masks what `card.*` masks already",
            "warning: `user.pin` masks what `pin` masks already",
        ]
    );
    let of_get = "[[routes]]\npath = \"/g\"\nmethods = [\"GET\"]\naccess = \"public\"\naudit.body.mask = [\"pin\"]\n";
    assert_eq!(
        told(audit, of_get),
        ["warning: requests of this route have no body: none of its methods has one"]
    );
}

#[test]
fn entries_between_the_lines_of_the_log_are_told() {
    let entries = ["note: standard output gets audit entries between the lines of the log"];
    assert_eq!(told("[audit]\nstdout = true\n", ""), entries);
    assert_eq!(told("[audit]\nstdout = true\n[log]\naccess = \"off\"\n", ""), [] as [&str; 0]);
    assert_eq!(
        told("[audit]\nstdout = true\n[log]\naccess = \"off\"\nformat = \"pretty\"\n", ""),
        entries
    );
}

#[test]
fn a_route_that_refuses_nobody_is_warned_of() {
    assert_eq!(
        told("", "insecure_report_only = true\n"),
        ["warning: the route `orders/1` refuses nobody: requests without a valid credential reach the service"]
    );
    assert_eq!(told("", "insecure_report_only = false\n"), [] as [&str; 0]);
    assert_eq!(
        told(
            "",
            "[[routes]]\npath = \"/open\"\naccess = \"public\"\ninsecure_report_only = true\n"
        ),
        ["warning: `insecure_report_only` changes little here: a public route needs no credential"]
    );
    let loaded = check_with("", "insecure_report_only = true\n").unwrap();
    assert!(loaded.snapshot.routes[0].options.report_only);
}

/// A log-in that the gateway serves, with these lines.
fn log_in(lines: &str) -> String {
    format!(
        "[audit]\n{}[[routes]]\npath = \"/log-in\"\nmethods = [\"POST\"]\naccess = {{ surfaces = [\"people\"] }}\nserve = \"mint\"\n\
         mint = [{{ surface = \"web\", parent = \"caller\" }}]\nanswer.body = '{{{{ credential.token }}}}'\nbody.device = {{ required = false }}\n{lines}",
        cases::served::SERVED
    )
}

fn check_log_in(lines: &str) -> Result<Loaded, ConfigErrors> {
    let mut files = table(&[
        ("gateway.toml", &format!("{GATEWAY}{}", log_in(lines))),
        ("upstreams/orders.toml", ORDERS),
    ]);
    files.variables.insert("S".into(), "0123456789abcdef0123456789abcdef".into());
    check(&files)
}

#[test]
fn passwords_of_served_routes_are_masked_without_being_listed() {
    let loaded = check_log_in("audit.body.mask = [\"device\"]\n").unwrap();
    let route = loaded.snapshot.routes.last().unwrap();
    let RouteAudit::On { body: Some(body), .. } = &route.options.audit else {
        panic!("{:?}", route.options.audit);
    };
    assert_eq!(body.mask, ["device", "password"]);
}

#[test]
fn an_answer_with_new_secrets_is_never_recorded() {
    let errors = check_log_in("audit.answer = {}\n").unwrap_err().to_string();
    assert!(errors.contains("the answer of this route shows new secrets"), "{errors}");
    assert!(errors.contains('^') && errors.contains("/c/gateway.toml:"), "{errors}");
}

#[test]
fn masks_and_types_that_never_occur_on_a_served_route_are_told() {
    let warned = |lines: &str| {
        let loaded = check_log_in(lines).unwrap();
        let warnings = loaded.warnings.iter().filter(|d| d.problem.weight == ProblemSeverity::Warning);
        let messages: Vec<String> = warnings.map(|d| d.problem.message.clone()).collect();
        messages
    };
    assert_eq!(
        warned("audit.body.mask = [\"devise\", \"device\"]\n"),
        ["the body of this route has no field `devise`"]
    );
    let form = "\"application/json\", \"application/x-www-form-urlencoded\"";
    let types = format!("audit.body.types = [{form}]\n");
    assert_eq!(
        warned(&types),
        ["a body of this route is never `application/x-www-form-urlencoded`"]
    );
    assert_eq!(warned(&format!("forms = true\n{types}")), [] as [&str; 0]);
}

#[test]
fn a_reload_changes_what_entries_show_and_a_restart_the_rest() {
    let running = check_with("audit = {}\n", "").unwrap();
    let waits = |loaded: &Loaded| loaded.settings.needing_restart(&running.settings).contains(&"audit");
    let shown = check_with("audit = { headers = [], url = \"full\" }\n", "audit = \"off\"\n").unwrap();
    assert!(!waits(&shown));
    assert_eq!(shown.snapshot.audit.url, AuditedUrl::Full);
    assert_eq!(shown.snapshot.audit.headers, [] as [&str; 0]);
    assert!(waits(&check_with("audit.keep = \"99d\"\n", "").unwrap()));
    assert!(waits(&check_with("", "").unwrap()));
}

#[test]
fn a_reload_takes_no_route_for_a_trail_that_the_running_gateway_does_not_keep() {
    let route = "[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"audit\"\nanswer.body = '{{ items }}'\n";
    let files = |gateway: &str| {
        table(&[
            ("gateway.toml", &format!("{GATEWAY}{gateway}")),
            ("upstreams/orders.toml", ORDERS),
            ("state/pepper", "0123456789abcdef0123456789abcdef"),
        ])
    };
    let both = files(&format!("[audit]\n{route}"));
    let after = |running: &str, written: &InMemory| {
        let running = check(&files(running)).unwrap();
        reload_from(Path::new("/c/gateway.toml"), &running.settings, &running.snapshot, written)
    };
    let errors = after("", &both).unwrap_err();
    assert_eq!(errors.problems.len(), 1, "{errors}");
    assert!(errors.to_string().contains("`[audit]` takes effect at the next start"), "{errors}");
    assert_eq!(after("", &files("[audit]\n")).unwrap().waits, ["audit"]);
    // The next start takes it, and so does a gateway that keeps a trail already.
    check(&both).unwrap();
    assert_eq!(after("[audit]\n", &both).unwrap().waits, [""; 0]);
    // Nothing else is said where no trail is configured at all.
    let errors = after("[audit]\n", &files(route)).unwrap_err();
    assert!(errors.to_string().contains("add `[audit]` to `gateway.toml`"), "{errors}");
}
