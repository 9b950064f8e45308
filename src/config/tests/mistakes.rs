//! Every mistake is found, together with all others, and is shown where it was made.

use super::*;

/// The text a problem's caret stands under, and its message.
fn told(result: Result<Loaded, ConfigErrors>, files: &Table) -> Vec<(String, String)> {
    let Err(errors) = result else { return Vec::new() };
    told_by(&errors.problems, files)
}

fn told_by(problems: &Problems, files: &Table) -> Vec<(String, String)> {
    problems
        .iter()
        .map(|d| {
            let text = String::from_utf8(files.files.get(&d.file).cloned().unwrap_or_default()).unwrap();
            let line = text.lines().nth(d.line.saturating_sub(1)).unwrap_or("");
            (line.chars().skip(d.column.saturating_sub(1)).collect(), d.problem.message.clone())
        })
        .collect()
}

/// One mistake in a file: what is added to it, what the caret points at, what is said.
struct Case(&'static str, &'static str, &'static str);

const GATEWAY_CASES: &[Case] = &[
    Case("wrokers = 2\n", "wrokers", "there is no key `wrokers`"),
    Case("workers = \"two\"\n", "\"two\"", "`workers` cannot be a text"),
    Case("workers = 0\n", "0", "`workers` must be 1 to 256"),
    Case("workers = -1\n", "-1", "`workers` cannot be this number"),
    Case("dialect = \"plian\"\n", "\"plian\"", "there is no dialect `plian`"),
    Case("[store]\nmax_age = \"56s\"\n", "\"56s\"", "`max_age` must be 1s to 55s"),
    Case("[store]\nmax_age = \"30\"\n", "\"30\"", "`max_age` is not a duration"),
    Case("[store]\nmax_age = 30\n", "30", "`max_age` cannot be this number"),
    Case(
        "revocation.bound = \"30s\"\n[store]\nmax_age = \"26s\"\n",
        "\"26s\"",
        "`max_age` may be at most 25s",
    ),
    Case("revocation.bound = \"61s\"\n", "\"61s\"", "`bound` must be 10s to 1m"),
    Case("[store]\nkind = \"postgres\"\n", "\"postgres\"", "`kind` cannot be `postgres`"),
    Case(
        "[store]\nkind = \"redis\"\npepper = \"env:P\"\n",
        "\"redis\"",
        "the redis store needs `url`",
    ),
    Case(
        "[store]\nurl = \"redis://h\"\n",
        "\"redis://h\"",
        "`url` does not belong to the embedded store",
    ),
    Case(
        "[store]\nkind = \"redis\"\nurl = \"redis://h\"\npepper = \"file:p\"\n",
        "\"file:p\"",
        "the pepper is missing",
    ),
    Case(
        "[store]\nkind = \"redis\"\nurl = \"env:NONE\"\npepper = \"env:P\"\n",
        "\"env:NONE\"",
        "the environment variable `NONE` is not set",
    ),
    Case(
        "[store]\npepper = \"env:SHORT\"\n",
        "\"env:SHORT\"",
        "a pepper has at least 32 bytes",
    ),
    Case("[limits]\nbody_rate = \"2MB\"\n", "\"2MB\"", "`body_rate` is not a size"),
    Case("[limits]\nconnections = 0\n", "0", "`connections` must be 1 to 1000000"),
    Case("[log]\nformat = \"text\"\n", "\"text\"", "`format` cannot be `text`"),
    Case(
        "[admin]\nprobes = \"0.0.0.0:8081\"\n",
        "\"0.0.0.0:8081\"",
        "probes must be on loopback",
    ),
    Case(
        "[admin]\nprobes = \"localhost:8081\"\n",
        "\"localhost:8081\"",
        "`probes` is not an address with a port",
    ),
    Case(
        "[admin]\nprobes = \"127.0.0.1:8080\"\n",
        "\"127.0.0.1:8080\"",
        "is the address of a listener already",
    ),
    Case(
        "[proxies]\ntrusted = [\"0.0.0.0/0\"]\n",
        "\"0.0.0.0/0\"",
        "every address would be trusted",
    ),
    Case(
        "[proxies]\ntrusted = [\"10.0.0.0/40\"]\n",
        "\"10.0.0.0/40\"",
        "is not an address or a network",
    ),
    Case("[identity]\ntenant = \"Host\"\n", "\"Host\"", "`Host` has a meaning of its own"),
    Case(
        "[identity]\ntenant = \"X_Tenant\"\n",
        "\"X_Tenant\"",
        "headers with `_` or `.` are dropped",
    ),
    Case("[identity]\ntenant = \"X-Scopes\"\n", "\"X-Scopes\"", "is the name of"),
    Case("[identity]\ntenant = \"X Tenant\"\n", "\"X Tenant\"", "is not a header name"),
    Case(
        "[[listeners]]\nname = \"b\"\naddress = \"0.0.0.0:80\"\n",
        "\"0.0.0.0:80\"",
        "a plain listener must be on loopback",
    ),
    Case(
        "[[listeners]]\nname = \"public\"\naddress = \"127.0.0.1:81\"\n",
        "\"public\"",
        "there is a listener `public` already",
    ),
    Case("[[listeners]]\naddress = \"127.0.0.1:81\"\n", "[[listeners]]", "`name` is missing"),
    Case(
        "[[listeners]]\nname = \"t\"\naddress = \"127.0.0.1:82\"\ntls.certificates = [{ cert = \"no.pem\", key = \"env:SHORT\" }]\n",
        "\"no.pem\"",
        "the certificate `/c/no.pem` cannot be read",
    ),
    Case("[dialects.problem]\n", "problem]", "is built in"),
    Case(
        "[dialects.d.denials.missing_credentail]\nstatus = 401\n",
        "missing_credentail]",
        "there is no denial `missing_credentail`",
    ),
    Case(
        "[dialects.d.denials.store_unavailable]\nstatus = 401\n",
        "401",
        "`store_unavailable` must stay 5xx",
    ),
    Case(
        "[dialects.d.denials.unavailable]\nstatus = 403\n",
        "403",
        "`unavailable` must stay 5xx",
    ),
    Case(
        "[dialects.d.denials.unknown_credential]\nstatus = 503\n",
        "503",
        "`unknown_credential` must stay 4xx",
    ),
    Case(
        "[dialects.d.denials.no_route]\nstatus = 200\n",
        "200",
        "`status` must be 400 to 599",
    ),
    Case(
        "[dialects.d]\nbody = '{\"e\":\"{cod}\"}'\n",
        "{cod}",
        "there is no placeholder `{cod}`",
    ),
    Case("[dialects.d]\nbody = '{\"e\":{code}}'\n", "'{\"e\"", "the body is not JSON"),
    Case(
        "[dialects.d]\nheaders = { Content-Length = \"1\" }\n",
        "Content-Length",
        "a dialect cannot set `Content-Length`",
    ),
    Case(
        "[dialects.d]\nheaders = { X-A = \"1\\r\\nX-B: 2\" }\n",
        "\"1\\r\\n",
        "this cannot be the value of a header",
    ),
    Case("[dialects.d]\nrealm = 'a\"b'\n", "'a\"b'", "a realm holds no"),
    Case("[surfaces.x]\n", "x]", "`kind` is missing"),
    Case("[surfaces.x]\nkind = \"apikey\"\n", "\"apikey\"", "`kind` cannot be `apikey`"),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\n",
        "x]",
        "a surface of kind `api_key` needs `prefixes`",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"eyJx\"]\n",
        "\"eyJx\"",
        "`eyJx` cannot be a prefix",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"a_\", \"a_b_\"]\n",
        "\"a_b_\"",
        "begin alike",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = { prod = \"a_\" }\n",
        "prod",
        "there is no mode `prod`",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"a_\"]\nmode = \"live\"\n",
        "\"live\"",
        "no prefix of this surface is of mode `live`",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"a_\"]\ncarry = [\"cookie:c\"]\n",
        "\"cookie:c\"",
        "cannot be carried in `cookie:c`",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"a_\"]\ncarry = [\"header:Cookie\"]\n",
        "\"header:Cookie\"",
        "has a meaning of its own",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"a_\"]\ncarry = [\"header:X-Tenant-Id\"]\n",
        "\"header:X-Tenant-Id\"",
        "carries an identity",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"hlive_\"]\n",
        "x]",
        "have keys that begin with `hlive_`",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"a_\"]\nsecrets = \"env:S\"\n",
        "\"env:S\"",
        "`secrets` does not belong",
    ),
    Case(
        "[surfaces.x]\nkind = \"key_pair\"\nkey_header = \"X-K\"\nsecret_header = \"x-k\"\nkey_prefixes = [\"p_\"]\nsecret_prefixes = [\"s_\"]\n",
        "\"x-k\"",
        "both halves of a pair would be in the same header",
    ),
    Case(
        "[surfaces.x]\nkind = \"key_pair\"\nkey_header = \"X-K\"\nsecret_header = \"X-S\"\nkey_prefixes = { live = \"p_\" }\nsecret_prefixes = [\"s_\"]\n",
        "[\"s_\"]",
        "must have the same modes",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nrecord_surface = \"api\"\n",
        "x]",
        "needs `secrets`",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nrecord_surface = \"apii\"\nsecrets = \"env:S\"\n",
        "\"apii\"",
        "there is no surface `apii`",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nrecord_surface = \"api\"\nsecrets = \"env:SHORT\"\n",
        "\"env:SHORT\"",
        "a token secret has at least 32 bytes",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nrecord_surface = \"api\"\nsecrets = \"env:S\"\nskew = \"6s\"\n",
        "\"6s\"",
        "`skew` must be 0s to 5s",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nrecord_surface = \"api\"\nsecrets = \"env:S\"\nclaim_headers = { t = \"X-Tenant-Id\" }\n",
        "\"X-Tenant-Id\"",
        "`X-Tenant-Id` is taken",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nrecord_surface = \"api\"\nsecrets = \"env:S\"\n[surfaces.y]\nkind = \"session_jwt\"\ntoken_kind = \"b\"\nrecord_surface = \"api\"\nsecrets = [\"env:S2\"]\n",
        "\"env:S2\"",
        "this secret is also one of the surface `x`",
    ),
];

const UPSTREAM_CASES: &[Case] = &[
    Case("[[routes]]\npath = \"/a\"\n", "[[routes]]", "`access` is missing"),
    Case("[[routes]]\naccess = \"public\"\n", "[[routes]]", "`path` is missing"),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = \"pubic\"\n",
        "\"pubic\"",
        "`access` cannot be `pubic`",
    ),
    Case("[[routes]]\npath = \"/a\"\naccess = true\n", "true", "`access` cannot be"),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = { surfaces = [] }\n",
        "[]",
        "`surfaces` names nobody",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = { surfaces = [\"apu\"] }\n",
        "\"apu\"",
        "there is no surface `apu`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = { surfaces = [\"api\"], scopes = [\"a b\"] }\n",
        "\"a b\"",
        "`a b` is not a scope",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = { surface = [\"api\"] }\n",
        "surface",
        "there is no key `surface`",
    ),
    Case(
        "[[routes]]\npath = \"a\"\naccess = \"public\"\n",
        "\"a\"",
        "a path pattern begins with `/`",
    ),
    Case(
        "[[routes]]\npath = \"/a/**/b\"\naccess = \"public\"\n",
        "\"/a/**/b\"",
        "`**` stands only at the end",
    ),
    Case(
        "[[routes]]\npath = \"/v1/orders/**\"\naccess = \"public\"\n",
        "\"/v1/orders/**\"",
        "takes GET",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"FETCH\"]\naccess = \"public\"\n",
        "\"FETCH\"",
        "there is no method `FETCH`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = []\naccess = \"public\"\n",
        "[[routes]]",
        "`methods` is empty",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nhosts = [\"a:80\"]\naccess = \"public\"\n",
        "\"a:80\"",
        "`a:80` is not a host",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nstrip_prefix = \"/b\"\naccess = \"public\"\n",
        "\"/b\"",
        "no path of this route begins with `/b`",
    ),
    Case(
        "[[routes]]\npath = \"/a/b\"\nstrip_prefix = \"/a/\"\naccess = \"public\"\n",
        "\"/a/\"",
        "is not a prefix of whole segments",
    ),
    Case(
        "[[routes]]\npath = \"/a/b\"\nstrip_prefix = \"/a\"\nreplace_prefix = { from = \"/a\", to = \"\" }\naccess = \"public\"\n",
        "\"/a\"",
        "not both",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmax_body = \"10MB\"\naccess = \"public\"\n",
        "\"10MB\"",
        "`max_body` is not a size",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\ndialect = \"plan\"\naccess = \"public\"\n",
        "\"plan\"",
        "there is no dialect `plan`",
    ),
    Case("[ejection]\nfailures = 0\n", "0", "`failures` must be 1 to 1000"),
    Case("[tls]\nca = \"ca.pem\"\n", "[tls]", "`tls` has no effect on `http://` endpoints"),
];

#[test]
fn each_mistake_of_the_gateway_file_is_found_alone_and_in_its_place() {
    for Case(added, under, message) in GATEWAY_CASES {
        // Bare keys must come before the first table, tables may come last.
        let text = if added.starts_with('[') {
            format!("{GATEWAY}{added}")
        } else {
            format!("{added}{GATEWAY}")
        };
        one_mistake(&text, ORDERS, under, message);
    }
}

#[test]
fn each_mistake_of_an_upstream_file_is_found_alone_and_in_its_place() {
    for Case(added, under, message) in UPSTREAM_CASES {
        one_mistake(GATEWAY, &format!("{ORDERS}{added}"), under, message);
    }
    for (endpoint, message) in [
        ("orders:80", "it must begin with"),
        ("ftp://orders", "it must begin with"),
        ("http://orders/path", "only host and port"),
        ("http://u@orders", "only host and port"),
        ("http://orders:0", "host or port cannot be read"),
        ("http://orders:99999", "host or port cannot be read"),
        ("http://[::1", "host or port cannot be read"),
        ("http://", "host or port cannot be read"),
    ] {
        let text = ORDERS.replace("http://127.0.0.1:9000", endpoint);
        one_mistake(GATEWAY, &text, &format!("\"{endpoint}\""), message);
    }
}

fn one_mistake(gateway: &str, upstream: &str, under: &str, message: &str) {
    let mut files = table(&[("gateway.toml", gateway), ("upstreams/orders.toml", upstream)]);
    let long = "0123456789abcdef0123456789abcdef";
    for (name, value) in [("S", long), ("S2", long), ("P", long), ("SHORT", "short")] {
        files.variables.insert(name.into(), value.into());
    }
    let found = told(check(&files), &files);
    assert_eq!(found.len(), 1, "{message}: {found:#?}");
    assert!(found[0].1.contains(message), "{message}: {found:#?}");
    assert!(
        found[0].0.starts_with(under),
        "{message}: the caret is under `{}`, not `{under}`",
        found[0].0
    );
}

#[test]
fn six_mistakes_of_six_kinds_in_two_files_are_all_reported() {
    let gateway = format!("wrokers = 2\n{GATEWAY}[store]\nmax_age = \"58s\"\nlookup_timeout = \"soon\"\n");
    let upstream = "endpoints = [\"http://127.0.0.1:9000\"]\n\
        [[routes]]\npath = \"/a\"\n\
        [[routes]]\npath = \"/b/**/c\"\naccess = \"public\"\n\
        [[routes]]\npath = \"/c\"\naccess = { surfaces = [\"apy\"] }\n";
    let files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", upstream)]);
    let errors = check(&files).unwrap_err();
    let found = told_by(&errors.problems, &files);
    assert_eq!(found.len(), 6, "{errors}");
    let text = errors.to_string();
    for (place, caret) in [
        ("/c/gateway.toml:1:1", "^^^^^^^"),
        ("/c/gateway.toml:11:11", "^^^^^"),
        ("/c/gateway.toml:12:18", "^^^^^^"),
        ("/c/upstreams/orders.toml:2:1", "^^^^^^^^^^"),
        ("/c/upstreams/orders.toml:5:8", "^^^^^^^^^"),
        ("/c/upstreams/orders.toml:9:24", "^^^^^"),
    ] {
        let block = text
            .split("\n\n")
            .find(|b| b.contains(place))
            .unwrap_or_else(|| panic!("{place} in {text}"));
        assert!(block.contains(caret) && block.contains("help: "), "{block}");
    }
    let json = errors.problems.to_json();
    assert_eq!(json.as_array().unwrap().len(), 6);
    assert_eq!(json[0]["file"], "/c/gateway.toml");
    assert_eq!((json[0]["line"].as_u64(), json[0]["column"].as_u64()), (Some(1), Some(1)));
    assert_eq!(json[0]["help"], "did you mean `workers`?");
}

#[test]
fn broken_syntax_in_one_file_hides_nothing_in_the_other() {
    let files = table(&[
        ("gateway.toml", &format!("x = = 1\n{GATEWAY}")),
        ("upstreams/orders.toml", &format!("{ORDERS}[[routes]]\npath = \"/a\"\n")),
    ]);
    let found = told(check(&files), &files);
    assert!(found.iter().any(|(_, m)| m.starts_with("this is not TOML")), "{found:#?}");
    assert!(found.iter().any(|(_, m)| m.contains("`access` is missing")), "{found:#?}");
}

#[test]
fn a_route_of_a_broken_surface_is_not_called_wrong() {
    let files = table(&[
        ("gateway.toml", &GATEWAY.replace("api_key", "apikey")),
        ("upstreams/orders.toml", ORDERS),
    ]);
    let found = told(check(&files), &files);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn a_missing_file_is_named() {
    let errors = check(&Table::default()).unwrap_err();
    assert!(errors.to_string().contains("/c/gateway.toml"), "{errors}");
    assert_eq!(errors.problems.len(), 1);
}

#[test]
fn a_route_may_not_accept_two_token_surfaces_in_one_place() {
    let session = |name: &str, secret: &str, carry: &str| {
        format!(
            "[surfaces.{name}]\nkind = \"session_jwt\"\ntoken_kind = \"{name}\"\nsecrets = \"env:{secret}\"\nrecord_surface = \"api\"\ncarry = [\"{carry}\"]\n"
        )
    };
    let verdict = |carry: &str, access: &str| {
        let gateway = format!("{GATEWAY}{}{}", session("a", "A", "bearer"), session("b", "B", carry));
        let routes = access.split(';').enumerate().fold(ORDERS.to_owned(), |text, (i, surfaces)| {
            format!("{text}[[routes]]\npath = \"/{i}\"\naccess = {{ surfaces = [{surfaces}] }}\n")
        });
        let mut files = table(&[("gateway.toml", &gateway), ("upstreams/o.toml", &routes)]);
        files.variables.insert("A".into(), "a".repeat(32));
        files.variables.insert("B".into(), "b".repeat(32));
        told(check(&files), &files)
    };
    let found = verdict("bearer", "\"a\", \"b\"");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].1.contains("cannot accept both `a` and `b`"), "{found:#?}");
    assert_eq!(verdict("header:X-B", "\"a\", \"b\""), []);
    assert_eq!(verdict("bearer", "\"a\";\"b\""), []);
}

#[test]
fn garbage_reports_a_bounded_number_of_problems() {
    let garbage = "a = \n".repeat(5_000);
    let errors = check(&table(&[("gateway.toml", &garbage)])).unwrap_err();
    assert!((1..=report::MAX_PROBLEMS).contains(&errors.problems.len()));
}

#[test]
fn what_loads_and_looks_wrong_is_a_warning() {
    let warned = |gateway: &str, upstream: &str| {
        let loaded = check_with(gateway, upstream).unwrap_or_else(|e| panic!("{e}"));
        let all: Vec<String> = loaded
            .warnings
            .iter()
            .filter(|d| d.problem.weight == error::Weight::Warning)
            .map(|d| d.problem.message.clone())
            .collect();
        all
    };
    assert_eq!(warned("", ""), [] as [&str; 0]);
    assert_eq!(
        warned("[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"x_\"]\n", ""),
        ["no route accepts the surface `x`"]
    );
    assert_eq!(warned("[dialects.d]\n", ""), ["nothing uses the dialect `d`"]);
    assert_eq!(warned("dialect = \"d\"\n[dialects.d]\n", ""), [] as [&str; 0]);
    let hosts = "[[routes]]\npath = \"/**\"\nhosts = [\"a.example\"]\naccess = \"public\"\n";
    assert_eq!(warned("", hosts), ["on host `a.example` this route is never asked"]);
    assert_eq!(
        warned("[proxies]\ntrusted = [\"10.1.0.0/8\"]\n", ""),
        ["`10.1.0.0/8` has bits outside its mask and means `10.0.0.0/8`"]
    );
}
