//! Issuers of tokens as tests need them: keys made here, public halves as JWKs, tokens right and wrong.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A signing key.
pub(crate) enum SigningKey {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
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
        Self::of(kid, "ES256", SigningKey::Ec(Box::new(key)))
    }

    /// A new Ed25519 key.
    pub(crate) fn eddsa(kid: &str) -> Self {
        Self::of(kid, "EdDSA", SigningKey::Ed25519(Box::new(Ed25519KeyPair::generate().unwrap())))
    }

    /// One of each algorithm.
    pub(crate) fn all() -> [Self; 9] {
        [
            Self::rs256("rsa"),
            Self::es256("ec"),
            Self::eddsa("ed"),
            Self::of_algorithm("rs384", "RS384"),
            Self::of_algorithm("rs512", "RS512"),
            Self::of_algorithm("ps256", "PS256"),
            Self::of_algorithm("ps384", "PS384"),
            Self::of_algorithm("ps512", "PS512"),
            Self::of_algorithm("es384", "ES384"),
        ]
    }

    /// A new key of the kind this algorithm has.
    pub(crate) fn of_algorithm(kid: &str, algorithm: &'static str) -> Self {
        let key = match algorithm {
            "ES256" => return Self::es256(kid),
            "ES384" => {
                let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
                SigningKey::Ec(Box::new(key))
            }
            "EdDSA" => return Self::eddsa(kid),
            _ => {
                return Self {
                    algorithm,
                    ..Self::rs256(kid)
                };
            }
        };
        Self::of(kid, algorithm, key)
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
                key.sign(self.encoding(), &random, bytes, &mut signature).unwrap();
                signature
            }
            SigningKey::Ec(key) => key.sign(&random, bytes).unwrap().as_ref().to_vec(),
            SigningKey::Ed25519(key) => key.sign(bytes).as_ref().to_vec(),
        }
    }

    fn encoding(&self) -> &'static dyn RsaEncoding {
        match self.algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            "PS384" => &RSA_PSS_SHA384,
            "PS512" => &RSA_PSS_SHA512,
            other => panic!("no algorithm of RSA: {other}"),
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
            SigningKey::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(if self.algorithm == "ES384" { 48 } else { 32 });
                let curve = if self.algorithm == "ES384" { "P-384" } else { "P-256" };
                json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
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
