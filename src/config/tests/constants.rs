//! What is written down in a mint, a header or a message: it works, or is found when the configuration is read.

use super::cases::served::SERVED;
use super::*;
use crate::snapshot::served_route::{Action, TextOrList, ValueSource};

const ROLES: &str = "[roles.full]\nscopes = [\"orders:read\", \"orders:write\"]\n[roles.reader]\nscopes = [\"orders:read\"]\n";

/// Two routes that make an account: one for callers with a key, one for everybody.
fn with_mint(access: &str, mint: &str) -> Result<Loaded, ConfigErrors> {
    let tenant = if access == "\"public\"" { "tenant = \"new\"\n" } else { "" };
    let limits = "limits = [{ by = \"address\", rate = \"9/1m\" }]\n";
    let gateway = format!(
        "{GATEWAY}{SERVED}{ROLES}[[routes]]\nname = \"up\"\npath = \"/up\"\nmethods = [\"POST\"]\naccess = {access}\nserve = \"mint\"\n{tenant}{limits}\
         [routes.body]\nemail = {{ type = \"email\" }}\npassword = {{ type = \"secret\" }}\nwords = {{ type = \"list\" }}\n\
         [[routes.mint]]\nsurface = \"people\"\nlogin = \"body.email\"\npassword = \"body.password\"\n{mint}\
         [routes.answer]\nstatus = 201\nbody = '{{{{ credential.id }}}}'\n"
    );
    let mut files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)]);
    files.variables.insert("S".into(), "s".repeat(32));
    check(&files)
}

const KEYS: &str = "{ surfaces = [\"api\"] }";
const PUBLIC: &str = "\"public\"";

#[test]
fn roles_of_a_mint_are_found_by_name_and_by_id() {
    use crate::base::ids::RoleId;
    let id = RoleId::of_name("full");
    for roles in ["\"full\"".to_owned(), format!("\"{}\"", id.as_str())] {
        let loaded = with_mint(KEYS, &format!("roles = [{roles}]\n")).unwrap_or_else(|e| panic!("{e}"));
        let Action::Mint { mints, .. } = &loaded.snapshot.served_routes[0].action else {
            panic!("a mint");
        };
        assert_eq!(
            mints[0].roles,
            Some(ValueSource::Constant(TextOrList::List(vec![id.as_str().to_owned()]))),
            "{roles}"
        );
    }
}

/// Access, lines of a mint, where the caret stands, what is said.
const WRONG: &[(&str, &str, &str, &str)] = &[
    (
        KEYS,
        "roles = [\"ful\"]\n",
        "\"ful\"",
        "there is no role `ful` in the configuration",
    ),
    (KEYS, "roles = [\"reader\", \"boss\"]\n", "\"boss\"", "there is no role `boss`"),
    (KEYS, "roles = \"=boss\"\n", "\"=boss\"", "there is no role `boss`"),
    (
        PUBLIC,
        "roles = [\"full\"]\n",
        "\"full\"",
        "the caller of a public route does not hold the scopes of `full`: every call would be 403",
    ),
    (
        PUBLIC,
        "roles = [\"full\"]\ngrants = [\"orders:read\"]\n",
        "\"full\"",
        "the caller of a public route does not hold the scopes of `full`",
    ),
    (
        PUBLIC,
        "roles = [\"reader\"]\n",
        "\"reader\"",
        "the caller of a public route does not hold the scopes of `reader`",
    ),
    (
        PUBLIC,
        "roles = \"body.words\"\n",
        "\"body.words\"",
        "every scope that is asked for would be 403",
    ),
    (
        PUBLIC,
        "scopes = \"body.words\"\n",
        "\"body.words\"",
        "every scope that is asked for would be 403",
    ),
    (
        PUBLIC,
        "scopes = \"=orders:read\"\n",
        "\"=orders:read\"",
        "the caller of a public route holds no scopes",
    ),
    (
        KEYS,
        "scopes = \"=orders:read \\u0007\"\n",
        "\"=orders:read \\u0007\"",
        "is not a scope",
    ),
    (KEYS, "subject = [\"a\", \"b\"]\n", "[\"a\", \"b\"]", "this cannot be a subject"),
    (KEYS, "subject = \"=a\\u0007\"\n", "\"=a\\u0007\"", "this cannot be a subject"),
    (KEYS, "name = [\"a\"]\n", "[\"a\"]", "this cannot be a name"),
    (KEYS, "name = \"=a\\u0007\"\n", "\"=a\\u0007\"", "this cannot be a name"),
    (KEYS, "mode = \"=prod\"\n", "\"=prod\"", "this cannot be a mode"),
    (
        KEYS,
        "claims = { plan = \"=a\\u0007\" }\n",
        "\"=a\\u0007\"",
        "this cannot be a claim",
    ),
];

#[test]
fn what_can_never_work_is_found_with_its_place_and_what_works_is_taken() {
    for &(access, mint, place, told) in WRONG {
        let errors = with_mint(access, mint).expect_err(mint);
        let all = errors.to_string();
        assert_eq!(errors.problems.len(), 1, "{mint}{all}");
        assert!(all.contains(told), "{mint}{all}");
        let line = all.lines().position(|line| line.contains('^')).unwrap();
        let (code, caret) = (all.lines().nth(line - 1).unwrap(), all.lines().nth(line).unwrap());
        let from = caret.find('^').unwrap();
        assert_eq!(code.get(from..from + caret.matches('^').count()), Some(place), "{mint}{all}");
    }
    for (access, mint) in [
        (KEYS, "roles = [\"reader\", \"full\"]\n"),
        (KEYS, "roles = \"body.words\"\nscopes = \"=orders:read orders:write\"\n"),
        (
            KEYS,
            "subject = \"=a\"\nname = \"=b\"\nmode = \"=test\"\nclaims = { plan = \"=gold\", words = [\"a\", \"b\"] }\n",
        ),
        (PUBLIC, "roles = [\"full\"]\ngrants = [\"orders:read\", \"orders:write\"]\n"),
        (PUBLIC, "roles = \"body.words\"\ngrants = [\"orders:read\"]\n"),
        (PUBLIC, "scopes = \"=orders:read\"\ngrants = [\"orders:read\"]\n"),
        (PUBLIC, ""),
    ] {
        assert!(with_mint(access, mint).is_ok(), "{mint}{}", with_mint(access, mint).unwrap_err());
    }
}

#[test]
fn roles_beyond_what_they_hang_on_are_found() {
    let hanging = |first: &str| {
        with_mint(
            PUBLIC,
            &format!(
                "{first}[[routes.mint]]\nsurface = \"api\"\nparent = \"minted.0\"\nmode = \"live\"\nroles = [\"full\"]\n\
                 grants = [\"orders:read\", \"orders:write\"]\n"
            ),
        )
    };
    let errors = hanging("").unwrap_err().to_string();
    assert!(
        errors.contains("`minted.0` lacks `orders:read`, which these roles hold"),
        "{errors}"
    );
    let grants = "grants = [\"orders:read\", \"orders:write\"]\n";
    for first in [
        format!("roles = [\"full\"]\n{grants}"),
        format!("scopes = [\"orders:read\", \"orders:write\"]\n{grants}"),
    ] {
        assert!(hanging(&first).is_ok(), "{}", hanging(&first).unwrap_err());
    }
}

#[test]
fn a_template_outside_of_a_body_is_found_and_braces_alone_are_not_one() {
    let told = "sent as written";
    for lines in [
        "headers = { X-Id = \"{{ request_id }}\" }\n",
        "realm = \"{% if x %}a{% endif %}\"\n",
        "denials.no_route = { headers = { X-Id = \"{{request_id}}\" } }\n",
        "denials.no_route = { message = \"no {{ path }} here\" }\n",
        "denials.no_route = { code = \"{{ code }}\" }\n",
    ] {
        let gateway = format!("dialect = \"d\"\n{GATEWAY}[dialects.d]\n{lines}");
        let errors = check(&table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)])).expect_err(lines);
        assert!(errors.to_string().contains(told) && errors.problems.len() == 1, "{lines}{errors}");
    }
    let gateway =
        format!("dialect = \"d\"\n{GATEWAY}[dialects.d]\nheaders = {{ Link = \"</docs/{{id}}>; rel=help\" }}\nbody = '{{{{ code }}}}'\n");
    assert!(check(&table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)])).is_ok());
}

#[test]
fn every_surface_that_cannot_be_built_is_a_mistake() {
    for surface in [
        "kind = \"api_key\"\nkeys = \"imported\"\n",
        "kind = \"api_key\"\nkeys = \"imported\"\nprefixes = []\n",
        "kind = \"api_key\"\nkeys = \"imported\"\nprefixes = {}\n",
        "kind = \"api_key\"\nkeys = \"imported\"\nprefixes = [\"\"]\n",
        "kind = \"basic\"\nkeys = \"imported\"\npassword = \"empty\"\n",
        "kind = \"basic\"\nkeys = \"imported\"\nkey_prefixes = [\"a_\"]\n",
        "kind = \"key_pair\"\nkeys = \"imported\"\nkey_header = \"X-K\"\nsecret_header = \"X-S\"\n",
        "kind = \"key_pair\"\nkeys = \"imported\"\nkey_field = \"k\"\nsecret_field = \"s\"\n",
        "kind = \"external_jwt\"\n",
        "kind = \"session_jwt\"\n",
        "keys = \"imported\"\n",
    ] {
        let gateway = format!("{GATEWAY}[surfaces.old]\n{surface}");
        let upstream = format!("{ORDERS}[[routes]]\npath = \"/old\"\naccess = {{ surfaces = [\"old\"] }}\n");
        let files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", &upstream)]);
        assert!(check(&files).is_err(), "{surface}");
    }
    let gateway = format!("{GATEWAY}[surfaces.old]\nkind = \"api_key\"\nkeys = \"imported\"\nprefixes = [\"old_\"]\n");
    let upstream = format!("{ORDERS}[[routes]]\npath = \"/old\"\naccess = {{ surfaces = [\"old\"] }}\n");
    let loaded = check(&table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", &upstream)])).unwrap();
    assert_eq!(loaded.snapshot.surfaces.len(), 2);
}
