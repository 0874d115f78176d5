//! The audit spool: chained records in segment files. The format is `docs/reference/audit-spool.md`.
//!
//! A record is written with `write(2)` before the call returns; it reaches the disk with the next [`SyncJob`]. When the
//! spool is full or the disk fails, `session` and `begin` are refused, and ends wait in memory until it can be written again.

mod backlog;
mod clock;
mod directory;
mod line;
mod members;
mod segment;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backlog::Backlog;
use clock::Clock;
use directory::Last;
use line::{Chain, Line};
pub use members::Members;
use segment::Segment;
pub use segment::SyncJob;

/// Between two tries while the spool cannot be written, and between two syncs.
const INTERVAL: Duration = Duration::from_millis(100);
/// Kept free for the `end` of each execution that runs, and for `open` and `close`.
const END_BYTES: u64 = 1024;

/// Bounds of the spool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All segments in the directory together, those of earlier incarnations included.
    pub spool_bytes_max: u64,
    /// A segment that has reached this is followed by another one.
    pub segment_bytes_max: u64,
}

/// An execution that has begun: the sequence number of its `begin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub u64);

/// The spool cannot be written; in the system's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unwritable(pub String);

/// How the spool does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Why it cannot be written, or None.
    pub error: Option<String>,
    /// Records written by this incarnation.
    pub records: u64,
    /// Hash of the last one, hex.
    pub head: String,
    /// Name of this incarnation.
    pub incarnation: String,
}

/// The writer. One for each process; not shared between threads.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    limits: Limits,
    chain: Chain,
    clock: Clock,
    line: Line,
    segment: Option<Segment>,
    /// Bytes of all segments in the directory.
    total: u64,
    total_read_at: Instant,
    /// Bytes of the last record that found no room; 0 while there is.
    wanted: u64,
    /// Executions that have begun and not ended.
    running: u64,
    failure: Option<Failure>,
    backlog: Backlog,
    job: SyncJob,
    job_taken_at: Instant,
}

#[derive(Debug)]
struct Failure {
    error: String,
    retry_at: Instant,
}

impl Spool {
    /// Make the directory if it is missing and start an incarnation in it.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or read, or the first record cannot be written.
    pub fn open(directory: &Path, limits: Limits) -> io::Result<Self> {
        directory::create(directory)?;
        let last = directory::last_record(directory)?;
        let now = Instant::now();
        let mut spool = Self {
            directory: directory.to_owned(),
            limits,
            chain: Chain::new()?,
            clock: Clock::default(),
            line: Line::default(),
            segment: None,
            total: directory::total_bytes(directory)?,
            total_read_at: now,
            wanted: 0,
            running: 0,
            failure: None,
            backlog: Backlog::default(),
            job: SyncJob::new(directory),
            job_taken_at: now,
        };
        spool.start_segment(last.as_ref(), None)?;
        std::mem::replace(&mut spool.job, SyncJob::new(directory)).run()?;
        Ok(spool)
    }

    /// Record that a session was admitted or refused; returns the record's sequence number.
    ///
    /// # Errors
    ///
    /// The spool cannot be written.
    pub fn session(&mut self, write: impl FnOnce(&mut Members<'_>)) -> Result<u64, Unwritable> {
        self.append("session", write)
    }

    /// Record that an execution begins. Every one needs its `end`.
    ///
    /// # Errors
    ///
    /// The spool cannot be written: nothing of a governed answer may be forwarded.
    pub fn begin(&mut self, write: impl FnOnce(&mut Members<'_>)) -> Result<Event, Unwritable> {
        let sequence = self.append("begin", write)?;
        self.running += 1;
        Ok(Event(sequence))
    }

    /// Record that an execution has ended. While the spool cannot be written the record waits in memory.
    pub fn end(&mut self, event: Event, write: impl FnOnce(&mut Members<'_>)) {
        self.running = self.running.saturating_sub(1);
        let ready = self.ready();
        let at = self.clock.now();
        let mut members = self.line.start(self.chain.next(), at, "end");
        members.number("event", event.0);
        write(&mut members);
        if ready.is_err() || self.write_line().is_err() {
            self.backlog.push(self.clock.last(), self.line.members());
        }
    }

    /// Write `close` and bring everything to the disk. The last call.
    ///
    /// # Errors
    ///
    /// Records are missing from the disk.
    pub fn close(&mut self) -> io::Result<()> {
        let failed = |error: Unwritable| io::Error::other(error.0);
        self.failure
            .iter_mut()
            .for_each(|failure| failure.retry_at = Instant::now());
        self.ready().map_err(failed)?;
        self.line
            .start(self.chain.next(), self.clock.now(), "close");
        self.write_line().map_err(failed)?;
        std::mem::replace(&mut self.job, SyncJob::new(&self.directory)).run()
    }

    /// Call it every 100 ms: tries again after a failure, and notices segments that somebody else has touched.
    pub fn tick(&mut self) {
        if self.failure.is_none() {
            if let Some(cause) = self.segment.as_ref().and_then(Segment::touched) {
                self.segment = None;
                if let Err(error) = self.start_segment(None, Some(&cause)) {
                    self.fail(&error);
                }
            }
        }
        // What goes wrong here is shown by `status`.
        let _ = self.check();
    }

    /// What is to be brought to the disk, at most every 100 ms. Run it where blocking does no harm, and pass its result to `synced`.
    pub fn sync_job(&mut self) -> Option<SyncJob> {
        if self.job.is_empty() || self.job_taken_at.elapsed() < INTERVAL {
            return None;
        }
        self.job_taken_at = Instant::now();
        Some(std::mem::replace(
            &mut self.job,
            SyncJob::new(&self.directory),
        ))
    }

    /// Take the result of a job. After a failed one nobody knows what is on the disk: the next record starts a segment.
    pub fn synced(&mut self, result: &io::Result<()>) {
        if let Err(error) = result {
            self.segment = None;
            self.fail(error);
        }
    }

    /// Whether a `begin` would be taken now. Cheap while all is well.
    ///
    /// # Errors
    ///
    /// The spool cannot be written.
    pub fn check(&mut self) -> Result<(), Unwritable> {
        self.ready()?;
        self.room_for(self.wanted)
    }

    /// How the spool does, as far as the last record or tick has shown.
    #[must_use]
    pub fn status(&self) -> Status {
        let failure = self.failure.as_ref().map(|failure| failure.error.clone());
        Status {
            error: failure.or_else(|| self.full(self.wanted)),
            records: self.chain.sequence(),
            head: self.chain.head_hex(),
            incarnation: self.chain.incarnation().to_owned(),
        }
    }
}

impl Spool {
    fn append(
        &mut self,
        kind: &str,
        write: impl FnOnce(&mut Members<'_>),
    ) -> Result<u64, Unwritable> {
        self.ready()?;
        let sequence = self.chain.next();
        write(&mut self.line.start(sequence, self.clock.now(), kind));
        self.room_for(self.line.length_finished())?;
        self.write_line()?;
        Ok(sequence)
    }

    /// Refuse what would leave no room for the ends of what runs. Whoever ships segments may have made room meanwhile.
    fn room_for(&mut self, bytes: u64) -> Result<(), Unwritable> {
        if self.full(bytes).is_some() && self.total_read_at.elapsed() >= INTERVAL {
            self.total_read_at = Instant::now();
            match directory::total_bytes(&self.directory) {
                Ok(total) => self.total = total,
                Err(error) => return Err(self.fail(&error)),
            }
        }
        let full = self.full(bytes);
        // Remembered until there is room, so that `status` tells what `begin` met. A record of unusual size says nothing
        // about the others.
        self.wanted = full.as_ref().map_or(0, |_| bytes.min(END_BYTES * 4));
        full.map_or(Ok(()), |error| Err(Unwritable(error)))
    }

    fn full(&self, bytes: u64) -> Option<String> {
        let reserved = END_BYTES * (self.running + 2);
        let limit = self.limits.spool_bytes_max;
        let full = self.total.saturating_add(bytes).saturating_add(reserved) > limit;
        full.then(|| {
            let place = self.directory.display();
            format!(
                "the audit spool {place} is full: {} of {limit} bytes are in use",
                self.total
            )
        })
    }

    fn fail(&mut self, error: &io::Error) -> Unwritable {
        let error = format!("the audit spool {}: {error}", self.directory.display());
        self.failure = Some(Failure {
            error: error.clone(),
            retry_at: Instant::now() + INTERVAL,
        });
        Unwritable(error)
    }

    /// Make sure that there is a segment to write to; after a failure, not more often than every 100 ms.
    fn ready(&mut self) -> Result<(), Unwritable> {
        let Some(failure) = &self.failure else {
            let limit = self.limits.segment_bytes_max;
            if self
                .segment
                .as_ref()
                .is_some_and(|segment| segment.length() < limit)
            {
                return Ok(());
            }
            return self
                .start_segment(None, None)
                .map_err(|error| self.fail(&error));
        };
        if Instant::now() < failure.retry_at {
            return Err(Unwritable(failure.error.clone()));
        }
        let cause = failure.error.clone();
        self.recover(&cause).map_err(|error| self.fail(&error))?;
        self.failure = None;
        Ok(())
    }

    /// See whether the disk takes data again, and write what waits.
    fn recover(&mut self, cause: &str) -> io::Result<()> {
        directory::create(&self.directory)?;
        directory::probe(&self.directory)?;
        self.total = directory::total_bytes(&self.directory)?;
        if self.segment.is_none() || self.backlog.lost() > 0 {
            self.start_segment(None, Some(cause))?;
        }
        while let Some((at, members)) = self.backlog.first() {
            self.line
                .start(self.chain.next(), at, "end")
                .append(members);
            if let Err(error) = self.put_line() {
                self.leave_segment(&error);
                return Err(error);
            }
            self.backlog.remove_first();
        }
        Ok(())
    }

    /// Start a segment with its `open`. `last`: what the directory held before this incarnation.
    fn start_segment(&mut self, last: Option<&Last>, cause: Option<&str>) -> io::Result<()> {
        self.segment = None;
        let sequence = self.chain.next();
        let at = self.clock.now();
        let mut members = self.line.start(sequence, at, "open");
        members.text("incarnation", self.chain.incarnation());
        members.text("head", &self.chain.head_hex());
        if let Some(last) = last {
            let mut after = Vec::new();
            let mut inner = Members::new(&mut after);
            inner.text("incarnation", &last.incarnation);
            inner.number("seq", last.sequence);
            inner.text("head", &last.head);
            after[0] = b'{';
            after.push(b'}');
            members.object("after", &after);
        }
        if let Some(cause) = cause {
            members.text("cause", cause);
        }
        if self.backlog.lost() > 0 {
            members.number("ends_lost", self.backlog.lost());
        }
        let segment = Segment::create(&self.directory, self.chain.incarnation(), sequence)?;
        self.job.add_new(&segment);
        self.segment = Some(segment);
        if let Err(error) = self.put_line() {
            if let Some(segment) = self.segment.take() {
                segment.discard();
            }
            return Err(error);
        }
        self.backlog.forget_lost();
        Ok(())
    }

    fn write_line(&mut self) -> Result<(), Unwritable> {
        self.put_line().map_err(|error| {
            self.leave_segment(&error);
            self.fail(&error)
        })
    }

    /// On a full disk the same segment goes on later. After any other failure a new one is the safer place.
    fn leave_segment(&mut self, error: &io::Error) {
        let torn = self.segment.as_ref().is_some_and(Segment::is_torn);
        if torn || error.kind() != io::ErrorKind::StorageFull {
            self.segment = None;
        }
    }

    /// Write the finished line; the chain advances only when all of it is written.
    fn put_line(&mut self) -> io::Result<()> {
        let head = self.line.finish(&self.chain);
        let Some(segment) = &mut self.segment else {
            return Err(io::Error::other("no segment is open"));
        };
        segment.write(self.line.bytes())?;
        self.job.add(segment);
        self.total += self.line.bytes().len() as u64;
        self.chain.advance(head);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
