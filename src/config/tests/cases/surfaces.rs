//! Mistakes in surfaces, and beside them.

use super::Case;

/// Mistakes in `[surfaces.*]`.
pub(in crate::config::tests) const SURFACE_CASES: &[Case] = &[
    Case("[surfaces.x]\n", "x]", "`kind` is missing"),
    Case(
        "[surfaces.tenant]\nkind = \"api_key\"\nprefixes = [\"a_\"]\n",
        "tenant",
        "`tenant` is the name of tenants' own records",
    ),
    Case(
        "[surfaces.provider]\nkind = \"api_key\"\nprefixes = [\"a_\"]\n",
        "provider",
        "`provider` is the name of records of identity providers",
    ),
    Case(
        "[surfaces.provider_settings]\nkind = \"account\"\n",
        "provider_settings",
        "`provider_settings` is the name of records of identity providers",
    ),
    Case(
        "[surfaces.sign_on]\nkind = \"account\"\n",
        "sign_on",
        "`sign_on` is the name of records of sessions at identity providers",
    ),
    Case("[surfaces.x]\nkind = \"apikey\"\n", "\"apikey\"", "`kind` cannot be `apikey`"),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\n",
        "x]",
        "a surface of kind `api_key` needs `prefixes`",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nkeys = \"imported\"\n",
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
        "[[listeners]]\nname = \"t\"\naddress = \"127.0.0.1:82\"\ntls.certificates = []\n",
        "[]",
        "`certificates` is empty",
    ),
    Case(
        "[store]\nkind = \"redis\"\nurl = \"redis://h\"\npepper = \"env:P\"\n[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nrecord_surface = \"api\"\nsecrets = \"generate:s\"\n",
        "\"generate:s\"",
        "cannot be generated",
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
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\n",
        "x]",
        "a surface of kind `session_jwt` needs `record_surface`",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord = \"own\"\nrecord_surface = \"api\"\n",
        "\"api\"",
        "`record_surface` has no effect",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord_surface = \"api\"\nlifetime = \"1h\"\nrefresh = { after = \"5m\" }\n",
        "{ after",
        "`refresh` needs `record = \"own\"`",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord = \"own\"\nlifetime = \"5m\"\nrefresh = { after = \"5m\" }\n",
        "\"5m\" }",
        "a token would end before it is renewed",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord = \"own\"\ncookie = { }\n",
        "{ }",
        "`cookie` has no effect without `lifetime`",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord = \"own\"\nlifetime = \"5m\"\ncookie = { }\n",
        "{ }",
        "`carry` names no cookie",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord = \"own\"\nlifetime = \"5m\"\ncarry = [\"cookie:__Host-s\"]\ncookie = { path = \"/a\" }\n",
        "\"/a\"",
        "begins with `__Host-` has the path `/`",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord = \"own\"\nlifetime = \"5m\"\ncarry = [\"cookie:a\", \"cookie:b\"]\n",
        "\"cookie:b\"",
        "is carried in one cookie at most",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord = \"own\"\nlifetime = \"5m\"\ncarry = [\"cookie:a\"]\ncookie.path = \"a;b\"\n",
        "\"a;b\"",
        "is not the path of a cookie",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord_surface = \"y\"\n[surfaces.y]\nkind = \"session_jwt\"\ntoken_kind = \"b\"\nsecrets = \"env:S3\"\nrecord_surface = \"api\"\n",
        "\"y\"",
        "`y` has no records of its own",
    ),
    Case(
        "[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"a\"\nsecrets = \"env:S\"\nrecord_surface = \"y\"\n[surfaces.y]\nkind = \"signing_secret\"\nprefixes = [\"w_\"]\n",
        "\"y\"",
        "`y` has signing secrets, and no record can hang on them",
    ),
    Case(
        "[surfaces.x]\nkind = \"account\"\nlogin_field = \"email\"\n",
        "x]",
        "a surface of kind `account` needs `password_field`",
    ),
    Case(
        "[surfaces.x]\nkind = \"account\"\nlogin_field = \"email\"\npassword_field = \"email\"\n",
        "\"email\"",
        "both parts of a credential would be in the same field",
    ),
    Case(
        "[surfaces.x]\nkind = \"account\"\nlogin_field = \"e-mail\"\npassword_field = \"p\"\n",
        "\"e-mail\"",
        "`e-mail` is not the name of a field",
    ),
    Case(
        "[surfaces.x]\nkind = \"account\"\npassword_max = 64\n",
        "64",
        "`password_max` has no effect without `password_field`",
    ),
    Case(
        "[surfaces.x]\nkind = \"account\"\ncarry = [\"bearer\"]\n",
        "[\"bearer\"]",
        "`carry` does not belong to a surface of kind `account`",
    ),
    Case(
        "[surfaces.x]\nkind = \"key_pair\"\nkey_prefixes = [\"p_\"]\nsecret_prefixes = [\"s_\"]\nkey_field = \"k\"\n",
        "x]",
        "a surface of kind `key_pair` needs `secret_field`",
    ),
    Case(
        "[surfaces.x]\nkind = \"key_pair\"\nkey_prefixes = [\"p_\"]\nsecret_prefixes = [\"s_\"]\nkey_field = \"k\"\nsecret_field = \"s\"\nkey_header = \"X-K\"\nsecret_header = \"X-S\"\n",
        "\"k\"",
        "in headers or in a body, not in both",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"a_\"]\nrandom = 42\n",
        "42",
        "`random` must be 43 to 128",
    ),
    Case(
        "[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"a_\"]\nclaim_headers = { tid = \"X-Tenant-Id\" }\n",
        "\"X-Tenant-Id\"",
        "`X-Tenant-Id` is taken",
    ),
];
