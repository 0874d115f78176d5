//! Plans by context, template and bound literals. Two generations: what is not used while one fills is forgotten.

use crate::model::{CatalogCheck, Keep, Plan};
use sluice_wire::scan::{Token, TokenKind};
use sluice_wire::template::{Scanner, TemplateKey};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Texts longer than this are planned each time when their plan holds for them alone: a bound on nothing but gain.
const EXACT_BYTES_MAX: usize = 1 << 20;
/// Characters of a template that audit keeps.
const TEMPLATE_CHARS_MAX: usize = 8_192;

/// A plan and what is made of it once.
pub struct CachedPlan {
    /// As the brain gave it.
    pub plan: Plan,
    /// For each statement what its `begin` record says.
    pub facts: Vec<Facts>,
    /// Whether any statement has edits.
    pub edited: bool,
    /// Whether any statement changes the session.
    pub changes: bool,
    /// Whether any statement runs something by its name.
    pub names: bool,
    /// The strictest of its statements.
    pub catalog_check: CatalogCheck,
}

impl CachedPlan {
    /// Prepare a plan of this text, scanned last by `scanner`.
    pub fn new(plan: Plan, scanner: &Scanner, text: &[u8]) -> Self {
        let facts = plan
            .statements
            .iter()
            .map(|statement| {
                let (start, end) = (statement.tokens.0 as usize, statement.tokens.1 as usize);
                let tokens = scanner.tokens().get(start..end).unwrap_or_default();
                Facts {
                    statement: statement.audit.clone(),
                    template: readable_template(tokens, text),
                    revision: plan.revision.clone(),
                }
            })
            .collect();
        let edited = plan
            .statements
            .iter()
            .any(|statement| !statement.edits.is_empty());
        let changes = plan.statements.iter().any(|statement| {
            statement
                .effects
                .as_ref()
                .is_some_and(crate::model::Effects::changes)
        });
        let effects = plan
            .statements
            .iter()
            .filter_map(|statement| statement.effects.as_ref());
        let names = effects
            .clone()
            .any(|effects| effects.execute.is_some() || effects.fetch.is_some());
        let catalog_check = plan
            .statements
            .iter()
            .map(|statement| statement.catalog_check)
            .max()
            .unwrap_or_default();
        Self {
            plan,
            facts,
            edited,
            changes,
            names,
            catalog_check,
        }
    }

    /// The names of all prepared statements that it executes.
    pub fn executed(&self) -> impl Iterator<Item = &str> {
        let statements = self.plan.statements.iter().filter(|_| self.names);
        statements.filter_map(|statement| statement.effects.as_ref()?.execute.as_deref())
    }

    /// Whether its time has not run out.
    pub fn is_valid(&self) -> bool {
        self.plan
            .valid_until_ns
            .is_none_or(|until| now_ns() < until)
    }
}

/// What the `begin` record of a statement says of it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// JSON object of the brain's.
    pub statement: Vec<u8>,
    /// The statement with `?` for every literal.
    pub template: String,
    /// Of the decision.
    pub revision: String,
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The statement with `?` for every literal, for people.
pub fn readable_template(tokens: &[Token], text: &[u8]) -> String {
    let mut readable = String::new();
    let mut last_end = None;
    for token in tokens {
        if readable.len() > TEMPLATE_CHARS_MAX {
            readable.push('…');
            break;
        }
        if last_end.is_some_and(|end| end != token.start) {
            readable.push(' ');
        }
        last_end = Some(token.end);
        if token.kind.is_literal() {
            readable.push('?');
        } else if token.kind == TokenKind::Invalid {
            readable.push('…');
        } else {
            readable.push_str(&String::from_utf8_lossy(token.text(text)));
        }
    }
    readable
}

type ShapeKey = (u64, u128);
type PlanKey = (u64, u128, u128);

#[derive(Default)]
struct Generation {
    /// How the plans of a template are told apart: by bound positions, or (`None`) by the whole text.
    shapes: HashMap<ShapeKey, Vec<Option<Box<[u32]>>>>,
    plans: HashMap<PlanKey, Arc<CachedPlan>>,
}

/// See the module.
pub struct Cache {
    key: TemplateKey,
    young: Generation,
    old: Generation,
    entries_max: usize,
}

impl Cache {
    /// Make one whose key nobody knows.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub fn new(entries_max: usize) -> Result<Self, getrandom::Error> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)?;
        let (high, low) = (u128::from_be_bytes(seed) >> 64, u128::from_be_bytes(seed));
        #[expect(clippy::cast_possible_truncation)] // Two halves.
        let key = TemplateKey(high as u64, low as u64);
        Ok(Self {
            key,
            young: Generation::default(),
            old: Generation::default(),
            entries_max,
        })
    }

    /// Plans kept.
    pub fn len(&self) -> usize {
        self.young.plans.len() + self.old.plans.len()
    }

    /// Scan the text and look its plan up, as a statement with parameters of these types.
    pub fn find(
        &mut self,
        context: u64,
        text: &[u8],
        types: &[u32],
        scanner: &mut Scanner,
    ) -> Option<Arc<CachedPlan>> {
        let shape = self.shape(context, text, types, scanner);
        for young in [true, false] {
            let generation = if young { &self.young } else { &self.old };
            let Some(variants) = generation.shapes.get(&shape) else {
                continue;
            };
            for variant in variants {
                let Some(rest) = self.rest(variant.as_deref(), text, scanner) else {
                    continue;
                };
                let Some(found) = generation.plans.get(&(context, shape.1, rest)) else {
                    continue;
                };
                if !found.is_valid() {
                    continue;
                }
                let (found, variant) = (Arc::clone(found), variant.clone());
                if !young {
                    self.put(shape, variant, rest, Arc::clone(&found));
                }
                return Some(found);
            }
        }
        None
    }

    /// Keep a plan of the text that `scanner` scanned last.
    pub fn insert(
        &mut self,
        context: u64,
        text: &[u8],
        types: &[u32],
        scanner: &mut Scanner,
        plan: &Arc<CachedPlan>,
    ) {
        let variant: Option<Box<[u32]>> = match plan.plan.keep {
            Keep::None => return,
            Keep::Template if scanner.is_valid() => Some(plan.plan.bound.clone().into()),
            Keep::Template | Keep::Exact => None,
        };
        if variant.is_none() && text.len() > EXACT_BYTES_MAX {
            return;
        }
        let shape = self.shape(context, text, types, scanner);
        if let Some(rest) = self.rest(variant.as_deref(), text, scanner) {
            self.put(shape, variant, rest, Arc::clone(plan));
        }
    }

    /// Declared types are part of what a statement means: they choose operators and casts.
    fn shape(&self, context: u64, text: &[u8], types: &[u32], scanner: &mut Scanner) -> ShapeKey {
        let template = scanner.fingerprint(text, self.key);
        let declared = types
            .iter()
            .rposition(|oid| *oid != 0)
            .map_or(0, |last| last + 1);
        if declared == 0 {
            return (context, template);
        }
        let mut bytes = template.to_le_bytes().to_vec();
        for oid in &types[..declared] {
            bytes.extend_from_slice(&oid.to_le_bytes());
        }
        (context, self.key.hash(&bytes))
    }

    fn rest(&self, variant: Option<&[u32]>, text: &[u8], scanner: &mut Scanner) -> Option<u128> {
        match variant {
            Some([]) => Some(0),
            Some(bound) => scanner.bound_fingerprint(text, bound, self.key),
            None => Some(self.key.hash(text)),
        }
    }

    fn put(
        &mut self,
        shape: ShapeKey,
        variant: Option<Box<[u32]>>,
        rest: u128,
        plan: Arc<CachedPlan>,
    ) {
        if self.young.plans.len() >= self.entries_max.div_ceil(2) {
            self.old = std::mem::take(&mut self.young);
        }
        let variants = self.young.shapes.entry(shape).or_default();
        if !variants.contains(&variant) {
            variants.push(variant);
        }
        self.young.plans.insert((shape.0, shape.1, rest), plan);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(keep: Keep, bound: &[u32]) -> Plan {
        let bound = bound.to_vec();
        Plan {
            statements: Vec::new(),
            keep,
            bound,
            valid_until_ns: None,
            revision: String::new(),
            settled: false,
        }
    }

    fn filled(text: &[u8], keep: Keep, bound: &[u32]) -> (Cache, Scanner) {
        let mut cache = Cache::new(4).unwrap();
        let mut scanner = Scanner::default();
        scanner.scan(text);
        let made = Arc::new(CachedPlan::new(plan(keep, bound), &scanner, text));
        cache.insert(1, text, &[], &mut scanner, &made);
        (cache, scanner)
    }

    #[test]
    fn free_literals_hit_and_bound_ones_do_not() {
        let (mut cache, mut scanner) = filled(b"select 1, 2", Keep::Template, &[3]);
        assert!(cache.find(1, b"select 9,  2", &[], &mut scanner).is_some());
        assert!(cache.find(1, b"select 1, 3", &[], &mut scanner).is_none());
        assert!(cache.find(2, b"select 1, 2", &[], &mut scanner).is_none());
    }

    #[test]
    fn declared_types_are_part_of_the_key_and_unspecified_ones_are_not() {
        let (mut cache, mut scanner) = filled(b"select $1", Keep::Template, &[]);
        let mut found = |types: &[u32]| cache.find(1, b"select $1", types, &mut scanner).is_some();
        assert!(found(&[]) && found(&[0, 0]));
        assert!(!found(&[25]) && !found(&[0, 25]));
    }

    #[test]
    fn exact_plans_hold_for_their_text_alone() {
        let (mut cache, mut scanner) = filled(b"select 1", Keep::Exact, &[]);
        assert!(cache.find(1, b"select 1", &[], &mut scanner).is_some());
        assert!(cache.find(1, b"select 2", &[], &mut scanner).is_none());
    }

    #[test]
    fn entries_are_bounded() {
        let (mut cache, mut scanner) = filled(b"select 1", Keep::Exact, &[]);
        for number in 0..100 {
            let text = format!("select {number}");
            scanner.scan(text.as_bytes());
            let made = Arc::new(CachedPlan::new(
                plan(Keep::Exact, &[]),
                &scanner,
                text.as_bytes(),
            ));
            cache.insert(1, text.as_bytes(), &[], &mut scanner, &made);
        }
        assert!(cache.len() <= 4);
    }

    #[test]
    fn templates_for_people_hold_no_literals() {
        let text = b"select  'secret', 12 from t where a='x\ny' -- secret";
        let mut scanner = Scanner::default();
        scanner.scan(text);
        assert_eq!(
            readable_template(scanner.tokens(), text),
            "select ?, ? from t where a=?"
        );
    }
}
