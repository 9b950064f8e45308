//! Signatures of RSASSA-PSS whose salt has another length than RFC 7518, section 3.5 gives it. Our own signer cannot make
//! them; these are of a key that was made for this test with OpenSSL, over the text `durward`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use durward::decide::external::KeySet;
use serde_json::json;

const MODULUS: &str = "pq68OGd8HWqKHgt0sa-Lh44lHmlg4U7IkKqEaCvvXk27PSOc7GPunuga-MsOfLu70g_71j0S7j3qA2L2razPr2Qcl5AlRMaKEf3BAQcacMXzMAQ0M9OmBvyW8tRFFN0NYwxq-ffuTPf5yBu3vVZ3ER6hdJwbo2oRXhwzSb1yJWLRItpX5g-jVp0wpk0GZ6wE84lpMxxU6XDaCNcE4ConQGidR0hdaTThFBjn2M9WYNfRggGXKQp50PjUuUcqAHIgxoWW5wc7WeOuBMuXhakkIbn_ZdE5kOtOCiR2kMzO62HpSj7MYpE2jUy2a3Ge1A3DbpZcNT4WkwBQnUPp9-KIiQ";
const SALT_20: &str = "BSUtyoU8kIlWszou1DzUeQ4hIi4CJ_CNOf6tpXMFZjJhmgc6-JYERuWhkIPeEaM5_Z2zV_Wq_eCmAlcGVY2_AAOawCf_tbKOAjM8eEarPwOW9hpY1Sndk5levvznV9SYgGFsVtEptqHSGEVALZEi3RxPtCWC40osN1loGR_cZThxlQJSftseX95VWSK63q8d0tUEbqAfO3BAi37-rT1SpABcr8y63HQcvzSG4XPC9m4jKITIkroKiqy9kFAjq9lTzJlHcFs32NQG8dcOUrCaE8uaAn_vjiVczLUQ38PeEn_nff9yqGwXFT3AISG_dtA6O20DRtARDZQODJ5YurpPLw";
const SALT_32: &str = "bUS7sSYuT9aij8996CG4IDjFVYJq8SgWML-45ZqORalYwBZkPxqzxPbaupOL5TpGDIum0YsPouWsMVwHpZvPzIlcx0KDhHxa9Z7jnwwrfFYMu9OonzikYgInvHkFFhV9BXzXeQlCo-A5HcJtcQaS_6jMTnXtAu4cnZcI5IoQqid9b0_MYs12FqEKOcFMX2iRbY-fjp9Wwe7Np4HSaQSRQ_-TMn2h0MDe1cwpl21VvTkMIzLw8-yZbBQ7-xPrGr9mbH5IM-o4pScUKq4_gMU_aIu7w3H9MjI_85iVvQ0PyUQRvoHwhTi_OKrRb8-TLFhIDHBcECIiTUbZuD8G2n6qFg";
const SALT_48: &str = "HtgoBrw9nUQwJhsfVNYZ7VTU5v2xJBoTkbfnUUKSEZcOqF1n7KnAADF5PFGpdhn25ctfmiZmi36F7I6-hPJ2bhzn8jyiDP0UES_CTkVPttbFBhRvaTXKVz5sI5SMUG3sDSENx0HdLWuvfT7x41ByljM14lk8bEB6QFiLSXrbTA4V5297bnLPNkZC1p-IDH-7s3XahGHdYcNCZ8HhErfw3py-L9E01bnujToXnMKTC5nveIj3n15oelbh1VghY6nCFSTLmJhxHtcJX0fyBWA39aof7EDawoaUGynjk0jwgbJy1mPVtfl555QEm_o24QjmbXlY-9vgL9fEV64Fla9EEQ";
const SALT_LONGEST: &str = "GgeoidjAWu8OMYdOEdJ3N_vA9DCCp2YGUvxMTH-3FE_dom7ZMOprtSsyVCNAsy9y6_mQ6sG4pFWpwsw1oivx9dmgoSMiQYGjC8cvDu7QeXgYvI5T9ZGjEfUsxYopIzGo-6-yPH6oj8OASvdAcOIbvaeoKKrNVFDZdH7HhREBcM_Z-1LpFYZcMdrNZSXVJ7FSRMBfG2Kdr4-PhWDB184thbzoJa2KhAIvGAfN6N3l1MtS9yyKK1KteE70IhYXSkwhq_S3q1KHF9Jpy9IzBb3yICzpWo500e7rPeyXEYyj2voh5RvzARYvz13yYjsNOAvRCbqZwerLALkIjJgf6-yZ8A";

#[test]
fn j13_a_salt_is_as_long_as_the_hash() {
    let verified = |alg: &str, signature: &str| {
        let jwk = json!({ "kty": "RSA", "kid": "k", "alg": alg, "n": MODULUS, "e": "AQAB" });
        let set = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut keys = set.find(Some("k"), alg).ok().unwrap();
        keys.any(|key| key.verifies(b"durward", &signature))
    };
    assert!(verified("PS256", SALT_32));
    for (alg, signature) in [
        ("PS256", SALT_20),
        ("PS256", SALT_48),
        ("PS256", SALT_LONGEST),
        ("PS384", SALT_32),
        ("PS384", SALT_48),
        ("PS512", SALT_32),
        ("RS256", SALT_32),
    ] {
        assert!(!verified(alg, signature), "{alg}");
    }
}
