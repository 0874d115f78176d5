//! What the server says beside its answers: settings that changed, notifications.
//!
//! A trigger or function may put values into both, so that a client whose messages are cleaned hears of what it said itself.

use super::answers::{Answer, Run};
use super::{Session, Shared};
use bytes::BytesMut;
use sluice_wire::backend::{notification_channel, parameter_status};
use sluice_wire::frame::HEADER_BYTES;

/// Settings whose values are the server's own, or from a closed list: drivers read the answers by them.
const CLOSED: [&str; 11] = [
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "scram_iterations",
    "server_encoding",
    "server_version",
    "standard_conforming_strings",
];
/// Values remembered as known to the client.
const TOLD_MAX: usize = 100;
/// Longer ones are not looked for.
const VALUE_BYTES_MAX: usize = 1024;

impl Session {
    /// `ParameterStatus`.
    pub(super) fn setting(&self, shared: &mut Shared, frame: &[u8], out: &mut BytesMut) {
        let Ok((name, value)) = parameter_status(&frame[HEADER_BYTES..]) else {
            return;
        };
        note_status(&mut shared.parameter_status, name, value);
        if self.state.borrow().said.scrub.enabled && shared.started && !known(shared, name, value) {
            return;
        }
        let pair = (
            String::from_utf8_lossy(name).into_owned(),
            String::from_utf8_lossy(value).into_owned(),
        );
        if !shared.told.contains(&pair) {
            shared.told.push_back(pair);
            if shared.told.len() > TOLD_MAX {
                shared.told.pop_front();
            }
        }
        out.extend_from_slice(frame);
    }

    /// `NotificationResponse`.
    pub(super) fn notification(&self, frame: &[u8], out: &mut BytesMut) {
        let state = self.state.borrow();
        let passes = match &state.said.channels {
            None => true,
            Some(trusted) => notification_channel(&frame[HEADER_BYTES..])
                .ok()
                .and_then(|channel| std::str::from_utf8(channel).ok())
                .is_some_and(|channel| trusted.contains(channel)),
        };
        if passes {
            out.extend_from_slice(frame);
        }
    }
}

/// Whether the client has seen this value before, or wrote it into a statement that sets something.
fn known(shared: &Shared, name: &[u8], value: &[u8]) -> bool {
    if value.is_empty() || CLOSED.iter().any(|known| known.as_bytes() == name) {
        return true;
    }
    let mut told = shared.told.iter();
    if told.any(|(known, said)| known.as_bytes() == name && said.as_bytes() == value) {
        return true;
    }
    let running = match shared.answers.front() {
        Some(Answer { run: Some(run), .. }) if sets(run) => Some(&run.work.text),
        _ => None,
    };
    value.len() <= VALUE_BYTES_MAX
        && shared
            .setting_texts
            .iter()
            .chain(running)
            .any(|text| holds(text, value))
}

/// Whether the statement that runs may change settings: servers before 14 report them at once.
fn sets(run: &Run) -> bool {
    run.effects().is_some_and(|effects| effects.refresh)
}

fn holds(text: &[u8], value: &[u8]) -> bool {
    text.windows(value.len())
        .any(|part| part.eq_ignore_ascii_case(value))
}

/// Remember what the server reports. Their number is the server's own.
pub fn note_status(reported: &mut Vec<(String, String)>, name: &[u8], value: &[u8]) {
    let (name, value) = (
        String::from_utf8_lossy(name),
        String::from_utf8_lossy(value).into_owned(),
    );
    match reported.iter_mut().find(|(known, _)| *known == name) {
        Some(pair) => pair.1 = value,
        None => reported.push((name.into_owned(), value)),
    }
}
