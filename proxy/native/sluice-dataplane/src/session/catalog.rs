//! Looks at the catalog beside a statement: views, parents and functions may change under a plan that the cache keeps, and no
//! condition in the text sees it.
//!
//! The look begins when the first part of the answer is here. By then PostgreSQL has read its catalog for this statement, so
//! that what the look does not see was not seen by the statement either, however long that waited for a lock.

use super::answers::{Answer, Execution, Kind, Origin};
use super::judge::{Judged, Revival};
use super::refresh::wrong_answer;
use super::replies::skip_swallowed;
use super::work::{Denied, Work};
use super::{End, Session};
use crate::model::{CatalogCheck, CatalogRequest, ErrorFields, Plan, Reply, Request};
use std::rc::Rc;
use std::sync::Arc;

/// So often is a statement judged again when the catalog changes each time.
const JUDGED_AGAIN_MAX: usize = 3;

impl Session {
    /// Whether the catalog has to be looked at before the client sees this frame.
    pub(super) fn must_check(&self, tag: u8) -> bool {
        if !matches!(
            tag,
            b'T' | b'D' | b'd' | b'C' | b's' | b'G' | b'H' | b'W' | b'V'
        ) {
            return false;
        }
        let mut shared = self.shared.borrow_mut();
        let shared = &mut *shared;
        skip_swallowed(shared);
        let Some(Answer {
            kind: Kind::Query | Kind::Execute,
            origin: Origin::Client,
            run: Some(run),
            ..
        }) = shared.answers.front_mut()
        else {
            return false;
        };
        let check = run.catalog_check();
        let execution = run.execution.get_or_insert_with(Execution::new);
        if execution.checked || execution.over.is_some() || shared.swallowing {
            return false;
        }
        if check == CatalogCheck::None || self.state.borrow().said.observe {
            execution.checked = true;
            return false;
        }
        // What was written is written; it was looked at before.
        check == CatalogCheck::Answer || tag != b'C'
    }

    /// Look at the catalog for the execution at the head: it is given up when that changed and matters.
    pub(super) async fn check_answer(self: &Rc<Self>) -> Result<(), End> {
        let (work, simple) = match self.shared.borrow().answers.front() {
            Some(Answer {
                run: Some(run),
                kind,
                ..
            }) => (Rc::clone(&run.work), *kind == Kind::Query),
            _ => return Ok(()),
        };
        let refused = self.drifted(&work, simple).await?;
        let mut shared = self.shared.borrow_mut();
        let Some(Answer { run: Some(run), .. }) = shared.answers.front_mut() else {
            return Ok(());
        };
        let execution = run.execution.get_or_insert_with(Execution::new);
        execution.checked = true;
        if let Some(fields) = refused
            && execution.over.is_none()
        {
            execution.over = Some(Arc::new(fields));
            self.cancel_server(&mut shared);
        }
        Ok(())
    }

    /// As `judge`, for a text that is run at once: one that writes is sent only when the catalog is still the plan's.
    pub(super) async fn judge_to_run(&self, text: &[u8]) -> Result<Option<Judged>, End> {
        for _ in 0..JUDGED_AGAIN_MAX {
            let judged = self.judge(text, true, &[]).await?;
            let Some(Judged::Go(work, _)) = &judged else {
                return Ok(judged);
            };
            if !self.checks_sending(work) {
                return Ok(judged);
            }
            self.flush_server().await;
            let same = self.look_at_catalog(work.context).await;
            if self.shared.borrow().skipping {
                return Ok(None);
            }
            match same {
                Ok(true) if self.state.borrow().said.context == work.context => return Ok(judged),
                Ok(_) => {}
                Err(fields) => return Ok(Some(Judged::Deny(refusal(work, fields)))),
            }
        }
        Ok(Some(Judged::Deny(Denied::plain(catalog_changed()))))
    }

    /// Whether the catalog has to be looked at before this is sent.
    pub(super) fn checks_sending(&self, work: &Work) -> bool {
        let shared = self.shared.borrow();
        let mut statements = work.plan.plan.statements.iter();
        statements.any(|statement| shared.names.catalog_check(statement) == CatalogCheck::Sending)
            && !self.state.borrow().said.observe
    }

    /// Why a work must not go on: the catalog changed, and it would be sent in other words now.
    pub(super) async fn drifted(
        &self,
        work: &Work,
        simple: bool,
    ) -> Result<Option<ErrorFields>, End> {
        match self.look_at_catalog(work.context).await {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            Err(fields) => return Ok(Some(fields)),
        }
        self.control.notify_one();
        self.until(|_| !self.epoch_behind()).await;
        let context = self.state.borrow().said.context;
        let planned = match self.find_plan(context, &work.text, &work.types) {
            Some(plan) => Ok(plan),
            None => {
                self.ask_plan(context, &work.text, simple, &work.types)
                    .await
            }
        };
        let Ok(plan) = planned else {
            return Ok(Some(catalog_changed()));
        };
        while self.revive(&plan).await? == Revival::Again {}
        let stale = self
            .shared
            .borrow()
            .names
            .stale_execute(&plan.plan, context);
        let same = stale.is_none() && same_words(&plan.plan, &work.plan.plan);
        Ok((!same).then(catalog_changed))
    }

    async fn look_at_catalog(&self, context: u64) -> Result<bool, ErrorFields> {
        let session = self.number;
        let make = |id| {
            Request::Catalog(CatalogRequest {
                id,
                session,
                context,
            })
        };
        match self.core.brain.ask(make).await? {
            Reply::Catalog(same) => Ok(same),
            Reply::Error(fields) => Err(fields),
            _ => Err(wrong_answer()),
        }
    }
}

/// The refusal of a work that could not be checked.
pub fn refusal(work: &Work, fields: ErrorFields) -> Denied {
    Denied {
        fields: Arc::new(fields),
        facts: work.plan.facts.clone(),
    }
}

/// Whether a text is sent in the same words under both plans.
fn same_words(now: &Plan, then: &Plan) -> bool {
    now.statements.len() == then.statements.len()
        && now
            .statements
            .iter()
            .zip(&then.statements)
            .all(|(now, then)| now.denial.is_none() && now.edits == then.edits)
}

/// The same words as when a condition in the text sees it.
pub fn catalog_changed() -> ErrorFields {
    ErrorFields::error(
        "55000",
        "catalog changed while the statement was being judged",
    )
    .hint("Try the statement again.")
}
