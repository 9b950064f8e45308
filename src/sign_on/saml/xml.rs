//! One parse of a message, in which nothing stands that two readers could read differently. Everything else reads this tree only.

use std::collections::HashSet;

use uppsala::{Document, Element, NodeId, NodeKind, Parser};

use super::fault::{SamlFault, excerpt};

/// Largest message. A response with 250 groups and two signatures has about 60 KiB.
pub(super) const MAX_MESSAGE: usize = 256 * 1024;

/// Deepest nesting of elements. An encrypted assertion with the certificates of its keys nests 12 deep.
const MAX_DEPTH: u32 = 32;

/// Elements of a message. With the attributes below, it bounds the work of a message that is all tags.
const MAX_ELEMENTS: usize = 8_192;

/// Attributes and namespace declarations of one element; canonicalisation sorts them.
const MAX_ATTRIBUTES: usize = 64;

/// Namespaces of SAML, of signatures and of encryption.
pub(super) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
pub(super) const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
pub(super) const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
pub(super) const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
pub(super) const XENC: &str = "http://www.w3.org/2001/04/xmlenc#";
pub(super) const XENC11: &str = "http://www.w3.org/2009/xmlenc11#";
pub(super) const EXC_C14N: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

/// Whether comments may stand in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comments {
    /// Two readers could join the texts around a comment differently (CVE-2017-11427 and its kin).
    Refused,
    /// Metadata have comments; an administrator chose them.
    Allowed,
}

/// A parsed message.
pub(super) struct XmlTree<'x> {
    pub(super) document: Document<'x>,
    pub(super) text: &'x str,
    root: NodeId,
}

impl<'x> XmlTree<'x> {
    /// Parses `text` and refuses what is ambiguous: document types, processing instructions, CDATA sections, comments,
    /// relative namespaces (whose canonical form is undefined), and IDs that stand twice.
    pub(super) fn parse(text: &'x str, comments: Comments) -> Result<Self, SamlFault> {
        if text.len() > MAX_MESSAGE {
            return Err(SamlFault::TooLarge(MAX_MESSAGE));
        }
        // The words cannot stand in character data: `<` would be escaped there.
        if text.contains("<!DOCTYPE") || text.contains("<!ENTITY") {
            return Err(SamlFault::DocumentType);
        }
        let parser = Parser::new()
            .with_max_depth(MAX_DEPTH)
            .with_forbid_dtd(true)
            .with_forbid_entities(true);
        let document = parser.parse(text).map_err(|error| {
            let why = error.to_string();
            if why.contains("maximum depth") {
                SamlFault::TooDeep(MAX_DEPTH)
            } else {
                SamlFault::NotXml(excerpt(&why))
            }
        })?;
        let declared = document
            .xml_declaration
            .as_ref()
            .and_then(|declaration| declaration.encoding.as_deref());
        if declared.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
            return Err(SamlFault::NotXml("its encoding is not UTF-8".to_owned()));
        }
        let root = document
            .document_element()
            .ok_or_else(|| SamlFault::NotXml("it has no element".to_owned()))?;
        let tree = Self { document, text, root };
        tree.refuse_ambiguity(comments)?;
        Ok(tree)
    }

    fn refuse_ambiguity(&self, comments: Comments) -> Result<(), SamlFault> {
        let mut ids = HashSet::new();
        let mut elements = 0;
        for node in self.document.descendants(self.document.root()) {
            match self.document.node_kind(node) {
                Some(NodeKind::Element(element)) => {
                    elements += 1;
                    if elements > MAX_ELEMENTS {
                        return Err(SamlFault::TooMany(format!("{MAX_ELEMENTS} elements")));
                    }
                    check_attributes(element)?;
                    for id in ids_of(element) {
                        if !ids.insert(id.to_owned()) {
                            return Err(SamlFault::DuplicateId(excerpt(id)));
                        }
                    }
                }
                Some(NodeKind::Comment(_)) if comments == Comments::Refused => return Err(SamlFault::Comment),
                Some(NodeKind::ProcessingInstruction(_)) => return Err(SamlFault::ProcessingInstruction),
                Some(NodeKind::CData(_)) => return Err(SamlFault::CharacterData),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) const fn root(&self) -> NodeId {
        self.root
    }

    /// Whether a node is this element.
    pub(super) fn is(&self, node: NodeId, namespace: &str, name: &str) -> bool {
        self.document
            .element(node)
            .is_some_and(|element| element.matches_name_ns(namespace, name))
    }

    /// The elements directly below a node.
    pub(super) fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.document
            .children_iter(node)
            .filter(|child| self.document.element(*child).is_some())
    }

    /// The elements of this name directly below a node.
    pub(super) fn named<'t>(&'t self, node: NodeId, namespace: &'t str, name: &'t str) -> impl Iterator<Item = NodeId> + 't {
        self.children(node).filter(move |child| self.is(*child, namespace, name))
    }

    /// The element of this name directly below a node, if there is exactly one; several are refused.
    pub(super) fn only(&self, node: NodeId, namespace: &str, name: &str) -> Result<Option<NodeId>, SamlFault> {
        let mut all = self.named(node, namespace, name);
        match (all.next(), all.next()) {
            (_, Some(_)) => Err(SamlFault::TooMany(format!("one {name}"))),
            (first, None) => Ok(first),
        }
    }

    /// As [`only`](Self::only), where it must stand.
    pub(super) fn needed(&self, node: NodeId, namespace: &str, name: &str) -> Result<NodeId, SamlFault> {
        self.only(node, namespace, name)?
            .ok_or_else(|| SamlFault::Missing(format!("`{name}`")))
    }

    /// Every element of this local name, in whatever namespace.
    pub(super) fn everywhere<'t>(&'t self, name: &'t str) -> impl Iterator<Item = NodeId> + 't {
        let all = self.document.descendants(self.document.root()).into_iter();
        all.filter(move |node| {
            self.document
                .element(*node)
                .is_some_and(|element| &*element.name.local_name == name)
        })
    }

    /// An attribute without a namespace.
    pub(super) fn attribute(&self, node: NodeId, name: &str) -> Option<&str> {
        let element = self.document.element(node)?;
        element
            .attributes
            .iter()
            .find(|attribute| attribute.name.namespace_uri.is_none() && &*attribute.name.local_name == name)
            .map(|attribute| &*attribute.value)
    }

    /// An attribute that must stand.
    pub(super) fn needed_attribute(&self, node: NodeId, name: &str) -> Result<&str, SamlFault> {
        self.attribute(node, name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| SamlFault::Missing(format!("the attribute `{name}` of `{}`", self.name(node))))
    }

    /// Whether an element has these attributes and no others. The library looks attributes up by their local name alone, so
    /// another one could stand in front of the one that we read.
    pub(super) fn has_only(&self, node: NodeId, allowed: &[&str]) -> bool {
        self.document.element(node).is_some_and(|element| {
            element
                .attributes
                .iter()
                .all(|attribute| attribute.name.namespace_uri.is_none() && allowed.contains(&&*attribute.name.local_name))
        })
    }

    /// The text of an element that holds text only, without white space around it.
    pub(super) fn text_of(&self, node: NodeId) -> Result<String, SamlFault> {
        let mut text = String::new();
        for child in self.document.children_iter(node) {
            match self.document.node_kind(child) {
                Some(NodeKind::Text(part)) => text.push_str(part),
                _ => return Err(SamlFault::Malformed(format!("the text of `{}`", self.name(node)))),
            }
        }
        Ok(text.trim_ascii().to_owned())
    }

    /// Whether nothing but elements and white space stands directly below a node.
    pub(super) fn has_no_text(&self, node: NodeId) -> bool {
        self.document.children_iter(node).all(|child| match self.document.node_kind(child) {
            Some(NodeKind::Text(text)) => text.trim_ascii().is_empty(),
            _ => true,
        })
    }

    /// The local name of an element, for messages.
    pub(super) fn name(&self, node: NodeId) -> String {
        let element = self.document.element(node);
        element.map_or_else(String::new, |element| excerpt(&element.name.local_name))
    }
}

fn check_attributes(element: &Element<'_>) -> Result<(), SamlFault> {
    if element.attributes.len().max(element.namespace_declarations.len()) > MAX_ATTRIBUTES {
        return Err(SamlFault::TooMany(format!("{MAX_ATTRIBUTES} attributes at one element")));
    }
    for (_, namespace) in &element.namespace_declarations {
        if !namespace.is_empty() && !is_absolute(namespace) {
            return Err(SamlFault::RelativeNamespace(excerpt(namespace)));
        }
    }
    let mut ids = ids_of(element);
    match (ids.next(), ids.next()) {
        (Some(_), Some(second)) => Err(SamlFault::DuplicateId(excerpt(second))),
        _ => Ok(()),
    }
}

/// Whether a URI begins with a scheme (RFC 3986, section 3.1).
fn is_absolute(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Every attribute that some reader could take for an ID, in whatever namespace.
fn ids_of<'e>(element: &'e Element<'_>) -> impl Iterator<Item = &'e str> {
    element
        .attributes
        .iter()
        .filter(|attribute| {
            let name = attribute.name.local_name.to_ascii_lowercase();
            name == "id" || name == "assertionid"
        })
        .map(|attribute| &*attribute.value)
}
