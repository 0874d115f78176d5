//! The spool's directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The last whole record of the incarnation before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) incarnation: String,
    pub(super) sequence: u64,
    /// Its hash, hex.
    pub(super) head: String,
}

pub(super) fn create(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// All segments, oldest first.
fn segments(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Bytes of all segments together.
pub(super) fn total_bytes(directory: &Path) -> io::Result<u64> {
    let mut total = 0;
    for path in segments(directory)? {
        match fs::metadata(&path) {
            Ok(metadata) => total += metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// Bytes that a probe writes: more than the records that would follow at once.
const PROBE_BYTES: usize = 16 << 10;

/// See whether the disk takes data.
pub(super) fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join("probe");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    let written = file.write_all(&[0; PROBE_BYTES]);
    fs::remove_file(&path)?;
    written
}

/// The last whole record of the newest segment that has one.
pub(super) fn last_record(directory: &Path) -> io::Result<Option<Last>> {
    for path in segments(directory)?.iter().rev() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let Some((incarnation, _)) = name.split_once('-') else {
            continue;
        };
        if let Some((sequence, head)) = last_line(path)?.as_deref().and_then(parse) {
            return Ok(Some(Last {
                incarnation: incarnation.to_owned(),
                sequence,
                head,
            }));
        }
    }
    Ok(None)
}

/// The last line that ends with a newline.
fn last_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut window = 64 << 10;
    loop {
        let start = length.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file)
            .take(length - start)
            .read_to_end(&mut bytes)?;
        let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else {
            if start == 0 {
                return Ok(None);
            }
            window *= 8;
            continue;
        };
        if let Some(before) = bytes[..end].iter().rposition(|&byte| byte == b'\n') {
            return Ok(Some(bytes[before + 1..end].to_vec()));
        }
        if start == 0 {
            return Ok(Some(bytes[..end].to_vec()));
        }
        window *= 8;
    }
}

/// Sequence number and hash of a line of ours.
fn parse(line: &[u8]) -> Option<(u64, String)> {
    let line = std::str::from_utf8(line).ok()?;
    let (head, json) = line.split_once(' ')?;
    let sequence = json
        .strip_prefix("{\"v\":1,\"seq\":")?
        .split(',')
        .next()?
        .parse()
        .ok()?;
    let is_hash = head.len() == 64 && head.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| (sequence, head.to_owned()))
}
