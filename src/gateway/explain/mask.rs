//! Keeps secrets out of an explanation: whatever a request presents is masked wherever it comes back.

use zeroize::Zeroizing;

use crate::audit::mask::{MASK, Shapes, redact_path, redact_query};
use crate::decide::audit::AuditedUrl;
use crate::decide::surface::Surface;

use super::ExplainRequest;

/// Shortest text that is looked for inside other texts. A shorter one is masked where it is the whole value.
const SHORTEST: usize = 6;

/// Words in the names of headers and parameters that hold secrets.
const SECRET_WORDS: [&str; 11] = [
    "auth",
    "token",
    "secret",
    "passw",
    "pwd",
    "session",
    "cookie",
    "credential",
    "signature",
    "api-key",
    "apikey",
];

/// The secrets of one request.
pub(super) struct GivenSecrets {
    /// Names of headers whose values are masked, in lower case.
    names: Vec<String>,
    values: Vec<Zeroizing<String>>,
    /// What credentials look like, for those that stand in the path.
    shapes: Shapes,
}

impl GivenSecrets {
    /// Secret is what was given as such, what a surface reads credentials from, and what is named like a secret.
    pub(super) fn of(request: &ExplainRequest, surfaces: &[Surface]) -> Self {
        let mut secrets = Self {
            names: Vec::new(),
            values: Vec::new(),
            shapes: Shapes::of(surfaces),
        };
        for header in &request.headers {
            let name = header.name.to_ascii_lowercase();
            let carries = surfaces.iter().any(|surface| surface.uses_header(name.as_bytes()));
            if header.secret || carries || is_secret_name(&name) {
                secrets.add_values(&header.value);
                secrets.names.push(name);
            }
        }
        if let Some((_, query)) = request.url.split_once('?') {
            for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
                if is_secret_name(&name.to_ascii_lowercase()) {
                    secrets.add(value);
                }
            }
        }
        // The longest first, so that no part of one is left when a shorter one within it was masked.
        secrets.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        secrets
    }

    /// The whole value, what follows a scheme, and the value of each cookie or parameter in it.
    fn add_values(&mut self, value: &str) {
        self.add(value);
        for part in value.split([' ', ';', ',']) {
            self.add(part);
            if let Some((_, text)) = part.split_once('=') {
                self.add(text.trim_matches('"'));
            }
        }
    }

    fn add(&mut self, text: &str) {
        let text = text.trim();
        if text.len() >= SHORTEST && !matches!(text.to_ascii_lowercase().as_str(), "bearer" | "basic" | "digest") {
            self.values.push(Zeroizing::new(text.to_owned()));
        }
    }

    /// A field of a head.
    pub(super) fn mask_field(&self, name: &str, value: &str) -> String {
        let lower = name.to_ascii_lowercase();
        if self.names.contains(&lower) {
            return MASK.to_owned();
        }
        self.mask(value)
    }

    /// A path, with or without a query. What looks like a credential is masked as in the trail.
    pub(super) fn mask_target(&self, target: &str) -> String {
        let mut masked = Vec::with_capacity(target.len());
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        redact_path(path, &self.shapes, &mut masked);
        if let Some(query) = query {
            masked.push(b'?');
            redact_query(query, &AuditedUrl::Full, &self.shapes, &mut masked);
        }
        self.mask(&String::from_utf8_lossy(&masked))
    }

    /// A text in which secrets may occur.
    pub(super) fn mask(&self, text: &str) -> String {
        self.values
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }
}

fn is_secret_name(name: &str) -> bool {
    SECRET_WORDS.iter().any(|word| name.contains(word)) || name == "key"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::explain::ExplainHeader;

    fn request(url: &str, headers: &[(&str, &str, bool)]) -> ExplainRequest {
        ExplainRequest {
            method: "GET".into(),
            url: url.into(),
            headers: headers
                .iter()
                .map(|(name, value, secret)| ExplainHeader {
                    name: (*name).into(),
                    value: (*value).into(),
                    secret: *secret,
                })
                .collect(),
            client: None,
        }
    }

    #[test]
    fn secrets_are_masked_wherever_they_come_back() {
        let request = request(
            "https://a/?token=canary-in-url&page=2",
            &[
                ("Authorization", "Bearer canary-bearer", false),
                ("Cookie", "theme=dark; sid=\"canary-cookie\"", false),
                ("X-Odd", "canary-odd", true),
                ("Accept", "application/json", false),
            ],
        );
        let secrets = GivenSecrets::of(&request, &[]);
        for (name, value) in [
            ("Authorization", "Bearer canary-bearer"),
            ("X-Odd", "canary-odd"),
            ("X-Copy", "canary-bearer"),
            ("X-Copy", "a=canary-cookie"),
            ("Referer", "https://a/?token=canary-in-url"),
        ] {
            let masked = secrets.mask_field(name, value);
            assert!(!masked.contains("canary") && masked.contains(MASK), "{name}: {masked}");
        }
        assert_eq!(secrets.mask_field("Accept", "application/json"), "application/json");
        assert_eq!(secrets.mask("/?token=canary-in-url&page=2"), "/?token=***&page=2");
    }

    #[test]
    fn a_credential_in_the_path_is_masked_and_another_segment_is_not() {
        let secrets = GivenSecrets::of(&request("https://a/", &[]), &[]);
        for (target, shown) in [
            ("/v1/cards/4111111111111111", "/v1/cards/***"),
            (
                "/v1/orders/01890a5d-ac96-774b-bcce-b302099a8057",
                "/v1/orders/01890a5d-ac96-774b-bcce-b302099a8057",
            ),
            ("/v1/orders?page=2&password=canary", "/v1/orders?page=2&password=***"),
        ] {
            assert_eq!(secrets.mask_target(target), shown);
        }
    }

    #[test]
    fn a_scheme_is_no_secret() {
        let secrets = GivenSecrets::of(&request("https://a/", &[("Authorization", "Bearer canary-bearer", false)]), &[]);
        assert_eq!(secrets.mask("Bearer realm"), "Bearer realm");
    }
}
