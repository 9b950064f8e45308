//! Answers of token and userinfo endpoints are read or refused; no refusal holds a control character or is long.
#![no_main]

use durward::sign_on::SignOnFault;
use durward::sign_on::oidc::{SentSecrets, TokenAnswer, UserInfo};
use libfuzzer_sys::fuzz_target;

fn check(fault: &SignOnFault) {
    let words = fault.to_string();
    assert!(words.chars().count() < 1_200 && words.chars().all(|c| !c.is_control()), "{words}");
    assert!(SignOnFault::LABELS.contains(&fault.label()));
}

// The first byte chooses the status, and whether the rest is the answer or its last members.
fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let status = [200, 200, 400, 401][usize::from(choice % 4)];
    let begin: &[u8] = match choice / 4 % 4 {
        0 => b"",
        1 => br#"{"token_type":"Bearer","access_token":"a","id_token":"b""#,
        2 => br#"{"token_type":"Bearer","id_token":"b""#,
        _ => br#"{"sub":"alice""#,
    };
    let json = [begin, rest].concat();
    let json = json.as_slice();
    match TokenAnswer::parse(status, json, &SentSecrets::default()) {
        Ok(answer) => {
            assert_eq!(status, 200);
            let other: serde_json::Value = serde_json::from_slice(json).unwrap();
            assert!(other["id_token"].is_string() && other.get("error").is_none());
            if let Ok(value) = answer.bearer() {
                assert!(value.is_sensitive());
                assert_eq!(value.to_str().unwrap().strip_prefix("Bearer "), other["access_token"].as_str());
            }
        }
        Err(fault) => check(&fault),
    }
    match TokenAnswer::parse_refreshed(status, json, &SentSecrets::default()) {
        Ok(answer) => {
            assert_eq!(status, 200);
            let other: serde_json::Value = serde_json::from_slice(json).unwrap();
            assert_eq!(answer.has_id_token(), other["id_token"].is_string());
            let token = answer.refresh_token();
            assert!(token.is_none_or(|token| other["refresh_token"] == token.expose()));
        }
        Err(fault) => check(&fault),
    }
    match UserInfo::parse(json, "alice") {
        Ok(_) => {
            let other: serde_json::Value = serde_json::from_slice(json).unwrap();
            assert_eq!(other["sub"], "alice");
        }
        Err(fault) => check(&fault),
    }
});
