//! A request head is read the same however it arrives, and what was read is all there was.
#![no_main]

use durward::base::denial::Denial;
use durward::wire::framing::Framing;
use durward::wire::head::{MAX_FIELD, MAX_HEAD, MAX_TARGET, ParseStatus, RequestHead, Version};
use libfuzzer_sys::fuzz_target;

fn parse(data: &[u8]) -> Result<(RequestHead, ParseStatus), Denial> {
    let mut head = RequestHead::default();
    head.parse(data).map(|progress| (head, progress))
}

fn render(head: &RequestHead) -> Vec<u8> {
    let version: &[u8] = if head.version == Version::Http10 {
        b" HTTP/1.0\r\n"
    } else {
        b" HTTP/1.1\r\n"
    };
    let mut out = [head.method.as_slice(), b" ", &head.target, version].concat();
    for field in head.fields.iter() {
        out.extend([field.name, b": ", field.value, b"\r\n"].concat());
    }
    out.extend(b"\r\n");
    out
}

fuzz_target!(|data: &[u8]| {
    let cut = data.first().map_or(0, |b| data.len() * usize::from(*b) / 256);
    match parse(data) {
        Err(denial) => {
            assert!(denial.closes_connection(), "{denial:?}");
            assert!(parse(&[data, b"\r\n\r\n"].concat()).is_err(), "more bytes do not heal a head");
        }
        Ok((_, ParseStatus::Partial)) => assert!(data.len() < MAX_HEAD),
        Ok((head, ParseStatus::Complete(used))) => {
            let taken = &data[..used];
            assert!(used <= MAX_HEAD && taken.ends_with(b"\r\n\r\n") && head.target.len() <= MAX_TARGET);
            assert!(
                (0..used).all(|i| taken[i] != b'\n' || taken[i - 1] == b'\r'),
                "a bare line feed was taken"
            );
            assert!(
                (0..used).all(|i| taken[i] != b'\r' || taken[i + 1] == b'\n'),
                "a bare carriage return was taken"
            );
            assert_eq!(
                taken.iter().filter(|b| **b == b'\n').count(),
                head.fields.len() + 2,
                "each line is a field"
            );
            for field in head.fields.iter() {
                assert!(!field.name.is_empty() && field.name.len() + field.value.len() <= MAX_FIELD);
                assert!(!field.value.iter().any(|b| b"\r\n\0".contains(b)));
            }
            if cut < used {
                assert_eq!(
                    parse(&data[..cut]).map(|p| p.1),
                    Ok(ParseStatus::Partial),
                    "a beginning of a good head waits"
                );
            }
            let lengths = head.fields.all("content-length").count();
            let codings = head.fields.all("transfer-encoding").count();
            match head.framing {
                Framing::None => assert_eq!((lengths, codings), (0, 0)),
                Framing::Length(_) => assert_eq!((lengths, codings), (1, 0)),
                Framing::Chunked => assert_eq!((lengths, codings, head.version), (0, 1, Version::Http11)),
                Framing::UntilClose => unreachable!("requests do not end with their connection"),
            }
            // Rendering adds at most a space a field, so a head near the limit may not pass again.
            let rendered = render(&head);
            if rendered.len() <= MAX_HEAD {
                let (again, progress) = parse(&rendered).expect("what was read can be read again");
                assert_eq!(progress, ParseStatus::Complete(rendered.len()));
                assert_eq!(
                    (&again.method, &again.target, again.framing, again.keep_alive),
                    (&head.method, &head.target, head.framing, head.keep_alive)
                );
                assert!(
                    again
                        .fields
                        .iter()
                        .map(|f| (f.name, f.value))
                        .eq(head.fields.iter().map(|f| (f.name, f.value)))
                );
            }
        }
    }
});
