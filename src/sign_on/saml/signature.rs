//! Signatures of a message. Their form is checked here; whether they are right says the library, which also says what they sign.

use bergshamra_dsig::{DsigContext, VerifyResult, verify};
use bergshamra_keys::{KeysManager, loader};
use rustls_pki_types::CertificateDer;
use uppsala::NodeId;
use x509_cert::der::Decode as _;

use crate::base::clock::UnixMillis;
use crate::sign_on::provider::MAX_CERTIFICATES;

use super::fault::{SamlFault, excerpt};
use super::xml::{DSIG, EXC_C14N, XmlTree};

const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

/// Exclusive canonicalisation. The form with comments is the same here: no comment gets as far.
const CANONICALISATIONS: [&str; 2] = [
    "http://www.w3.org/2001/10/xml-exc-c14n#",
    "http://www.w3.org/2001/10/xml-exc-c14n#WithComments",
];

const SIGNATURE_METHODS: [&str; 6] = [
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512",
];

const DIGEST_METHODS: [&str; 3] = [
    "http://www.w3.org/2001/04/xmlenc#sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512",
];

/// What may tell about keys in a signature. It is a hint at most: only the provider's certificates verify.
const KEY_HINTS: [&str; 3] = ["X509Data", "KeyValue", "KeyName"];

/// The certificates of a provider, those in force apart from those that have expired.
pub(super) struct TrustedCertificates {
    valid: Vec<Vec<u8>>,
    expired: Vec<Vec<u8>>,
}

/// When a certificate is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ValidityPeriod {
    /// The first moment.
    pub(super) not_before: UnixMillis,
    /// The last moment.
    pub(super) not_after: UnixMillis,
}

/// Reads when a certificate is in force.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<ValidityPeriod, SamlFault> {
    let wrong = || SamlFault::NoCertificate("it is not X.509 in DER".to_owned());
    let certificate = x509_cert::Certificate::from_der(certificate).map_err(|_| wrong())?;
    let millis = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_millis()).map_err(|_| wrong());
    let validity = certificate.tbs_certificate.validity;
    Ok(ValidityPeriod {
        not_before: UnixMillis(millis(validity.not_before)?),
        not_after: UnixMillis(millis(validity.not_after)?),
    })
}

impl TrustedCertificates {
    /// Reads the certificates of a provider.
    pub(super) fn new(certificates: &[CertificateDer<'_>], now: UnixMillis) -> Result<Self, SamlFault> {
        if certificates.len() > MAX_CERTIFICATES {
            return Err(SamlFault::TooMany(format!("{MAX_CERTIFICATES} certificates")));
        }
        let mut trusted = Self {
            valid: Vec::new(),
            expired: Vec::new(),
        };
        for certificate in certificates {
            // A certificate only carries a key here (SAML metadata, section 2.4.1.1), so one that is not in force yet counts:
            // providers publish the next one early.
            let list = if validity(certificate)?.not_after < now {
                &mut trusted.expired
            } else {
                &mut trusted.valid
            };
            list.push(certificate.to_vec());
        }
        if trusted.valid.is_empty() && trusted.expired.is_empty() {
            return Err(SamlFault::NoCertificate("the settings have none".to_owned()));
        }
        Ok(trusted)
    }

    /// The keys of the certificates that are in force, as the library takes them.
    pub(super) fn valid_keys(&self) -> Result<Vec<Vec<u8>>, SamlFault> {
        public_keys(&self.valid)
    }

    /// Those of certificates that have expired.
    pub(super) fn expired_keys(&self) -> Result<Vec<Vec<u8>>, SamlFault> {
        public_keys(&self.expired)
    }
}

fn public_keys(certificates: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, SamlFault> {
    let keys = certificates.iter().map(|certificate| {
        let key = loader::load_x509_cert_der(certificate).ok().and_then(|key| key.to_spki_der());
        key.ok_or_else(|| SamlFault::NoCertificate("its key is not one of those that we know".to_owned()))
    });
    keys.collect()
}

fn context(certificates: &[Vec<u8>]) -> Result<DsigContext, SamlFault> {
    let mut keys = KeysManager::new();
    for spki in public_keys(certificates)? {
        // Without its certificate: there is no chain to build, the key itself is what is trusted.
        let key = loader::load_spki_der(&spki).map_err(|_| SamlFault::NoCertificate("its key cannot be used".to_owned()))?;
        keys.add_key(key);
    }
    // Only configured keys, references that enclose the signature, every digest computed here.
    Ok(DsigContext::new(keys)
        .with_trusted_keys_only(true)
        .with_strict_verification(true)
        .with_require_reference_digests(true))
}

/// The signature directly below `enclosing`, if it has one.
pub(super) fn signature_of(tree: &XmlTree<'_>, enclosing: NodeId) -> Result<Option<NodeId>, SamlFault> {
    let mut all = tree.named(enclosing, DSIG, "Signature");
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(SamlFault::SeveralSignatures),
        (first, None) => Ok(first),
    }
}

/// Refuses signatures that do not stand directly below one of these elements.
pub(super) fn refuse_signatures_elsewhere(tree: &XmlTree<'_>, enclosing: &[NodeId]) -> Result<(), SamlFault> {
    for signature in tree.everywhere("Signature") {
        let parent = tree.document.parent(signature);
        if !tree.is(signature, DSIG, "Signature") || !parent.is_some_and(|parent| enclosing.contains(&parent)) {
            return Err(SamlFault::SignatureElsewhere);
        }
    }
    Ok(())
}

/// Verifies the signature `signature`, which stands directly below `enclosing`. The node that comes back is what the library
/// says is signed, in this tree; it is `enclosing`, or the signature is refused.
pub(super) fn verified(
    tree: &XmlTree<'_>,
    signature: NodeId,
    enclosing: NodeId,
    trusted: &TrustedCertificates,
) -> Result<NodeId, SamlFault> {
    check_form(tree, signature, enclosing)?;
    if let Some(signed) = resolve(tree, signature, &trusted.valid)? {
        return if signed == enclosing {
            Ok(signed)
        } else {
            Err(SamlFault::ReferenceElsewhere(tree.name(signed)))
        };
    }
    if resolve(tree, signature, &trusted.expired)?.is_some() {
        return Err(SamlFault::CertificateExpired);
    }
    Err(SamlFault::SignatureWrong)
}

/// What a signature signs, if one of these certificates made it.
fn resolve(tree: &XmlTree<'_>, signature: NodeId, certificates: &[Vec<u8>]) -> Result<Option<NodeId>, SamlFault> {
    if certificates.is_empty() {
        return Ok(None);
    }
    let results = verify::verify_all_document_with_source(&context(certificates)?, &tree.document, Some(tree.text));
    let results = results.map_err(|error| SamlFault::SignatureForm(excerpt(&error.to_string())))?;
    let signed = results.into_iter().find_map(|result| match result {
        VerifyResult::Valid {
            signature_node,
            references,
            ..
        } if signature_node == signature => match references.as_slice() {
            [one] if one.digest_verified => one.resolved_node,
            _ => None,
        },
        _ => None,
    });
    Ok(signed)
}

/// Refuses every form of a signature but the one that SAML prescribes (SAML core, section 5.4).
fn check_form(tree: &XmlTree<'_>, signature: NodeId, enclosing: NodeId) -> Result<(), SamlFault> {
    let [signed_info, value, hints @ ..] = &elements(tree, signature, &["Id"])?[..] else {
        return Err(form("it is incomplete"));
    };
    if !tree.is(*value, DSIG, "SignatureValue") || !tree.has_only(*value, &["Id"]) || tree.text_of(*value)?.is_empty() {
        return Err(form("its value is missing"));
    }
    check_hints(tree, hints)?;
    if !tree.is(*signed_info, DSIG, "SignedInfo") {
        return Err(form("`SignedInfo` is missing"));
    }
    let [canonicalisation, method, references @ ..] = &elements(tree, *signed_info, &["Id"])?[..] else {
        return Err(form("`SignedInfo` is incomplete"));
    };
    if !tree.is(*canonicalisation, DSIG, "CanonicalizationMethod") || !tree.is(*method, DSIG, "SignatureMethod") {
        return Err(form("`SignedInfo` is incomplete"));
    }
    let algorithm = tree.needed_attribute(*canonicalisation, "Algorithm")?;
    if !CANONICALISATIONS.contains(&algorithm) {
        return Err(SamlFault::Transform(excerpt(algorithm)));
    }
    check_prefixes(tree, *canonicalisation)?;
    check_algorithm(tree, *method, &SIGNATURE_METHODS)?;
    let [reference] = references else {
        return Err(form("it does not have exactly one reference"));
    };
    check_reference(tree, *reference, enclosing)
}

fn check_reference(tree: &XmlTree<'_>, reference: NodeId, enclosing: NodeId) -> Result<(), SamlFault> {
    if !tree.is(reference, DSIG, "Reference") {
        return Err(form("it has no reference"));
    }
    let uri = tree.attribute(reference, "URI").unwrap_or_default();
    let id = tree.needed_attribute(enclosing, "ID")?;
    if uri.strip_prefix('#') != Some(id) {
        return Err(SamlFault::ReferenceElsewhere(excerpt(uri)));
    }
    let [transforms, digest, digest_value] = elements(tree, reference, &["URI", "Id", "Type"])?[..] else {
        return Err(form("its reference is incomplete"));
    };
    if !tree.is(transforms, DSIG, "Transforms") || !tree.is(digest, DSIG, "DigestMethod") || !tree.is(digest_value, DSIG, "DigestValue") {
        return Err(form("its reference is incomplete"));
    }
    check_algorithm(tree, digest, &DIGEST_METHODS)?;
    if !tree.has_only(digest_value, &[]) || tree.text_of(digest_value)?.is_empty() {
        return Err(form("its digest is missing"));
    }
    let transforms = elements(tree, transforms, &[])?;
    for transform in &transforms {
        let algorithm = tree.needed_attribute(*transform, "Algorithm")?;
        let known = algorithm == ENVELOPED || CANONICALISATIONS.contains(&algorithm);
        if !tree.is(*transform, DSIG, "Transform") || !known {
            return Err(SamlFault::Transform(excerpt(algorithm)));
        }
    }
    let [enveloped, canonicalisation] = transforms[..] else {
        return Err(form("its transforms are not enveloped signature and exclusive canonicalisation"));
    };
    if tree.attribute(enveloped, "Algorithm") != Some(ENVELOPED)
        || !tree.has_only(enveloped, &["Algorithm"])
        || tree.children(enveloped).next().is_some()
        || tree.attribute(canonicalisation, "Algorithm") == Some(ENVELOPED)
    {
        return Err(form("its transforms are not enveloped signature and exclusive canonicalisation"));
    }
    check_prefixes(tree, canonicalisation)
}

/// An element that names an algorithm of a list, and nothing else: no length of a truncated MAC, no parameters.
fn check_algorithm(tree: &XmlTree<'_>, node: NodeId, allowed: &[&str]) -> Result<(), SamlFault> {
    let algorithm = tree.needed_attribute(node, "Algorithm")?;
    if !allowed.contains(&algorithm) {
        return Err(SamlFault::SignatureAlgorithm(excerpt(algorithm)));
    }
    if !tree.has_only(node, &["Algorithm"]) || tree.children(node).next().is_some() {
        return Err(form("an algorithm has parameters"));
    }
    Ok(())
}

/// Exclusive canonicalisation may name prefixes that it treats as inclusive, and nothing else.
fn check_prefixes(tree: &XmlTree<'_>, node: NodeId) -> Result<(), SamlFault> {
    let parameters = elements(tree, node, &["Algorithm"])?;
    let fits = match parameters[..] {
        [] => true,
        [prefixes] => {
            tree.is(prefixes, EXC_C14N, "InclusiveNamespaces")
                && tree.has_only(prefixes, &["PrefixList"])
                && tree.children(prefixes).next().is_none()
        }
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(form("a canonicalisation has unknown parameters"))
    }
}

fn check_hints(tree: &XmlTree<'_>, hints: &[NodeId]) -> Result<(), SamlFault> {
    match hints {
        [] => Ok(()),
        [info] if tree.is(*info, DSIG, "KeyInfo") => {
            let known = |hint: NodeId| KEY_HINTS.iter().any(|name| tree.is(hint, DSIG, name));
            if tree.children(*info).all(known) {
                Ok(())
            } else {
                Err(form("its key information refers to something else"))
            }
        }
        _ => Err(form("it holds an object, or more than one key information")),
    }
}

/// The elements directly below one that holds no text and has no attributes but these.
fn elements(tree: &XmlTree<'_>, node: NodeId, attributes: &[&str]) -> Result<Vec<NodeId>, SamlFault> {
    if !tree.has_no_text(node) || !tree.has_only(node, attributes) {
        return Err(form(&format!("`{}` holds text or unknown attributes", tree.name(node))));
    }
    Ok(tree.children(node).collect())
}

fn form(why: &str) -> SamlFault {
    SamlFault::SignatureForm(why.to_owned())
}
