//! Stored bytes: whatever decodes is a valid record, and is written and read back as the same one.
#![no_main]

use durward::store::codec::{
    MAX_RECORD_BYTES, decode_credential, decode_event, decode_tenant, encode_credential, encode_event, encode_tenant,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = decode_credential(bytes) {
        // What is written now may be longer than what was read (escapes), so the cap may refuse it.
        if let Ok(written) = encode_credential(&record) {
            assert!(written.len() <= MAX_RECORD_BYTES);
            assert_eq!(decode_credential(&written).as_ref(), Ok(&record));
        }
        assert!(record.name.iter().all(|name| !name.chars().any(char::is_control)));
    }
    if let Ok(record) = decode_tenant(bytes) {
        let written = encode_tenant(&record).unwrap();
        assert_eq!(decode_tenant(&written), Ok(record));
    }
    if let Ok(subject) = decode_event(bytes) {
        let written = encode_event(&subject).unwrap();
        assert_eq!(decode_event(&written), Ok(subject));
    }
});
