//! What a drill makes of the answers it gets.

use super::*;

fn visit(sent: i64, answered: i64, verdict: VisitOutcome) -> Visit {
    Visit {
        sent: UnixMillis(sent),
        answered: UnixMillis(answered),
        verdict,
    }
}

#[test]
fn the_last_admission_counts_from_the_acknowledgement_and_only_if_sent_after_it() {
    let visits = [
        visit(90, 101, VisitOutcome::Admitted),
        visit(102, 107, VisitOutcome::Admitted),
        visit(108, 109, VisitOutcome::Refused),
        visit(110, 130, VisitOutcome::Admitted),
        visit(140, 141, VisitOutcome::Refused),
    ];
    let summarise = |visits: &[Visit]| {
        let watched = VisitLog {
            visits: visits.to_vec(),
            ..VisitLog::default()
        };
        summarise("u", &watched, UnixMillis(100))
    };
    let seen = summarise(&visits);
    assert_eq!((seen.last_admission_ms, seen.first_refusal_ms), (Some(30), Some(9)));
    assert!(seen.is_refused(), "it ended refused");
    let before = summarise(&visits[..1]);
    assert_eq!((before.last_admission_ms, before.first_refusal_ms), (None, None));
    assert!(!before.is_refused());
    assert!(!summarise(&visits[..4]).is_refused(), "it admits again");
}

#[test]
fn an_address_that_cannot_know_has_neither_refused_nor_admitted() {
    let ended = |last: VisitOutcome| {
        let watched = VisitLog {
            visits: vec![visit(90, 101, VisitOutcome::Admitted), visit(108, 109, last)],
            ..VisitLog::default()
        };
        summarise("u", &watched, UnixMillis(100))
    };
    let cut_off = ended(VisitOutcome::Unavailable);
    assert!(cut_off.unavailable && !cut_off.is_refused(), "{cut_off:?}");
    assert_eq!(cut_off.first_refusal_ms, None);
    let refused = ended(VisitOutcome::Refused);
    assert!(refused.is_refused() && !refused.unavailable, "{refused:?}");
}

#[test]
fn what_is_kept_of_many_visits_is_bounded_by_the_changes() {
    let mut kept = Vec::new();
    for at in 0..1_000 {
        record(
            &mut kept,
            visit(at, at, if at < 500 { VisitOutcome::Admitted } else { VisitOutcome::Refused }),
        );
    }
    let at: Vec<i64> = kept.iter().map(|visit| visit.sent.0).collect();
    assert_eq!(at, [0, 499, 500, 999]);
}

#[test]
fn a_refusal_is_told_from_a_failure_and_from_an_answer_of_the_service() {
    for (status, verdict) in [
        (200, VisitOutcome::Admitted),
        (404, VisitOutcome::Admitted),
        (401, VisitOutcome::Refused),
        (403, VisitOutcome::Refused),
        (418, VisitOutcome::Refused),
        (429, VisitOutcome::Unclear),
        (500, VisitOutcome::Unclear),
        (503, VisitOutcome::Unavailable),
    ] {
        assert_eq!(judge(status, 418), verdict, "{status}");
    }
}

#[test]
fn addresses_are_http_or_https() {
    let good = DrillTarget::parse("http://localhost:8080/v1/x?y=1", None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        (good.host.as_str(), good.port, good.path.as_str()),
        ("localhost", 8_080, "/v1/x?y=1")
    );
    for bad in ["", "localhost", "/v1", "ftp://a/b", "http://"] {
        assert!(DrillTarget::parse(bad, None).is_err(), "{bad}");
    }
}
