//! Statements, portals and cursors of a session, and what is known of each.

use super::answers::Execution;
use crate::cache::{CachedPlan, Facts};
use crate::model::{CatalogCheck, Effects, ErrorFields, Keep, Plan, PlannedStatement};
use sluice_wire::frontend::filed_name;
use sluice_wire::template::Scanner;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A text under a plan.
pub struct Work {
    /// As the client sent it.
    pub text: Rc<[u8]>,
    /// Its plan.
    pub plan: Arc<CachedPlan>,
    /// The context it was planned in.
    pub context: u64,
    /// Of the policy that it was planned under.
    pub revision: Rc<str>,
    /// OIDs given in the `Parse`.
    pub types: Rc<[u32]>,
    /// SHA-256 of the edited text, for what prepares a statement and has edits.
    pub sent: Option<[u8; 32]>,
}

impl Work {
    /// The work of something that no plan is known for: recorded, without facts.
    pub fn unknown(kind: &str, context: u64, revision: Rc<str>) -> Rc<Self> {
        let statement = PlannedStatement {
            tokens: (0, 0),
            audit: format!("{{\"kind\":\"{kind}\"}}").into_bytes(),
            edits: Vec::new(),
            denial: None,
            effects: None,
            notices: Vec::new(),
            rows_max: None,
            seconds_max: None,
            governed: false,
            catalog_check: CatalogCheck::None,
        };
        let plan = Plan {
            statements: vec![statement],
            keep: Keep::None,
            bound: Vec::new(),
            valid_until_ns: None,
            revision: revision.to_string(),
            settled: false,
        };
        let plan = Arc::new(CachedPlan::new(plan, &Scanner::default(), b""));
        Rc::new(Self {
            text: Rc::from(&b""[..]),
            plan,
            context,
            revision,
            types: Rc::from(&[][..]),
            sent: None,
        })
    }

    /// Whether it has to be judged again before it runs.
    pub fn is_stale(&self, context: u64) -> bool {
        self.context != context || !self.plan.is_valid()
    }

    /// The planned statement at this place.
    pub fn statement(&self, index: usize) -> Option<&PlannedStatement> {
        self.plan.plan.statements.get(index)
    }
}

/// A refusal, and what is recorded of it.
#[derive(Clone)]
pub struct Denied {
    /// For the client.
    pub fields: Arc<ErrorFields>,
    /// Of each statement that was denied.
    pub facts: Vec<Facts>,
}

impl Denied {
    /// A refusal of something without facts.
    pub fn plain(fields: ErrorFields) -> Self {
        Self {
            fields: Arc::new(fields),
            facts: Vec::new(),
        }
    }
}

/// A prepared statement.
pub struct Statement {
    /// What it is.
    pub work: Rc<Work>,
    /// Made by SQL's PREPARE: its text is not that of a `Parse`.
    pub sql: bool,
}

/// A portal of the protocol.
pub struct Portal {
    /// Number of its `Bind`.
    pub seq: u64,
    /// What it runs; `None` when the statement is not known to us.
    pub work: Option<Rc<Work>>,
    /// Present between a suspension and the next `Execute`.
    pub suspended: RefCell<Option<Execution>>,
}

/// A cursor of SQL's DECLARE.
pub struct Cursor {
    /// The statement that declared it.
    pub work: Rc<Work>,
}

/// Bounds on what a client may leave lying about in a governed session. An ORM keeps a few hundred.
const STATEMENTS_MAX: usize = 10_000;
/// Bytes of the texts of those.
const STATEMENT_BYTES_MAX: usize = 256 << 20;
/// Portals and cursors open at a time.
const PORTALS_MAX: usize = 10_000;

/// Names that we use for ourselves. Clients may not.
pub const RESERVED_PREFIX: &[u8] = b"sluice\x01";

/// See the module.
#[derive(Default)]
pub struct Names {
    /// By filed name.
    pub statements: HashMap<Vec<u8>, Rc<Statement>>,
    /// By filed name.
    pub portals: HashMap<Vec<u8>, Rc<Portal>>,
    /// By filed name.
    pub cursors: HashMap<Vec<u8>, Rc<Cursor>>,
    text_bytes: usize,
    /// The policy was another one earlier in this session.
    pub revision_changed: bool,
}

fn filed(name: &str) -> Vec<u8> {
    filed_name(name.as_bytes()).to_vec()
}

impl Names {
    /// File a statement; what the name meant before.
    pub fn put_statement(
        &mut self,
        name: Vec<u8>,
        made: Option<Rc<Statement>>,
    ) -> Option<Rc<Statement>> {
        if let Some(made) = &made {
            self.text_bytes += made.work.text.len();
        }
        let old = match made {
            Some(made) => self.statements.insert(name, made),
            None => self.statements.remove(&name),
        };
        if let Some(old) = &old {
            self.text_bytes = self.text_bytes.saturating_sub(old.work.text.len());
        }
        old
    }

    /// File a portal; what the name meant before.
    pub fn put_portal(&mut self, name: Vec<u8>, made: Option<Rc<Portal>>) -> Option<Rc<Portal>> {
        match made {
            Some(made) => self.portals.insert(name, made),
            None => self.portals.remove(&name),
        }
    }

    /// Why no further statement may be prepared.
    pub fn statements_full(&self, more: usize) -> Option<ErrorFields> {
        let full =
            self.statements.len() >= STATEMENTS_MAX || self.text_bytes + more > STATEMENT_BYTES_MAX;
        full.then(|| {
            ErrorFields::error("54000", "too many prepared statements in this session")
                .detail(format!("A governed session keeps at most {STATEMENTS_MAX} of {STATEMENT_BYTES_MAX} bytes together."))
                .hint("Close those that are not needed any more.")
        })
    }

    /// Why no further portal may be opened.
    pub fn portals_full(&self) -> Option<ErrorFields> {
        (self.portals.len() >= PORTALS_MAX).then(|| {
            ErrorFields::error("54000", "too many open portals in this session")
                .hint("Close those that are not needed any more.")
        })
    }

    /// Why a text with these statements may not run in this context.
    pub fn refusal(&self, plan: &Plan, context: u64, revision: &str) -> Option<ErrorFields> {
        let mut prepared = Vec::new();
        let mut declared = Vec::new();
        for effects in plan
            .statements
            .iter()
            .filter_map(|statement| statement.effects.as_ref())
        {
            if let Some(name) = &effects.execute
                && !prepared.contains(&name)
                && self
                    .statements
                    .get(&filed(name))
                    .is_some_and(|made| made.work.is_stale(context))
            {
                return Some(stale_statement(name));
            }
            if let Some(name) = &effects.fetch
                && !declared.contains(&name)
                && self.stale(filed(name).as_slice(), revision)
            {
                return Some(stale_cursor(name));
            }
            prepared.extend(&effects.prepare);
            declared.extend(&effects.declare);
        }
        None
    }

    /// The first EXECUTE of a statement that has to be judged again: its name as filed, and the statement.
    pub fn stale_execute(&self, plan: &Plan, context: u64) -> Option<(Vec<u8>, Rc<Statement>)> {
        let mut effects = plan
            .statements
            .iter()
            .filter_map(|statement| statement.effects.as_ref());
        effects.find_map(|effects| {
            let name = filed(effects.execute.as_deref()?);
            let made = self
                .statements
                .get(&name)
                .filter(|made| made.work.is_stale(context))?;
            Some((name, Rc::clone(made)))
        })
    }

    /// When the catalog is checked for a statement; for an EXECUTE also as what it executes needs it.
    pub fn catalog_check(&self, statement: &PlannedStatement) -> CatalogCheck {
        let executed = statement
            .effects
            .as_ref()
            .and_then(|effects| self.statements.get(&filed(effects.execute.as_deref()?)));
        let prepared = executed.map_or(CatalogCheck::None, |made| made.work.plan.catalog_check);
        statement.catalog_check.max(prepared)
    }

    /// Whether rows of this portal or cursor were decided under another policy.
    pub fn stale(&self, name: &[u8], revision: &str) -> bool {
        if let Some(cursor) = self.cursors.get(name) {
            return &*cursor.work.revision != revision;
        }
        if let Some(portal) = self.portals.get(name) {
            return portal
                .work
                .as_ref()
                .is_none_or(|work| &*work.revision != revision);
        }
        self.revision_changed
    }

    /// A statement with effects was done.
    pub fn apply(&mut self, effects: &Effects, work: &Rc<Work>) {
        if let Some(name) = &effects.prepare {
            let made = Statement {
                work: Rc::clone(work),
                sql: true,
            };
            self.put_statement(filed(name), Some(Rc::new(made)));
        }
        if let Some(name) = &effects.deallocate {
            self.put_statement(filed(name), None);
        }
        if effects.deallocate_all {
            self.statements.clear();
            self.text_bytes = 0;
        }
        if let Some(name) = &effects.declare {
            if self.cursors.len() >= PORTALS_MAX {
                // Forgotten ones are judged by `revision_changed`.
                self.cursors.clear();
            }
            self.cursors.insert(
                filed(name),
                Rc::new(Cursor {
                    work: Rc::clone(work),
                }),
            );
        }
        if let Some(name) = &effects.close_cursor {
            self.cursors.remove(&filed(name));
            self.portals.remove(&filed(name));
        }
        if effects.close_all_cursors {
            self.cursors.clear();
            self.portals.clear();
        }
    }
}

fn stale_statement(name: &str) -> ErrorFields {
    ErrorFields::error(
        "55000",
        format!("prepared statement \"{name}\" was made under another policy or session state"),
    )
    .hint("DEALLOCATE it and PREPARE it again.")
}

/// Why a portal or cursor is refused.
pub fn stale_cursor(name: &str) -> ErrorFields {
    ErrorFields::error(
        "55000",
        format!("cursor \"{name}\" was opened under another policy"),
    )
    .hint("Close it and open it again.")
}
