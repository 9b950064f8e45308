//! Encrypted assertions: the form is checked here, the library decrypts.

use bergshamra_enc::{EncContext, decrypt};
use bergshamra_keys::{KeysManager, loader};
use uppsala::NodeId;

use super::fault::{SamlFault, excerpt};
use super::xml::{DSIG, XENC, XENC11, XmlTree};

/// Authenticated: a changed ciphertext does not decrypt.
const AUTHENTICATED: [&str; 3] = [
    "http://www.w3.org/2009/xmlenc11#aes128-gcm",
    "http://www.w3.org/2009/xmlenc11#aes192-gcm",
    "http://www.w3.org/2009/xmlenc11#aes256-gcm",
];

/// Not authenticated: whoever may try changed ciphertexts decrypts by our answers (Jager and Somorovsky, 2011).
const UNAUTHENTICATED: [&str; 3] = [
    "http://www.w3.org/2001/04/xmlenc#aes128-cbc",
    "http://www.w3.org/2001/04/xmlenc#aes192-cbc",
    "http://www.w3.org/2001/04/xmlenc#aes256-cbc",
];

/// RSA-OAEP. RSA with PKCS #1 v1.5 padding answers who asks often enough (Bleichenbacher, 1998).
const KEY_TRANSPORTS: [&str; 2] = [
    "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p",
    "http://www.w3.org/2009/xmlenc11#rsa-oaep",
];

/// Digests of RSA-OAEP. SHA-1 is safe there, and the default of the standard.
const OAEP_DIGESTS: [&str; 4] = [
    "http://www.w3.org/2000/09/xmldsig#sha1",
    "http://www.w3.org/2001/04/xmlenc#sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512",
];

const ENCRYPTED_KEY_TYPE: &str = "http://www.w3.org/2001/04/xmlenc#EncryptedKey";
const ELEMENT_TYPE: &str = "http://www.w3.org/2001/04/xmlenc#Element";

/// Whether a changed ciphertext is noticed by the encryption itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ciphertext {
    Authenticated,
    Unauthenticated,
}

/// Checks the form of an `EncryptedAssertion`.
pub(super) fn check_form(tree: &XmlTree<'_>, encrypted: NodeId) -> Result<Ciphertext, SamlFault> {
    let data = tree.needed(encrypted, XENC, "EncryptedData")?;
    // The library takes the first `EncryptedData` of a document, so there must be one only.
    if tree.everywhere("EncryptedData").count() != 1 {
        return Err(form("there is more than one `EncryptedData`"));
    }
    if !tree.has_only(data, &["Id", "Type"]) || tree.attribute(data, "Type").is_some_and(|of| of != ELEMENT_TYPE) {
        return Err(form("what is encrypted is not one element"));
    }
    let ciphertext = check_content_method(tree, tree.needed(data, XENC, "EncryptionMethod")?)?;
    check_cipher_data(tree, data)?;
    let info = tree.needed(data, DSIG, "KeyInfo")?;
    let inside: Vec<NodeId> = tree.children(info).collect();
    let beside: Vec<NodeId> = tree.named(encrypted, XENC, "EncryptedKey").collect();
    let key = match (&inside[..], &beside[..]) {
        ([key], []) if tree.is(*key, XENC, "EncryptedKey") => *key,
        ([retrieval], [key]) if tree.is(*retrieval, DSIG, "RetrievalMethod") => {
            let id = tree.needed_attribute(*key, "Id")?;
            let refers = tree.attribute(*retrieval, "URI").and_then(|uri| uri.strip_prefix('#')) == Some(id);
            if !refers || tree.attribute(*retrieval, "Type") != Some(ENCRYPTED_KEY_TYPE) || !tree.has_only(*retrieval, &["URI", "Type"]) {
                return Err(form("the key that it refers to does not stand beside it"));
            }
            *key
        }
        _ => return Err(form("it does not have exactly one encrypted key")),
    };
    if tree.everywhere("EncryptedKey").count() != 1 {
        return Err(form("it does not have exactly one encrypted key"));
    }
    check_key(tree, key)?;
    Ok(ciphertext)
}

fn check_content_method(tree: &XmlTree<'_>, method: NodeId) -> Result<Ciphertext, SamlFault> {
    let algorithm = tree.needed_attribute(method, "Algorithm")?;
    if !tree.has_only(method, &["Algorithm"]) {
        return Err(form("an algorithm has parameters"));
    }
    if AUTHENTICATED.contains(&algorithm) {
        Ok(Ciphertext::Authenticated)
    } else if UNAUTHENTICATED.contains(&algorithm) {
        Ok(Ciphertext::Unauthenticated)
    } else {
        Err(SamlFault::EncryptionAlgorithm(excerpt(algorithm)))
    }
}

fn check_key(tree: &XmlTree<'_>, key: NodeId) -> Result<(), SamlFault> {
    if !tree.has_only(key, &["Id", "Recipient"]) {
        return Err(form("the encrypted key has unknown attributes"));
    }
    let method = tree.needed(key, XENC, "EncryptionMethod")?;
    let algorithm = tree.needed_attribute(method, "Algorithm")?;
    if !KEY_TRANSPORTS.contains(&algorithm) || !tree.has_only(method, &["Algorithm"]) {
        return Err(SamlFault::EncryptionAlgorithm(excerpt(algorithm)));
    }
    for parameter in tree.children(method) {
        let algorithm = tree.attribute(parameter, "Algorithm").unwrap_or_default();
        let known = (tree.is(parameter, DSIG, "DigestMethod") && OAEP_DIGESTS.contains(&algorithm))
            || (tree.is(parameter, XENC11, "MGF") && algorithm.starts_with("http://www.w3.org/2009/xmlenc11#mgf1sha"));
        if !known || !tree.has_only(parameter, &["Algorithm"]) {
            return Err(form("RSA-OAEP has unknown parameters"));
        }
    }
    check_cipher_data(tree, key)
}

/// The ciphertext stands in the message itself: a reference could lead elsewhere.
fn check_cipher_data(tree: &XmlTree<'_>, node: NodeId) -> Result<(), SamlFault> {
    let data = tree.needed(node, XENC, "CipherData")?;
    let inside: Vec<NodeId> = tree.children(data).collect();
    match inside[..] {
        [value] if tree.is(value, XENC, "CipherValue") && !tree.text_of(value)?.is_empty() => Ok(()),
        _ => Err(form("the ciphertext does not stand in the message")),
    }
}

/// The message with the decrypted assertion in the place of the encrypted data. Every failure is one and the same: what
/// exactly is wrong with a ciphertext is what an attacker asks.
pub(super) fn decrypted(text: &str, private_key: &str) -> Result<String, SamlFault> {
    let key = loader::load_pem_auto(private_key.as_bytes(), None).map_err(|_| SamlFault::NoDecryptionKey)?;
    let mut keys = KeysManager::new();
    keys.add_key(key);
    let context = EncContext::new(keys)
        .with_disable_cipher_reference(true)
        .with_max_pbkdf2_iterations(0);
    decrypt::decrypt(&context, text).map_err(|_| SamlFault::Undecryptable)
}

fn form(why: &str) -> SamlFault {
    SamlFault::EncryptionForm(why.to_owned())
}
