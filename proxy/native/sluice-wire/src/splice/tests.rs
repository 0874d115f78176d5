use super::*;

fn edit(start: u32, end: u32, replacement: &str) -> Edit {
    Edit {
        start,
        end,
        replacement: replacement.as_bytes().into(),
    }
}

fn edited(sql: &str, edits: &[Edit]) -> Result<String, SpliceError> {
    let (mut tokens, mut out) = (Vec::new(), Vec::new());
    scan(sql.as_bytes(), &mut tokens);
    splice(sql.as_bytes(), &tokens, edits, &mut out)?;
    Ok(String::from_utf8(out).expect("UTF-8"))
}

#[test]
fn positions_lead_back_by_characters() {
    let sql = "select é€, email from ü where nope";
    let edits = [edit(3, 4, "left('é😀', 1) AS email"), edit(6, 6, " s")];
    let text = edited(sql, &edits).expect("edits that fit");
    assert_eq!(
        text,
        "select é€, left('é😀', 1) AS email from ü s where nope"
    );
    let map = PositionMap::new(sql.as_bytes(), &edits).expect("edits that fit");
    let place = |text: &str, part: &str| {
        let before = text[..text.find(part).expect("the part")].chars().count();
        u32::try_from(before + 1).expect("a short text")
    };
    for part in ["select", "é€", "from", "ü", "where", "nope"] {
        assert_eq!(
            map.to_client(place(&text, part)),
            Some(place(sql, part)),
            "{part}"
        );
    }
    // Inside an edit: the start of what it replaced, or where it was put in.
    assert_eq!(map.to_client(place(&text, "😀")), Some(place(sql, "email")));
    assert_eq!(
        map.to_client(place(&text, "s where")),
        Some(place(sql, " where"))
    );
    let (text_end, sql_end) = (text.chars().count() + 1, sql.chars().count() + 1);
    let position = |end: usize| u32::try_from(end).expect("a short text");
    assert_eq!(map.to_client(position(text_end)), Some(position(sql_end)));
    assert_eq!(map.to_client(position(text_end + 1)), None);
    assert_eq!(map.to_client(0), None);
}

#[test]
fn without_edits_every_position_stays() {
    let map = PositionMap::new(b"select 1", &[]).expect("no edits");
    assert_eq!(
        map,
        PositionMap {
            spans: Vec::new(),
            edited_length: 8
        }
    );
    for position in 1..=9 {
        assert_eq!(map.to_client(position), Some(position));
    }
}

#[test]
fn edits_that_do_not_fit_are_named() {
    let sql = "select a from t";
    for (edits, expected) in [
        (vec![edit(2, 1, "")], SpliceError::Reversed(0)),
        (
            vec![edit(0, 1, ""), edit(4, 5, "")],
            SpliceError::NoSuchToken(1),
        ),
        (vec![edit(5, 5, "")], SpliceError::NoSuchToken(0)),
        (
            vec![edit(1, 3, ""), edit(2, 2, "")],
            SpliceError::Unsorted(1),
        ),
        (
            vec![edit(2, 2, ""), edit(0, 1, "")],
            SpliceError::Unsorted(1),
        ),
    ] {
        assert_eq!(edited(sql, &edits), Err(expected));
        assert_eq!(PositionMap::new(sql.as_bytes(), &edits), Err(expected));
    }
    assert_eq!(
        edited("a 'b", &[edit(1, 2, "")]),
        Err(SpliceError::Invalid(0))
    );
    assert_eq!(
        edited("a 'b", &[edit(2, 2, "")]),
        Err(SpliceError::Invalid(0))
    );
    assert_eq!(edited("a 'b", &[edit(1, 1, " x")]).as_deref(), Ok("a x 'b"));
}
