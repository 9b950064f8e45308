//! Mistakes in served routes.

use super::Case;

/// Surfaces that the cases need beside `api`.
pub(in crate::config::tests) const SERVED: &str = r#"
[surfaces.people]
kind = "account"
login_field = "email"
password_field = "password"

[surfaces.web]
kind = "session_jwt"
token_kind = "web"
secrets = "env:S"
record_surface = "people"
lifetime = "1h"
"#;

/// Mistakes in `[[routes]]` of `gateway.toml`.
pub(in crate::config::tests) const SERVED_CASES: &[Case] = &[
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nanswer.body = '{{ credential.key }}'\nmint = [{ surface = \"api\", name = \"body.meta\" }]\nbody.meta = { type = \"any\" }\n",
        "\"body.meta\"",
        "`meta` may be an object, which cannot be used as a value here",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nanswer.body = '{{ credential.key }}'\nmint = [{ surface = \"api\", name = \"body.buyer.nam\" }]\nbody.buyer = { type = \"object\", fields = { name = {} } }\n",
        "\"body.buyer.nam\"",
        "the body has no field `buyer.nam`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nanswer.body = '{{ credential.key }}'\nmint = [{ surface = \"api\" }]\nbody.buyer = { type = \"object\" }\n",
        "\"object\"",
        "an object needs `fields`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nanswer.body = '{{ credential.key }}'\nmint = [{ surface = \"api\" }]\nbody.buyer = { depth = 3 }\n",
        "3",
        "`depth` has no meaning with `type = \"text\"`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '[{{ credential.key }},{{ hook.amount }}]'\n",
        "hook.amount",
        "there is no variable `hook.amount` here",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '[{{ credential.key }},{{ hook }}]'\nhook = { when = \"after\", path = \"/t\", on_failure = \"go_on\" }\n",
        "hook",
        "there is no variable `hook` here",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '[{{ credential.key }},{{ hook.b }}]'\nhook = { when = \"before\", path = \"/t\", on_failure = \"go_on\", fields = [\"a\"] }\n",
        "hook.b",
        "there is no variable `hook.b` here",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '{{ credential.key }}'\nhook = { when = \"after\", path = \"/t/{path.idd}\", on_failure = \"go_on\" }\n",
        "\"/t/{path.idd}\"",
        "the path has no parameter `idd`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '{{ credential.key }}'\nhook = { when = \"after\", path = \"/t/../{path.id}\", on_failure = \"go_on\" }\n",
        "\"/t/../{path.id}\"",
        "`..` cannot be a segment of a path",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '{{ credential.key }}'\nhook = { when = \"before\", path = \"/t/{credential.id}\", on_failure = \"go_on\" }\n",
        "\"/t/{credential.id}\"",
        "there is no single record here that `credential.id` could name",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '{{ credential.key }}'\nhook = { when = \"after\", path = \"/t\", on_failure = \"go_on\", upstream = \"mian\" }\n",
        "\"mian\"",
        "there is no service `mian`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '{{ credential.key }}'\nhook = { when = \"after\", path = \"/t\", on_failure = \"go_on\", body = '{{ credential.key }}' }\n",
        "credential.key",
        "there is no variable `credential.key` here",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '{{ credential.key }}'\nhook = { when = \"after\", path = \"/t\", on_failure = \"go_on\", fields = [\"a\"] }\n",
        "\"a\"",
        "`fields` has no use with `after`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '{{ credential.key }}'\nhook = { when = \"before\", path = \"/t\", on_failure = \"go_on\", body = '{}' }\n",
        "'{}'",
        "a GET has no body",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"DELETE\"]\naccess = { surfaces = [\"api\"] }\nserve = \"revoke\"\nsurface = \"api\"\nid = \"path.id\"\nhook = { when = \"after\", path = \"/t\", on_failure = \"refuse\" }\n",
        "\"refuse\"",
        "only what a `mint` made can be taken back: here `refuse` after the step is not possible",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"list\"\nsurface = \"api\"\nanswer.body = '{{ items }}'\nhook = { when = \"after\", path = \"/t\", on_failure = \"go_on\" }\n",
        "\"after\"",
        "this route makes and changes nothing of which a service could be notified `after`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\" }]\nanswer.body = '{{ credential.key }}'\nunreadable_body = \"empty\"\nbody.name = { required = false }\n",
        "\"empty\"",
        "no field is required: any body that cannot be read would be accepted",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"audit\"\nanswer.body = '{{ items }}'\n",
        "\"audit\"",
        "there is no audit trail whose entries could be listed",
    ),
    Case(
        "[audit]\n[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"audit\"\naudit = \"off\"\nanswer.body = '{{ items }}'\n",
        "\"audit\"",
        "who reads entries would have none: this route has `audit = \"off\"`",
    ),
    Case(
        "[audit]\n[[routes]]\npath = \"/a\"\naccess = { surfaces = [\"api\"] }\nserve = \"audit\"\nanswer.body = '{{ items }}'\n",
        "\"audit\"",
        "entries are read with GET alone",
    ),
    Case(
        "[audit]\n[[routes]]\npath = \"/a\"\nmethods = [\"GET\", \"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"audit\"\nanswer.body = '{{ items }}'\n",
        "\"audit\"",
        "entries are read with GET alone",
    ),
    Case(
        "[audit]\n[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = \"public\"\nserve = \"audit\"\nanswer.body = '{{ items }}'\n",
        "\"audit\"",
        "nobody is known on a public route: whose records would these be?",
    ),
    Case(
        "[audit]\n[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"audit\"\n",
        "\"audit\"",
        "nobody would be told what was made or found",
    ),
    Case(
        "[audit]\n[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"audit\"\nanswer.body = '[{% for e in items %}{{ e.endpoint }}{% endfor %}]'\n",
        "e.endpoint",
        "the template cannot be rendered: a value that does not exist is used",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"list_roles\"\nanswer.body = '[{{ page.missing }}]'\n",
        "page.missing",
        "there is no variable `page.missing` here",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = { surfaces = [\"api\"] }\n",
        "[[routes]]",
        "this one does not say how",
    ),
    Case(
        "[[routes]]\npath = \"/a/{t}\"\naccess = { surfaces = [\"api\"], tenant = \"path.t\" }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\n",
        "\"path.t\"",
        "here the gateway itself reads the path",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = \"public\"\nserve = \"mnit\"\n",
        "\"mnit\"",
        "`serve` cannot be `mnit`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = { surfaces = [\"api\"] }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\ntrailers = true\n",
        "true",
        "`trailers` does not belong to a route with `serve`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = { surfaces = [\"api\"] }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\nid = \"path.x\"\n",
        "\"path.x\"",
        "`id` does not belong to a route with `serve = \"list_roles\"`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"DELETE\"]\naccess = { surfaces = [\"api\"] }\nserve = \"revoke\"\nsurface = \"api\"\n",
        "[[routes]]",
        "`serve = \"revoke\"` needs `id`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"DELETE\"]\naccess = { surfaces = [\"api\"] }\nserve = \"revoke\"\nsurface = \"api\"\nid = \"path.idd\"\n",
        "\"path.idd\"",
        "the path has no parameter `idd`",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"DELETE\"]\naccess = { surfaces = [\"api\"] }\nserve = \"revoke\"\nsurface = \"web\"\nid = \"path.id\"\n",
        "\"web\"",
        "`web` has no records of its own",
    ),
    Case(
        "[surfaces.hooks]\nkind = \"signing_secret\"\nprefixes = [\"w_\"]\n[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", parent = { surface = \"hooks\", id = \"path.id\" } }]\nanswer.body = '{{ credential.key }}'\n",
        "\"hooks\"",
        "`hooks` has signing secrets, and no record can hang on them",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"rotate\"\nsurface = \"people\"\nid = \"path.id\"\nanswer.body = '{{ credential.key }}'\n",
        "\"people\"",
        "`people` has no keys to rotate",
    ),
    Case(
        "[[routes]]\npath = \"/a/{id}\"\naccess = \"public\"\nmethods = [\"GET\"]\nserve = \"list\"\nsurface = \"api\"\nanswer.body = '{{ items }}'\n",
        "\"list\"",
        "nobody is known on a public route",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"list\"\nsurface = \"api\"\n",
        "\"list\"",
        "nobody would be told",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"list\"\nsurface = \"api\"\nanswer.body = '[{% for i in items %}{{ i.idd }}{% endfor %}]'\n",
        "i.idd",
        "a value that does not exist is used",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"list\"\nsurface = \"api\"\nanswer = { status = 204, body = '{{ items }}' }\n",
        "'{{ items }}'",
        "a 204 has no body",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"] }\nserve = \"list\"\nsurface = \"api\"\nreach = \"tenants\"\nanswer.body = '{{ items }}'\n",
        "\"tenants\"",
        "`reach` cannot be `tenants`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"people\", \"api\"] }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\n",
        "\"api\"",
        "nobody of `api` would be asked: credentials of `people` are read from the body",
    ),
    Case(
        "[surfaces.bots]\nkind = \"account\"\n[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"bots\"] }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\n",
        "\"bots\"",
        "credentials of `bots` are never presented",
    ),
    Case(
        "[surfaces.hooks]\nkind = \"signing_secret\"\nprefixes = [\"w_\"]\n[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"hooks\"] }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\n",
        "\"hooks\"",
        "credentials of `hooks` are never presented",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"web\"] }\nserve = \"log_out\"\n",
        "\"log_out\"",
        "a token of `web` has no record of its own",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"web\"] }\nserve = \"set_password\"\nsurface = \"people\"\nnew = \"body.new\"\nbody.new.type = \"secret\"\n",
        "\"set_password\"",
        "the present password must be proven",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"people\"] }\nserve = \"set_password\"\nsurface = \"people\"\nnew = \"body.new\"\nbody.new.type = \"text\"\n",
        "\"body.new\"",
        "the field `new` must be of type `secret` here",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nanswer.body = '1'\n",
        "[[routes]]",
        "`serve = \"mint\"` needs `mint`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\ntenant = \"new\"\nmint = [{ surface = \"people\", login = \"=a@b.c\" }]\n",
        "\"new\"",
        "a caller has a tenant already",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", name = \"body.nmae\" }]\nbody.name = {}\nanswer.body = '{{ credential.key }}'\n",
        "\"body.nmae\"",
        "the body has no field `nmae`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", name = \"name\" }]\nanswer.body = '{{ credential.key }}'\n",
        "\"name\"",
        "`name` is not a source",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", subject = \"parent.id\" }]\nanswer.body = '{{ credential.key }}'\n",
        "\"parent.id\"",
        "there is no parent here",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", parent = \"minted.0\" }]\nanswer.body = '{{ credential.key }}'\n",
        "\"minted.0\"",
        "`minted.0` is not made before this",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"web\", parent = \"caller\" }]\nanswer.body = '{{ credential.token }}'\n",
        "\"caller\"",
        "a token of `web` hangs on a record of `people`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", password = \"body.p\" }]\nbody.p.type = \"secret\"\nanswer.body = '{{ credential.key }}'\n",
        "\"body.p\"",
        "`password` belongs to accounts",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", mode = \"none\" }]\nanswer.body = '{{ credential.key }}'\n",
        "\"none\"",
        "keys of `api` tell a mode by their prefix",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", mode = \"body.mode\" }]\nbody.mode = {}\nanswer.body = '{{ credential.key }}'\n",
        "\"body.mode\"",
        "must be limited to `live` and `test`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", lifetime_from = \"body.t\" }]\nbody.t.type = \"integer\"\nanswer.body = '{{ credential.key }}'\n",
        "\"body.t\"",
        "a caller who chooses a lifetime needs a bound",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", idle = \"1h\" }]\nanswer.body = '{{ credential.key }}'\n",
        "\"1h\"",
        "an idle limit needs an absolute one",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = \"public\"\nserve = \"mint\"\ntenant = \"new\"\nlimits = [{ by = \"address\", rate = \"9/1h\" }]\nmint = [{ surface = \"people\", scopes = [\"orders:read\"] }]\n",
        "\"orders:read\"",
        "the caller of a public route holds no scopes",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"people\"] }\nserve = \"mint\"\nmint = [{ surface = \"web\", parent = \"caller\", claims = { sub = \"=x\" } }]\nanswer.body = '{{ credential.token }}'\n",
        "sub",
        "`sub` is the token's own",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"people\"] }\nserve = \"mint\"\nmint = [{ surface = \"web\", parent = \"caller\", scopes = \"caller\" }]\nanswer.body = '{{ credential.token }}'\n",
        "\"caller\" }]",
        "a token of `web` does not say its scopes",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"people\"] }\nserve = \"mint\"\nmint = [{ surface = \"web\", parent = \"caller\", roles = \"body.r\" }]\nbody.r.type = \"list\"\nanswer.body = '{{ credential.token }}'\n",
        "\"body.r\"",
        "a token of `web` has no record of its own that could have roles",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"people\"] }\nserve = \"mint\"\nmint = [{ surface = \"web\", parent = \"caller\" }]\nanswer.body = '{{ body.password }}'\n",
        "body.password",
        "there is no variable `body.password` here",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\nbody.x = { min = 9, max = 8 }\n",
        "9",
        "`min` is greater than `max`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\nbody.x = { items = 9 }\n",
        "9",
        "`items` has no meaning with `type = \"text\"`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = { surfaces = [\"api\"] }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\nbody.x = {}\n",
        "\"/a\"",
        "a GET has no body",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"list_roles\"\nanswer.body = '{{ items }}'\nmax_body = \"65KiB\"\n",
        "\"65KiB\"",
        "the body of a served route has at most 64KiB",
    ),
    Case("[roles.x]\nid = \"1\"\nscopes = [\"orders:read\"]\n", "\"1\"", "`1` is not a UUID"),
    Case("[roles.x]\n", "x]", "`scopes` is missing"),
];

/// Mistakes in `[[routes]]` of an upstream file.
pub(in crate::config::tests) const FORWARDED_CASES: &[Case] = &[
    Case(
        "[[routes]]\npath = \"/a\"\naccess = \"public\"\nserve = 3\n",
        "3",
        "`serve` cannot be this number",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = { surfaces = [\"people\"] }\n",
        "\"people\"",
        "credentials of `people` are presented in a body",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = \"public\"\nanswer = { status = 200 }\n",
        "{ status",
        "`answer` does not belong to a route without `serve`",
    ),
];
