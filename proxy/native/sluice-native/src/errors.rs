//! Errors as a client sees them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sluice_dataplane::model;

/// See `_native.pyi`.
#[pyclass(frozen, eq, module = "sluice_proxy._native")]
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorFields(pub(crate) model::ErrorFields);

#[pymethods]
impl ErrorFields {
    #[new]
    #[pyo3(signature = (*, sqlstate, message, detail=None, hint=None, severity="ERROR"))]
    fn new(
        sqlstate: String,
        message: String,
        detail: Option<String>,
        hint: Option<String>,
        severity: &str,
    ) -> PyResult<Self> {
        if sqlstate.len() != 5 {
            return Err(PyValueError::new_err(format!(
                "not an SQLSTATE: {sqlstate:?}"
            )));
        }
        let severity = severity.to_owned();
        Ok(Self(model::ErrorFields {
            severity,
            sqlstate,
            message,
            detail,
            hint,
        }))
    }

    #[getter]
    fn sqlstate(&self) -> &str {
        &self.0.sqlstate
    }

    #[getter]
    fn message(&self) -> &str {
        &self.0.message
    }

    #[getter]
    fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    #[getter]
    fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    #[getter]
    fn severity(&self) -> &str {
        &self.0.severity
    }

    fn __repr__(&self) -> String {
        format!(
            "ErrorFields(sqlstate={:?}, message={:?})",
            self.0.sqlstate, self.0.message
        )
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct Denial(pub(crate) Py<ErrorFields>);

#[pymethods]
impl Denial {
    #[new]
    const fn new(error: Py<ErrorFields>) -> Self {
        Self(error)
    }

    #[getter]
    fn error(&self, python: Python<'_>) -> Py<ErrorFields> {
        self.0.clone_ref(python)
    }
}
