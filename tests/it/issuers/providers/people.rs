//! Providers of sign-in for people: Auth0, Google, Amazon Cognito.

use super::*;

#[test]
fn auth0_of_both_profiles_and_google() {
    admit_and_refuse(&[auth0(), auth0_of_rfc_9068(), google()]);
}

#[test]
fn cognito_with_both_tokens() {
    admit_and_refuse(&[cognito_id(), cognito_access()]);
}

fn auth0() -> Provider {
    Provider {
        name: "auth0",
        surface: "claim_headers = { \"https://example.com/roles\" = \"X-Role\", \"https://example.com/plan\" = \"X-Plan\" }",
        issuer: "issuer = \"https://acme.eu.auth0.com/\"\naudience = \"https://api.example.com/\"\ntenants = [\"acme\"]\nscopes_claim = \"permissions\"",
        set: |signer| {
            let mut jwk = signer.jwk();
            jwk["x5t"] = json!("NEVBNUNBOTgxRkE5NkQzQzc4OTBEMEFFRDQ5N0Q2Qjk0RkQ1MjFGMQ");
            json!({ "keys": [jwk] })
        },
        signer: Signer::rs256("0QTy0iJBmqaGmFEfsJQgW"),
        header: json!({ "alg": "RS256", "typ": "JWT", "kid": "0QTy0iJBmqaGmFEfsJQgW" }),
        claims: json!({
            "https://example.com/roles": ["Support Agent", "clerk"], "https://example.com/plan": null,
            "iss": "https://acme.eu.auth0.com/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "aud": ["https://api.example.com/", "https://acme.eu.auth0.com/userinfo"],
            "iat": seconds(0), "exp": seconds(86_400), "azp": "my_client_id", "scope": "openid profile  read:orders",
            "gty": "password", "permissions": ["read:orders", "write:orders"],
        }),
        seen: &[
            ("x-auth-subject", "auth0|5f7c8ec7c33c6c004bbafe82"),
            ("x-scopes", "read:orders write:orders"),
            ("x-role", "Support%20Agent clerk"),
            ("x-plan", ""),
        ],
        twins: [
            usual_twins(),
            vec![
                (
                    Change::Claim("/aud", json!(["https://acme.eu.auth0.com/userinfo"])),
                    "wrong_audience",
                ),
                (Change::Claim("/iss", json!("https://acme.eu.auth0.com")), "unknown_issuer"),
            ],
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// A client without a person, by the profile that RFC 9068 has.
fn auth0_of_rfc_9068() -> Provider {
    Provider {
        name: "auth0-9068",
        surface: "",
        issuer: "issuer = \"https://acme.eu.auth0.com/\"\naudience = \"https://api.example.com/\"\ntenants = [\"acme\"]\ntoken_type = \"at+jwt\"",
        set: |signer| json!({ "keys": [signer.jwk()] }),
        signer: Signer::rs256("k"),
        header: json!({ "alg": "RS256", "typ": "at+jwt", "kid": "k" }),
        claims: json!({
            "iss": "https://acme.eu.auth0.com/", "sub": "0oa1a2b3c4@clients", "aud": "https://api.example.com/", "iat": seconds(0),
            "exp": seconds(86_400), "scope": "read:orders", "jti": "0QTy", "client_id": "0oa1a2b3c4",
        }),
        seen: &[("x-auth-subject", "0oa1a2b3c4@clients"), ("x-scopes", "read:orders")],
        twins: vec![
            (Change::Header("typ", json!("JWT")), "wrong_type"),
            (Change::Header("typ", json!("logout+jwt")), "wrong_type"),
            (Change::Header("typ", json!(["at+jwt"])), "malformed_header"),
        ],
    }
}

fn google() -> Provider {
    Provider {
        name: "google",
        surface: "claim_headers = { email = \"X-User\", email_verified = \"X-Verified\", name = \"X-Name\" }",
        issuer: "issuer = \"https://accounts.google.com\"\naudience = \"1234987819200.apps.googleusercontent.com\"\ntenants = [\"acme\"]\n\
                 require = { hd = \"example.com\" }",
        set: |signer| json!({ "keys": [signer.jwk(), Signer::rs256("next").jwk()] }),
        signer: Signer::rs256("a06af0b68a21a9ea4f4e5d0f8f0c8a7c29e0f5b6"),
        header: json!({ "alg": "RS256", "kid": "a06af0b68a21a9ea4f4e5d0f8f0c8a7c29e0f5b6", "typ": "JWT" }),
        claims: json!({
            "iss": "https://accounts.google.com", "azp": "1234987819200.apps.googleusercontent.com",
            "aud": "1234987819200.apps.googleusercontent.com", "sub": "10769150350006150715113082367", "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
            "hd": "example.com", "email": "jsmith@example.com", "email_verified": true, "name": "\u{5c71}\u{7530} \u{592a}\u{90ce}",
            "nonce": "0394852-3190485-2490358", "iat": seconds(-5), "exp": seconds(3_595),
        }),
        seen: &[
            ("x-auth-subject", "10769150350006150715113082367"),
            ("x-scopes", ""),
            ("x-user", "jsmith@example.com"),
            ("x-verified", "true"),
            ("x-name", "%E5%B1%B1%E7%94%B0 %E5%A4%AA%E9%83%8E"),
        ],
        twins: [
            usual_twins(),
            vec![
                (Change::Claim("/hd", json!("evil.example")), "required_claim"),
                (Change::Without("hd"), "required_claim"),
                (Change::Claim("/aud", json!("other.apps.googleusercontent.com")), "wrong_audience"),
                (Change::Header("kid", json!("next")), "bad_signature"),
            ],
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

const COGNITO: &str = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_example";

fn cognito_id() -> Provider {
    Provider {
        name: "cognito-id",
        surface: "claim_headers = { \"cognito:username\" = \"X-User\", \"cognito:groups\" = \"X-Groups\", identities = \"X-Identities\" }",
        issuer: "issuer = \"https://cognito-idp.us-east-1.amazonaws.com/us-east-1_example\"\naudience = \"xxxxxxxxxxxxexample\"\n\
                 scopes_claim = \"cognito:groups\"\ntenant_claim = \"custom:tenant\"\ntenants = [\"acme\"]\nrequire = { token_use = \"id\" }",
        set: |signer| json!({ "keys": [signer.jwk(), Signer::rs256("access=").jwk()] }),
        signer: Signer::rs256("1234example="),
        header: json!({ "kid": "1234example=", "alg": "RS256" }),
        claims: json!({
            "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["test-group-a", "Test Group"], "email_verified": true,
            "cognito:preferred_role": "arn:aws:iam::111122223333:role/my-test-role", "iss": COGNITO, "cognito:username": "my-test-user",
            "custom:tenant": "acme", "nonce": "abcdefg", "origin_jti": "aaaa", "aud": "xxxxxxxxxxxxexample",
            "identities": [{ "userId": "amzn1.account.EXAMPLE", "providerName": "LoginWithAmazon", "primary": "true" }],
            "event_id": "64f513be", "token_use": "id", "auth_time": seconds(-60), "exp": seconds(3_600), "iat": seconds(-60), "jti": "aaaa",
            "email": "my-test-user@example.com",
        }),
        seen: &[
            ("x-auth-subject", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"),
            ("x-scopes", "test-group-a"),
            ("x-user", "my-test-user"),
            ("x-groups", "test-group-a Test%20Group"),
            ("x-identities", ""),
        ],
        twins: [
            usual_twins(),
            vec![
                (Change::Claim("/token_use", json!("access")), "required_claim"),
                (Change::Claim("/custom:tenant", json!("other")), "foreign_tenant"),
                (Change::Claim("/custom:tenant", json!("Acme Ltd")), "malformed_tenant"),
                (Change::Without("custom:tenant"), "no_tenant"),
                (Change::Without("aud"), "no_audience"),
            ],
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// It has no `aud`; who it was made for is its `client_id`.
fn cognito_access() -> Provider {
    Provider {
        name: "cognito-access",
        surface: "claim_headers = { username = \"X-User\" }",
        issuer: "issuer = \"https://cognito-idp.us-east-1.amazonaws.com/us-east-1_example\"\naudience = \"xxxxxxxxxxxxexample\"\n\
                 audience_claim = \"client_id\"\ntenants = [\"acme\"]\nrequire = { token_use = \"access\" }",
        set: |signer| json!({ "keys": [signer.jwk()] }),
        signer: Signer::rs256("1234example="),
        header: json!({ "kid": "1234example=", "alg": "RS256" }),
        claims: json!({
            "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "device_key": "aaaa", "cognito:groups": ["admin"], "iss": COGNITO, "version": 2,
            "client_id": "xxxxxxxxxxxxexample", "origin_jti": "aaaa", "event_id": "aaaa", "token_use": "access",
            "scope": "phone openid orders-api/orders.read", "auth_time": seconds(-60), "exp": seconds(3_600), "iat": seconds(-60), "jti": "aaaa",
            "username": "my-test-user",
        }),
        seen: &[
            ("x-auth-subject", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"),
            ("x-scopes", "phone openid orders-api/orders.read"),
            ("x-user", "my-test-user"),
        ],
        twins: vec![
            (Change::Claim("/token_use", json!("id")), "required_claim"),
            (Change::Claim("/client_id", json!("another")), "wrong_audience"),
            (Change::Without("client_id"), "no_audience"),
            (Change::Key, "bad_signature"),
        ],
    }
}
