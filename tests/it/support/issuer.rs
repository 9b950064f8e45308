//! Issuers of tokens as tests need them: keys made here, public halves as JWKs, tokens right and wrong.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A signing key.
pub(crate) enum SigningKey {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// An issuer's key under a name.
pub(crate) struct Signer {
    pub(crate) kid: String,
    pub(crate) algorithm: &'static str,
    key: SigningKey,
}

/// Base64url without padding.
pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// A new RSA key of 2048 bits.
    pub(crate) fn rs256(kid: &str) -> Self {
        Self::rsa(kid, KeySize::Rsa2048)
    }

    /// A new RSA key.
    pub(crate) fn rsa(kid: &str, size: KeySize) -> Self {
        let key = SigningKey::Rsa(Box::new(RsaKeyPair::generate(size).unwrap()));
        Self::of(kid, "RS256", key)
    }

    /// A new P-256 key.
    pub(crate) fn es256(kid: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self::of(kid, "ES256", SigningKey::P256(Box::new(key)))
    }

    /// A new Ed25519 key.
    pub(crate) fn eddsa(kid: &str) -> Self {
        Self::of(kid, "EdDSA", SigningKey::Ed25519(Box::new(Ed25519KeyPair::generate().unwrap())))
    }

    /// One of each algorithm.
    pub(crate) fn all() -> [Self; 3] {
        [Self::rs256("rsa"), Self::es256("ec"), Self::eddsa("ed")]
    }

    fn of(kid: &str, algorithm: &'static str, key: SigningKey) -> Self {
        Self {
            kid: kid.to_owned(),
            algorithm,
            key,
        }
    }

    /// Signs bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            SigningKey::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).unwrap();
                signature
            }
            SigningKey::P256(key) => key.sign(&random, bytes).unwrap().as_ref().to_vec(),
            SigningKey::Ed25519(key) => key.sign(bytes).as_ref().to_vec(),
        }
    }

    /// Its public half.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            SigningKey::Rsa(key) => {
                let public = key.public_key();
                json!({
                    "kty": "RSA",
                    "n": base64url(public.modulus().big_endian_without_leading_zero()),
                    "e": base64url(public.exponent().big_endian_without_leading_zero()),
                })
            }
            SigningKey::P256(key) => {
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..65]) })
            }
            SigningKey::Ed25519(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().as_ref()) }),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The header its tokens have.
    pub(crate) fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "kid": self.kid, "typ": "JWT" })
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_of(&self.header().to_string(), &claims.to_string())
    }

    /// A token of these texts, whatever they are.
    pub(crate) fn token_of(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(payload));
        format!("{signed}.{}", base64url(self.sign(signed.as_bytes())))
    }
}

/// A JWK Set of these keys.
pub(crate) fn jwks(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() }).to_string()
}
