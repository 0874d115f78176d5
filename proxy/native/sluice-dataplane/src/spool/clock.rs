//! Time stamps.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Formats the present time; the part down to the second is kept between calls.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: Option<u64>,
    text: String,
}

/// Length of `2026-01-31T12:34:56`.
const SECONDS_LENGTH: usize = 19;

impl Clock {
    /// The present time in UTC, RFC 3339 with nanoseconds.
    pub(super) fn now(&mut self) -> &str {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        if self.second != Some(now.as_secs()) {
            self.second = Some(now.as_secs());
            self.text = seconds(now.as_secs());
        }
        self.text.truncate(SECONDS_LENGTH);
        // Writing to a string cannot fail.
        let _ = write!(self.text, ".{:09}Z", now.subsec_nanos());
        &self.text
    }

    /// What `now` returned last.
    pub(super) fn last(&self) -> &str {
        &self.text
    }
}

/// Days and years as in Howard Hinnant's "chrono-compatible low-level date algorithms".
fn seconds(since_epoch: u64) -> String {
    let (days, second) = (since_epoch / 86_400 + 719_468, since_epoch % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}",
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (since_epoch, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (1_767_225_599, "2025-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(seconds(since_epoch), expected);
        }
    }

    #[test]
    fn times_have_nanoseconds_and_grow() {
        let mut clock = Clock::default();
        let first = clock.now().to_owned();
        assert_eq!(first.len(), 30);
        assert!(clock.now() >= first.as_str());
    }
}
