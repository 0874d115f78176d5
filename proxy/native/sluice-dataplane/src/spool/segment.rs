//! Segment files.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct Segment {
    file: Arc<File>,
    path: PathBuf,
    length: u64,
    torn: bool,
}

impl Segment {
    pub(super) fn create(directory: &Path, incarnation: &str, sequence: u64) -> io::Result<Self> {
        let path = directory.join(format!("{incarnation}-{sequence:016}.jsonl"));
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        // What could not be removed after an earlier try.
        file.set_len(0)?;
        Ok(Self {
            file: Arc::new(file),
            path,
            length: 0,
            torn: false,
        })
    }

    /// Append a whole line. When it fails, what was written of it is cut off again.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if let Err(error) = (&*self.file).write_all(line) {
            self.torn = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Whether part of a line is at its end and could not be cut off.
    pub(super) const fn is_torn(&self) -> bool {
        self.torn
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// What somebody else has done to the file, or None.
    pub(super) fn touched(&self) -> Option<String> {
        let untouched = self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.nlink() > 0 && metadata.len() == self.length);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        (!untouched).then(|| format!("segment {name} was changed or removed by somebody else"))
    }

    /// Remove a file that has no record.
    pub(super) fn discard(self) {
        // Left behind, an empty segment does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What is to be brought to the disk.
#[derive(Debug)]
pub struct SyncJob {
    directory: PathBuf,
    with_directory: bool,
    files: Vec<Arc<File>>,
}

impl SyncJob {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            with_directory: false,
            files: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.with_directory
    }

    pub(super) fn add(&mut self, segment: &Segment) {
        let is_last = self
            .files
            .last()
            .is_some_and(|file| Arc::ptr_eq(file, &segment.file));
        if !is_last {
            self.files.push(Arc::clone(&segment.file));
        }
    }

    pub(super) fn add_new(&mut self, segment: &Segment) {
        self.with_directory = true;
        self.add(segment);
    }

    /// Wait until all is on the disk.
    ///
    /// # Errors
    ///
    /// Something is not, and may never be.
    pub fn run(self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        if self.with_directory {
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Segment {
    /// From now on nothing can be written.
    pub(super) fn break_file(&mut self) {
        self.file = Arc::new(File::open(&self.path).expect("the segment is there"));
    }
}
