//! Splices: edits of a statement by token positions, and the way back from positions in the edited text.

use crate::scan::{Token, TokenKind, scan};

/// Replace the tokens `start` (inclusive) to `end` (exclusive); insert right behind token `start - 1` when they are equal, at the very front
/// when both are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Position of the first token that goes.
    pub start: u32,
    /// Position of the first token that stays.
    pub end: u32,
    /// What comes in their place; blanks around it are the author's business.
    pub replacement: Box<[u8]>,
}

/// Why edits do not fit a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// `end` is before `start`.
    #[error("edit {0} ends before it starts")]
    Reversed(usize),
    /// Before the end of the edit in front of it.
    #[error("edit {0} overlaps the one before it, or the edits are not sorted")]
    Unsorted(usize),
    /// There are fewer tokens.
    #[error("edit {0} names a token that the statement does not have")]
    NoSuchToken(usize),
    /// What cannot be scanned is never edited.
    #[error("edit {0} touches text that cannot be scanned")]
    Invalid(usize),
}

/// Write the edited statement to `out`, which is emptied first.
///
/// # Errors
///
/// The edits overlap, are not sorted, or name tokens that are not there; `out` then holds no statement.
pub fn splice(
    sql: &[u8],
    tokens: &[Token],
    edits: &[Edit],
    out: &mut Vec<u8>,
) -> Result<(), SpliceError> {
    out.clear();
    let added: usize = edits.iter().map(|edit| edit.replacement.len()).sum();
    out.reserve(sql.len() + added);
    let mut copied = 0;
    for_each_range(tokens, edits, |edit, from, to| {
        out.extend_from_slice(&sql[copied..from]);
        out.extend_from_slice(&edit.replacement);
        copied = to;
    })?;
    out.extend_from_slice(&sql[copied..]);
    Ok(())
}

/// Call `take` with each edit and the byte range that it replaces.
fn for_each_range(
    tokens: &[Token],
    edits: &[Edit],
    mut take: impl FnMut(&Edit, usize, usize),
) -> Result<(), SpliceError> {
    let mut done = 0;
    for (number, edit) in edits.iter().enumerate() {
        if edit.end < edit.start {
            return Err(SpliceError::Reversed(number));
        }
        if edit.start < done {
            return Err(SpliceError::Unsorted(number));
        }
        if edit.end as usize > tokens.len() {
            return Err(SpliceError::NoSuchToken(number));
        }
        let touched = &tokens[edit.start.saturating_sub(1) as usize..edit.end as usize];
        if touched.iter().any(|token| token.kind == TokenKind::Invalid) {
            return Err(SpliceError::Invalid(number));
        }
        let (from, to) = byte_range(tokens, edit);
        take(edit, from, to);
        done = edit.end;
    }
    Ok(())
}

fn byte_range(tokens: &[Token], edit: &Edit) -> (usize, usize) {
    let behind = |position: u32| {
        position
            .checked_sub(1)
            .map_or(0, |last| tokens[last as usize].end as usize)
    };
    if edit.start == edit.end {
        return (behind(edit.start), behind(edit.start));
    }
    (tokens[edit.start as usize].start as usize, behind(edit.end))
}

/// Where the positions of an edited statement are in the statement that the client sent. All in characters, from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionMap {
    spans: Vec<Span>,
    edited_length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    edited_start: usize,
    edited_end: usize,
    original_start: usize,
    original_end: usize,
}

impl PositionMap {
    /// Scan the client's statement again and follow the edits. Made when an error comes, not before: errors are rare.
    ///
    /// # Errors
    ///
    /// The edits do not fit the statement.
    pub fn new(sql: &[u8], edits: &[Edit]) -> Result<Self, SpliceError> {
        let mut tokens = Vec::new();
        scan(sql, &mut tokens);
        let mut spans = Vec::with_capacity(edits.len());
        let (mut at, mut original, mut edited) = (0, 0, 0);
        for_each_range(&tokens, edits, |edit, from, to| {
            let kept = characters(&sql[at..from]);
            let gone = characters(&sql[from..to]);
            let came = characters(&edit.replacement);
            original += kept;
            edited += kept;
            spans.push(Span {
                edited_start: edited,
                edited_end: edited + came,
                original_start: original,
                original_end: original + gone,
            });
            original += gone;
            edited += came;
            at = to;
        })?;
        Ok(Self {
            spans,
            edited_length: edited + characters(&sql[at..]),
        })
    }

    /// The position (from 1, in characters, as in field P of an error) in the client's statement.
    ///
    /// Inside a replacement: the start of what was replaced. None when the position is not in the edited statement.
    #[must_use]
    pub fn to_client(&self, position: u32) -> Option<u32> {
        let edited = (position as usize).checked_sub(1)?;
        // One behind the end is where PostgreSQL reports "at end of input".
        if edited > self.edited_length {
            return None;
        }
        let before = self
            .spans
            .partition_point(|span| span.edited_start <= edited);
        let original = match before.checked_sub(1).map(|last| self.spans[last]) {
            None => edited,
            Some(span) if edited < span.edited_end => span.original_start,
            Some(span) => edited - span.edited_end + span.original_end,
        };
        u32::try_from(original + 1).ok()
    }
}

/// Characters of UTF-8 text; in other text, bytes that do not look like a continuation.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests;
