//! The data plane's handle.

use crate::errors::ErrorFields;
use crate::plans::{CatalogChecked, Plan};
use crate::requests::as_python;
use crate::sessions::{SessionAdmission, SessionState};
use crate::tls::ClientTls;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use sluice_dataplane::Plane;
use sluice_dataplane::model::{Config, Reply, Source};
use sluice_dataplane::spool::Status;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct SpoolStatus(Status);

#[pymethods]
impl SpoolStatus {
    #[getter]
    const fn writable(&self) -> bool {
        self.0.error.is_none()
    }

    #[getter]
    fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    #[getter]
    const fn records(&self) -> u64 {
        self.0.records
    }

    #[getter]
    fn head(&self) -> &str {
        &self.0.head
    }

    #[getter]
    fn incarnation(&self) -> &str {
        &self.0.incarnation
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct DataPlane(Plane);

#[pymethods]
impl DataPlane {
    #[new]
    #[pyo3(signature = (
        *, spool_directory, spool_bytes_max=1 << 30, segment_bytes_max=16 << 20, sessions_max=1000,
        statement_bytes_max=16 << 20, frame_bytes_max=256 << 20, queue_max=1024, cache_entries_max=10_000,
        connect_timeout_s=10.0, startup_timeout_s=60.0, brain_timeout_s=30.0, resolver="system",
        resolv_conf=PathBuf::from("/etc/resolv.conf")
    ))]
    #[expect(clippy::too_many_arguments)] // The contract's fields.
    fn new(
        python: Python<'_>,
        spool_directory: String,
        spool_bytes_max: u64,
        segment_bytes_max: u64,
        sessions_max: usize,
        statement_bytes_max: usize,
        frame_bytes_max: usize,
        queue_max: usize,
        cache_entries_max: usize,
        connect_timeout_s: f64,
        startup_timeout_s: f64,
        brain_timeout_s: f64,
        resolver: &str,
        resolv_conf: PathBuf,
    ) -> PyResult<Self> {
        let names = match resolver {
            "system" => Source::System,
            "dns" => Source::Dns(resolv_conf),
            other => {
                return Err(PyValueError::new_err(format!(
                    "resolver must be system or dns, not {other:?}"
                )));
            }
        };
        let config = Config {
            spool_directory,
            spool_bytes_max,
            segment_bytes_max,
            sessions_max,
            statement_bytes_max,
            frame_bytes_max,
            queue_max,
            cache_entries_max,
            connect_timeout_s,
            startup_timeout_s,
            brain_timeout_s,
            names,
        };
        Ok(Self(python.detach(|| Plane::start(config))?))
    }

    fn listen(&self, python: Python<'_>, name: String, address: String) -> PyResult<String> {
        Ok(python.detach(|| self.0.listen(name, address))?)
    }

    #[pyo3(signature = (listener, certificate))]
    fn present(&self, listener: String, certificate: Option<&Bound<'_, ClientTls>>) {
        let certificate = certificate.map(|certificate| Arc::clone(&certificate.get().0));
        self.0.present(listener, certificate);
    }

    fn event_fd(&self) -> i32 {
        self.0.event_fd()
    }

    fn requests(&self, python: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.0
            .requests()
            .into_iter()
            .map(|request| as_python(python, request))
            .collect()
    }

    fn complete(&self, request_id: u64, answer: &Bound<'_, PyAny>) -> PyResult<()> {
        let reply = if let Ok(plan) = answer.cast::<Plan>() {
            Reply::Plan(plan.get().0.clone())
        } else if let Ok(state) = answer.cast::<SessionState>() {
            Reply::State(state.get().0.clone())
        } else if let Ok(fields) = answer.cast::<ErrorFields>() {
            Reply::Error(fields.get().0.clone())
        } else if let Ok(checked) = answer.cast::<CatalogChecked>() {
            Reply::Catalog(checked.get().0)
        } else if let Ok(admission) = answer.cast::<SessionAdmission>() {
            Reply::Admission(admission.get().0.clone())
        } else {
            return Err(PyTypeError::new_err(
                "an answer is a SessionAdmission, SessionState, Plan, CatalogChecked or ErrorFields",
            ));
        };
        self.0.complete(request_id, reply);
        Ok(())
    }

    fn advance_epoch(&self) -> u64 {
        self.0.advance_epoch()
    }

    fn epoch_reached(&self) -> u64 {
        self.0.epoch_reached()
    }

    fn close_listener(&self, python: Python<'_>, address: String) -> bool {
        python.detach(|| self.0.close_listener(address))
    }

    fn stop_listening(&self, python: Python<'_>) {
        python.detach(|| self.0.stop_listening());
    }

    fn drain(&self, python: Python<'_>, seconds: f64) -> usize {
        let limit = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        python.detach(|| self.0.drain(limit))
    }

    fn stop(&self, python: Python<'_>) -> PyResult<()> {
        Ok(python.detach(|| self.0.stop())?)
    }

    fn spool_status(&self, python: Python<'_>) -> SpoolStatus {
        SpoolStatus(python.detach(|| self.0.spool_status()))
    }

    fn metrics(&self, python: Python<'_>) -> HashMap<&'static str, u64> {
        python.detach(|| self.0.metrics()).into_iter().collect()
    }
}
