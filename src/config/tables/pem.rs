//! Reads PEM (RFC 7468) as people paste it, and says what is wrong without ever repeating a byte of it.
//!
//! The parsers of the libraries put the lines that they refuse into their errors; those of a private key would
//! then be in terminals and logs. Here no error of a parser is formatted.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use zeroize::Zeroizing;

/// Labels of private keys that can be used: PKCS #8, PKCS #1 and SEC 1.
const KEY_LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// What is wrong with a PEM text, and what to do about it. Only texts of ours, so that nothing of it can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) what: &'static str,
    pub(super) help: &'static str,
}

const fn flaw(what: &'static str, help: &'static str) -> Flaw {
    Flaw { what, help }
}

const HOW_TO_WRITE: &str = "it is a text that begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----; in an environment \
                            variable its lines may be separated by line ends, blanks or \\n";
const AGAIN: &str = "copy the whole file again, from -----BEGIN to the end of the -----END line";
const DECRYPT: &str = "remove its passphrase: openssl pkey -in FILE -out NEW-FILE";
const FROM_DER: &str = "convert it: openssl pkey -inform DER -in FILE -out NEW-FILE (openssl pkcs12 -in FILE -nodes -nocerts for PKCS #12)";
const FROM_OPENSSH: &str = "convert a copy of it: ssh-keygen -p -m PKCS8 -f FILE";
const NAME_THE_KEY: &str = "name the file of the private key that belongs to the certificate";
const KINDS: &str = "it must be RSA of 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519, complete and unencrypted; compare with openssl pkey -in FILE -noout";
const NAME_THE_CHAIN: &str = "it must have a part that begins with -----BEGIN CERTIFICATE-----";

/// The first private key of a text, and what signs with it.
///
/// # Errors
/// [`Flaw`]
pub(super) fn private_key(bytes: &[u8]) -> Result<(PrivateKeyDer<'static>, Arc<dyn SigningKey>), Flaw> {
    let text = text(bytes).map_err(|not| match not {
        NotText::Der => flaw("the private key is binary (DER), not PEM", FROM_DER),
        NotText::Wide => flaw("the private key is in UTF-16, not UTF-8", "save it as UTF-8 or ASCII"),
        NotText::Other => flaw("the private key is not text", HOW_TO_WRITE),
    })?;
    if !text.contains(BEGIN) {
        return Err(without_begin(text));
    }
    let mut others = None;
    for part in parts(text) {
        let part = part.map_err(|broken| flaw(broken.of_key(), AGAIN))?;
        match KEY_LABELS.iter().find(|known| **known == part.name) {
            Some(_) if part.body.contains("Proc-Type") => {
                return Err(flaw("the private key is encrypted, which is not supported", DECRYPT));
            }
            Some(known) => return usable(known, part.body),
            None => others = others.or(Some(other_kind(part.name))),
        }
    }
    Err(others.unwrap_or(flaw("there is no private key in it", HOW_TO_WRITE)))
}

/// All certificates of a text, in order, the server's own first.
///
/// # Errors
/// [`Flaw`]: the file may be that of a key by mistake, so it is treated like one.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let text = text(bytes).map_err(|not| match not {
        NotText::Der => flaw(
            "it is binary (DER), not PEM",
            "convert it: openssl x509 -inform DER -in FILE -out NEW-FILE",
        ),
        NotText::Wide => flaw("it is in UTF-16, not UTF-8", "save it as UTF-8 or ASCII"),
        NotText::Other => flaw("it is not text", NAME_THE_CHAIN),
    })?;
    let mut found = Vec::new();
    for part in parts(text) {
        let part = part.map_err(|broken| flaw(broken.of_certificate(), AGAIN))?;
        if part.name != "CERTIFICATE" {
            continue;
        }
        let pem = rebuilt("CERTIFICATE", part.body).ok_or(flaw("a certificate in it has characters that are not base64", AGAIN))?;
        found.push(CertificateDer::from_pem_slice(&pem).map_err(|_| flaw("a certificate in it is not whole base64", AGAIN))?);
    }
    if found.is_empty() {
        return Err(flaw("it holds no certificate", NAME_THE_CHAIN));
    }
    Ok(found)
}

fn usable(label: &str, body: &str) -> Result<(PrivateKeyDer<'static>, Arc<dyn SigningKey>), Flaw> {
    let pem = rebuilt(label, body).ok_or(flaw("the private key has characters that are not base64", AGAIN))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| flaw("the base64 of the private key is not whole", AGAIN))?;
    let signing = any_supported_type(&key).map_err(|_| flaw("the private key is damaged, or of a kind that cannot be used", KINDS))?;
    Ok((key, signing))
}

fn without_begin(text: &str) -> Flaw {
    let compact: Zeroizing<String> = Zeroizing::new(text.split_ascii_whitespace().collect());
    if compact.len() >= 32 && compact.bytes().all(is_base64) {
        return flaw(
            "the private key is base64 without its -----BEGIN and -----END lines",
            "give the PEM file as it is; where it was encoded as a whole, decode it first: base64 -d",
        );
    }
    flaw("this is not a PEM private key: there is no -----BEGIN line in it", HOW_TO_WRITE)
}

/// What stands where a private key should be.
fn other_kind(label: &str) -> Flaw {
    match label {
        "ENCRYPTED PRIVATE KEY" => flaw("the private key is encrypted, which is not supported", DECRYPT),
        "OPENSSH PRIVATE KEY" => flaw("the private key is in OpenSSH's own format", FROM_OPENSSH),
        "DSA PRIVATE KEY" => flaw("the private key is DSA, which no client accepts any more", KINDS),
        "CERTIFICATE" => flaw("it holds a certificate and no private key", NAME_THE_KEY),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => flaw("it holds a public key, not the private one", NAME_THE_KEY),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => flaw("it holds a certificate request and no private key", NAME_THE_KEY),
        _ => flaw("there is no private key in it", HOW_TO_WRITE),
    }
}

enum NotText {
    Der,
    Wide,
    Other,
}

/// The bytes as text, without the mark that some editors begin a file with and without quotes around all of it, as
/// files of environment variables have them.
fn text(bytes: &[u8]) -> Result<&str, NotText> {
    if bytes.starts_with(&[0xfe, 0xff]) || bytes.starts_with(&[0xff, 0xfe]) {
        return Err(NotText::Wide);
    }
    // A DER sequence longer than 127 bytes.
    if bytes.first() == Some(&0x30) && bytes.get(1).is_some_and(|length| *length >= 0x80) {
        return Err(NotText::Der);
    }
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or(NotText::Other)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// One part: its label, and what stands between its two lines.
struct PemBlock<'t> {
    name: &'t str,
    body: &'t str,
}

/// How a part is broken.
#[derive(Clone, Copy)]
enum Broken {
    Begin,
    End,
    Other,
}

impl Broken {
    const fn of_key(self) -> &'static str {
        match self {
            Self::Begin => "the private key's -----BEGIN line is broken",
            Self::End => "the private key has no -----END line: it was cut off",
            Self::Other => "the private key's -----END line does not name what its -----BEGIN line names",
        }
    }

    const fn of_certificate(self) -> &'static str {
        match self {
            Self::Begin => "a -----BEGIN line in it is broken",
            Self::End => "a part of it has no -----END line: it was cut off",
            Self::Other => "an -----END line in it does not name what its -----BEGIN line names",
        }
    }
}

/// The parts in order; nothing follows a broken one.
fn parts(text: &str) -> impl Iterator<Item = Result<PemBlock<'_>, Broken>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let (_, after) = rest.take()?.split_once(BEGIN)?;
        let part = part(after);
        rest = part.as_ref().ok().map(|(_, rest)| *rest);
        Some(part.map(|(part, _)| part))
    })
}

fn part(after: &str) -> Result<(PemBlock<'_>, &str), Broken> {
    let (name, rest) = after.split_once(DASHES).filter(|(name, _)| is_label(name)).ok_or(Broken::Begin)?;
    let (body, rest) = rest.split_once(END).ok_or(Broken::End)?;
    if body.contains(BEGIN) {
        return Err(Broken::End);
    }
    let (end, rest) = rest.split_once(DASHES).filter(|(end, _)| is_label(end)).ok_or(Broken::End)?;
    if end != name {
        return Err(Broken::Other);
    }
    Ok((PemBlock { name, body }, rest))
}

fn is_label(name: &str) -> bool {
    (1..=40).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ')
}

const fn is_base64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')
}

/// The part as RFC 7468 writes it. Between its lines base64 has no blank and no backslash, so line ends that became
/// blanks, or the two characters `\n`, can be nothing else.
fn rebuilt(label: &str, body: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut pem = Zeroizing::new(Vec::with_capacity(body.len() + 2 * label.len() + 40));
    pem.extend_from_slice(format!("{BEGIN}{label}{DASHES}\n").as_bytes());
    let mut rest = body;
    while let Some(next) = rest.chars().next() {
        let escaped = ["\\r", "\\n"].iter().find_map(|escape| rest.strip_prefix(escape));
        if let Some(after) = escaped {
            rest = after;
            continue;
        }
        match u8::try_from(next) {
            Ok(b) if b.is_ascii_whitespace() => {}
            Ok(b) if is_base64(b) => pem.push(b),
            _ => return None,
        }
        rest = rest.get(next.len_utf8()..)?;
    }
    pem.extend_from_slice(format!("\n{END}{label}{DASHES}\n").as_bytes());
    Some(pem)
}

#[cfg(test)]
mod tests;
