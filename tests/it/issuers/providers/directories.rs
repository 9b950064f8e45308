//! Directories of organisations: Entra ID in both versions, Okta, Keycloak.

use super::*;

#[test]
fn entra_id_of_both_versions() {
    admit_and_refuse(&[entra_v2(), entra_v1(), entra_application()]);
}

#[test]
fn okta_and_keycloak() {
    admit_and_refuse(&[okta(), keycloak()]);
}

/// Keys without `alg`, with thumbprint and chain.
fn entra_keys(signer: &Signer) -> Value {
    let mut jwk = without_alg(signer);
    jwk["x5t"] = json!(signer.kid);
    jwk["x5c"] = json!(["MIIC/TCCAeWgAwIBAgIIUd7j/OIahkYwDQYJKoZIhvcNAQELBQA"]);
    jwk["cloud_instance_name"] = json!("microsoftonline.com");
    json!({ "keys": [jwk] })
}

fn entra_v2() -> Provider {
    let groups: Vec<String> = (0..200).map(|n| format!("7c5e1a90-31f4-4d0a-9c1e-{n:012x}")).collect();
    Provider {
        name: "entra-v2",
        surface: "claim_headers = { name = \"X-Name\", roles = \"X-Role\", preferred_username = \"X-User\" }\nclaim_lists = \"json\"\nmax_token = \"14KiB\"",
        issuer: "issuer = \"https://login.microsoftonline.com/3f1c2f4e-0a77-4b2f-8f0e-6f7c40e0c0aa/v2.0\"\naudience = \"6e74172b-be56-4843-9ff4-e66a39bb12e3\"\n\
                 tenants = [\"acme\"]\nscopes_claim = \"scp\"",
        set: entra_keys,
        signer: Signer::rs256("nOo3ZDrODXEK1jKWhXslHR_KXEg"),
        header: json!({ "typ": "JWT", "alg": "RS256", "kid": "nOo3ZDrODXEK1jKWhXslHR_KXEg" }),
        claims: json!({
            "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
            "iss": "https://login.microsoftonline.com/3f1c2f4e-0a77-4b2f-8f0e-6f7c40e0c0aa/v2.0",
            "iat": seconds(-300), "nbf": seconds(-300), "exp": seconds(3_900),
            "aio": "AXQAi/8TAAAAZmS7", "azp": "a1b2c3d4-0000-1111-2222-333344445555", "azpacr": "0",
            "groups": groups,
            "name": "J\u{fc}rgen M\u{fc}ller", "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
            "preferred_username": "juergen.mueller@example.com",
            "rh": "0.ATQA", "roles": ["Domain Users", "Task.Writer"], "scp": "access_as_user Files.Read.All",
            "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "tid": "3f1c2f4e-0a77-4b2f-8f0e-6f7c40e0c0aa",
            "uti": "fqiBqXLPj0eQa82S-IYFAA", "ver": "2.0", "xms_st": { "sub": "x" },
        }),
        seen: &[
            ("x-auth-subject", "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ"),
            ("x-scopes", "access_as_user Files.Read.All"),
            ("x-name", "J%C3%BCrgen M%C3%BCller"),
            ("x-role", "[\"Domain Users\",\"Task.Writer\"]"),
            ("x-user", "juergen.mueller@example.com"),
        ],
        twins: [
            usual_twins(),
            vec![
                (
                    Change::Claim("/aud", json!("00000003-0000-0000-c000-000000000000")),
                    "wrong_audience",
                ),
                (
                    Change::Claim("/iss", json!("https://login.microsoftonline.com/common/v2.0")),
                    "unknown_issuer",
                ),
                (Change::Header("alg", json!("RS512")), "wrong_algorithm"),
                (Change::Header("alg", json!("PS256")), "wrong_algorithm"),
                (Change::Claim("/groups", json!(vec!["x".repeat(54); 200])), "token_too_long"),
            ],
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

fn entra_v1() -> Provider {
    Provider {
        name: "entra-v1",
        surface: "claim_headers = { upn = \"X-User\", acr = \"X-Acr\" }",
        issuer: "issuer = \"https://sts.windows.net/3f1c2f4e-0a77-4b2f-8f0e-6f7c40e0c0aa/\"\naudience = \"api://orders\"\ntenants = [\"acme\"]\n\
                 scopes_claim = \"scp\"\nsubject_claim = \"oid\"",
        set: entra_keys,
        signer: Signer::rs256("i6lGk3FZzxRcUb2C3nEQ7syHJlY"),
        header: json!({ "typ": "JWT", "alg": "RS256", "x5t": "i6lGk3FZzxRcUb2C3nEQ7syHJlY", "kid": "i6lGk3FZzxRcUb2C3nEQ7syHJlY" }),
        claims: json!({
            "aud": "api://orders", "iss": "https://sts.windows.net/3f1c2f4e-0a77-4b2f-8f0e-6f7c40e0c0aa/",
            "iat": seconds(-300), "nbf": seconds(-300), "exp": seconds(3_900), "acr": "1", "aio": "AXQAi", "amr": ["pwd", "mfa"],
            "appid": "75dbe77f-10a3-4e59-85fd-8c127544f17c", "appidacr": "0", "email": "AbeLi@example.com", "family_name": "Lincoln",
            "given_name": "Abe", "ipaddr": "192.0.2.7", "name": "abeli", "oid": "02223b6b-aa1d-42d4-9ec0-1b2bb9194438", "rh": "I",
            "scp": "user_impersonation", "sub": "l3_roISQU222bULS9yi2k0XpqpOiMz5H3ZACo1GeXA", "tid": "3f1c2f4e-0a77-4b2f-8f0e-6f7c40e0c0aa",
            "unique_name": "abeli@example.com", "upn": "abeli_example.com#EXT#@acme.onmicrosoft.com", "uti": "FVsGxYXI30", "ver": "1.0",
        }),
        seen: &[
            ("x-auth-subject", "02223b6b-aa1d-42d4-9ec0-1b2bb9194438"),
            ("x-scopes", "user_impersonation"),
            ("x-user", "abeli_example.com#EXT#@acme.onmicrosoft.com"),
            ("x-acr", "1"),
        ],
        twins: vec![
            (Change::Key, "bad_signature"),
            (Change::Claim("/aud", json!("https://graph.microsoft.com")), "wrong_audience"),
            (
                Change::Claim("/iss", json!("https://sts.windows.net/3f1c2f4e-0a77-4b2f-8f0e-6f7c40e0c0aa")),
                "unknown_issuer",
            ),
            (Change::Without("oid"), "no_subject"),
        ],
    }
}

/// A token that an application has for itself: roles instead of scopes, no name.
fn entra_application() -> Provider {
    Provider {
        name: "entra-app",
        surface: "claim_headers = { idtyp = \"X-Kind\", name = \"X-Name\" }",
        issuer: "issuer = \"https://login.microsoftonline.com/t/v2.0\"\naudience = \"6e74172b\"\ntenants = [\"acme\"]\nscopes_claim = \"roles\"\n\
                 require = { idtyp = \"app\" }",
        set: entra_keys,
        signer: Signer::rs256("app-key"),
        header: json!({ "typ": "JWT", "alg": "RS256", "kid": "app-key" }),
        claims: json!({
            "aud": "6e74172b", "iss": "https://login.microsoftonline.com/t/v2.0", "iat": seconds(-300), "nbf": seconds(-300),
            "exp": seconds(3_900), "azp": "a1b2", "azpacr": "1", "idtyp": "app", "oid": "5f0a", "roles": ["Orders.Read.All", "Orders.Write.All"],
            "sub": "5f0a", "tid": "t", "ver": "2.0",
        }),
        seen: &[("x-scopes", "Orders.Read.All Orders.Write.All"), ("x-kind", "app"), ("x-name", "")],
        twins: vec![
            (Change::Claim("/idtyp", json!("user")), "required_claim"),
            (Change::Without("idtyp"), "required_claim"),
        ],
    }
}

fn okta() -> Provider {
    Provider {
        name: "okta",
        surface: "claim_headers = { groups = \"X-Groups\", uid = \"X-Uid\" }\nclaim_lists = \"commas\"",
        issuer: "issuer = \"https://acme.okta.com/oauth2/default\"\naudience = \"api://default\"\ntenants = [\"acme\"]\nscopes_claim = \"scp\"",
        set: |signer| json!({ "keys": [signer.jwk()] }),
        signer: Signer::rs256("U5R8cHbGw445Qbq8zVO1PcCpXL8yG6IcovVa3laCoxM"),
        header: json!({ "kid": "U5R8cHbGw445Qbq8zVO1PcCpXL8yG6IcovVa3laCoxM", "alg": "RS256" }),
        claims: json!({
            "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE", "iss": "https://acme.okta.com/oauth2/default",
            "aud": "api://default", "sub": "alice@example.com", "iat": seconds(1), "exp": seconds(3_600), "cid": "nmdP1fcyvdVO11AL7ECm",
            "uid": "00ujmkLgagxeRrAg20g3", "scp": ["openid", "orders-api/orders.read"], "groups": ["Everyone", "CN=Sales,OU=EMEA"],
        }),
        seen: &[
            ("x-auth-subject", "alice@example.com"),
            ("x-scopes", "openid orders-api/orders.read"),
            ("x-groups", "Everyone,CN=Sales%2COU=EMEA"),
            ("x-uid", "00ujmkLgagxeRrAg20g3"),
        ],
        twins: [
            usual_twins(),
            vec![
                (Change::Claim("/aud", json!("https://acme.okta.com")), "wrong_audience"),
                (Change::Claim("/iat", json!(seconds(60))), "issued_in_future"),
                (Change::Claim("/scp", json!({ "openid": true })), "malformed_scopes"),
            ],
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// Publishes a key for encryption beside the one for signatures, and roles of realm and client in objects.
fn keycloak() -> Provider {
    Provider {
        name: "keycloak",
        surface: "claim_headers = { \"resource_access.account.roles\" = \"X-Account\", \"/realm_access/roles\" = \"X-Role\", email_verified = \"X-Verified\" }",
        issuer: "issuer = \"https://id.example.com/realms/acme\"\naudience = \"account\"\ntenants = [\"acme\"]\nscopes_claim = \"realm_access.roles\"\n\
                 require = { typ = \"Bearer\", email_verified = \"true\" }",
        set: |signer| {
            let mut encryption = signer.jwk();
            encryption["use"] = json!("enc");
            encryption["alg"] = json!("RSA-OAEP");
            encryption["kid"] = json!("enc");
            json!({ "keys": [encryption, signer.jwk()] })
        },
        signer: Signer::of_algorithm("FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE", "PS256"),
        header: json!({ "alg": "PS256", "typ": "JWT", "kid": "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE" }),
        claims: json!({
            "exp": seconds(300), "iat": seconds(-1), "auth_time": seconds(-60), "jti": "onrtro:5f1c", "iss": "https://id.example.com/realms/acme",
            "aud": ["realm-management", "account"], "sub": "f:4a7c2d1e:alice", "typ": "Bearer", "azp": "web", "sid": "0d1c", "acr": "1",
            "allowed-origins": ["https://app.example.com"],
            "realm_access": { "roles": ["offline_access", "uma_authorization", "orders:read"] },
            "resource_access": { "account": { "roles": ["manage-account", "view-profile"] } },
            "scope": "openid email profile", "email_verified": true, "name": "Alice", "preferred_username": "alice",
        }),
        seen: &[
            ("x-auth-subject", "f:4a7c2d1e:alice"),
            ("x-scopes", "offline_access uma_authorization orders:read"),
            ("x-role", "offline_access uma_authorization orders:read"),
            ("x-account", "manage-account view-profile"),
            ("x-verified", "true"),
        ],
        twins: [
            usual_twins(),
            vec![
                (Change::Claim("/typ", json!("ID")), "required_claim"),
                (Change::Claim("/email_verified", json!(false)), "required_claim"),
                (Change::Claim("/aud", json!(["realm-management"])), "wrong_audience"),
                (Change::Claim("/realm_access/roles", json!(true)), "malformed_scopes"),
                (Change::Header("kid", json!("enc")), "unknown_key"),
                (Change::Header("alg", json!("RS256")), "wrong_algorithm"),
                (Change::Header("typ", json!("logout+jwt")), "wrong_type"),
            ],
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}
