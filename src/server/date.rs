//! The `Date` field, formatted when the second changes instead of for each answer.

use std::cell::{Cell, RefCell};

use crate::base::clock::{Clock, SystemClock};

/// Length of an IMF-fixdate (RFC 9110, section 5.6.7): always the same.
const DATE_LEN: usize = 29;

/// The current date of one worker, refreshed by its tick; so it may be one tick old.
pub(super) struct DateCell {
    second: Cell<i64>,
    text: RefCell<[u8; DATE_LEN]>,
}

impl DateCell {
    /// Holds the current date.
    pub(super) fn new() -> Self {
        let cell = Self {
            second: Cell::new(i64::MIN),
            text: RefCell::new(*b"Thu, 01 Jan 1970 00:00:00 GMT"),
        };
        cell.refresh();
        cell
    }

    /// Formats the date again if the second changed.
    pub(super) fn refresh(&self) {
        let second = SystemClock.now().wall.secs();
        if self.second.replace(second) == second {
            return;
        }
        if let Some(text) = format(second) {
            *self.text.borrow_mut() = text;
        }
    }

    /// The date as `Date` carries it.
    pub(super) fn text(&self) -> [u8; DATE_LEN] {
        *self.text.borrow()
    }
}

fn format(second: i64) -> Option<[u8; DATE_LEN]> {
    let timestamp = jiff::Timestamp::from_second(second).ok()?;
    let text = jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&timestamp)
        .ok()?;
    text.as_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_imf_fixdates() {
        assert_eq!(format(784_111_777), Some(*b"Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(format(i64::MAX), None);
    }

    #[test]
    fn a_new_cell_holds_the_current_year() {
        assert_ne!(&DateCell::new().text()[12..16], b"1970");
    }
}
