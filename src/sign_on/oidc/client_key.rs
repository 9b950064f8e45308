//! The key with which this gateway proves who it is to a token endpoint: `private_key_jwt` (OpenID Connect Core 1.0, section 9).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::sha256;
use crate::sign_on::fault::SignOnFault;

/// How long an assertion is good: for one request.
const LIFETIME: Duration = Duration::from_secs(60);

/// Sizes of RSA moduli in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// A private key.
pub struct ClientKey {
    pair: SigningPair,
    /// Its thumbprint (RFC 7638), under which providers find the public half.
    kid: String,
}

enum SigningPair {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({})", self.kid)
    }
}

impl ClientKey {
    /// Reads a PKCS#8 key in DER.
    ///
    /// # Errors
    /// [`SignOnFault::ClientKey`].
    pub fn from_der(der: &[u8]) -> Result<Self, SignOnFault> {
        let pair = if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            SigningPair::Ec(Box::new(pair))
        } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            SigningPair::Ed25519(Box::new(pair))
        } else {
            let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| SignOnFault::ClientKey)?;
            if !RSA_BYTES.contains(&pair.public_modulus_len()) {
                return Err(SignOnFault::ClientKey);
            }
            SigningPair::Rsa(Box::new(pair))
        };
        let mut key = Self { pair, kid: String::new() };
        // The members in their order, without white space: `serde_json` sorts them.
        key.kid = URL_SAFE_NO_PAD.encode(sha256(key.numbers().to_string().as_bytes()));
        Ok(key)
    }

    /// The public half as the provider must know it: in a JWK Set, or registered there.
    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = self.numbers();
        if let Value::Object(members) = &mut jwk {
            members.insert("kid".into(), json!(self.kid));
            members.insert("alg".into(), json!(self.algorithm()));
            members.insert("use".into(), json!("sig"));
        }
        jwk
    }

    /// The members that make the key what it is, and nothing else.
    fn numbers(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            SigningPair::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "e": text(public.exponent().big_endian_without_leading_zero()),
                    "kty": "RSA",
                    "n": text(public.modulus().big_endian_without_leading_zero()),
                })
            }
            SigningPair::Ec(pair) => {
                // An uncompressed point: 4, x, y.
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
                json!({ "crv": "P-256", "kty": "EC", "x": text(x), "y": text(y) })
            }
            SigningPair::Ed25519(pair) => json!({ "crv": "Ed25519", "kty": "OKP", "x": text(pair.public_key().as_ref()) }),
        }
    }

    const fn algorithm(&self) -> &'static str {
        match self.pair {
            SigningPair::Rsa(_) => "RS256",
            SigningPair::Ec(_) => "ES256",
            SigningPair::Ed25519(_) => "EdDSA",
        }
    }

    /// A JWT that says once and for a minute that its bearer is the client.
    pub(super) fn assertion(&self, client_id: &str, audience: &str, now: UnixMillis) -> Result<String, SignOnFault> {
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(|_| SignOnFault::NoRandomness)?;
        let header = json!({ "alg": self.algorithm(), "kid": self.kid, "typ": "JWT" });
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": URL_SAFE_NO_PAD.encode(id),
            "iat": now.secs(),
            "exp": now.plus(LIFETIME).secs(),
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignOnFault> {
        let random = SystemRandom::new();
        match &self.pair {
            SigningPair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
                    .map_err(|_| SignOnFault::ClientKey)?;
                Ok(signature)
            }
            SigningPair::Ec(pair) => Ok(pair.sign(&random, bytes).map_err(|_| SignOnFault::ClientKey)?.as_ref().to_vec()),
            SigningPair::Ed25519(pair) => Ok(pair.sign(bytes).as_ref().to_vec()),
        }
    }
}
