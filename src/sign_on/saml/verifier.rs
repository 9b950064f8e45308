//! What the confined process does: bytes and certificates in, a verdict out. Pure: no clock, no file, no socket.
//!
//! A message passes three gates. Its form must be the one that leaves no room for a second reading ([`XmlTree`], and the form of
//! its signatures). The library verifies the signatures and says which node each one covers. Claims are read below that node, in
//! that same tree, and nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use uppsala::NodeId;

use crate::base::clock::UnixMillis;
use crate::sign_on::provider::{EncryptionDemand, SignedPart};

use super::assertion::{AssertionClaims, read_assertion, read_version};
use super::encryption::{self, Ciphertext};
use super::fault::{SamlFault, excerpt};
use super::logout::{LogoutAnswerClaims, LogoutClaims, read_logout_answer, read_logout_request};
use super::metadata::{IdpMetadata, read_metadata};
use super::query::SignedQuery;
use super::signature::{TrustedCertificates, refuse_signatures_elsewhere, signature_of, verified};
use super::xml::{ASSERTION, Comments, PROTOCOL, XmlTree};

/// The local name of the element around an encrypted assertion.
const ENCRYPTED_ASSERTION: &str = "EncryptedAssertion";

/// The status of a sign-on or a log-out that succeeded.
pub(super) const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";

/// What the verifier is asked. It has no `Debug`: it may hold our key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VerifierJob {
    Response(ResponseJob),
    LogoutRequest(LogoutJob),
    LogoutAnswer(LogoutJob),
    Metadata {
        document: String,
    },
    /// Tries what a confined process must not be able to do.
    Probe(ProbeJob),
}

impl VerifierJob {
    /// Whether an assertion may have to be decrypted. XML has one spelling for the name of an element. So a message whose text does not
    /// contain the name has no encrypted assertion.
    #[must_use]
    pub fn may_decrypt(&self) -> bool {
        matches!(self, Self::Response(job) if job.decryption_key.is_some() && job.message.contains(ENCRYPTED_ASSERTION))
    }
}

/// A response to verify.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseJob {
    /// The XML text.
    pub message: String,
    pub keys: JobKeys,
    pub signed: SignedPart,
    pub encryption: EncryptionDemand,
    /// Our private key in PEM, if assertions may be encrypted for it.
    pub decryption_key: Option<String>,
}

/// A logout request to verify, or an answer to one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogoutJob {
    pub message: LogoutMessage,
    pub keys: JobKeys,
}

/// How a message of single logout came.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogoutMessage {
    /// The XML text, which is signed itself.
    Posted(String),
    Redirected(SignedQuery),
}

/// The provider's certificates, and the time by which they are judged.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobKeys {
    /// DER in base64.
    certificates: Vec<String>,
    now: i64,
}

/// What a confined process is told to try.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeJob {
    /// Files that it must not be able to open.
    pub files: Vec<String>,
    /// An address that it must not be able to connect to.
    pub address: Option<String>,
    /// A socket in the file system that it must not be able to connect to.
    pub socket: Option<String>,
}

/// What the verifier answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifierAnswer {
    Response(Box<ResponseClaims>),
    LogoutRequest(Box<LogoutClaims>),
    LogoutAnswer(Box<LogoutAnswerClaims>),
    Metadata(Box<IdpMetadata>),
    /// What the probe could do; empty in a confined process.
    Probe(Vec<String>),
    Refused(SamlFault),
}

/// A response whose assertion is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseClaims {
    /// Whether a signature covers the members of the response below; otherwise they must fit where they stand, and prove nothing.
    pub response_signed: bool,
    pub destination: Option<String>,
    pub in_response_to: Option<String>,
    /// The issuer of the response, which may stand at the assertion only.
    pub issuer: Option<String>,
    /// Read below a node that the library returned.
    pub assertion: AssertionClaims,
}

impl JobKeys {
    /// The certificates of a provider at this time.
    #[must_use]
    pub fn new(certificates: &[CertificateDer<'_>], now: UnixMillis) -> Self {
        Self {
            certificates: certificates.iter().map(|der| STANDARD.encode(der)).collect(),
            now: now.0,
        }
    }

    pub(super) fn trusted(&self) -> Result<TrustedCertificates, SamlFault> {
        let certificates: Result<Vec<CertificateDer<'static>>, SamlFault> = self
            .certificates
            .iter()
            .map(|text| match STANDARD.decode(text) {
                Ok(der) => Ok(CertificateDer::from(der)),
                Err(_) => Err(SamlFault::NoCertificate("it is not base64".to_owned())),
            })
            .collect();
        TrustedCertificates::new(&certificates?, UnixMillis(self.now))
    }
}

/// Does one job. A probe is no matter of this function, which touches nothing.
#[must_use]
pub fn answer(job: &VerifierJob) -> VerifierAnswer {
    let answered = match job {
        VerifierJob::Response(job) => verify_response(job).map(|claims| VerifierAnswer::Response(Box::new(claims))),
        VerifierJob::LogoutRequest(job) => verify_logout_request(job).map(|claims| VerifierAnswer::LogoutRequest(Box::new(claims))),
        VerifierJob::LogoutAnswer(job) => verify_logout_answer(job).map(|claims| VerifierAnswer::LogoutAnswer(Box::new(claims))),
        VerifierJob::Metadata { document } => read_metadata(document).map(|read| VerifierAnswer::Metadata(Box::new(read))),
        VerifierJob::Probe(_) => Ok(VerifierAnswer::Probe(Vec::new())),
    };
    answered.unwrap_or_else(VerifierAnswer::Refused)
}

/// Verifies a response and reads its assertion.
///
/// # Errors
/// The first reason to refuse it.
pub fn verify_response(job: &ResponseJob) -> Result<ResponseClaims, SamlFault> {
    let tree = XmlTree::parse(&job.message, Comments::Refused)?;
    let response = tree.root();
    if !tree.is(response, PROTOCOL, "Response") {
        return Err(SamlFault::WrongMessage(tree.name(response)));
    }
    read_version(&tree, response)?;
    let trusted = job.keys.trusted()?;
    match content(&tree)? {
        Content::Plain(assertion) => verify_plain(job, &tree, assertion, &trusted),
        Content::Encrypted(encrypted) => verify_encrypted(job, &tree, encrypted, &trusted),
    }
}

/// The one assertion of a response, directly below it.
enum Content {
    Plain(NodeId),
    Encrypted(NodeId),
}

fn content(tree: &XmlTree<'_>) -> Result<Content, SamlFault> {
    check_status(tree)?;
    let plain: Vec<NodeId> = tree.everywhere("Assertion").collect();
    let encrypted: Vec<NodeId> = tree.everywhere(ENCRYPTED_ASSERTION).collect();
    let directly_below = |node: NodeId, name: &str| {
        if tree.is(node, ASSERTION, name) && tree.document.parent(node) == Some(tree.root()) {
            Ok(node)
        } else {
            Err(SamlFault::AssertionElsewhere)
        }
    };
    match (&plain[..], &encrypted[..]) {
        ([], []) => Err(SamlFault::NoAssertion),
        ([one], []) => directly_below(*one, "Assertion").map(Content::Plain),
        ([], [one]) => directly_below(*one, ENCRYPTED_ASSERTION).map(Content::Encrypted),
        _ => Err(SamlFault::SeveralAssertions),
    }
}

/// Says what the identity provider reports instead of an assertion. Nothing depends on a status that says success.
fn check_status(tree: &XmlTree<'_>) -> Result<(), SamlFault> {
    let status = tree.needed(tree.root(), PROTOCOL, "Status")?;
    let mut code = tree.needed(status, PROTOCOL, "StatusCode")?;
    if tree.needed_attribute(code, "Value")? == SUCCESS {
        return Ok(());
    }
    // The second code, where it stands, says more.
    if let Some(second) = tree.named(code, PROTOCOL, "StatusCode").next() {
        code = second;
    }
    let value = tree.needed_attribute(code, "Value")?;
    Err(SamlFault::Status(excerpt(value.rsplit(':').next().unwrap_or(value))))
}

fn verify_plain(
    job: &ResponseJob,
    tree: &XmlTree<'_>,
    assertion: NodeId,
    trusted: &TrustedCertificates,
) -> Result<ResponseClaims, SamlFault> {
    if job.encryption == EncryptionDemand::Required {
        return Err(SamlFault::NotEncrypted);
    }
    let response = tree.root();
    refuse_signatures_elsewhere(tree, &[response, assertion])?;
    let of_response = verified_node(tree, response, trusted)?;
    let of_assertion = verified_node(tree, assertion, trusted)?;
    match job.signed {
        SignedPart::Response if of_response.is_none() => return Err(SamlFault::ResponseUnsigned),
        SignedPart::Assertion if of_assertion.is_none() => return Err(SamlFault::AssertionUnsigned),
        _ => {}
    }
    // What the library returned, not what was found before: below a signed response, its one assertion.
    let signed = match (of_assertion, of_response) {
        (Some(assertion), _) => assertion,
        (None, Some(response)) => tree.needed(response, ASSERTION, "Assertion")?,
        (None, None) => return Err(SamlFault::Unsigned),
    };
    let claims = read_assertion(tree, signed)?;
    read_response(tree, of_response, claims)
}

fn verify_encrypted(
    job: &ResponseJob,
    tree: &XmlTree<'_>,
    encrypted: NodeId,
    trusted: &TrustedCertificates,
) -> Result<ResponseClaims, SamlFault> {
    let key = job.decryption_key.as_deref().ok_or(SamlFault::NoDecryptionKey)?;
    let response = tree.root();
    refuse_signatures_elsewhere(tree, &[response])?;
    let of_response = verified_node(tree, response, trusted)?;
    if job.signed == SignedPart::Response && of_response.is_none() {
        return Err(SamlFault::ResponseUnsigned);
    }
    if encryption::check_form(tree, encrypted)? == Ciphertext::Unauthenticated && of_response.is_none() {
        return Err(SamlFault::UnsignedCiphertext);
    }
    let text = encryption::decrypted(tree.text, key)?;
    // One answer for all that follows from a changed ciphertext; only what a signature covers is told apart.
    let inner = XmlTree::parse(&text, Comments::Refused).map_err(|_| SamlFault::Undecryptable)?;
    let assertion = decrypted_assertion(&inner).ok_or(SamlFault::Undecryptable)?;
    refuse_signatures_elsewhere(&inner, &[inner.root(), assertion])?;
    // The signature of the response covers the ciphertext and was verified above, in the tree that has it.
    let Some(signature) = signature_of(&inner, assertion)? else {
        return Err(SamlFault::EncryptedUnsigned);
    };
    let signed = verified(&inner, signature, assertion, trusted)?;
    let claims = read_assertion(&inner, signed)?;
    read_response(tree, of_response, claims)
}

/// The assertion that was decrypted: the only one, where the encrypted one stood.
fn decrypted_assertion(tree: &XmlTree<'_>) -> Option<NodeId> {
    let encrypted = tree.only(tree.root(), ASSERTION, ENCRYPTED_ASSERTION).ok().flatten()?;
    let assertion = tree.only(encrypted, ASSERTION, "Assertion").ok().flatten()?;
    let alone = tree.everywhere("Assertion").count() == 1
        && tree.everywhere(ENCRYPTED_ASSERTION).count() == 1
        && tree.everywhere("EncryptedData").count() == 0;
    alone.then_some(assertion)
}

/// The node that the signature directly below `enclosing` covers, if there is a signature; a wrong one is refused.
fn verified_node(tree: &XmlTree<'_>, enclosing: NodeId, trusted: &TrustedCertificates) -> Result<Option<NodeId>, SamlFault> {
    match signature_of(tree, enclosing)? {
        Some(signature) => verified(tree, signature, enclosing, trusted).map(Some),
        None => Ok(None),
    }
}

fn read_response(tree: &XmlTree<'_>, signed: Option<NodeId>, assertion: AssertionClaims) -> Result<ResponseClaims, SamlFault> {
    let response = signed.unwrap_or_else(|| tree.root());
    let issuer = match tree.only(response, ASSERTION, "Issuer")? {
        Some(issuer) => Some(tree.text_of(issuer)?),
        None => None,
    };
    Ok(ResponseClaims {
        response_signed: signed.is_some(),
        destination: tree.attribute(response, "Destination").map(str::to_owned),
        in_response_to: tree.attribute(response, "InResponseTo").map(str::to_owned),
        issuer,
        assertion,
    })
}

/// Verifies a logout request and reads it.
///
/// # Errors
/// The first reason to refuse it.
pub fn verify_logout_request(job: &LogoutJob) -> Result<LogoutClaims, SamlFault> {
    verify_logout(job, "LogoutRequest", read_logout_request)
}

/// Verifies the answer to a logout request and reads it.
///
/// # Errors
/// The first reason to refuse it.
pub fn verify_logout_answer(job: &LogoutJob) -> Result<LogoutAnswerClaims, SamlFault> {
    verify_logout(job, "LogoutResponse", read_logout_answer)
}

fn verify_logout<T>(job: &LogoutJob, kind: &str, read: fn(&XmlTree<'_>, NodeId) -> Result<T, SamlFault>) -> Result<T, SamlFault> {
    let trusted = job.keys.trusted()?;
    let inflated;
    let text = match &job.message {
        LogoutMessage::Posted(text) => text,
        LogoutMessage::Redirected(query) => {
            inflated = query.verified_message(&trusted)?;
            &inflated
        }
    };
    let tree = XmlTree::parse(text, Comments::Refused)?;
    let root = tree.root();
    if !tree.is(root, PROTOCOL, kind) {
        return Err(SamlFault::WrongMessage(tree.name(root)));
    }
    read_version(&tree, root)?;
    let signed = match &job.message {
        LogoutMessage::Posted(_) => {
            refuse_signatures_elsewhere(&tree, &[root])?;
            verified_node(&tree, root, &trusted)?.ok_or(SamlFault::Unsigned)?
        }
        // The signature of the query covers the whole message, and no other may stand in it (SAML bindings, section 3.4.4.1).
        LogoutMessage::Redirected(_) => {
            refuse_signatures_elsewhere(&tree, &[])?;
            root
        }
    };
    read(&tree, signed)
}
