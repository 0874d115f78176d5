//! Templates: statements with their literals blanked, and the keyed hash under which plans are filed.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::scan::{Token, TokenKind, scan};

/// Ends each token in a template. No token but an invalid one, which is the last, can hold it.
const SEPARATOR: u8 = 0;

/// A random key. Statements come from the attacker: with a known key two of them could be made to share a plan.
#[derive(Clone, Copy)]
pub struct TemplateKey(pub u64, pub u64);

impl std::fmt::Debug for TemplateKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TemplateKey(…)")
    }
}

impl TemplateKey {
    /// The keyed 128-bit hash of these bytes.
    #[must_use]
    pub fn hash(self, bytes: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        hasher.write(bytes);
        hasher.finish128().as_u128()
    }
}

/// Write the template to `out`, which is emptied first: for each token its kind, its text unless it is a literal, and a separator.
pub fn write_template(sql: &[u8], tokens: &[Token], out: &mut Vec<u8>) {
    out.clear();
    for &token in tokens {
        let kind = token.kind as u8;
        if token.kind.is_literal() {
            out.extend_from_slice(&[kind, SEPARATOR]);
            continue;
        }
        match text(sql, token) {
            &[byte] => out.extend_from_slice(&[kind, byte, SEPARATOR]),
            text => {
                out.push(kind);
                out.extend_from_slice(text);
                out.push(SEPARATOR);
            }
        }
    }
}

/// An invalid token of an oversized text does not know its end.
fn text(sql: &[u8], token: Token) -> &[u8] {
    if token.kind == TokenKind::Invalid {
        &sql[token.start as usize..]
    } else {
        token.text(sql)
    }
}

/// Scanner with buffers that are used again: one for each session, or for each thread.
#[derive(Debug, Default)]
pub struct Scanner {
    tokens: Vec<Token>,
    template: Vec<u8>,
}

impl Scanner {
    /// Scan a statement; `tokens` and `template` then speak of this one.
    pub fn scan(&mut self, sql: &[u8]) {
        scan(sql, &mut self.tokens);
        write_template(sql, &self.tokens, &mut self.template);
    }

    /// Scan a statement and return the hash of its template.
    pub fn fingerprint(&mut self, sql: &[u8], key: TemplateKey) -> u128 {
        self.scan(sql);
        key.hash(&self.template)
    }

    /// The hash of the texts of the tokens at these positions, for plans that hold for these literals only.
    ///
    /// None when a position names no token.
    pub fn bound_fingerprint(
        &mut self,
        sql: &[u8],
        positions: &[u32],
        key: TemplateKey,
    ) -> Option<u128> {
        let mut bound = Vec::with_capacity(positions.len() * 16);
        for &position in positions {
            let token = *self.tokens.get(position as usize)?;
            let bytes = text(sql, token);
            bound.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            bound.extend_from_slice(bytes);
        }
        Some(key.hash(&bound))
    }

    /// The tokens of the statement scanned last.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The template of the statement scanned last.
    #[must_use]
    pub fn template(&self) -> &[u8] {
        &self.template
    }

    /// Whether the statement scanned last could be scanned to its end.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.tokens
            .last()
            .is_none_or(|token| token.kind != TokenKind::Invalid)
    }
}

#[cfg(test)]
mod tests;
