//! What the brain answers about statements: frozen values.

use crate::errors::{Denial, ErrorFields};
use crate::tokens::Edit;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sluice_dataplane::model;
use std::sync::Arc;

/// See `_native.pyi`.
#[pyclass(frozen, eq, module = "sluice_proxy._native")]
#[derive(Clone, PartialEq, Eq)]
pub struct Effects(model::Effects);

#[pymethods]
impl Effects {
    #[new]
    #[pyo3(signature = (
        *, refresh=false, prepare=None, execute=None, deallocate=None, deallocate_all=false, declare=None,
        fetch=None, close_cursor=None, close_all_cursors=false
    ))]
    #[expect(clippy::too_many_arguments)] // The contract's fields.
    const fn new(
        refresh: bool,
        prepare: Option<String>,
        execute: Option<String>,
        deallocate: Option<String>,
        deallocate_all: bool,
        declare: Option<String>,
        fetch: Option<String>,
        close_cursor: Option<String>,
        close_all_cursors: bool,
    ) -> Self {
        Self(model::Effects {
            refresh,
            prepare,
            execute,
            deallocate,
            deallocate_all,
            declare,
            fetch,
            close_cursor,
            close_all_cursors,
        })
    }

    #[getter]
    const fn refresh(&self) -> bool {
        self.0.refresh
    }

    #[getter]
    fn prepare(&self) -> Option<&str> {
        self.0.prepare.as_deref()
    }

    #[getter]
    fn execute(&self) -> Option<&str> {
        self.0.execute.as_deref()
    }

    #[getter]
    fn deallocate(&self) -> Option<&str> {
        self.0.deallocate.as_deref()
    }

    #[getter]
    const fn deallocate_all(&self) -> bool {
        self.0.deallocate_all
    }

    #[getter]
    fn declare(&self) -> Option<&str> {
        self.0.declare.as_deref()
    }

    #[getter]
    fn fetch(&self) -> Option<&str> {
        self.0.fetch.as_deref()
    }

    #[getter]
    fn close_cursor(&self) -> Option<&str> {
        self.0.close_cursor.as_deref()
    }

    #[getter]
    const fn close_all_cursors(&self) -> bool {
        self.0.close_all_cursors
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
#[derive(Clone)]
pub struct PlannedStatement(model::PlannedStatement);

#[pymethods]
impl PlannedStatement {
    #[new]
    #[pyo3(signature = (
        *, tokens, audit, edits=None, denial=None, effects=None, notices=None, rows_max=None, seconds_max=None,
        governed=false, hidden_columns=Vec::new(), catalog_check="none"
    ), text_signature = "(*, tokens, audit, edits=None, denial=None, effects=None, notices=None, rows_max=None, seconds_max=None, governed=False, hidden_columns=(), catalog_check='none')")]
    #[expect(clippy::too_many_arguments, clippy::needless_pass_by_value)] // The contract's fields; what PyO3 makes of lists.
    fn new(
        python: Python<'_>,
        tokens: (u32, u32),
        audit: &[u8],
        edits: Option<Vec<PyRef<'_, Edit>>>,
        denial: Option<PyRef<'_, Denial>>,
        effects: Option<PyRef<'_, Effects>>,
        notices: Option<Vec<ErrorFields>>,
        rows_max: Option<u64>,
        seconds_max: Option<f64>,
        governed: bool,
        hidden_columns: Vec<u32>,
        catalog_check: &str,
    ) -> PyResult<Self> {
        let catalog_check = match catalog_check {
            "none" => model::CatalogCheck::None,
            "answer" => model::CatalogCheck::Answer,
            "sending" => model::CatalogCheck::Sending,
            other => {
                return Err(PyValueError::new_err(format!(
                    "catalog_check must be none, answer or sending, not {other:?}"
                )));
            }
        };
        if !hidden_columns.is_empty() {
            return Err(PyValueError::new_err(
                "hidden_columns is reserved and must be empty",
            ));
        }
        let edits = edits
            .unwrap_or_default()
            .iter()
            .map(|edit| edit.0.clone())
            .collect();
        let denial = denial.map(|denial| Arc::new(denial.0.borrow(python).0.clone()));
        let notices = notices
            .unwrap_or_default()
            .into_iter()
            .map(|notice| notice.0);
        Ok(Self(model::PlannedStatement {
            tokens,
            audit: audit.to_vec(),
            edits,
            denial,
            effects: effects.map(|effects| effects.0.clone()),
            notices: notices.map(as_notice).collect(),
            rows_max,
            seconds_max,
            governed,
            catalog_check,
        }))
    }

    #[getter]
    const fn tokens(&self) -> (u32, u32) {
        self.0.tokens
    }

    #[getter]
    fn audit<'py>(&self, python: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(python, &self.0.audit)
    }

    #[getter]
    const fn governed(&self) -> bool {
        self.0.governed
    }

    #[getter]
    const fn catalog_check(&self) -> &'static str {
        match self.0.catalog_check {
            model::CatalogCheck::None => "none",
            model::CatalogCheck::Answer => "answer",
            model::CatalogCheck::Sending => "sending",
        }
    }

    #[getter]
    fn edits(&self) -> Vec<Edit> {
        self.0.edits.iter().cloned().map(Edit).collect()
    }

    #[getter]
    fn denial(&self, python: Python<'_>) -> PyResult<Option<Denial>> {
        let fields = self.0.denial.as_deref();
        fields
            .map(|fields| Ok(Denial(Py::new(python, ErrorFields(fields.clone()))?)))
            .transpose()
    }

    #[getter]
    fn effects(&self) -> Option<Effects> {
        self.0.effects.clone().map(Effects)
    }

    #[getter]
    fn notices(&self) -> Vec<ErrorFields> {
        self.0.notices.iter().cloned().map(ErrorFields).collect()
    }

    #[getter]
    const fn rows_max(&self) -> Option<u64> {
        self.0.rows_max
    }

    #[getter]
    const fn seconds_max(&self) -> Option<f64> {
        self.0.seconds_max
    }
}

/// An error's severity would end the statement.
fn as_notice(mut fields: model::ErrorFields) -> model::ErrorFields {
    if fields.severity != "WARNING" {
        "NOTICE".clone_into(&mut fields.severity);
    }
    fields
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct Plan(pub(crate) model::Plan);

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (*, statements, cache="none", bound=Vec::new(), valid_until_ns=None, revision=String::new(), settled=false), text_signature = "(*, statements, cache='none', bound=(), valid_until_ns=None, revision='', settled=False)")]
    fn new(
        statements: Vec<PlannedStatement>,
        cache: &str,
        bound: Vec<u32>,
        valid_until_ns: Option<u64>,
        revision: String,
        settled: bool,
    ) -> PyResult<Self> {
        let keep = match cache {
            "template" => model::Keep::Template,
            "exact" => model::Keep::Exact,
            "none" => model::Keep::None,
            other => {
                return Err(PyValueError::new_err(format!(
                    "cache must be template, exact or none, not {other:?}"
                )));
            }
        };
        let statements = statements
            .into_iter()
            .map(|statement| statement.0)
            .collect();
        Ok(Self(model::Plan {
            statements,
            keep,
            bound,
            valid_until_ns,
            revision,
            settled,
        }))
    }

    #[getter]
    fn statements(&self) -> Vec<PlannedStatement> {
        self.0
            .statements
            .iter()
            .cloned()
            .map(PlannedStatement)
            .collect()
    }

    #[getter]
    const fn cache(&self) -> &'static str {
        match self.0.keep {
            model::Keep::Template => "template",
            model::Keep::Exact => "exact",
            model::Keep::None => "none",
        }
    }

    #[getter]
    fn bound<'py>(&self, python: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(python, &self.0.bound)
    }

    #[getter]
    const fn valid_until_ns(&self) -> Option<u64> {
        self.0.valid_until_ns
    }

    #[getter]
    fn revision(&self) -> &str {
        &self.0.revision
    }

    #[getter]
    const fn settled(&self) -> bool {
        self.0.settled
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct CatalogChecked(pub(crate) bool);

#[pymethods]
impl CatalogChecked {
    #[new]
    #[pyo3(signature = (*, same))]
    const fn new(same: bool) -> Self {
        Self(same)
    }

    #[getter]
    const fn same(&self) -> bool {
        self.0
    }
}
