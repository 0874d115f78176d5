//! The audit spool as the sessions use it.

use crate::brain::lock;
use crate::cache::Facts;
use crate::spool::{Event, Limits, Spool, Status};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// Between two looks at the spool: its own measure.
const TICK: Duration = Duration::from_millis(100);

/// Names of the levels of sessions.
const LEVELS: [&str; 3] = ["open", "guarded", "restricted"];

/// Whose execution it is.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Number of the session.
    pub session: u64,
    /// JSON object.
    pub identity: &'a [u8],
    /// 0 open, 1 guarded, 2 restricted.
    pub level: u8,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome<'a> {
    /// Rows the server sent.
    pub rows: u64,
    /// Bytes of the rows that the client was sent.
    pub bytes: u64,
    /// From the statement's sending to its completion.
    pub duration: Duration,
    /// Of the error that ended it.
    pub sqlstate: Option<&'a str>,
    /// It was not run.
    pub denied: bool,
}

/// See the module.
pub struct Audit {
    spool: Mutex<Spool>,
}

impl Audit {
    /// Open the spool.
    ///
    /// # Errors
    ///
    /// The directory cannot be used.
    pub fn open(directory: &str, limits: Limits) -> io::Result<Self> {
        Ok(Self {
            spool: Mutex::new(Spool::open(Path::new(directory), limits)?),
        })
    }

    /// Why governed statements are refused now.
    pub fn unwritable(&self) -> Option<String> {
        lock(&self.spool)
            .check()
            .err()
            .map(|error| error.to_string())
    }

    /// Record a session.
    pub fn session(&self, number: u64, identity: &[u8], peer: &str, upstream: &str) {
        // A refusal shows in the status; governed statements find out for themselves.
        let _ = lock(&self.spool).session(|members| {
            members.number("session", number);
            members.flag("admitted", true);
            members.object("identity", identity);
            members.text("peer", peer);
            members.text("upstream", upstream);
        });
    }

    /// Record that an execution begins; `runs` is what it runs by name alone.
    ///
    /// # Errors
    ///
    /// Why the spool cannot be written.
    pub fn begin(
        &self,
        who: &Who<'_>,
        facts: &Facts,
        runs: Option<&Facts>,
        verdict: &str,
    ) -> Result<Event, String> {
        let written = lock(&self.spool).begin(|members| {
            members.number("session", who.session);
            members.object("identity", who.identity);
            members.object("statement", &facts.statement);
            members.text("template", &facts.template);
            if let Some(runs) = runs {
                members.object("runs", &runs.statement);
                members.text("runs_template", &runs.template);
            }
            members.text("revision", &facts.revision);
            members.text("verdict", verdict);
            members.text(
                "level",
                LEVELS
                    .get(usize::from(who.level))
                    .copied()
                    .unwrap_or("restricted"),
            );
        });
        written.map_err(|error| error.to_string())
    }

    /// Record that it ended.
    pub fn end(&self, event: Event, outcome: &Outcome<'_>) {
        lock(&self.spool).end(event, |members| {
            members.number("rows", outcome.rows);
            members.number("bytes", outcome.bytes);
            members.number(
                "duration_us",
                u64::try_from(outcome.duration.as_micros()).unwrap_or(u64::MAX),
            );
            if let Some(sqlstate) = outcome.sqlstate {
                members.text("sqlstate", sqlstate);
            }
            if outcome.denied {
                members.flag("denied", true);
            }
        });
    }

    /// How the spool does.
    pub fn status(&self) -> Status {
        lock(&self.spool).status()
    }

    /// Close it.
    ///
    /// # Errors
    ///
    /// Records are missing from the disk.
    pub fn close(&self) -> io::Result<()> {
        lock(&self.spool).close()
    }

    /// Keep it: tries again when it was blocked, syncs what was written.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(TICK).await;
            let job = {
                let mut spool = lock(&self.spool);
                spool.tick();
                spool.sync_job()
            };
            if let Some(job) = job {
                let result = tokio::task::spawn_blocking(move || job.run()).await;
                lock(&self.spool)
                    .synced(&result.unwrap_or_else(|error| Err(io::Error::other(error))));
            }
        }
    }
}
