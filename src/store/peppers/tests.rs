//! Which gateways a list of peppers admits, and how it changes.

use super::*;

const A: PepperCheck = PepperCheck::from_bytes([0xaa; 32]);
const B: PepperCheck = PepperCheck::from_bytes([0xbb; 32]);
const C: PepperCheck = PepperCheck::from_bytes([0xcc; 32]);

fn own(first: PepperCheck, others: &[PepperCheck]) -> PepperChecks {
    others.iter().fold(PepperChecks::one(first), |own, other| own.and(*other))
}

fn both() -> PepperList {
    let Ok(PepperAdmission::Joins(list)) = PepperList::of(A).admit(&own(B, &[A])) else {
        panic!("a new first pepper joins")
    };
    list
}

#[test]
fn a_gateway_needs_every_pepper_of_the_list_and_its_first_joins_it() {
    assert_eq!(PepperList::of(A).admit(&own(A, &[])), Ok(PepperAdmission::Listed));
    assert_eq!(
        PepperList::of(A).admit(&own(A, &[B])),
        Ok(PepperAdmission::Listed),
        "an accepted one does not join"
    );
    let list = both();
    assert_eq!(list.text(), format!("{} {}", A.to_hex(), B.to_hex()));
    for enough in [own(A, &[B]), own(B, &[A]), own(B, &[C, A])] {
        assert_eq!(list.admit(&enough), Ok(PepperAdmission::Listed), "{enough:?}");
    }
    for lacking in [own(A, &[]), own(B, &[]), own(C, &[B]), own(C, &[])] {
        assert!(matches!(list.admit(&lacking), Err(StoreError::Foreign(_))), "{lacking:?}");
    }
}

#[test]
fn a_pepper_that_was_dropped_or_is_leaving_makes_nothing_and_does_not_come_back() {
    let leaving = both().leaving(A, Some("word"));
    assert_eq!(leaving.text(), format!("{}:word {}", A.to_hex(), B.to_hex()));
    assert!(matches!(leaving.admit(&own(A, &[B])), Ok(PepperAdmission::Gone(_))));
    assert_eq!(leaving.admit(&own(B, &[A])), Ok(PepperAdmission::Listed));
    assert!(
        matches!(leaving.admit(&own(B, &[])), Err(StoreError::Foreign(_))),
        "it is needed until it is gone"
    );
    assert_eq!(leaving.leaving(A, None), both());
    let dropped = leaving.without(A);
    assert_eq!(dropped.text(), B.to_hex());
    assert!(matches!(dropped.admit(&own(A, &[B])), Ok(PepperAdmission::Gone(_))));
    for enough in [own(B, &[]), own(B, &[A])] {
        assert_eq!(dropped.admit(&enough), Ok(PepperAdmission::Listed));
    }
}

#[test]
fn a_list_is_read_as_it_was_written_and_one_value_is_a_list() {
    for list in [PepperList::of(A), both(), both().leaving(B, Some("x1")), both().without(A)] {
        assert_eq!(PepperList::parse(&list.text(), &list.dropped_text()), Ok(list));
    }
    for bad in ["", " ", "abc", &format!("{}  {}", A.to_hex(), B.to_hex())] {
        assert!(matches!(PepperList::parse(bad, ""), Err(StoreError::Corrupt(_))), "{bad}");
    }
}

#[test]
fn two_peppers_of_one_mark_are_not_mixed_up() {
    let mut bytes = [0xaa; 32];
    bytes[31] = 0;
    let alike = PepperCheck::from_bytes(bytes);
    assert!(matches!(PepperList::of(A).admit(&own(alike, &[A])), Err(StoreError::Foreign(_))));
}

#[test]
fn dropped_peppers_are_remembered_up_to_a_bound() {
    let list = (0..40).fold(PepperList::of(A), |list, n| list.without(PepperCheck::from_bytes([n; 32])));
    assert_eq!(list.dropped.len(), REMEMBERED);
    assert_eq!(list.dropped.last(), Some(&PepperCheck::from_bytes([39; 32])));
}
