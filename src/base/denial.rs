//! The closed set of reasons to refuse a request, the one table that says what each means, and the field errors that
//! accompany one of them.

/// Why a request was refused. Several reasons have the same answer outside (unknown, revoked, expired, wrong secret)
/// and stay apart in logs and metrics.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Denial {
    /// The head is not HTTP as RFC 9112 or RFC 9113 has it.
    MalformedRequest,
    /// The request-target is ambiguous or malformed.
    MalformedTarget,
    /// Host or authority is missing, doubled or malformed.
    MalformedHost,
    /// Message framing is in doubt; the connection closes.
    MalformedFraming,
    /// A header that imitates a protected one, or a protected header named in `Connection`.
    ForgedHeader,
    /// More than one credential was presented.
    AmbiguousCredentials,
    /// The body of a served route is not the JSON that the route needs.
    InvalidBody,
    /// A sign-on that was begun in another browser, finished already, or took too long.
    SignOnInvalid,
    /// The client was too slow to send its request.
    RequestTimeout,
    /// The body is larger than the route allows.
    BodyTooLarge,
    /// The request-target is longer than 8 KiB.
    TargetTooLong,
    /// The media type of the body is none that the served route takes.
    WrongMediaType,
    /// `Expect` holds something else than `100-continue`.
    ExpectationFailed,
    /// This name is not served on this connection.
    Misdirected,
    /// Fields of the body are missing or wrong. The field errors stand beside the denial.
    InvalidFields,
    /// The head is larger than 32 KiB, has a field larger than 17 KiB, or more than 100 fields.
    HeadTooLarge,
    /// A transfer coding other than `chunked`.
    UnsupportedCoding,
    /// An HTTP version other than 1.0, 1.1 and 2.
    UnsupportedVersion,
    NoRoute,
    /// The record does not exist, or the caller may not know that it does.
    NotFound,
    /// A route matches the path but not the method.
    MethodNotAllowed,
    /// What the call would make exists already.
    Taken,
    /// The record or the tenant has as many credentials as it may have.
    TooManyCredentials,
    /// No credential where the route needs one.
    MissingCredential,
    /// The credential does not have the form of its surface.
    MalformedCredential,
    /// The credential belongs to another surface than the route accepts.
    WrongSurface,
    /// A credential in a place where no surface of the route expects one.
    MisplacedCredential,
    /// The credential's mode is not the one needed, or two halves differ in mode.
    WrongMode,
    /// There is no such credential.
    UnknownCredential,
    /// The publishable half is known, the secret half is wrong.
    WrongSecret,
    RevokedCredential,
    DisabledCredential,
    /// The credential is past its expiry.
    ExpiredCredential,
    /// The credential is not valid yet.
    EarlyCredential,
    /// A signed token does not verify, or its claims are not those that its surface requires.
    InvalidToken,
    /// The credential's tenant is inactive.
    InactiveTenant,
    /// The principal lacks a scope the route needs.
    InsufficientScope,
    /// The caller named another tenant than its own.
    ForeignTenant,
    /// The service that the hook of a served route asked refused the call.
    RefusedByService,
    /// What the identity provider sent proves nobody, or nobody who may sign on here.
    SignOnRefused,
    /// The provider has proven a person who has no role here.
    NoRole,
    /// A cookie credential on a changing method, without proof that the request is of the same origin.
    CrossSite,
    /// A browser asks for a page whose origin is not listed.
    CorsOrigin,
    /// A browser asks for a method that the path does not take.
    CorsMethod,
    /// A browser asks for a request header that pages may not send.
    CorsHeader,
    RateLimited,
    /// The store could not answer. Not knowing is not the same as absence.
    StoreUnavailable,
    /// The store answered with something that cannot be trusted.
    CorruptRecord,
    /// The gateway is over one of its own limits.
    Overloaded,
    /// The audit trail has no room for an entry of the request, and `audit.on_full` is `refuse`.
    NotRecordable,
    /// No endpoint of the upstream could be reached.
    UpstreamUnreachable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The upstream's answer was not HTTP.
    UpstreamInvalid,
    /// The identity provider could not be reached, or its answer could not be read.
    ProviderFailed,
    /// A defect in the gateway; this request ends, the process goes on.
    Internal,
}

/// How loudly a denial is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Info,
    /// Worth a look in numbers: attack patterns, limits.
    Warn,
    /// Something of ours or of the operator's is broken.
    Error,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct DenialRow {
    pub denial: Denial,
    /// Metric label and log value; also the key in the table of a dialect.
    pub label: &'static str,
    pub status: u16,
    /// Default code for the caller. Reasons that must look alike share it.
    pub code: &'static str,
    /// Default message towards the caller.
    pub message: &'static str,
    /// How loudly it is logged.
    pub severity: Severity,
}

macro_rules! table {
    ($($denial:ident $label:literal $status:literal $code:literal $severity:ident $message:literal;)*) => {
        /// Every denial, in the order of the enum.
        pub const DENIALS: &[DenialRow] = &[
            $(DenialRow { denial: Denial::$denial, label: $label, status: $status, code: $code, message: $message, severity: Severity::$severity },)*
        ];
    };
}

table! {
    MalformedRequest "malformed_request" 400 "malformed_request" Info "The request is not valid HTTP.";
    MalformedTarget "malformed_target" 400 "malformed_target" Warn "The request target is malformed or ambiguous.";
    MalformedHost "malformed_host" 400 "malformed_host" Info "The Host header is missing, repeated or malformed.";
    MalformedFraming "malformed_framing" 400 "malformed_framing" Warn "The message framing is malformed or ambiguous.";
    ForgedHeader "forged_header" 400 "forged_header" Warn "A protected header was sent in disguise.";
    AmbiguousCredentials "ambiguous_credentials" 400 "ambiguous_credentials" Warn "More than one credential was presented.";
    InvalidBody "invalid_body" 400 "invalid_body" Info "The request body is not valid JSON.";
    SignOnInvalid "sign_on_invalid" 400 "sign_on_invalid" Info "This sign-on cannot go on. Please begin it again.";
    RequestTimeout "request_timeout" 408 "request_timeout" Info "The request was not received in time.";
    BodyTooLarge "body_too_large" 413 "body_too_large" Info "The request body is too large.";
    TargetTooLong "target_too_long" 414 "target_too_long" Info "The request target is too long.";
    WrongMediaType "wrong_media_type" 415 "unsupported_media_type" Info "The request body must be application/json.";
    ExpectationFailed "expectation_failed" 417 "expectation_failed" Info "The expectation cannot be met.";
    Misdirected "misdirected" 421 "misdirected_request" Info "This name is not served on this connection.";
    InvalidFields "invalid_fields" 422 "invalid_fields" Info "Some fields are missing or not valid.";
    HeadTooLarge "head_too_large" 431 "head_too_large" Info "The request head is too large.";
    UnsupportedCoding "unsupported_coding" 501 "unsupported_transfer_coding" Warn "The transfer coding is not supported.";
    UnsupportedVersion "unsupported_version" 505 "unsupported_http_version" Info "The HTTP version is not supported.";
    NoRoute "no_route" 404 "not_found" Info "There is nothing here.";
    NotFound "record_not_found" 404 "not_found" Info "There is nothing here.";
    MethodNotAllowed "method_not_allowed" 405 "method_not_allowed" Info "The method is not allowed here.";
    Taken "taken" 409 "taken" Info "This exists already.";
    TooManyCredentials "too_many_credentials" 409 "too_many_credentials" Warn "No more can be made here.";
    MissingCredential "missing_credential" 401 "missing_credential" Info "A credential is required.";
    MalformedCredential "malformed_credential" 401 "invalid_credential" Info "The credential is not valid.";
    WrongSurface "wrong_surface" 401 "invalid_credential" Warn "The credential is not valid.";
    MisplacedCredential "misplaced_credential" 401 "invalid_credential" Warn "The credential is not valid.";
    WrongMode "wrong_mode" 401 "invalid_credential" Warn "The credential is not valid.";
    UnknownCredential "unknown_credential" 401 "invalid_credential" Info "The credential is not valid.";
    WrongSecret "wrong_secret" 401 "invalid_credential" Warn "The credential is not valid.";
    RevokedCredential "revoked_credential" 401 "invalid_credential" Warn "The credential is not valid.";
    DisabledCredential "disabled_credential" 401 "invalid_credential" Info "The credential is not valid.";
    ExpiredCredential "expired_credential" 401 "invalid_credential" Info "The credential is not valid.";
    EarlyCredential "early_credential" 401 "invalid_credential" Info "The credential is not valid.";
    InvalidToken "invalid_token" 401 "invalid_credential" Warn "The credential is not valid.";
    InactiveTenant "inactive_tenant" 403 "inactive_tenant" Info "The account of this credential is inactive.";
    InsufficientScope "insufficient_scope" 403 "insufficient_scope" Info "The credential lacks a scope this call needs.";
    ForeignTenant "foreign_tenant" 403 "foreign_tenant" Warn "Another tenant's data cannot be reached.";
    RefusedByService "refused_by_service" 403 "refused" Info "The service behind refused this.";
    SignOnRefused "sign_on_refused" 403 "sign_on_refused" Warn "The sign-on was refused.";
    NoRole "no_role" 403 "no_role" Info "The person has no role here.";
    CrossSite "cross_site" 403 "cross_site_request" Warn "The request may come from another site.";
    CorsOrigin "cors_origin" 403 "cors_refused" Info "Pages of this origin may not call here.";
    CorsMethod "cors_method" 403 "cors_refused" Info "Pages may not use this method here.";
    CorsHeader "cors_header" 403 "cors_refused" Info "Pages may not send one of these headers here.";
    RateLimited "rate_limited" 429 "rate_limited" Info "Too many requests.";
    StoreUnavailable "store_unavailable" 503 "unavailable" Error "The service is temporarily unavailable.";
    CorruptRecord "corrupt_record" 503 "unavailable" Error "The service is temporarily unavailable.";
    Overloaded "overloaded" 503 "overloaded" Warn "The service is temporarily overloaded.";
    NotRecordable "not_recordable" 503 "unavailable" Error "The service is temporarily unavailable.";
    UpstreamUnreachable "upstream_unreachable" 502 "upstream_unreachable" Error "The service behind could not be reached.";
    UpstreamTimeout "upstream_timeout" 504 "upstream_timeout" Error "The service behind did not answer in time.";
    UpstreamInvalid "upstream_invalid" 502 "upstream_invalid" Error "The service behind gave an invalid answer.";
    ProviderFailed "provider_failed" 502 "provider_failed" Error "The identity provider could not be reached.";
    Internal "internal" 500 "internal" Error "Something went wrong.";
}

impl Denial {
    /// The table's row of this denial.
    #[must_use]
    pub const fn row(self) -> &'static DenialRow {
        &DENIALS[self as usize]
    }

    /// Metric label and log value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.row().label
    }

    /// The denial of a label.
    #[must_use]
    pub fn of_label(label: &str) -> Option<Self> {
        DENIALS.iter().find(|row| row.label == label).map(|row| row.denial)
    }

    /// Whether the connection must close after this answer, because what follows on it cannot be told apart from the
    /// refused message.
    #[must_use]
    pub const fn closes_connection(self) -> bool {
        matches!(
            self,
            Self::MalformedRequest
                | Self::MalformedFraming
                | Self::RequestTimeout
                | Self::BodyTooLarge
                | Self::TargetTooLong
                | Self::HeadTooLarge
                | Self::UnsupportedCoding
                | Self::UnsupportedVersion
                | Self::Internal
        )
    }
}

/// Most messages for one request. A body with more mistakes is not helped by hearing of all, and an answer must not
/// grow with what a stranger sends.
pub const MAX_FIELD_ERRORS: usize = 32;

/// Longest name of a field in an answer, in characters. Names of unknown fields come from the caller.
pub const MAX_FIELD_NAME: usize = 64;

/// Messages by field, in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<(String, Vec<String>)>);

impl FieldErrors {
    /// Adds a message about a field. Beyond [`MAX_FIELD_ERRORS`] nothing is added; a longer name is
    /// cut to [`MAX_FIELD_NAME`] characters.
    pub fn push(&mut self, field: &str, message: impl Into<String>) {
        if self.0.iter().map(|(_, messages)| messages.len()).sum::<usize>() >= MAX_FIELD_ERRORS {
            return;
        }
        let end = field.char_indices().nth(MAX_FIELD_NAME).map_or(field.len(), |(i, _)| i);
        let field = field.get(..end).unwrap_or(field);
        match self.0.iter_mut().find(|(name, _)| name == field) {
            Some((_, messages)) => messages.push(message.into()),
            None => self.0.push((field.to_owned(), vec![message.into()])),
        }
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(field, messages)| (field.as_str(), messages.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_row_for_each_denial_in_order() {
        for (i, row) in DENIALS.iter().enumerate() {
            assert_eq!(row.denial as usize, i, "{}", row.label);
            assert_eq!(Denial::of_label(row.label), Some(row.denial));
        }
        assert_eq!(Denial::Internal as usize + 1, DENIALS.len());
    }

    #[test]
    fn reasons_that_would_help_a_guesser_look_alike() {
        use Denial::{
            DisabledCredential, ExpiredCredential, InvalidToken, MisplacedCredential, RevokedCredential, UnknownCredential, WrongMode,
            WrongSecret, WrongSurface,
        };
        for d in [
            DisabledCredential,
            ExpiredCredential,
            InvalidToken,
            MisplacedCredential,
            RevokedCredential,
            WrongMode,
            WrongSecret,
            WrongSurface,
        ] {
            let (a, b) = (d.row(), UnknownCredential.row());
            assert_eq!((a.status, a.code, a.message), (b.status, b.code, b.message), "{}", a.label);
        }
    }

    #[test]
    fn messages_of_one_field_stay_together_and_in_order() {
        let mut errors = FieldErrors::default();
        assert!(errors.is_empty());
        errors.push("b", "1");
        errors.push("a", "2");
        errors.push("b", "3");
        let all: Vec<_> = errors.iter().collect();
        assert_eq!(all, [("b", &["1".to_owned(), "3".to_owned()][..]), ("a", &["2".to_owned()][..])]);
    }

    #[test]
    fn what_a_stranger_sends_cannot_make_them_long() {
        let mut errors = FieldErrors::default();
        for i in 0..1_000 {
            errors.push(&format!("{i}{}", "ä".repeat(1_000)), "m");
        }
        assert_eq!(errors.iter().count(), MAX_FIELD_ERRORS);
        assert!(errors.iter().all(|(field, _)| field.chars().count() == MAX_FIELD_NAME));
    }
}
