//! Portals and cursors: what an `Execute` of one runs, or why it may not.

use super::answers::Run;
use super::judge::spool_refusal;
use super::work::{Cursor, Denied, Portal, Work, stale_cursor};
use super::{Session, State};
use crate::model::ErrorFields;
use std::rc::Rc;
use std::sync::Arc;

impl Session {
    pub(super) fn portal_work(&self, name: &[u8]) -> Option<Rc<Work>> {
        let shared = self.shared.borrow();
        let made = shared.names.portals.get(name)?.made.as_ref()?;
        Some(Rc::clone(&made.work))
    }

    /// Whether the portal was bound since the last Sync.
    pub(super) fn bound_in_batch(&self, name: &[u8]) -> bool {
        let shared = self.shared.borrow();
        shared
            .names
            .portals
            .get(name)
            .is_some_and(|portal| portal.seq > shared.synced_seq)
    }

    /// What an `Execute` of this portal runs, or why it may not.
    pub(super) fn executable(&self, name: &[u8]) -> Result<Run, Denied> {
        let state = self.state();
        let governed = state.said.level > 0 && !state.said.observe;
        let (portal, cursor, refused) = {
            let shared = self.shared.borrow();
            let names = &shared.names;
            let (portal, cursor) = (names.portals.get(name), names.cursors.get(name));
            let refused = if portal.is_none() && cursor.is_none() {
                Some(unknown_portal(name))
            } else if names.stale(name, &state.revision) {
                Some(stale_cursor(&String::from_utf8_lossy(name)))
            } else if portal.is_some_and(|portal| is_elsewhere(portal, state.said.context)) {
                Some(bound_elsewhere(name))
            } else {
                let failed = shared.portal_failed(portal.map(|portal| &**portal));
                failed.then(failed_transaction)
            };
            (portal.cloned(), cursor.cloned(), refused)
        };
        if let Some(fields) = refused.filter(|_| governed) {
            return Err(Denied::plain(fields));
        }
        let run = self.portal_run(portal, cursor.as_deref(), &state);
        // What PREPARE and DECLARE made has passed with them, and their other statements are not run again.
        if !run.again
            && let Some(fields) = self.refusal(&run.work.plan, governed)
        {
            let facts = run.work.plan.facts.clone();
            return Err(Denied {
                fields: Arc::new(fields),
                facts,
            });
        }
        if run.again
            && run.is_governed()
            && let Some(reason) = self.core.audit.unwritable()
        {
            return Err(Denied {
                fields: Arc::new(spool_refusal(&reason)),
                facts: run.facts().into_iter().cloned().collect(),
            });
        }
        Ok(run)
    }

    fn portal_run(
        &self,
        portal: Option<Rc<Portal>>,
        cursor: Option<&Cursor>,
        state: &State,
    ) -> Run {
        let made = portal.as_ref().and_then(|portal| portal.made.as_deref());
        let mut run = match (made, cursor.filter(|_| portal.is_none())) {
            (Some(made), _) if made.sql => Run {
                index: made.index,
                again: true,
                ..Run::new(Rc::clone(&made.work), Rc::from([]))
            },
            (Some(made), _) => {
                let named = self.shared.borrow().names.subjects(&made.work);
                Run::new(Rc::clone(&made.work), named)
            }
            (None, Some(cursor)) => {
                let declared = &cursor.declared;
                let mut named = vec![None; declared.index];
                named.push(Some(declared.clone()));
                Run {
                    index: declared.index,
                    again: true,
                    ..Run::new(Rc::clone(&declared.work), Rc::from(named))
                }
            }
            (None, None) => {
                let (context, revision) = (state.said.context, Rc::clone(&state.revision));
                Run::new(Work::unknown("unknown", context, revision), Rc::from([]))
            }
        };
        run.portal = portal;
        run
    }
}

/// Whether a portal that was never executed was judged in another state of the session: what is no query is understood by the
/// server when it is executed, by the names that are in front then.
fn is_elsewhere(portal: &Portal, context: u64) -> bool {
    let made = portal.made.as_ref().filter(|_| !portal.started.get());
    made.is_some_and(|made| made.work.context != context)
}

fn bound_elsewhere(name: &[u8]) -> ErrorFields {
    let name = String::from_utf8_lossy(name);
    let message = format!("portal \"{name}\" was bound in another state of the session");
    ErrorFields::error("55000", message).hint("Bind it again.")
}

/// PostgreSQL's own words. What nobody bound or declared is what a function left open, or what a Query ran in.
fn unknown_portal(name: &[u8]) -> ErrorFields {
    let name = String::from_utf8_lossy(name);
    ErrorFields::error("34000", format!("portal \"{name}\" does not exist"))
}

/// PostgreSQL's own words.
fn failed_transaction() -> ErrorFields {
    ErrorFields::error(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}
