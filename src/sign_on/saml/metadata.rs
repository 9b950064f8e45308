//! Metadata: what a provider says about itself, and what we say about us (SAML metadata, version 2.0).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use uppsala::NodeId;

use crate::base::clock::UnixMillis;
use crate::sign_on::provider::MAX_CERTIFICATES;

use super::assertion::read_time;
use super::fault::{SamlFault, excerpt};
use super::request::{escape, utc};
use super::signature::validity;
use super::xml::{Comments, DSIG, METADATA, PROTOCOL, XENC, XmlTree};

/// Endpoints of one service; there is one for each binding.
const MAX_ENDPOINTS: usize = 16;

/// How a message travels. Artifacts and SOAP are not spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamlBinding {
    Redirect,
    Post,
}

impl SamlBinding {
    const fn uri(self) -> &'static str {
        match self {
            Self::Redirect => "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect",
            Self::Post => "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST",
        }
    }

    fn of_uri(uri: &str) -> Option<Self> {
        [Self::Redirect, Self::Post].into_iter().find(|binding| binding.uri() == uri)
    }
}

/// An address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamlEndpoint {
    pub binding: SamlBinding,
    pub url: String,
    /// Where answers go, if elsewhere.
    pub response_url: Option<String>,
}

/// What a provider's metadata say. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdpMetadata {
    pub entity_id: String,
    pub sign_on: Vec<SamlEndpoint>,
    pub logout: Vec<SamlEndpoint>,
    pub certificates: Vec<MetadataCertificate>,
    pub name_id_formats: Vec<String>,
    pub wants_signed_requests: bool,
    pub valid_until: Option<i64>,
}

/// A certificate with which the provider signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataCertificate {
    /// DER in base64.
    pub der: String,
    pub not_before: i64,
    pub not_after: i64,
}

/// What an administrator must know about metadata that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataWarnings(pub Vec<String>);

/// Reads a provider's metadata.
pub(super) fn read_metadata(document: &str) -> Result<IdpMetadata, SamlFault> {
    let tree = XmlTree::parse(document, Comments::Allowed)?;
    let entity = entity(&tree)?;
    let descriptor = sign_on_descriptor(&tree, entity)?;
    Ok(IdpMetadata {
        entity_id: tree.needed_attribute(entity, "entityID")?.to_owned(),
        sign_on: endpoints(&tree, descriptor, "SingleSignOnService")?,
        logout: endpoints(&tree, descriptor, "SingleLogoutService")?,
        certificates: certificates(&tree, descriptor)?,
        name_id_formats: tree
            .named(descriptor, METADATA, "NameIDFormat")
            .take(MAX_ENDPOINTS)
            .map(|format| tree.text_of(format))
            .collect::<Result<_, _>>()?,
        wants_signed_requests: matches!(tree.attribute(descriptor, "WantAuthnRequestsSigned"), Some("true" | "1")),
        valid_until: match read_time(&tree, entity, "validUntil")? {
            Some(time) => Some(time),
            None => read_time(&tree, tree.root(), "validUntil")?,
        },
    })
}

/// The one entity that the metadata describe.
fn entity(tree: &XmlTree<'_>) -> Result<NodeId, SamlFault> {
    let root = tree.root();
    if tree.is(root, METADATA, "EntityDescriptor") {
        return Ok(root);
    }
    if !tree.is(root, METADATA, "EntitiesDescriptor") {
        return Err(SamlFault::WrongMessage(tree.name(root)));
    }
    tree.needed(root, METADATA, "EntityDescriptor")
}

/// The description of the entity as a provider of sign-ons by SAML 2.0.
fn sign_on_descriptor(tree: &XmlTree<'_>, entity: NodeId) -> Result<NodeId, SamlFault> {
    let mut all = tree.named(entity, METADATA, "IDPSSODescriptor").filter(|descriptor| {
        let protocols = tree.attribute(*descriptor, "protocolSupportEnumeration").unwrap_or_default();
        protocols.split_ascii_whitespace().any(|protocol| protocol == PROTOCOL)
    });
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(SamlFault::TooMany("one `IDPSSODescriptor`".to_owned())),
        (None, _) => Err(SamlFault::Missing("`IDPSSODescriptor` for SAML 2.0".to_owned())),
    }
}

fn endpoints(tree: &XmlTree<'_>, descriptor: NodeId, service: &str) -> Result<Vec<SamlEndpoint>, SamlFault> {
    let mut read: Vec<SamlEndpoint> = Vec::new();
    for endpoint in tree.named(descriptor, METADATA, service) {
        let Some(binding) = SamlBinding::of_uri(tree.needed_attribute(endpoint, "Binding")?) else {
            continue;
        };
        if read.iter().any(|known| known.binding == binding) {
            continue;
        }
        let url = |name: &str| match tree.attribute(endpoint, name) {
            Some(url) if is_web_address(url) => Ok(Some(url.to_owned())),
            Some(_) => Err(SamlFault::Malformed(format!("the address of `{service}`"))),
            None => Ok(None),
        };
        read.push(SamlEndpoint {
            binding,
            url: url("Location")?.ok_or_else(|| SamlFault::Missing(format!("the address of `{service}`")))?,
            response_url: url("ResponseLocation")?,
        });
    }
    Ok(read)
}

/// Whether browsers may be sent there: an absolute address of HTTPS or HTTP, in printable ASCII.
fn is_web_address(url: &str) -> bool {
    let authority = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let safe = url.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>\\^`{|}".contains(&b));
    safe && url.len() <= 2_048 && authority.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) && !url.contains('#')
}

fn certificates(tree: &XmlTree<'_>, descriptor: NodeId) -> Result<Vec<MetadataCertificate>, SamlFault> {
    let mut read: Vec<MetadataCertificate> = Vec::new();
    for key in tree.named(descriptor, METADATA, "KeyDescriptor") {
        if tree.attribute(key, "use").is_some_and(|of| of != "signing") {
            continue;
        }
        let info = tree.needed(key, DSIG, "KeyInfo")?;
        for data in tree.named(info, DSIG, "X509Data") {
            for certificate in tree.named(data, DSIG, "X509Certificate") {
                let certificate = read_certificate(&tree.text_of(certificate)?)?;
                if !read.contains(&certificate) {
                    read.push(certificate);
                }
            }
        }
    }
    if read.len() > MAX_CERTIFICATES {
        return Err(SamlFault::TooMany(format!("{MAX_CERTIFICATES} certificates")));
    }
    if read.is_empty() {
        return Err(SamlFault::NoCertificate("the metadata have none that signs".to_owned()));
    }
    Ok(read)
}

/// Reads a certificate as metadata or an administrator write it: base64, with any white space, or PEM.
///
/// # Errors
/// [`SamlFault::NoCertificate`]
pub fn read_certificate(text: &str) -> Result<MetadataCertificate, SamlFault> {
    let lines = text.lines().filter(|line| !line.trim().starts_with("-----"));
    let plain: String = lines.flat_map(str::chars).filter(|c| !c.is_ascii_whitespace()).collect();
    let der = STANDARD
        .decode(&plain)
        .map_err(|_| SamlFault::NoCertificate("it is not base64".to_owned()))?;
    let validity = validity(&CertificateDer::from(der))?;
    Ok(MetadataCertificate {
        der: plain,
        not_before: validity.not_before.0,
        not_after: validity.not_after.0,
    })
}

impl SamlEndpoint {
    /// One of ours: answers come to the same address as requests.
    #[must_use]
    pub const fn own(binding: SamlBinding, url: String) -> Self {
        Self {
            binding,
            url,
            response_url: None,
        }
    }
}

impl IdpMetadata {
    /// Whether a provider can be set up by these metadata, and what its administrator must know.
    ///
    /// # Errors
    /// Metadata or certificates that have expired, and metadata without an address that we can use.
    pub fn judge(&self, now: UnixMillis) -> Result<MetadataWarnings, SamlFault> {
        if let Some(until) = self.valid_until.filter(|until| *until <= now.0) {
            return Err(SamlFault::Expired(format!("the metadata counted until {}", utc(UnixMillis(until)))));
        }
        if self.sign_on.is_empty() {
            return Err(SamlFault::Missing(
                "an address of `SingleSignOnService` for redirect or POST".to_owned(),
            ));
        }
        let mut warnings = Vec::new();
        let expired = self.certificates.iter().filter(|certificate| certificate.not_after < now.0);
        for certificate in expired {
            let since = utc(UnixMillis(certificate.not_after));
            warnings.push(format!("a certificate expired at {since}; what it signs is refused"));
        }
        if warnings.len() == self.certificates.len() {
            return Err(SamlFault::CertificateExpired);
        }
        let plain = self.sign_on.iter().chain(&self.logout);
        for endpoint in plain.filter(|endpoint| endpoint.url.starts_with("http://")) {
            warnings.push(format!("`{}` has no TLS", excerpt(&endpoint.url)));
        }
        Ok(MetadataWarnings(warnings))
    }
}

/// What our metadata say.
#[derive(Debug, Clone, Copy)]
pub struct SpMetadata<'m> {
    pub entity_id: &'m str,
    pub acs_url: &'m str,
    /// Where logout requests arrive, and answers to ours; the first one is preferred.
    pub logout: &'m [SamlEndpoint],
    /// Our certificates, the current one first; the next one beside it while keys are changed.
    pub certificates: &'m [CertificateDer<'m>],
    pub name_id_format: Option<&'m str>,
    pub requests: RequestSigning,
}

/// Whether our requests are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestSigning {
    #[default]
    Unsigned,
    Signed,
}

impl SpMetadata<'_> {
    /// The XML text.
    #[must_use]
    pub fn xml(&self) -> String {
        let mut inside = String::new();
        for (kind, methods) in [("signing", ""), ("encryption", ENCRYPTION_METHODS)] {
            for certificate in self.certificates {
                inside.push_str(&format!(
                    r#"<md:KeyDescriptor use="{kind}"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>{methods}</md:KeyDescriptor>"#,
                    STANDARD.encode(certificate)
                ));
            }
        }
        for endpoint in self.logout {
            inside.push_str(&format!(
                r#"<md:SingleLogoutService Binding="{}" Location="{}"/>"#,
                endpoint.binding.uri(),
                escape(&endpoint.url)
            ));
        }
        if let Some(format) = self.name_id_format {
            inside.push_str(&format!("<md:NameIDFormat>{}</md:NameIDFormat>", escape(format)));
        }
        let signed = self.requests == RequestSigning::Signed;
        format!(
            r#"<md:EntityDescriptor xmlns:md="{METADATA}" xmlns:ds="{DSIG}" xmlns:xenc="{XENC}" entityID="{}"><md:SPSSODescriptor AuthnRequestsSigned="{signed}" WantAssertionsSigned="true" protocolSupportEnumeration="{PROTOCOL}">{inside}<md:AssertionConsumerService Binding="{}" Location="{}" index="0" isDefault="true"/></md:SPSSODescriptor></md:EntityDescriptor>"#,
            escape(self.entity_id),
            SamlBinding::Post.uri(),
            escape(self.acs_url),
        )
    }
}

/// What we decrypt, the best first.
const ENCRYPTION_METHODS: &str = concat!(
    r#"<md:EncryptionMethod Algorithm="http://www.w3.org/2009/xmlenc11#aes256-gcm"/>"#,
    r#"<md:EncryptionMethod Algorithm="http://www.w3.org/2009/xmlenc11#aes128-gcm"/>"#,
    r#"<md:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"/>"#,
);
