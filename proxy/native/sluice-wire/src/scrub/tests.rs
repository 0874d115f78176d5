use super::*;

fn body(fields: &[(u8, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (code, value) in fields {
        push_field(&mut body, *code, value.as_bytes());
    }
    body.push(0);
    body
}

fn scrubbed(tag: u8, sent: &[(u8, &str)], rules: &ScrubRules) -> Option<Vec<(u8, String)>> {
    let mut out = Vec::new();
    if !scrub(
        tag,
        &body(sent),
        rules,
        |position| position.checked_sub(10),
        &mut out,
    ) {
        assert!(out.is_empty());
        return None;
    }
    assert_eq!(out[0], tag);
    let length = u32::from_be_bytes(out[1..5].try_into().expect("four bytes"));
    assert_eq!(length as usize, out.len() - 1);
    assert_eq!(out.last(), Some(&0));
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("UTF-8");
    Some(
        fields(&out[5..])
            .map(|(code, value)| (code, text(value)))
            .collect(),
    )
}

const NOT_NULL: &[(u8, &str)] = &[
    (b'S', "ERREUR"),
    (b'V', "ERROR"),
    (b'C', "23502"),
    (b'M', "null value in column \"a\" secret"),
    (b'D', "Failing row contains (ann@x.com)."),
    (b'H', "secret"),
    (b'P', "25"),
    (b'p', "3"),
    (b'q', "SELECT secret"),
    (b'W', "COPY t, line 1: secret"),
    (b's', "public"),
    (b't', "users"),
    (b'c', "a"),
    (b'd', "text"),
    (b'n', "users_a_check"),
    (b'F', "execMain.c"),
    (b'L', "1883"),
    (b'R', "ExecConstraints"),
    (b'?', "secret"),
];

#[test]
fn values_go_and_names_stay() {
    let message = scrubbed(ERROR, NOT_NULL, &ScrubRules::default()).expect("an error");
    let codes: Vec<u8> = message.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, b"SVCMPstcdnFLR");
    assert!(
        message
            .iter()
            .all(|(_, value)| !value.contains("secret") && !value.contains('@'))
    );
    assert_eq!(
        message[3].1,
        "not null violation (the server's message is withheld)"
    );
    assert_eq!(message[4].1, "15");
}

#[test]
fn listed_errors_keep_message_and_hint_but_no_detail() {
    for routine in ["ExecConstraints", "*"] {
        let rules = ScrubRules::new([("23502", routine)]);
        let message = scrubbed(ERROR, NOT_NULL, &rules).expect("an error");
        let codes: Vec<u8> = message.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, b"SVCMHPstcdnFLR");
        assert_eq!(message[3].1, NOT_NULL[3].1);
    }
    let other = ScrubRules::new([("23502", "Other"), ("23505", "ExecConstraints")]);
    let message = scrubbed(ERROR, NOT_NULL, &other).expect("an error");
    assert!(message[3].1.contains(WITHHELD));
}

#[test]
fn any_routine_speaks_for_the_statement_itself_alone() {
    let rules = ScrubRules::new([("42703", "")]);
    let own = [
        (b'C', "42703"),
        (b'M', "column \"b\" does not exist"),
        (b'R', "errorMissingColumn"),
    ];
    let kept = scrubbed(ERROR, &own, &rules).expect("an error");
    assert_eq!(kept[1].1, own[1].1);
    for inside in [(b'W', "PL/pgSQL function f()"), (b'q', "SELECT b")] {
        let message = scrubbed(ERROR, &[&own[..], &[inside]].concat(), &rules).expect("an error");
        assert!(message[1].1.contains(WITHHELD));
    }
}

#[test]
fn names_that_a_function_chose_go() {
    let raise = &[
        (b'S', "ERROR"),
        (b'C', "23505"),
        (b'M', "ann@x.com"),
        (b'c', "ann@x.com"),
        (b'n', "ann@x.com"),
        (b'R', "exec_stmt_raise"),
    ];
    for rules in [ScrubRules::default(), ScrubRules::new([("23505", "")])] {
        let message = scrubbed(ERROR, raise, &rules).expect("an error");
        assert!(message.iter().all(|(_, value)| !value.contains('@')));
    }
}

#[test]
fn a_position_that_leads_nowhere_is_dropped() {
    for position in ["5", "x", "", "99999999999"] {
        let sent = &[(b'C', "42601"), (b'M', "x"), (b'P', position)];
        let message = scrubbed(ERROR, sent, &ScrubRules::default()).expect("an error");
        assert!(message.iter().all(|(code, _)| *code != b'P'));
    }
}

#[test]
fn only_notices_and_warnings_pass() {
    for severity in ["LOG", "INFO", "DEBUG", "DEBUG1", "", "PANIC"] {
        let sent = &[
            (b'S', severity),
            (b'V', severity),
            (b'C', "00000"),
            (b'M', "x"),
        ];
        assert_eq!(scrubbed(NOTICE, sent, &ScrubRules::default()), None);
    }
    for severity in ["NOTICE", "WARNING"] {
        let sent = &[
            (b'S', "HINWEIS"),
            (b'V', severity),
            (b'C', "00000"),
            (b'M', "ann@x.com"),
        ];
        let message = scrubbed(NOTICE, sent, &ScrubRules::default()).expect("a notice");
        assert_eq!(
            message[3].1,
            "successful completion (the server's message is withheld)"
        );
    }
}

#[test]
fn malformed_bodies_give_whole_messages() {
    for sent in [&b""[..], b"S", b"SERROR", b"SERROR\0Mx", b"\0\0\0"] {
        let mut out = Vec::new();
        assert!(scrub(ERROR, sent, &ScrubRules::default(), Some, &mut out));
        assert_eq!(
            u32::from_be_bytes(out[1..5].try_into().expect("four bytes")) as usize,
            out.len() - 1
        );
    }
}

#[test]
fn unknown_states_fall_back_to_their_class() {
    assert_eq!(condition(b"22012"), Some("division by zero"));
    assert_eq!(condition(b"22ZZZ"), Some("data exception"));
    assert_eq!(condition(b"ZZZZZ"), None);
    assert_eq!(condition(b""), None);
}

#[test]
fn translation_changes_the_position_alone() {
    let mut out = Vec::new();
    translate(
        ERROR,
        &body(NOT_NULL),
        |position| position.checked_sub(10),
        &mut out,
    );
    let changed: Vec<_> = fields(&out[5..])
        .zip(NOT_NULL)
        .filter(|(now, then)| now.1 != then.1.as_bytes())
        .collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].0, (b'P', &b"15"[..]));
}

#[test]
fn own_errors_are_encoded_in_full() {
    let mut out = Vec::new();
    ErrorFields::error("42501", "permission\0 denied")
        .detail("Why.")
        .hint("What.")
        .encode(&mut out);
    let expected = b"SERROR\0VERROR\0C42501\0Mpermission denied\0DWhy.\0HWhat.\0\0";
    assert_eq!(&out[5..], expected);
    assert_eq!(
        out[..5],
        [
            b'E',
            0,
            0,
            0,
            4 + u8::try_from(expected.len()).expect("short")
        ]
    );
    out.clear();
    let notice = ErrorFields {
        severity: "WARNING".to_owned(),
        ..ErrorFields::error("01000", "x")
    };
    notice.encode(&mut out);
    assert_eq!(out[0], b'N');
}
