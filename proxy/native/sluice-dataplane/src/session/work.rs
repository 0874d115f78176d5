//! Statements, portals and cursors of a session, and what is known of each.

use super::answers::Execution;
use super::subjects::Subject;
use crate::cache::{CachedPlan, Facts};
use crate::model::{CatalogCheck, Effects, ErrorFields, Keep, Plan, PlannedStatement};
use sluice_wire::frontend::filed_name;
use sluice_wire::template::Scanner;
use std::cell::{Cell, RefCell};
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

impl CachedPlan {
    /// Whether one of its statements makes, uses or ends something under a name of ours.
    pub fn names_ours(&self) -> bool {
        let effects = self.plan.statements.iter();
        let mut effects = effects.filter_map(|statement| statement.effects.as_ref());
        effects.any(|effects| {
            let names = [
                &effects.prepare,
                &effects.execute,
                &effects.deallocate,
                &effects.declare,
                &effects.fetch,
                &effects.close_cursor,
            ];
            let mut names = names.into_iter().flatten();
            names.any(|name| name.as_bytes().starts_with(RESERVED_PREFIX))
        })
    }
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
    /// Which statement of the text.
    pub index: usize,
    /// Made by SQL's PREPARE: its text is not that of a `Parse`.
    pub sql: bool,
}

impl Statement {
    /// Whether it was made by a `Parse` and does something to the session: whoever ran it by its name alone would do that unseen.
    fn has_effects(&self) -> bool {
        let statement = self.work.statement(self.index);
        !self.sql && statement.is_some_and(|statement| statement.effects.is_some())
    }
}

/// A portal of the protocol.
pub struct Portal {
    /// Number of its `Bind`.
    pub seq: u64,
    /// It has given rows.
    pub started: Cell<bool>,
    /// It is in the audit.
    pub recorded: Cell<bool>,
    /// Rows that FETCH took of it.
    pub fetched: Rc<Cell<u64>>,
    /// What it runs; `None` when the statement is not known to us.
    pub made: Option<Rc<Statement>>,
    /// Present between a suspension and the next `Execute`.
    pub suspended: RefCell<Option<Execution>>,
}

/// A cursor of SQL's DECLARE.
pub struct Cursor {
    /// The statement that declared it.
    pub declared: Subject,
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
    /// There were too many cursors to remember.
    cursors_forgotten: bool,
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
            {
                match self.statements.get(&filed(name)) {
                    None => return Some(unknown_statement(name)),
                    Some(made) if made.work.is_stale(context) => {
                        return Some(stale_statement(name));
                    }
                    Some(made) if made.has_effects() => return Some(run_by_name(name)),
                    Some(_) => {}
                }
            }
            if let Some(name) = &effects.fetch
                && !declared.contains(&name)
            {
                if self.stale(filed(name).as_slice(), revision) {
                    return Some(stale_cursor(name));
                }
                let portal = self.portals.get(&filed(name));
                if portal
                    .and_then(|portal| portal.made.as_ref())
                    .is_some_and(|made| made.has_effects())
                {
                    return Some(run_by_name(name));
                }
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

    /// What an EXECUTE of this name runs.
    pub fn prepared(&self, name: &str) -> Option<Subject> {
        let made = self.statements.get(&filed(name))?;
        Some(Subject::new(Rc::clone(&made.work), made.index))
    }

    /// What a FETCH from this cursor or portal runs.
    pub fn opened(&self, name: &str) -> Option<Subject> {
        let name = filed(name);
        if let Some(cursor) = self.cursors.get(&name) {
            return Some(cursor.declared.clone());
        }
        let portal = self.portals.get(&name)?;
        let made = portal.made.as_ref()?;
        let mut subject = Subject::new(Rc::clone(&made.work), made.index);
        subject.fetched = Some(Rc::clone(&portal.fetched));
        Some(subject)
    }

    /// Whether rows of this portal or cursor were decided under another policy, or at another time of day.
    pub fn stale(&self, name: &[u8], revision: &str) -> bool {
        let holds = |work: &Work| &*work.revision == revision && work.plan.is_valid();
        let cursor = self.cursors.get(name);
        let portal = self.portals.get(name);
        if cursor.is_none() && portal.is_none() {
            return self.revision_changed || self.cursors_forgotten;
        }
        // A name of an earlier transaction may still be filed beside the one that holds now.
        let portal_holds =
            |portal: &Rc<Portal>| portal.made.as_ref().is_some_and(|made| holds(&made.work));
        !cursor.is_none_or(|cursor| holds(&cursor.declared.work))
            || !portal.is_none_or(portal_holds)
    }

    /// A statement with effects was done.
    pub fn apply(&mut self, effects: &Effects, work: &Rc<Work>, index: usize) {
        if let Some(name) = &effects.prepare {
            let made = Statement {
                work: Rc::clone(work),
                index,
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
                self.cursors.clear();
                self.cursors_forgotten = true;
            }
            let mut declared = Subject::new(Rc::clone(work), index);
            declared.fetched = Some(Rc::default());
            self.cursors
                .insert(filed(name), Rc::new(Cursor { declared }));
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

/// PostgreSQL's own words: what no statement of this session prepared cannot be there, and was not judged if it is.
fn unknown_statement(name: &str) -> ErrorFields {
    ErrorFields::error(
        "26000",
        format!("prepared statement \"{name}\" does not exist"),
    )
}

fn run_by_name(name: &str) -> ErrorFields {
    ErrorFields::error(
        "0A000",
        format!("statement not supported by Sluice: \"{name}\" changes the session, and is run by EXECUTE, FETCH or MOVE"),
    )
    .hint("Run it by the messages Bind and Execute.")
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
