//! Blocks that pass, blocks that are replaced, and that the library's table stays the client's.

use proptest::prelude::*;

use super::hpack::{HpackField, Indexing, push_field};
use super::*;
use crate::wire::head::MAX_HEAD;

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/x")];

fn block(fields: &[(&str, &str)], indexing: Indexing) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        push_field(
            &mut block,
            HpackField {
                name: name.as_bytes(),
                value: value.as_bytes(),
                indexing,
            },
        );
    }
    block
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request in frames of at most 16 KiB.
fn request(stream: u32, block: &[u8]) -> Vec<u8> {
    let mut pieces: Vec<&[u8]> = block.chunks(MAX_FRAME).collect();
    let last = pieces.pop().unwrap_or_default();
    let mut out = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        out.extend(frame(
            if n == 0 { HEADERS } else { CONTINUATION },
            END_STREAM * u8::from(n == 0),
            stream,
            piece,
        ));
    }
    let first = pieces.is_empty();
    out.extend(frame(
        if first { HEADERS } else { CONTINUATION },
        END_HEADERS | (END_STREAM * u8::from(first)),
        stream,
        last,
    ));
    out
}

/// A front that has seen the preface, and the library's reader behind it.
struct Pair {
    header_filter: HeaderFilter,
    library: Decoder,
}

impl Pair {
    fn new() -> Self {
        let mut header_filter = HeaderFilter::new();
        assert_eq!(header_filter.filter(&[b'x'; PREFACE]), Passed::Unchanged);
        Self {
            header_filter,
            library: Decoder::default(),
        }
    }

    /// What the library is given of these bytes, which come in pieces of this size.
    fn pass(&mut self, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            match self.header_filter.filter(piece) {
                Passed::Unchanged => out.extend_from_slice(piece),
                Passed::Replaced => {
                    while let Some(ready) = self.header_filter.take_ready(7) {
                        out.extend_from_slice(ready);
                    }
                }
            }
        }
        out
    }

    /// The fields that the library reads of a request.
    fn fields(&mut self, bytes: &[u8], piece: usize) -> Vec<String> {
        let passed = self.pass(bytes, piece);
        let parts = BlockParts::of(&passed).unwrap();
        let (mut fields, text) = (Vec::new(), |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned());
        let joined = join(parts.fragment, parts.rest);
        let each = |field: HpackField<'_>| fields.push(format!("{}={}", text(field.name), text(field.value)));
        self.library.decode(&joined, |_| {}, each).unwrap();
        fields
    }
}

#[test]
fn good_frames_pass_untouched_in_any_pieces() {
    let mut bytes = frame(4, 0, 0, &[]);
    bytes.extend(request(1, &block(&GET, Indexing::Added)));
    bytes.extend(frame(0, 0, 1, &[7; 300]));
    bytes.extend(frame(
        HEADERS,
        END_HEADERS | PADDED | PRIORITY,
        3,
        &[&[2, 0, 0, 0, 0, 9][..], &[0xbe, 0xbf], &[0, 0]].concat(),
    ));
    let long = [("x-long", &*"v".repeat(9_000)), ("x-more", &*"v".repeat(5_000))];
    bytes.extend(request(5, &block(&[&GET[..], &long].concat(), Indexing::None)));
    for piece in [1, 2, 9, 10, 11, 100, 20_000] {
        let mut pair = Pair::new();
        assert_eq!(pair.pass(&bytes, piece), bytes, "{piece}");
        assert!(!pair.header_filter.broken && pair.header_filter.pending.is_empty());
    }
}

#[test]
fn a_malformed_field_ends_its_stream_only_and_the_tables_stay_alike() {
    for bad in [
        ("X-Upper", "1"),
        ("x y", "1"),
        ("x\r\n", "1"),
        ("x-a", "a\0b"),
        ("x-a", "a\r\nx: y"),
        (":evil", "1"),
        (":status", "abc"),
        (":method", "G T"),
        (":method", ""),
    ] {
        let mut pair = Pair::new();
        pair.fields(&request(1, &block(&[&GET[..], &[("x-first", "1")]].concat(), Indexing::Added)), 50);
        let fields = pair.fields(&request(3, &block(&[GET[0], bad, ("x-then", "2")], Indexing::Added)), 50);
        assert!(fields.contains(&"connection=close".to_owned()), "{bad:?}: {fields:?}");
        // The newest entry, the bad one, and older ones.
        let fields = pair.fields(&request(5, &[&block(&GET, Indexing::None)[..], &[0xbe, 0xc1]].concat()), 50);
        assert_eq!(fields[4..], ["x-then=2", "x-first=1"], "{bad:?}");
        let fields = pair.fields(&request(7, &[&block(&GET, Indexing::None)[..], &[0xbf]].concat()), 50);
        assert_eq!(fields, ["connection=close"], "the bad entry is bad again: {bad:?}");
    }
}

#[test]
fn a_head_over_its_limit_is_refused_by_us_and_one_below_it_passes() {
    for piece in [50, 40_000] {
        let mut pair = Pair::new();
        let small = [&GET[..], &[("x-a", "1")]].concat();
        pair.fields(&request(1, &block(&small, Indexing::Added)), piece);
        let (one, two) = ("a".repeat(MAX_HEAD), "b".repeat(20_000));
        let large = [&GET[..], &[("x-one", &*one), ("x-two", &*two), ("x-last", "z")]].concat();
        let fields = pair.fields(&request(3, &block(&large, Indexing::Added)), piece);
        let mut wanted: Vec<String> = GET.iter().map(|(n, v)| format!("{n}={v}")).collect();
        wanted.extend(["x-last=z".to_owned(), "durward-refused=head".to_owned()]);
        assert_eq!(fields, wanted);
        let fields = pair.fields(&request(5, &[&block(&GET, Indexing::None)[..], &[0xbe]].concat()), piece);
        assert_eq!(fields[4..], ["x-last=z"]);
        // As trailers it is the end of the stream.
        let trailers = request(5, &block(&[("x-sum", &*"a".repeat(MAX_HEAD / 2)); 2], Indexing::None));
        assert_eq!(pair.fields(&trailers, piece), ["connection=close"]);
    }
    let long = format!("/{}", "p".repeat(40_000));
    let mut pair = Pair::new();
    let fields = pair.fields(
        &request(1, &block(&[GET[0], GET[1], GET[2], (":path", &long)], Indexing::Added)),
        99,
    );
    assert!(fields[3].len() > crate::wire::head::MAX_TARGET && fields.last().unwrap() == "durward-refused=head");
}

#[test]
fn a_target_with_a_fragment_is_refused_by_us() {
    let mut pair = Pair::new();
    let path = [GET[0], GET[1], GET[2], (":path", "/a#b")];
    for _ in 0..2 {
        let fields = pair.fields(&request(1, &block(&path, Indexing::Added)), 50);
        assert_eq!(fields[3..], [":path=/axb", "durward-refused=target"]);
        pair.header_filter.last_stream = 0;
    }
    // By its place in the table.
    let fields = pair.fields(&request(3, &[&block(&path[..3], Indexing::None)[..], &[0xbe]].concat()), 50);
    assert_eq!(fields[3..], [":path=/axb", "durward-refused=target"]);
}

#[test]
fn a_block_in_many_small_frames_passes() {
    let get = block(&GET, Indexing::None);
    let small = frame(CONTINUATION, 0, 1, b"").repeat(MAX_FRAMES - 2);
    let bytes = [frame(HEADERS, 0, 1, &get), small, frame(CONTINUATION, END_HEADERS, 1, b"")].concat();
    let mut pair = Pair::new();
    assert_eq!(pair.pass(&bytes, 1), bytes);
    assert!(!pair.header_filter.broken);
}

#[test]
fn what_breaks_the_connection_reaches_the_library_whole() {
    let get = block(&GET, Indexing::None);
    for bad in [
        frame(HEADERS, END_HEADERS, 0, &get),
        [frame(HEADERS, 0, 1, &get), frame(0, 0, 1, b"x")].concat(),
        [frame(HEADERS, 0, 1, &get), frame(CONTINUATION, 0, 3, b"x")].concat(),
        frame(HEADERS, END_HEADERS, 1, &[0x80]),
        frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 0x82]),
        [frame(HEADERS, 0, 1, &get), frame(CONTINUATION, 0, 1, &[0; MAX_FRAME]).repeat(5)].concat(),
        [frame(HEADERS, 0, 1, &get), frame(CONTINUATION, 0, 1, b"").repeat(MAX_FRAMES)].concat(),
    ] {
        let bytes = [bad, request(9, &get)].concat();
        let mut pair = Pair::new();
        assert_eq!(pair.pass(&bytes, 1_000), bytes);
        assert!(pair.header_filter.broken);
    }
}

/// What a client may put into a block.
#[derive(Debug, Clone)]
enum Piece {
    Literal(&'static str, String, Indexing),
    /// The entry at this place of the table, counted round it.
    Entry(usize),
    /// A literal with the name of this entry.
    NamedBy(usize, String),
    Update(usize),
}

fn piece() -> impl Strategy<Value = Piece> {
    const NAMES: &[&str] = &[
        "x-a",
        "x-b",
        ":path",
        ":authority",
        ":evil",
        ":status",
        "X-Bad",
        "x y",
        "cookie",
        "connection",
    ];
    let text = prop_oneof![
        4 => "[a-z/]{1,20}",
        1 => Just("a\0b".to_owned()),
        1 => Just("/a#b".to_owned()),
        1 => (500_usize..5_000).prop_map(|n| "v".repeat(n)),
        1 => Just("v".repeat(17_000)),
    ];
    let indexing = prop_oneof![Just(Indexing::Added), Just(Indexing::None)];
    prop_oneof![
        6 => (prop::sample::select(NAMES), text.clone(), indexing).prop_map(|(name, value, indexing)| Piece::Literal(name, value, indexing)),
        3 => any::<usize>().prop_map(Piece::Entry),
        1 => (any::<usize>(), text).prop_map(|(at, value)| Piece::NamedBy(at, value)),
        1 => (0_usize..=hpack::TABLE).prop_map(Piece::Update),
    ]
}

/// The block of these pieces; `entries` is how many the client's table has.
fn coded(pieces: &[Piece], entries: usize) -> Vec<u8> {
    let mut block = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Literal(name, value, indexing) => push_field(
                &mut block,
                HpackField {
                    name: name.as_bytes(),
                    value: value.as_bytes(),
                    indexing: *indexing,
                },
            ),
            // Entries move while the block is read: only in front do their places stand.
            Piece::Entry(at) if n == 0 && entries > 0 => hpack::push_int(&mut block, 0x80, 7, 62 + at % entries),
            Piece::NamedBy(at, value) if n == 0 && entries > 0 => {
                hpack::push_int(&mut block, 0x40, 6, 62 + at % entries);
                hpack::push_int(&mut block, 0, 7, value.len());
                block.extend(value.as_bytes());
            }
            Piece::Update(size) if n == 0 => hpack::push_update(&mut block, *size),
            _ => {}
        }
    }
    block
}

#[test]
fn a_target_that_is_repeated_makes_no_block_of_more_than_a_frame() {
    let long = "p".repeat(MAX_HEAD / 3);
    for indexing in [Indexing::Added, Indexing::None] {
        let targets = block(&[(":path", long.as_str()); 5], indexing);
        let mut pair = Pair::new();
        let passed = pair.pass(&request(1, &targets), MAX_FRAME);
        assert!(!pair.header_filter.broken && BlockParts::of(&passed).unwrap().frame.length <= MAX_FRAME);
    }
}

#[test]
fn whatever_a_client_sends_the_library_has_its_table() {
    let config = ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(blocks in prop::collection::vec(prop::collection::vec(piece(), 0..6), 1..12))| {
        let mut pair = Pair::new();
        for (n, pieces) in blocks.iter().enumerate() {
            let stream = u32::try_from(2 * n + 1).unwrap();
            let bytes = request(stream, &coded(pieces, pair.header_filter.decoder.len()));
            let untouched = pair.pass(&bytes, 1_000);
            if pair.header_filter.broken {
                prop_assert_eq!(untouched, bytes);
                break;
            }
            let parts = BlockParts::of(&untouched).unwrap();
            prop_assert!(parts.frame.length <= MAX_FRAME, "{}", parts.frame.length);
            let joined = join(parts.fragment, parts.rest);
            let read = pair.library.decode(&joined, |_| {}, |_| {});
            prop_assert_eq!(read, Ok(()));
            for at in 0..pair.header_filter.decoder.len() {
                let (client, library) = (pair.header_filter.decoder.nth(at), pair.library.nth(at));
                prop_assert_eq!(client.0.len() + client.1.len(), library.0.len() + library.1.len(), "entry {}", at);
                let good = client.0.iter().all(|b| b.is_ascii_lowercase() || *b == b'-') && !client.1.contains(&0);
                prop_assert!(!good || client == library, "entry {}", at);
            }
        }
    });
}
