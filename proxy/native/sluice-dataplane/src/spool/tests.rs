use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;

use super::*;

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sluice-spool-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn open(&self, spool_bytes_max: u64, segment_bytes_max: u64) -> Spool {
        Spool::open(
            &self.0,
            Limits {
                spool_bytes_max,
                segment_bytes_max,
            },
        )
        .expect("a spool")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).expect("the directory");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        paths
    }

    fn lines(&self) -> Vec<String> {
        let texts = self
            .segments()
            .into_iter()
            .map(|path| fs::read_to_string(path).expect("text"));
        texts
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    fn kinds(&self) -> Vec<String> {
        let kind = |line: &String| {
            let behind = line.split("\"kind\":\"").nth(1).expect("a kind");
            behind.split('"').next().expect("its end").to_owned()
        };
        self.lines().iter().map(kind).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ROOMY: u64 = 1 << 20;

fn run_one(spool: &mut Spool) -> Result<(), Unwritable> {
    let event = spool.begin(|members| members.text("role", "ann"))?;
    spool.end(event, |members| members.number("rows", 1));
    Ok(())
}

#[test]
fn records_are_numbered_chained_and_on_disk_at_once() {
    let place = Place::new();
    let mut spool = place.open(ROOMY, ROOMY);
    spool
        .session(|members| members.flag("admitted", true))
        .expect("room");
    run_one(&mut spool).expect("room");
    assert_eq!(place.kinds(), ["open", "session", "begin", "end"]);
    let head = spool.status().head;
    assert!(place.lines().last().expect("a line").starts_with(&head));
    assert!(place.lines()[3].contains("\"seq\":4,"));
    assert!(place.lines()[3].ends_with("\"kind\":\"end\",\"event\":3,\"rows\":1}"));
    spool.close().expect("closed");
    assert_eq!(place.kinds().last().expect("a line"), "close");
    assert_eq!(spool.status().records, 5);
}

#[test]
fn segments_follow_each_other_and_repeat_the_head() {
    let place = Place::new();
    let mut spool = place.open(ROOMY, 600);
    for _ in 0..10 {
        run_one(&mut spool).expect("room");
    }
    let segments = place.segments();
    assert!(segments.len() > 2, "{segments:?}");
    let mut head = String::new();
    for (number, path) in segments.iter().enumerate() {
        let text = fs::read_to_string(path).expect("text");
        let first = text.lines().next().expect("a line");
        assert!(first.contains("\"kind\":\"open\""));
        assert!(number == 0 || first.contains(&format!("\"head\":\"{head}\"")));
        head = text.lines().last().expect("a line")[..64].to_owned();
    }
}

#[test]
fn a_new_incarnation_names_the_end_of_the_one_before() {
    let place = Place::new();
    let mut first = place.open(ROOMY, ROOMY);
    run_one(&mut first).expect("room");
    let status = first.status();
    drop(first);
    // A crash leaves part of a line.
    let path = place.segments()[0].clone();
    let torn = fs::read_to_string(&path).expect("text") + "0123 {\"v\":1,\"se";
    fs::write(&path, torn).expect("written");
    sleep(Duration::from_millis(2));
    drop(place.open(ROOMY, ROOMY));
    let open = place.lines().pop().expect("a line");
    let expected = format!(
        "\"after\":{{\"incarnation\":\"{}\",\"seq\":3,\"head\":\"{}\"}}",
        status.incarnation, status.head
    );
    assert!(open.contains(&expected), "{open}");
}

#[test]
fn a_full_spool_refuses_begins_but_takes_ends_and_recovers() {
    let place = Place::new();
    let mut spool = place.open(8000, 1000);
    let mut running = Vec::new();
    let refused = loop {
        match spool.begin(|members| members.text("role", "ann")) {
            Ok(event) => running.push(event),
            Err(error) => break error,
        }
    };
    assert!(refused.0.contains("is full"), "{refused}");
    assert!(spool.status().error.is_some());
    assert!(spool.check().is_err());
    let count = running.len();
    for event in running {
        spool.end(event, |members| members.number("rows", 1));
    }
    let ends = place.kinds().iter().filter(|kind| *kind == "end").count();
    assert_eq!(ends, count);
    // Somebody ships the oldest segments.
    let segments = place.segments();
    for path in &segments[..segments.len() - 1] {
        fs::remove_file(path).expect("removed");
    }
    sleep(INTERVAL);
    spool.tick();
    assert_eq!(spool.status().error, None);
    run_one(&mut spool).expect("room");
}

#[test]
fn a_failed_write_keeps_the_end_until_the_disk_is_back() {
    let place = Place::new();
    let mut spool = place.open(ROOMY, ROOMY);
    let event = spool
        .begin(|members| members.text("role", "ann"))
        .expect("room");
    spool.segment.as_mut().expect("a segment").break_file();
    spool.end(event, |members| members.number("rows", 7));
    assert!(spool.status().error.is_some());
    assert!(spool.begin(|_| ()).is_err());
    assert_eq!(place.kinds(), ["open", "begin"]);
    sleep(INTERVAL);
    spool.tick();
    assert_eq!(spool.status().error, None);
    assert_eq!(place.kinds(), ["open", "begin", "open", "end"]);
    assert!(place.lines()[3].ends_with("\"event\":2,\"rows\":7}"));
    run_one(&mut spool).expect("room");
}

#[test]
fn a_directory_that_goes_away_stops_begins_until_it_is_back() {
    let place = Place::new();
    let mut spool = place.open(ROOMY, ROOMY);
    fs::remove_dir_all(&place.0).expect("removed");
    fs::write(&place.0, "in the way").expect("written");
    spool.tick();
    assert!(spool.status().error.is_some());
    assert!(spool.begin(|_| ()).is_err());
    sleep(INTERVAL);
    assert!(spool.begin(|_| ()).is_err());
    fs::remove_file(&place.0).expect("removed");
    sleep(INTERVAL);
    run_one(&mut spool).expect("room");
    assert_eq!(place.kinds(), ["open", "begin", "end"]);
}

#[test]
fn a_segment_that_somebody_cut_is_left() {
    let place = Place::new();
    let mut spool = place.open(ROOMY, ROOMY);
    run_one(&mut spool).expect("room");
    let path = place.segments()[0].clone();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("file")
        .set_len(100)
        .expect("cut");
    spool.tick();
    assert_eq!(place.segments().len(), 2);
    assert!(
        place
            .lines()
            .pop()
            .expect("a line")
            .contains("\"cause\":\"segment")
    );
}

#[test]
fn strings_are_escaped_and_newlines_never_split_a_record() {
    let mut out = Vec::new();
    let mut members = Members::new(&mut out);
    members.text("a", "x\"\\\n\u{1}é");
    members.object("b", b"{\n\"c\":\r1}");
    members.object("d", b"");
    let expected = ",\"a\":\"x\\\"\\\\\\n\\u0001é\",\"b\":{ \"c\": 1},\"d\":null";
    assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
}

#[test]
fn syncs_are_taken_when_there_is_something_and_not_too_often() {
    let place = Place::new();
    let mut spool = place.open(ROOMY, 300);
    assert!(spool.sync_job().is_none());
    run_one(&mut spool).expect("room");
    assert!(spool.sync_job().is_none());
    sleep(INTERVAL);
    let result = spool.sync_job().expect("a job").run();
    spool.synced(&result);
    assert!(spool.sync_job().is_none());
    spool.synced(&Err(io::Error::other("disk on fire")));
    assert!(spool.begin(|_| ()).is_err());
    sleep(INTERVAL);
    run_one(&mut spool).expect("room");
}
