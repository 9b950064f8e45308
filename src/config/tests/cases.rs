//! One mistake a row: what is written, where the caret stands, what is said.

pub(super) mod audit;
pub(super) mod cors;
pub(super) mod served;
pub(super) mod store;
pub(super) mod surfaces;

/// One mistake in a file: what is added to it, what the caret points at, what is said.
pub(super) struct Case(pub(super) &'static str, pub(super) &'static str, pub(super) &'static str);

/// Mistakes in `gateway.toml`.
pub(super) const GATEWAY_CASES: &[Case] = &[
    Case("wrokers = 2\n", "wrokers", "there is no key `wrokers`"),
    Case(
        "[surfaces.hooks]\nkind = \"signing_secret\"\n",
        "hooks]",
        "a surface of kind `signing_secret` needs `prefixes`",
    ),
    Case("workers = \"two\"\n", "\"two\"", "`workers` cannot be a text"),
    Case("workers = 0\n", "0", "`workers` must be 1 to 256"),
    Case("workers = -1\n", "-1", "`workers` cannot be this number"),
    Case("dialect = \"plian\"\n", "\"plian\"", "there is no dialect `plian`"),
    Case("[store]\nmax_age = \"56s\"\n", "\"56s\"", "`max_age` must be 1s to 54s"),
    Case("[store]\nmax_age = \"30\"\n", "\"30\"", "`max_age` is not a duration"),
    Case("[store]\nmax_age = 30\n", "30", "`max_age` cannot be this number"),
    Case(
        "revocation.bound = \"30s\"\n[store]\nmax_age = \"25s\"\n",
        "\"25s\"",
        "`max_age` may be at most 24s",
    ),
    Case(
        "revocation.stream_check = \"26s\"\n",
        "\"26s\"",
        "`stream_check` may be at most 25s",
    ),
    Case(
        "revocation = { bound = \"20s\", stream_check = \"6s\" }\n[store]\nmax_age = \"10s\"\n",
        "\"6s\"",
        "`stream_check` may be at most 5s",
    ),
    Case("revocation.bound = \"61s\"\n", "\"61s\"", "`bound` must be 10s to 1m"),
    Case("[store]\nkind = \"postgres\"\n", "\"postgres\"", "`kind` cannot be `postgres`"),
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
    Case(
        "[store]\npepper = [\"env:P\", \"env:P\", \"env:P\", \"env:P\", \"env:P\", \"env:P\", \"env:P\", \"env:P\", \"env:P\"]\n",
        "\"env:P\"]",
        "at most 8 peppers are accepted",
    ),
    Case("[limits]\nbody_rate = \"2MB\"\n", "\"2MB\"", "`body_rate` is not a size"),
    Case("[limits]\nconnections = 0\n", "0", "`connections` must be 1 to 1000000"),
    Case("[log_in]\nwindow = \"30s\"\n", "\"30s\"", "`window` must be 1m to 1d"),
    Case("[log_in]\ntries_per_account = 2\n", "2", "`tries_per_account` must be 3 to 1000000"),
    Case(
        "[log_in]\ntries_per_account_and_address = 60\n",
        "60",
        "nobody would get as far as `tries_per_account_and_address = 60`: `tries_per_account` is 50",
    ),
    Case(
        "[log_in]\ntries_per_address = 9\n",
        "9",
        "nobody would get as far as `tries_per_account_and_address = 10`: `tries_per_address` is 9",
    ),
    Case("[log_in]\nhashes_waiting = 257\n", "257", "`hashes_waiting` must be 1 to 256"),
    Case("[sign_up]\nhashes_at_once = 0\n", "0", "`hashes_at_once` must be 1 to 64"),
    Case(
        "[sign_up]\ntries_per_address = 9\n",
        "tries_per_address",
        "there is no key `tries_per_address` in `[sign_up]`",
    ),
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
        "dialect = \"d\"\ndialects.d.body = '{\"cod\":{{ cod }}}'\n",
        "cod }}",
        "there is no variable `cod` here",
    ),
    Case(
        "dialect = \"d\"\ndialects.d.body = \"{\\\"e\\\":{{ cod }}}\"\n",
        "cod }}",
        "there is no variable `cod` here",
    ),
    Case(
        "dialect = \"d\"\ndialects.d.body = '{\"e\":\"{{ code }}\"}'\n",
        "'{\"e\"",
        "what the template writes is not JSON",
    ),
    Case(
        "dialect = \"d\"\ndialects.d.body = '{\"e\":{{ code }'\n",
        "}'",
        "this is not a template",
    ),
    Case(
        "dialect = \"d\"\ndialects.d.body = '{\"e\":{{ \"x\" ~ details }}}'\n",
        "'{\"e\"",
        "`details` can only stand alone",
    ),
    Case(
        "dialect = \"d\"\ndialects.d.body = '{\"e\":{% if status != 409 %}1{% endif %}}'\n",
        "'{\"e\"",
        "`taken` cannot be written",
    ),
    Case(
        "dialect = \"d\"\ndialects.d.base = \"plian\"\n",
        "\"plian\"",
        "there is no dialect `plian`",
    ),
    Case(
        "dialect = \"d\"\ndialects.d.base = \"d\"\n",
        "\"d\"",
        "the dialect `d` is built on itself",
    ),
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
];

/// Mistakes in an upstream file.
pub(super) const UPSTREAM_CASES: &[Case] = &[
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
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = \"public\"\nupgrade = \"websocket\"\n",
        "\"websocket\"",
        "a WebSocket is opened by a GET",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = \"public\"\nupgrade = \"h2c\"\n",
        "\"h2c\"",
        "`upgrade` cannot be `h2c`",
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
        "[[routes]]\npath = \"/a/{t}\"\naccess = { surfaces = [\"api\"], unknown_tenant = \"forward\" }\n",
        "\"forward\"",
        "this path names no tenant",
    ),
    Case(
        "[[routes]]\npath = \"/a/{t}\"\naccess = { surfaces = [\"api\"], tenant = \"path.t\", unknown_tenant = \"pass\" }\n",
        "\"pass\"",
        "`pass`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{t}\"\naccess = { surfaces = [\"api\"], tenant = \"path.tt\" }\n",
        "\"path.tt\"",
        "`path.tt` is no parameter of this path",
    ),
    Case(
        "[[routes]]\npath = \"/a/{t}\"\naccess = { surfaces = [\"api\"], tenant = \"t\" }\n",
        "\"t\"",
        "`t` is no parameter of this path",
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
