//! Claims of an assertion, read below the node that a signature covers.

use serde::{Deserialize, Serialize};
use uppsala::NodeId;

use super::fault::SamlFault;
use super::xml::{ASSERTION, XmlTree};

/// Values that one assertion may carry; a person is in fewer groups.
const MAX_VALUES: usize = 4_096;

/// Bytes of one value. Longer ones (a picture) are left out.
const MAX_VALUE: usize = 4_096;

const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";

/// What a verified assertion says. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssertionClaims {
    pub id: String,
    pub issuer: String,
    pub issued_at: i64,
    pub name_id: NameId,
    /// Bearer confirmations; one of them must fit.
    pub confirmations: Vec<SubjectConfirmation>,
    pub not_before: Option<i64>,
    pub not_on_or_after: Option<i64>,
    /// Each restriction must name us.
    pub audiences: Vec<Vec<String>>,
    pub authentication: Option<Authentication>,
    pub attributes: Vec<Attribute>,
}

/// The name of a person at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameId {
    pub value: String,
    pub format: Option<String>,
    pub name_qualifier: Option<String>,
    pub sp_name_qualifier: Option<String>,
}

/// Who may deliver the assertion, where, when, and as the answer to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectConfirmation {
    pub recipient: Option<String>,
    pub in_response_to: Option<String>,
    pub not_before: Option<i64>,
    pub not_on_or_after: Option<i64>,
}

/// The log-in at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    pub instant: i64,
    pub session_index: Option<String>,
    pub session_not_on_or_after: Option<i64>,
    /// How the person logged in there.
    pub context_class: Option<String>,
}

/// An attribute with the values that are texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: String,
    pub friendly_name: Option<String>,
    pub values: Vec<String>,
}

/// Reads an assertion. `assertion` is a node that a signature covers.
pub(super) fn read_assertion(tree: &XmlTree<'_>, assertion: NodeId) -> Result<AssertionClaims, SamlFault> {
    if !tree.is(assertion, ASSERTION, "Assertion") {
        return Err(SamlFault::AssertionElsewhere);
    }
    read_version(tree, assertion)?;
    let subject = tree.needed(assertion, ASSERTION, "Subject")?;
    let conditions = tree.needed(assertion, ASSERTION, "Conditions")?;
    check_conditions(tree, conditions)?;
    Ok(AssertionClaims {
        id: tree.needed_attribute(assertion, "ID")?.to_owned(),
        issuer: tree.text_of(tree.needed(assertion, ASSERTION, "Issuer")?)?,
        issued_at: read_time(tree, assertion, "IssueInstant")?.ok_or_else(|| SamlFault::Missing("`IssueInstant`".to_owned()))?,
        name_id: read_name_id(tree, subject)?,
        confirmations: read_confirmations(tree, subject)?,
        not_before: read_time(tree, conditions, "NotBefore")?,
        not_on_or_after: read_time(tree, conditions, "NotOnOrAfter")?,
        audiences: read_audiences(tree, conditions)?,
        authentication: read_authentication(tree, assertion)?,
        attributes: read_attributes(tree, assertion)?,
    })
}

/// `NameID` directly below `node`.
pub(super) fn read_name_id(tree: &XmlTree<'_>, node: NodeId) -> Result<NameId, SamlFault> {
    if tree.named(node, ASSERTION, "EncryptedID").next().is_some() {
        return Err(SamlFault::EncryptionForm(
            "`EncryptedID` is not read; let the identity provider encrypt the assertion".to_owned(),
        ));
    }
    let name = tree.needed(node, ASSERTION, "NameID")?;
    let value = tree.text_of(name)?;
    if value.is_empty() {
        return Err(SamlFault::Missing("the text of `NameID`".to_owned()));
    }
    let attribute = |attribute| tree.attribute(name, attribute).map(str::to_owned);
    Ok(NameId {
        value,
        format: attribute("Format"),
        name_qualifier: attribute("NameQualifier"),
        sp_name_qualifier: attribute("SPNameQualifier"),
    })
}

fn read_confirmations(tree: &XmlTree<'_>, subject: NodeId) -> Result<Vec<SubjectConfirmation>, SamlFault> {
    let mut read = Vec::new();
    for confirmation in tree.named(subject, ASSERTION, "SubjectConfirmation") {
        if tree.attribute(confirmation, "Method") != Some(BEARER) {
            continue;
        }
        let Some(data) = tree.only(confirmation, ASSERTION, "SubjectConfirmationData")? else {
            continue;
        };
        read.push(SubjectConfirmation {
            recipient: tree.attribute(data, "Recipient").map(str::to_owned),
            in_response_to: tree.attribute(data, "InResponseTo").map(str::to_owned),
            not_before: read_time(tree, data, "NotBefore")?,
            not_on_or_after: read_time(tree, data, "NotOnOrAfter")?,
        });
    }
    Ok(read)
}

/// An assertion with a condition that its reader does not understand is not valid (SAML core, section 2.5.1.1). Each assertion
/// is used once here, and no assertion is made from it: so the two others are kept.
fn check_conditions(tree: &XmlTree<'_>, conditions: NodeId) -> Result<(), SamlFault> {
    let known = ["AudienceRestriction", "OneTimeUse", "ProxyRestriction"];
    let unknown = tree
        .children(conditions)
        .find(|condition| !known.iter().any(|name| tree.is(*condition, ASSERTION, name)));
    unknown.map_or(Ok(()), |condition| Err(SamlFault::UnknownCondition(tree.name(condition))))
}

fn read_audiences(tree: &XmlTree<'_>, conditions: NodeId) -> Result<Vec<Vec<String>>, SamlFault> {
    let restrictions = tree.named(conditions, ASSERTION, "AudienceRestriction");
    restrictions
        .map(|restriction| {
            tree.named(restriction, ASSERTION, "Audience")
                .map(|audience| tree.text_of(audience))
                .collect()
        })
        .collect()
}

/// The first statement about a log-in that names a session, or else the first one.
fn read_authentication(tree: &XmlTree<'_>, assertion: NodeId) -> Result<Option<Authentication>, SamlFault> {
    let statements: Vec<NodeId> = tree.named(assertion, ASSERTION, "AuthnStatement").collect();
    let with_session = statements
        .iter()
        .find(|statement| tree.attribute(**statement, "SessionIndex").is_some());
    let Some(statement) = with_session.or(statements.first()).copied() else {
        return Ok(None);
    };
    let context = tree.only(statement, ASSERTION, "AuthnContext")?;
    let class = match context {
        Some(context) => tree.only(context, ASSERTION, "AuthnContextClassRef")?,
        None => None,
    };
    Ok(Some(Authentication {
        instant: read_time(tree, statement, "AuthnInstant")?.ok_or_else(|| SamlFault::Missing("`AuthnInstant`".to_owned()))?,
        session_index: tree.attribute(statement, "SessionIndex").map(str::to_owned),
        session_not_on_or_after: read_time(tree, statement, "SessionNotOnOrAfter")?,
        context_class: class.map(|class| tree.text_of(class)).transpose()?,
    }))
}

fn read_attributes(tree: &XmlTree<'_>, assertion: NodeId) -> Result<Vec<Attribute>, SamlFault> {
    let mut read: Vec<Attribute> = Vec::new();
    let mut count = 0;
    for statement in tree.named(assertion, ASSERTION, "AttributeStatement") {
        for attribute in tree.named(statement, ASSERTION, "Attribute") {
            let name = tree.needed_attribute(attribute, "Name")?.to_owned();
            let mut values = Vec::new();
            for value in tree.named(attribute, ASSERTION, "AttributeValue") {
                count += 1;
                if count > MAX_VALUES {
                    return Err(SamlFault::TooMany(format!("{MAX_VALUES} values of attributes")));
                }
                // A value may be a structure, which no claim of ours can be.
                if tree.children(value).next().is_none() {
                    let text = tree.text_of(value)?;
                    if text.len() <= MAX_VALUE {
                        values.push(text);
                    }
                }
            }
            match read.iter_mut().find(|known| known.name == name) {
                Some(known) => known.values.append(&mut values),
                None => read.push(Attribute {
                    name,
                    friendly_name: tree.attribute(attribute, "FriendlyName").map(str::to_owned),
                    values,
                }),
            }
        }
    }
    Ok(read)
}

/// Refuses other versions of SAML.
pub(super) fn read_version(tree: &XmlTree<'_>, node: NodeId) -> Result<(), SamlFault> {
    if tree.attribute(node, "Version") == Some("2.0") {
        Ok(())
    } else {
        Err(SamlFault::WrongVersion)
    }
}

/// A time in an attribute, in milliseconds since 1970. SAML times are in UTC (SAML core, section 1.3.3).
pub(super) fn read_time(tree: &XmlTree<'_>, node: NodeId, name: &str) -> Result<Option<i64>, SamlFault> {
    let Some(text) = tree.attribute(node, name) else {
        return Ok(None);
    };
    let plain = text.len() <= 40 && text.ends_with('Z') && text.bytes().all(|b| b.is_ascii_digit() || b"-:.TZ".contains(&b));
    let time = if plain { text.parse::<jiff::Timestamp>().ok() } else { None };
    let time = time.ok_or_else(|| SamlFault::Malformed(format!("the time `{name}`")))?;
    Ok(Some(time.as_millisecond()))
}
