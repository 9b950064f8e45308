//! Identities of machines: GitHub Actions, SPIFFE, Kubernetes.

use super::*;

#[test]
fn github_actions_spiffe_and_kubernetes() {
    admit_and_refuse(&[github(), spiffe(), kubernetes()]);
}

fn github() -> Provider {
    Provider {
        name: "github",
        surface: "claim_headers = { repository = \"X-Repository\", run_id = \"X-Run\", head_ref = \"X-Head\" }",
        issuer: "issuer = \"https://token.actions.githubusercontent.com\"\naudience = \"https://github.com/octo-org\"\ntenants = [\"acme\"]\n\
                 require = { repository_owner = \"octo-org\", ref = \"refs/heads/main\" }",
        set: |signer| {
            let mut jwk = signer.jwk();
            jwk["x5t"] = json!("ykNaY4qM_ta4k2TgZOCEYLkcYlA");
            json!({ "keys": [jwk] })
        },
        signer: Signer::rs256("38826b17-6a30-5f9b-b169-8beb8202f723"),
        header: json!({ "typ": "JWT", "alg": "RS256", "x5t": "ykNaY4qM_ta4k2TgZOCEYLkcYlA", "kid": "38826b17-6a30-5f9b-b169-8beb8202f723" }),
        claims: json!({
            "jti": "example-id", "sub": "repo:octo-org/octo-repo:ref:refs/heads/main", "environment": "prod", "aud": "https://github.com/octo-org",
            "ref": "refs/heads/main", "sha": "example-sha", "repository": "octo-org/octo-repo", "repository_owner": "octo-org",
            "actor_id": "12", "repository_visibility": "private", "repository_id": "74", "repository_owner_id": "65", "run_id": "example-run-id",
            "run_number": "10", "run_attempt": "2", "runner_environment": "github-hosted", "actor": "octocat", "workflow": "example-workflow",
            "head_ref": "", "base_ref": "", "event_name": "workflow_dispatch", "ref_type": "branch", "ref_protected": "true",
            "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
            "iss": "https://token.actions.githubusercontent.com", "nbf": seconds(-300), "exp": seconds(300), "iat": seconds(0),
        }),
        seen: &[
            ("x-auth-subject", "repo:octo-org/octo-repo:ref:refs/heads/main"),
            ("x-repository", "octo-org/octo-repo"),
            ("x-run", "example-run-id"),
            ("x-head", ""),
        ],
        twins: [
            usual_twins(),
            vec![
                (Change::Claim("/repository_owner", json!("octo-org-evil")), "required_claim"),
                (Change::Claim("/ref", json!("refs/heads/feature")), "required_claim"),
                (Change::Claim("/aud", json!("https://github.com/another")), "wrong_audience"),
            ],
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// A trust domain's bundle: keys for certificates beside those for tokens, no `alg`; tokens need neither `iss` nor `iat`.
fn spiffe() -> Provider {
    Provider {
        name: "spiffe",
        surface: "",
        issuer: "audience = \"orders\"\ntenants = [\"acme\"]",
        set: |signer| {
            let mut token = without_alg(signer);
            token["use"] = json!("jwt-svid");
            let mut certificate = without_alg(&Signer::of_algorithm("x", "ES384"));
            certificate["use"] = json!("x509-svid");
            certificate["x5c"] = json!(["MIIB"]);
            certificate.as_object_mut().unwrap().remove("kid");
            json!({ "spiffe_sequence": 12_035_488, "spiffe_refresh_hint": 300, "keys": [certificate, token] })
        },
        signer: Signer::of_algorithm("C6vs25welZOx6WksNYfbMfiw9l96pMnD", "ES384"),
        header: json!({ "alg": "ES384", "kid": "C6vs25welZOx6WksNYfbMfiw9l96pMnD", "typ": "JOSE" }),
        claims: json!({ "sub": "spiffe://example.org/ns/prod/sa/web", "aud": ["orders", "billing"], "exp": seconds(300) }),
        seen: &[("x-auth-subject", "spiffe://example.org/ns/prod/sa/web"), ("x-scopes", "")],
        twins: [
            usual_twins(),
            vec![
                (Change::Claim("/aud", json!(["billing"])), "wrong_audience"),
                (Change::Claim("/aud", json!([])), "wrong_audience"),
                (Change::Without("aud"), "no_audience"),
                (Change::Header("alg", json!("ES256")), "wrong_algorithm"),
            ],
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

fn kubernetes() -> Provider {
    Provider {
        name: "kubernetes",
        surface: "claim_headers = { \"/kubernetes.io/pod/name\" = \"X-Pod\", \"/kubernetes.io/serviceaccount\" = \"X-Account\" }\nclaim_lists = \"json\"",
        issuer: "issuer = \"https://kubernetes.default.svc.cluster.local\"\naudience = \"durward\"\ntenants = [\"acme\"]\n\
                 require = { \"/kubernetes.io/namespace\" = \"prod\" }",
        set: |signer| json!({ "keys": [signer.jwk()] }),
        signer: Signer::rs256("OAjVVaejWFc0Yt9ykr0_8lMMuRNs67OXTWHsN02Pkyw"),
        header: json!({ "alg": "RS256", "kid": "OAjVVaejWFc0Yt9ykr0_8lMMuRNs67OXTWHsN02Pkyw" }),
        claims: json!({
            "aud": ["durward"], "exp": seconds(3_600), "iat": seconds(-10), "iss": "https://kubernetes.default.svc.cluster.local",
            "jti": "0a1b", "nbf": seconds(-10), "sub": "system:serviceaccount:prod:web",
            "kubernetes.io": {
                "namespace": "prod", "node": { "name": "node-1", "uid": "4c" }, "pod": { "name": "web-7c9d", "uid": "5d" },
                "serviceaccount": { "name": "web", "uid": "6e" }, "warnafter": seconds(3_000),
            },
        }),
        seen: &[
            ("x-auth-subject", "system:serviceaccount:prod:web"),
            ("x-pod", "web-7c9d"),
            ("x-account", "{\"name\":\"web\",\"uid\":\"6e\"}"),
        ],
        twins: [
            usual_twins(),
            vec![
                (Change::Claim("/kubernetes.io/namespace", json!("staging")), "required_claim"),
                (Change::Claim("/aud", json!(["https://kubernetes.default.svc"])), "wrong_audience"),
                (Change::Claim("/kubernetes.io", json!("prod")), "required_claim"),
            ],
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}
