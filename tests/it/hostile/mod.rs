//! Ring 3: hostile input over raw sockets through the real binary, judged by the bytes a recording upstream received.

mod corpus;
mod deadlines;
mod judge;
mod replies;

use judge::Court;

const FILES: [&str; 3] = [include_str!("paths.txt"), include_str!("headers.txt"), include_str!("framing.txt")];

/// Every entry of these ids, each in every form it has.
fn run(ids: &[&str]) {
    let court = Court::open();
    let mut tried = 0;
    let mut wrong = Vec::new();
    for entry in FILES.iter().flat_map(|text| corpus::parse(text, &court.key)) {
        if ids.contains(&entry.id.as_str()) {
            tried += 1;
            wrong.extend(court.try_entry(&entry));
        }
    }
    wrong.extend(court.close());
    assert!(tried > 0, "there is no entry for {ids:?}");
    assert!(wrong.is_empty(), "{} of {ids:?} went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

macro_rules! families {
    ($($name:ident: $($id:literal),+;)*) => {
        $(#[test] fn $name() { run(&[$($id),+]); })*
        /// Ids that have a test.
        const TESTED: &[&str] = &[$($($id),+),*];
    };
}

families! {
    p1_dot_segments_are_refused: "P1";
    p2_encoded_dot_segments_are_refused: "P2";
    p3_encoded_slashes_and_backslashes_are_refused: "P3";
    p4_path_parameters_open_nothing: "P4";
    p5_empty_segments_are_refused: "P5";
    p6_control_characters_and_broken_escapes_are_refused: "P6";
    p7_double_encoding_is_refused: "P7";
    p8_overlong_and_raw_bytes_are_refused: "P8";
    p9_other_spellings_of_a_path_find_no_route: "P9";
    p10_fragments_are_refused_and_queries_match_nothing: "P10";
    p11_odd_h2_paths_are_refused: "P11";
    p12_targets_without_a_slash_are_refused: "P12";
    p13_absolute_targets_never_change_the_host: "P13";
    p14_rewriting_headers_decide_nothing: "P14";
    p15_no_header_selects_a_probe: "P15";
    h1_identity_headers_of_a_client_never_arrive: "H1";
    h2_disguised_identity_headers_are_refused: "H2";
    h3_connection_cannot_remove_or_carry_headers: "H3";
    h4_trailers_are_dropped: "H4";
    h5_malformed_field_lines_are_refused: "H5";
    h6_forwarding_headers_of_an_untrusted_client_never_arrive: "H6";
    h7_signals_of_other_gateways_never_arrive: "H7";
    h8_odd_bytes_in_credentials_are_refused: "H8";
    h9_two_credentials_are_refused: "H9";
    h10_cookie_crumbs_are_counted: "H10";
    h11_plain_headers_of_a_client_arrive: "H11";
    s1_content_length_with_transfer_encoding_is_refused: "S1";
    s2_chunked_twice_is_refused: "S2";
    s3_other_codings_are_refused: "S3";
    s4_chunked_in_http10_is_refused: "S4";
    s5_malformed_lengths_are_refused: "S5";
    s6_malformed_chunks_break_both_connections: "S6";
    s7_bodies_and_expectations_are_framed_once: "S7";
    s8_upgrades_open_no_tunnel: "S8";
    s9_no_upgrade_to_cleartext_h2: "S9";
    s10_h2_cannot_say_what_h1_must_not_hear: "S10";
    s11_malformed_hosts_are_refused: "S11";
    s12_malformed_request_lines_are_refused: "S12";
    d10_oversized_heads_are_refused: "D10";
    a1_good_requests_arrive_as_they_are: "A1";
}

#[test]
fn the_corpus_is_whole() {
    let entries: Vec<corpus::Entry> = FILES.iter().flat_map(|text| corpus::parse(text, "k")).collect();
    assert!(entries.len() >= 200, "{} entries", entries.len());
    let wanted = (1..=15)
        .map(|n| format!("P{n}"))
        .chain((1..=11).map(|n| format!("H{n}")))
        .chain((1..=12).map(|n| format!("S{n}")));
    for id in wanted {
        assert!(entries.iter().any(|e| e.id == id), "no entry for {id}");
        assert!(TESTED.contains(&id.as_str()), "no test for {id}");
    }
    for entry in &entries {
        assert!(TESTED.contains(&entry.id.as_str()), "{} is never run", entry.name);
        assert_eq!(
            entries.iter().filter(|e| e.name == entry.name).count(),
            1,
            "{} stands twice",
            entry.name
        );
    }
}
