//! From a text to its plan, or to why it is refused.

use super::client::reserved_name;
use super::refresh::wrong_answer;
use super::work::{Denied, Statement, Work};
use super::{End, Session};
use crate::cache::{CachedPlan, Facts, readable_template};
use crate::model::{ErrorFields, PlanRequest, PlannedStatement, Reply, Request};
use crate::registry::count;
use sha2::{Digest, Sha256};
use sluice_wire::frontend::filed_name;
use sluice_wire::splice::{Edit, splice};
use std::rc::Rc;
use std::sync::Arc;

/// What becomes of a text.
pub enum Judged {
    /// It is sent; the edited text when it has edits.
    Go(Rc<Work>, Option<Vec<u8>>),
    /// It is not.
    Deny(Denied),
}

/// What became of a statement that was made in another context.
#[derive(PartialEq, Eq)]
pub enum Revival {
    /// There is none.
    Needless,
    /// It is as good as new; or something changed meanwhile. The text is to be judged again.
    Again,
    /// It stays as it is, and will be refused.
    Refused,
}

type Planned = Result<Arc<CachedPlan>, Denied>;

impl Session {
    /// Plan a text; `None` when the server skips it anyway. A cancel request that comes meanwhile is for this statement, unless
    /// an earlier one runs.
    pub(super) async fn judge(
        &self,
        text: &[u8],
        simple: bool,
        types: &[u32],
    ) -> Result<Option<Judged>, End> {
        let alone = self.shared.borrow().answers.is_empty();
        let Some(key) = self.cancel.as_ref().filter(|_| alone) else {
            return self.plan(text, simple, types).await;
        };
        key.target.judging.begin();
        let judged = self.plan(text, simple, types).await;
        if !key.target.judging.end() {
            return judged;
        }
        Ok(judged?.map(|judged| match judged {
            Judged::Go(work, _) => Judged::Deny(Denied {
                fields: Arc::new(cancelled()),
                facts: work.plan.facts.clone(),
            }),
            denied @ Judged::Deny(_) => denied,
        }))
    }

    async fn plan(&self, text: &[u8], simple: bool, types: &[u32]) -> Result<Option<Judged>, End> {
        let mut fresh: Option<(u64, u64, Planned)> = None;
        loop {
            if !self.gate().await? {
                return Ok(None);
            }
            let context = self.state.borrow().said.context;
            let epoch = *self.core.registry.epoch.borrow();
            if let Some((asked_context, asked_epoch, planned)) = fresh.take()
                && asked_context == context
                && asked_epoch == epoch
            {
                if let Ok(plan) = &planned
                    && self.revive(plan).await? == Revival::Again
                {
                    continue;
                }
                self.scanner.borrow_mut().scan(text);
                return Ok(Some(self.weigh(text, types, planned)));
            }
            if let Some(plan) = self.find_plan(context, text, types) {
                match self.revive(&plan).await? {
                    Revival::Needless => {}
                    Revival::Again => continue,
                    Revival::Refused => self.scanner.borrow_mut().scan(text),
                }
                return Ok(Some(self.weigh(text, types, Ok(plan))));
            }
            self.flush_server().await;
            let planned = self.ask_plan(context, text, simple, types).await;
            fresh = Some((context, epoch, planned));
        }
    }

    /// SQL's EXECUTE of a statement that was made in another context: it may go on when it would be sent in the very same
    /// words now.
    ///
    /// PostgreSQL may still run what the words meant when they were prepared, as a table that came between is not noticed:
    /// so the judgement of then has to hold still, by policy and time.
    pub(super) async fn revive(&self, plan: &CachedPlan) -> Result<Revival, End> {
        let state = self.state();
        if state.said.level == 0 || state.said.observe {
            return Ok(Revival::Needless);
        }
        for name in plan.executed() {
            if self.ascertain(filed_name(name.as_bytes())).await {
                return Ok(Revival::Again);
            }
        }
        let context = state.said.context;
        let found = self
            .shared
            .borrow()
            .names
            .stale_execute(&plan.plan, context);
        let Some((name, old)) = found else {
            return Ok(Revival::Needless);
        };
        let holds = old.work.revision == state.revision && old.work.plan.is_valid();
        if !holds || old.work.plan.plan.statements.len() > 1 {
            return Ok(Revival::Refused);
        }
        let text = Rc::clone(&old.work.text);
        let epoch = *self.core.registry.epoch.borrow();
        let planned = if let Some(plan) = self.find_plan(context, &text, &old.work.types) {
            Ok(plan)
        } else {
            // Whether the server is still there is not for this to find out.
            let _ = self.to_server.flush().await;
            self.ask_plan(context, &text, old.sql, &old.work.types)
                .await
        };
        if self.state.borrow().said.context != context
            || *self.core.registry.epoch.borrow() != epoch
        {
            return Ok(Revival::Again);
        }
        self.scanner.borrow_mut().scan(&text);
        let Judged::Go(work, edited) = self.weigh(&text, &old.work.types, planned) else {
            return Ok(Revival::Refused);
        };
        let same = match &edited {
            None => !old.work.plan.edited,
            Some(_) => work.sent.is_some() && work.sent == old.work.sent,
        };
        if !same || work.is_stale(context) {
            return Ok(Revival::Refused);
        }
        let made = Rc::new(Statement {
            work,
            index: old.index,
            sql: old.sql,
        });
        self.shared
            .borrow_mut()
            .names
            .put_statement(name, Some(made));
        Ok(Revival::Again)
    }

    pub(super) fn find_plan(
        &self,
        context: u64,
        text: &[u8],
        types: &[u32],
    ) -> Option<Arc<CachedPlan>> {
        let counters = &self.core.registry.counters;
        let mut scanner = self.scanner.borrow_mut();
        let found = self
            .core
            .cache
            .borrow_mut()
            .find(context, text, types, &mut scanner);
        let counter = if found.is_some() {
            &counters.plan_hits_total
        } else {
            &counters.plan_misses_total
        };
        count(counter, 1);
        found
    }

    pub(super) async fn ask_plan(
        &self,
        context: u64,
        text: &[u8],
        simple: bool,
        types: &[u32],
    ) -> Planned {
        let (session, text_sent, parameter_types) = (self.number, text.to_vec(), types.to_vec());
        let make = |id| {
            Request::Plan(PlanRequest {
                id,
                session,
                context,
                text: text_sent,
                simple,
                parameter_types,
            })
        };
        let epoch = *self.core.registry.epoch.borrow();
        let reply = self.core.brain.ask(make).await;
        let mut scanner = self.scanner.borrow_mut();
        scanner.scan(text);
        let fields = match reply {
            Ok(Reply::Plan(plan)) => {
                let plan = Arc::new(CachedPlan::new(plan, &scanner, text));
                let unchanged = *self.core.registry.epoch.borrow() == epoch
                    && self.state.borrow().said.context == context;
                if unchanged {
                    let mut cache = self.core.cache.borrow_mut();
                    cache.insert(context, text, types, &mut scanner, &plan);
                    let entries = &self.core.registry.counters.cache_entries;
                    entries.store(cache.len() as u64, std::sync::atomic::Ordering::Relaxed);
                }
                return Ok(plan);
            }
            Ok(Reply::Error(fields)) | Err(fields) => fields,
            Ok(_) => wrong_answer(),
        };
        let facts = Facts {
            statement: b"{\"verdict\":\"error\"}".to_vec(),
            template: readable_template(scanner.tokens(), text),
            revision: self.state().said.revision.clone(),
        };
        Err(Denied {
            fields: Arc::new(fields),
            facts: vec![facts],
        })
    }

    /// Hold a plan against the state of the session. The scanner has just read the text.
    fn weigh(&self, text: &[u8], types: &[u32], planned: Planned) -> Judged {
        let plan = match planned {
            Ok(plan) => plan,
            Err(denied) => return Judged::Deny(denied),
        };
        let state = self.state();
        let observe = state.said.observe;
        if !observe && let Some(denied) = denial(&plan) {
            return Judged::Deny(denied);
        }
        if let Some(fields) = self.refusal(&plan, state.said.level > 0 && !observe) {
            return Judged::Deny(Denied {
                fields: Arc::new(fields),
                facts: plan.facts.clone(),
            });
        }
        let edited = if plan.edited && !observe {
            match self.edit(text, &plan) {
                Ok(edited) => Some(edited),
                Err(fields) => {
                    let facts = plan.facts.clone();
                    return Judged::Deny(Denied {
                        fields: Arc::new(fields),
                        facts,
                    });
                }
            }
        } else {
            None
        };
        let prepares = |statement: &PlannedStatement| {
            statement
                .effects
                .as_ref()
                .is_some_and(|effects| effects.prepare.is_some())
        };
        let sent = edited
            .as_ref()
            .filter(|_| plan.plan.statements.iter().any(prepares))
            .map(|edited| Sha256::digest(edited).into());
        let work = Work {
            text: Rc::from(text),
            plan,
            context: state.said.context,
            revision: Rc::clone(&state.revision),
            types: Rc::from(types),
            sent,
        };
        Judged::Go(Rc::new(work), edited)
    }

    /// Why the session's own state refuses a plan that the policy allows.
    pub(super) fn refusal(&self, plan: &CachedPlan, names: bool) -> Option<ErrorFields> {
        if self.is_governed(plan)
            && let Some(reason) = self.core.audit.unwritable()
        {
            return Some(spool_refusal(&reason));
        }
        if self.state().said.level > 0 && plan.names_ours() {
            return Some(reserved_name());
        }
        if !names {
            return None;
        }
        let state = self.state();
        let shared = self.shared.borrow();
        if shared.dirty && plan.plan.statements.len() > 1 {
            return Some(
                ErrorFields::error(
                    "25P02",
                    "current transaction is aborted, several statements in one message are refused",
                )
                .hint("Send ROLLBACK alone first."),
            );
        }
        if plan.plan.settled && (shared.transaction_dirty || shared.dirty) {
            return Some(unsettled());
        }
        shared
            .names
            .refusal(&plan.plan, state.said.context, &state.revision)
    }

    fn is_governed(&self, plan: &CachedPlan) -> bool {
        let shared = self.shared.borrow();
        plan.plan.statements.iter().any(|statement| {
            let effects = statement.effects.as_ref().filter(|_| plan.names);
            statement.governed || effects.is_some_and(|effects| shared.names.runs_governed(effects))
        })
    }

    fn edit(&self, text: &[u8], plan: &CachedPlan) -> Result<Vec<u8>, ErrorFields> {
        let edits: Vec<Edit> = all_edits(plan);
        let scanner = self.scanner.borrow();
        let mut edited = Vec::with_capacity(text.len() * 2);
        splice(text, scanner.tokens(), &edits, &mut edited).map_err(|error| {
            ErrorFields::error(
                "XX000",
                format!("the plan does not fit the statement: {error}"),
            )
        })?;
        Ok(edited)
    }
}

/// The edits of all statements of a text.
pub fn all_edits(plan: &CachedPlan) -> Vec<Edit> {
    plan.plan
        .statements
        .iter()
        .flat_map(|statement| statement.edits.iter().cloned())
        .collect()
}

/// The first denial of a plan, with the facts of every statement that is denied.
fn denial(plan: &CachedPlan) -> Option<Denied> {
    let fields = plan
        .plan
        .statements
        .iter()
        .find_map(|statement| statement.denial.clone())?;
    let denied = plan
        .plan
        .statements
        .iter()
        .zip(&plan.facts)
        .filter(|(statement, _)| statement.denial.is_some());
    Some(Denied {
        fields,
        facts: denied.map(|(_, facts)| facts.clone()).collect(),
    })
}

fn cancelled() -> ErrorFields {
    ErrorFields::error("57014", "canceling statement due to user request")
}

/// The end of a transaction puts back what it changed, and what follows was judged without knowing that.
fn unsettled() -> ErrorFields {
    ErrorFields::error(
        "0A000",
        "statement not supported by Sluice: a statement behind the end of a transaction that changed the session, in one message",
    )
    .detail("The transaction made or dropped tables or changed search_path, and what its end leaves of that is not known yet.")
    .hint("Send what follows COMMIT or ROLLBACK in a message of its own.")
}

/// Governed statements need a record.
pub fn spool_refusal(reason: &str) -> ErrorFields {
    ErrorFields::error(
        "57P03",
        format!("the audit spool cannot be written: {reason}"),
    )
    .hint("Governed statements are refused until it is; free its volume or raise its size.")
}
