//! Mistakes in `[store]` with `kind = "redis"`.

use super::Case;

/// What comes before each of these mistakes.
pub(in crate::config::tests) const REDIS: &str = "[store]\nkind = \"redis\"\npepper = \"env:P\"\n";

/// Mistakes in where Redis is and who the gateway is there.
pub(in crate::config::tests) const REDIS_CASES: &[Case] = &[
    Case("", "\"redis\"", "the redis store needs `url`, `sentinels` or `cluster`"),
    Case(
        "url = \"redis://h\"\ncluster = [\"h:1\"]\n",
        "[\"h:1\"]",
        "one of `url`, `sentinels` and `cluster`",
    ),
    Case(
        "url = \"redis://h\"\nservice = \"x\"\n",
        "\"x\"",
        "`service` belongs to `sentinels`",
    ),
    Case("cluster = [\"h:1\"]\ndatabase = 2\n", "2", "`database` belongs to `sentinels`"),
    Case("sentinels = [\"h:1\"]\n", "[\"h:1\"]", "`sentinels` need `service`"),
    Case(
        "sentinels = [\"h:1\"]\nservice = \"a b\"\n",
        "\"a b\"",
        "cannot be the name of a service",
    ),
    Case("cluster = []\n", "[]", "`cluster` names 1 to 16 servers"),
    Case("cluster = [\"h:0\"]\n", "\"h:0\"", "`h:0` is not a server"),
    Case("cluster = [\"redis://h\"]\n", "\"redis://h\"", "`redis://h` is not a server"),
    Case("cluster = [\"h:1\", \"h:1\"]\n", "\"h:1\"]", "`h:1` is named twice"),
    Case("cluster = [\"h:1\"]\nusername = \"u\"\n", "\"u\"", "`username` needs `password`"),
    Case("cluster = [\"h:1\"]\npassword = \"secret\"\n", "\"secret\"", "must be a reference"),
    Case(
        "url = \"env:WITH_USER\"\nusername = \"u\"\npassword = \"env:P\"\n",
        "\"u\"",
        "the URL names a user already",
    ),
    Case(
        "url = \"redis://h\"\nwait_replicas = \"most\"\n",
        "\"most\"",
        "`wait_replicas` cannot be `most`",
    ),
    Case(
        "url = \"redis://h\"\nwait_replicas = \"1\"\n",
        "\"1\"",
        "`wait_replicas` cannot be `1`",
    ),
    Case("url = \"redis://h\"\nwait_replicas = 9\n", "9", "must be \"all\", or 0 to 8"),
    Case("url = \"redis://h\"\nwait_replicas = -1\n", "-1", "must be \"all\", or 0 to 8"),
    Case(
        "url = \"redis://h\"\nwait_replicas = true\n",
        "true",
        "`wait_replicas` cannot be `true` or `false`",
    ),
    Case("url = \"redis://h/x\"\n", "\"redis://h/x\"", "the URL is not"),
    Case(
        "url = \"redis://h\"\ntls = { ca = \"ca.pem\" }\n",
        "{",
        "needs a URL that begins with `rediss://`",
    ),
    Case("url = \"rediss://h\"\n", "\"rediss://h\"", "no certificate authorities"),
    Case(
        "url = \"rediss://h\"\ntls = { ca = \"none.pem\" }\n",
        "\"none.pem\"",
        "the authorities' file",
    ),
    Case(
        "url = \"rediss://h\"\ntls = { ca = \"ca.pem\", client_cert = \"ca.pem\" }\n",
        "\"ca.pem\" }",
        "`client_key` is missing",
    ),
    Case(
        "url = \"rediss://h\"\ntls = { ca = \"ca.pem\", server_name = \"a b\" }\n",
        "\"a b\"",
        "`a b` cannot be a server's name",
    ),
];
