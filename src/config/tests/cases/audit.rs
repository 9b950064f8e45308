//! Mistakes about the audit trail.

use super::Case;

/// Mistakes in `gateway.toml`.
pub(in super::super) const AUDIT_CASES: &[Case] = &[
    Case("[audit]\ndirectroy = \"a\"\n", "directroy", "there is no key `directroy`"),
    Case("[audit]\ndirectory = \"\"\n", "\"\"", "`` cannot be the directory of the trail"),
    Case(
        "[audit]\ndirectory = \"..\"\n",
        "\"..\"",
        "`..` cannot be the directory of the trail",
    ),
    Case(
        "admin.socket = \"s\"\n[audit]\ndirectory = \"state\"\n",
        "\"state\"",
        "`state` holds the store too",
    ),
    Case(
        "store.path = \"d/s\"\n[audit]\ndirectory = \"state/\"\n",
        "\"state/\"",
        "`state/` holds the operator socket too",
    ),
    Case(
        "[audit]\ndirectory = \"upstreams\"\n",
        "\"upstreams\"",
        "`upstreams` holds files of services too",
    ),
    Case("[audit]\non_full = \"drop\"\n", "\"drop\"", "`on_full` cannot be `drop`"),
    Case(
        "[audit]\ndurable = \"9ms\"\n",
        "\"9ms\"",
        "`durable` must be 10ms to 1m, or \"each\"",
    ),
    Case("[audit]\ndurable = \"61s\"\n", "\"61s\"", "`durable` must be 10ms to 1m"),
    Case(
        "[audit]\ndurable = \"always\"\n",
        "\"always\"",
        "`durable` is neither a duration nor `each`",
    ),
    Case("[audit]\ndurable = 1\n", "1", "`durable` cannot be this number"),
    Case("[audit]\nsegment = \"1KiB\"\n", "\"1KiB\"", "`segment` must be 64KiB to 4GiB"),
    Case("[audit]\nkeep = \"59m\"\n", "\"59m\"", "`keep` must be 1h to 3660d"),
    Case(
        "[audit]\nkeep = \"30d\"\n",
        "[audit]",
        "bodies would be kept longer than their entries, which are kept 30d",
    ),
    Case(
        "[audit]\nkeep_bodies = \"500d\"\n",
        "\"500d\"",
        "bodies would be kept longer than their entries, which are kept 400d",
    ),
    Case(
        "[audit]\nmax_size = \"511MiB\"\n",
        "\"511MiB\"",
        "two segments of 256MiB do not fit into `max_size`",
    ),
    Case("[audit]\ncheckpoint = \"99ms\"\n", "\"99ms\"", "`checkpoint` must be 100ms to 1h"),
    Case(
        "[audit]\ncheckpoint_file = \"state/audit/newest\"\n",
        "\"state/audit/newest\"",
        "this file lies in the directory of the trail",
    ),
    Case("[audit]\ncheckpoint_command = []\n", "[]", "`checkpoint_command` names no program"),
    Case(
        "[audit]\ncheckpoint_command = [\"\"]\n",
        "[\"\"]",
        "`checkpoint_command` names no program",
    ),
    Case(
        "[audit]\ncheckpoint_command = \"keep\"\n",
        "\"keep\"",
        "`checkpoint_command` cannot be a text",
    ),
    Case(
        "[audit]\ncheckpoint_command = [\"keep\", \"a\\u0000\"]\n",
        "\"a",
        "no argument of a program can hold a NUL",
    ),
    Case("[audit]\nurl = \"none\"\n", "\"none\"", "`url` cannot be `none`"),
    Case(
        "[audit]\nurl = \"full\"\nquery = [\"page\"]\n",
        "\"page\"",
        "with `url = \"full\"` the values of all parameters are shown",
    ),
    Case("[audit]\nquery = [\"\"]\n", "\"\"", "the name of a parameter has 1 to 128 bytes"),
    Case("[audit]\nquery = [\"a\", \"b\", \"a\"]\n", "\"a\"]", "`a` is listed twice"),
    Case(
        "[audit]\nheaders = [\"*\"]\n",
        "\"*\"",
        "each field must be named: `*` is not accepted",
    ),
    Case(
        "[audit]\nheaders = [\"user agent\"]\n",
        "\"user agent\"",
        "`user agent` is not a header name",
    ),
    Case(
        "[audit]\nheaders = [\"Authorization\"]\n",
        "\"Authorization\"",
        "`Authorization` carries credentials, which the trail never shows",
    ),
    Case(
        "[audit]\nheaders = [\"cookie\"]\n",
        "\"cookie\"",
        "`cookie` carries credentials, which the trail never shows",
    ),
    Case(
        "[audit]\nheaders = [\"accept\", \"Accept\"]\n",
        "\"Accept\"",
        "`Accept` is listed twice",
    ),
    Case("[audit]\nstdout = \"yes\"\n", "\"yes\"", "`stdout` cannot be a text"),
];

/// Mistakes in a route, the last table of an upstream file.
pub(in super::super) const ROUTE_AUDIT_CASES: &[Case] = &[
    Case("audit = \"none\"\n", "\"none\"", "`audit` cannot be `none`"),
    Case("audit = false\n", "false", "`audit` cannot be `true` or `false`"),
    Case("[routes.audit]\nbodies = {}\n", "bodies", "there is no key `bodies`"),
    Case("[routes.audit]\nbody.max = \"2MiB\"\n", "\"2MiB\"", "`max` must be 1 to 1MiB"),
    Case("[routes.audit]\nbody.max = 0\n", "0", "`max` must be 1 to 1MiB"),
    Case(
        "[routes.audit]\nbody.types = []\n",
        "[]",
        "`types` is empty: no body would be recorded",
    ),
    Case(
        "[routes.audit]\nbody.types = [\"json\"]\n",
        "\"json\"",
        "`json` is not a media type",
    ),
    Case(
        "[routes.audit]\nbody.types = [\"text/*\"]\n",
        "\"text/*\"",
        "`text/*` is not a media type",
    ),
    Case(
        "[routes.audit]\nbody.types = [\"image/png\"]\n",
        "\"image/png\"",
        "bodies of `image/png` cannot be recorded: it is no type of text",
    ),
    Case(
        "[routes.audit]\nanswer.types = [\"application/json; charset=utf-8\"]\n",
        "\"application/json; charset=utf-8\"",
        "`application/json; charset=utf-8` is not a media type",
    ),
    Case(
        "[routes.audit]\nbody.types = [\"text/plain\", \"Text/Plain\"]\n",
        "\"Text/Plain\"",
        "`Text/Plain` is listed twice",
    ),
    Case(
        "[routes.audit]\nbody.mask = [\"\"]\n",
        "\"\"",
        "`` is not a mask: it has 1 to 128 bytes",
    ),
    Case(
        "[routes.audit]\nbody.mask = [\"card..number\"]\n",
        "\"card..number\"",
        "`card..number` is not a mask: a name between dots is empty",
    ),
    Case(
        "[routes.audit]\nbody.mask = [\"card.num*\"]\n",
        "\"card.num*\"",
        "`card.num*` is not a mask: `*` stands for a whole name",
    ),
    Case(
        "[routes.audit]\nbody.mask = [\"*\"]\n",
        "\"*\"",
        "`*` is not a mask: it would mask whole bodies",
    ),
    Case(
        "[routes.audit]\nbody.mask = [\"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q\"]\n",
        "\"a.b",
        "it has at most 16 names",
    ),
    Case(
        "[routes.audit]\nbody.mask = [\"a\\nb\"]\n",
        "\"a",
        "`a\\nb` is not a mask: it holds a control character",
    ),
    Case("[routes.audit]\nbody.mask = [\"a\", \"a\"]\n", "\"a\"]", "`a` is listed twice"),
    Case(
        "insecure_report_only = \"yes\"\n",
        "\"yes\"",
        "`insecure_report_only` cannot be a text",
    ),
];
