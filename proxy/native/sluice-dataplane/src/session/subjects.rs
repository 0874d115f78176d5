//! What a statement of SQL runs that names it only: the prepared statement of an EXECUTE, the cursor of a FETCH.
//!
//! It is found when the text is sent. Later the names may mean something else.

use super::answers::Run;
use super::work::{Names, Work};
use crate::cache::Facts;
use crate::model::{CatalogCheck, Effects, PlannedStatement};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// One statement of a text that was judged earlier, or earlier in the same text.
#[derive(Clone)]
pub struct Subject {
    /// The text.
    pub work: Rc<Work>,
    /// Which of its statements.
    pub index: usize,
    /// Rows that a cursor has given so far: it is one statement, however often it is asked.
    pub fetched: Option<Rc<Cell<u64>>>,
}

impl Subject {
    /// One that counts nothing.
    pub fn new(work: Rc<Work>, index: usize) -> Self {
        Self {
            work,
            index,
            fetched: None,
        }
    }

    /// As planned.
    pub fn statement(&self) -> Option<&PlannedStatement> {
        self.work.statement(self.index)
    }

    /// What the audit says of it.
    pub fn facts(&self) -> Option<&Facts> {
        self.work.plan.facts.get(self.index)
    }
}

impl Names {
    /// The subjects of a text that is about to be sent, by the places of its statements; empty when it has none.
    pub fn subjects(&self, work: &Rc<Work>) -> Rc<[Option<Subject>]> {
        if !work.plan.names {
            return Rc::from([]);
        }
        let mut made: HashMap<&str, Subject> = HashMap::new();
        let mut declared: HashMap<&str, Subject> = HashMap::new();
        let effects = work.plan.plan.statements.iter();
        let found = effects.enumerate().map(|(index, statement)| {
            let effects = statement.effects.as_ref()?;
            if let Some(name) = &effects.prepare {
                made.insert(name, Subject::new(Rc::clone(work), index));
            }
            if let Some(name) = &effects.declare {
                let mut subject = Subject::new(Rc::clone(work), index);
                subject.fetched = Some(Rc::default());
                declared.insert(name, subject);
            }
            match (&effects.execute, &effects.fetch) {
                (Some(name), _) => made.get(&**name).cloned().or_else(|| self.prepared(name)),
                (None, Some(name)) => declared.get(&**name).cloned().or_else(|| self.opened(name)),
                (None, None) => None,
            }
        });
        found.collect()
    }

    /// Whether a text runs something governed by its name alone.
    pub fn runs_governed(&self, effects: &Effects) -> bool {
        let execute = effects
            .execute
            .as_ref()
            .and_then(|name| self.prepared(name));
        let fetch = effects.fetch.as_ref().and_then(|name| self.opened(name));
        [execute, fetch]
            .iter()
            .flatten()
            .filter_map(Subject::statement)
            .any(|statement| statement.governed)
    }
}

impl Run {
    /// The statement that runs, as planned.
    pub fn statement(&self) -> Option<&PlannedStatement> {
        self.work.statement(self.index)
    }

    /// What the audit says of it.
    pub fn facts(&self) -> Option<&Facts> {
        self.work.plan.facts.get(self.index)
    }

    /// What it runs by name.
    pub fn subject(&self) -> Option<&Subject> {
        self.named.get(self.index)?.as_ref()
    }

    /// What it does to its session; what is run once more does nothing once more.
    pub fn effects(&self) -> Option<&Effects> {
        if self.again {
            return None;
        }
        self.statement()?.effects.as_ref()
    }

    /// Whether there is no running it without a record.
    pub fn is_governed(&self) -> bool {
        self.planned().any(|statement| statement.governed)
    }

    /// The most rows it may give.
    pub fn rows_max(&self) -> Option<u64> {
        self.planned()
            .filter_map(|statement| statement.rows_max)
            .min()
    }

    /// The most seconds it may take.
    pub fn seconds_max(&self) -> Option<f64> {
        self.planned()
            .filter_map(|statement| statement.seconds_max)
            .min_by(f64::total_cmp)
    }

    /// When the catalog is looked at for it.
    pub fn catalog_check(&self) -> CatalogCheck {
        self.planned()
            .map(|statement| statement.catalog_check)
            .max()
            .unwrap_or_default()
    }

    /// Rows that came of the same cursor before.
    pub fn rows_before(&self) -> u64 {
        self.counter().map_or(0, |fetched| fetched.get())
    }

    /// So many more came.
    pub fn count_rows(&self, rows: u64) {
        if let Some(fetched) = self.counter() {
            fetched.set(fetched.get().saturating_add(rows));
        }
    }

    fn counter(&self) -> Option<&Rc<Cell<u64>>> {
        self.subject()?.fetched.as_ref()
    }

    fn planned(&self) -> impl Iterator<Item = &PlannedStatement> {
        let subject = self.subject().and_then(Subject::statement);
        self.statement().into_iter().chain(subject)
    }
}
