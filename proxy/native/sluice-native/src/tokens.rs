//! Scanner and splices for Python: the same code as the data plane's, so that both count the same tokens.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sluice_wire::scan::{self, scan};
use sluice_wire::splice::{self, splice};
use sluice_wire::template::Scanner;

/// See `_native.pyi`.
#[pyclass(frozen, eq, module = "sluice_proxy._native")]
#[derive(PartialEq, Eq)]
pub struct Token {
    #[pyo3(get)]
    kind: u8,
    #[pyo3(get)]
    start: u32,
    #[pyo3(get)]
    end: u32,
}

#[pymethods]
impl Token {
    fn __repr__(&self) -> String {
        let name = scan::TOKEN_KINDS[usize::from(self.kind)];
        format!(
            "Token(kind={} ({name}), start={}, end={})",
            self.kind, self.start, self.end
        )
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, eq, module = "sluice_proxy._native")]
#[derive(PartialEq, Eq)]
pub struct Edit(pub(crate) splice::Edit);

#[pymethods]
impl Edit {
    #[new]
    fn new(start: u32, end: u32, replacement: &[u8]) -> Self {
        Self(splice::Edit {
            start,
            end,
            replacement: replacement.into(),
        })
    }

    #[getter]
    const fn start(&self) -> u32 {
        self.0.start
    }

    #[getter]
    const fn end(&self) -> u32 {
        self.0.end
    }

    #[getter]
    fn replacement<'py>(&self, python: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(python, &self.0.replacement)
    }

    fn __repr__(&self) -> String {
        let replacement = String::from_utf8_lossy(&self.0.replacement);
        format!("Edit({}, {}, {replacement:?})", self.0.start, self.0.end)
    }
}

/// See `_native.pyi`.
#[pyfunction]
pub fn tokens(sql: &[u8]) -> Vec<Token> {
    let mut found = Vec::new();
    scan(sql, &mut found);
    let token = |token: scan::Token| Token {
        kind: token.kind as u8,
        start: token.start,
        end: token.end,
    };
    found.into_iter().map(token).collect()
}

/// See `_native.pyi`.
#[pyfunction]
pub fn template<'py>(python: Python<'py>, sql: &[u8]) -> Bound<'py, PyBytes> {
    let mut scanner = Scanner::default();
    scanner.scan(sql);
    PyBytes::new(python, scanner.template())
}

/// See `_native.pyi`.
///
/// # Errors
///
/// `ValueError` when the edits do not fit the statement.
#[pyfunction]
#[expect(clippy::needless_pass_by_value)] // What PyO3 makes of a list.
pub fn apply_edits<'py>(
    python: Python<'py>,
    sql: &[u8],
    edits: Vec<PyRef<'py, Edit>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut found = Vec::new();
    scan(sql, &mut found);
    let edits: Vec<splice::Edit> = edits.iter().map(|edit| edit.0.clone()).collect();
    let mut edited = Vec::new();
    splice(sql, &found, &edits, &mut edited)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyBytes::new(python, &edited))
}
