//! A response head is read the same however it arrives, and its framing is never in doubt.
#![no_main]

use durward::wire::framing::Framing;
use durward::wire::head::{MAX_RESPONSE_FIELDS, MAX_RESPONSE_HEAD, ParseStatus, RequestKind, ResponseError, ResponseHead};
use libfuzzer_sys::fuzz_target;

fn parse(data: &[u8]) -> Result<(ResponseHead, ParseStatus), ResponseError> {
    let mut head = ResponseHead::default();
    head.parse(data).map(|progress| (head, progress))
}

fuzz_target!(|data: &[u8]| {
    let cut = data.first().map_or(0, |b| data.len() * usize::from(*b) / 256);
    match parse(data) {
        Err(_) => assert!(parse(&[data, b"\r\n\r\n"].concat()).is_err(), "more bytes do not heal a head"),
        Ok((_, ParseStatus::Partial)) => assert!(data.len() < MAX_RESPONSE_HEAD),
        Ok((head, ParseStatus::Complete(used))) => {
            let taken = &data[..used];
            assert!(taken.ends_with(b"\r\n\r\n") && (100..=599).contains(&head.status) && head.fields.len() <= MAX_RESPONSE_FIELDS);
            assert_eq!(
                taken.iter().filter(|b| **b == b'\n').count(),
                head.fields.len() + 2,
                "each line is a field"
            );
            assert!(
                (0..used).all(|i| taken[i] != b'\n' || taken[i - 1] == b'\r'),
                "a bare line feed was taken"
            );
            if cut < used {
                assert_eq!(
                    parse(&data[..cut]).map(|p| p.1),
                    Ok(ParseStatus::Partial),
                    "a beginning of a good head waits"
                );
            }
            assert_eq!(head.framing(RequestKind::Head), Framing::None);
            let framing = head.framing(RequestKind::Other);
            let lengths = head.fields.all("content-length").count();
            let codings = head.fields.all("transfer-encoding").count();
            assert!(lengths == 0 || codings == 0, "both lengths");
            let bodyless = head.status < 200 || matches!(head.status, 204 | 304);
            match framing {
                Framing::None => assert!(bodyless),
                Framing::Length(_) => assert!(lengths > 0 && !bodyless),
                Framing::Chunked => assert!(codings == 1 && !bodyless),
                Framing::UntilClose => assert!(lengths == 0 && codings == 0 && !bodyless),
            }
        }
    }
});
