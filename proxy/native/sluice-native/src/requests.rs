//! What the brain is asked.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use sluice_dataplane::model;

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct SessionOpenRequest(model::OpenRequest);

#[pymethods]
impl SessionOpenRequest {
    #[getter]
    const fn id(&self) -> u64 {
        self.0.id
    }

    #[getter]
    const fn session(&self) -> u64 {
        self.0.session
    }

    #[getter]
    fn listener(&self) -> &str {
        &self.0.listener
    }

    #[getter]
    fn database(&self) -> &str {
        &self.0.database
    }

    #[getter]
    fn user(&self) -> &str {
        &self.0.user
    }

    #[getter]
    fn parameters<'py>(&self, python: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(python, self.0.parameters.clone())
    }

    #[getter]
    fn peer(&self) -> &str {
        &self.0.peer
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct SessionStateRequest(model::StateRequest);

#[pymethods]
impl SessionStateRequest {
    #[getter]
    const fn id(&self) -> u64 {
        self.0.id
    }

    #[getter]
    const fn session(&self) -> u64 {
        self.0.session
    }

    #[getter]
    const fn reason(&self) -> &'static str {
        self.0.reason
    }

    #[getter]
    fn probe_row<'py>(&self, python: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(row) = &self.0.probe_row else {
            return Ok(None);
        };
        let fields = row
            .iter()
            .map(|field| field.as_ref().map(|value| PyBytes::new(python, value)));
        Ok(Some(PyTuple::new(python, fields.collect::<Vec<_>>())?))
    }

    #[getter]
    fn parameter_status<'py>(&self, python: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(python, self.0.parameter_status.clone())
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct PlanRequest(model::PlanRequest);

#[pymethods]
impl PlanRequest {
    #[getter]
    const fn id(&self) -> u64 {
        self.0.id
    }

    #[getter]
    const fn session(&self) -> u64 {
        self.0.session
    }

    #[getter]
    const fn context(&self) -> u64 {
        self.0.context
    }

    #[getter]
    fn text<'py>(&self, python: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(python, &self.0.text)
    }

    #[getter]
    const fn simple(&self) -> bool {
        self.0.simple
    }

    #[getter]
    fn parameter_types<'py>(&self, python: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(python, &self.0.parameter_types)
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct CatalogCheckRequest(model::CatalogRequest);

#[pymethods]
impl CatalogCheckRequest {
    #[getter]
    const fn id(&self) -> u64 {
        self.0.id
    }

    #[getter]
    const fn session(&self) -> u64 {
        self.0.session
    }

    #[getter]
    const fn context(&self) -> u64 {
        self.0.context
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct SessionClosed {
    #[pyo3(get)]
    session: u64,
}

/// The request as a Python value.
pub fn as_python(python: Python<'_>, request: model::Request) -> PyResult<Py<PyAny>> {
    Ok(match request {
        model::Request::Open(request) => Py::new(python, SessionOpenRequest(request))?.into_any(),
        model::Request::State(request) => Py::new(python, SessionStateRequest(request))?.into_any(),
        model::Request::Plan(request) => Py::new(python, PlanRequest(request))?.into_any(),
        model::Request::Catalog(request) => {
            Py::new(python, CatalogCheckRequest(request))?.into_any()
        }
        model::Request::Closed(session) => Py::new(python, SessionClosed { session })?.into_any(),
    })
}
