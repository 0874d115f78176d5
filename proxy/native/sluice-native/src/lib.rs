//! The Python binding: `sluice_proxy._native`.
use pyo3::prelude::*;

mod errors;
mod plane;
mod plans;
mod requests;
mod sessions;
mod tls;
mod tokens;

#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;
    use pyo3::types::PyTuple;

    #[pymodule_export]
    use super::errors::{Denial, ErrorFields};
    #[pymodule_export]
    use super::plane::{DataPlane, SpoolStatus};
    #[pymodule_export]
    use super::plans::{CatalogChecked, Effects, Plan, PlannedStatement};
    #[pymodule_export]
    use super::requests::{
        CatalogCheckRequest, PlanRequest, SessionClosed, SessionOpenRequest, SessionStateRequest,
    };
    #[pymodule_export]
    use super::sessions::{Scrub, SessionAdmission, SessionState};
    #[pymodule_export]
    use super::tls::{ClientTls, UpstreamTls};
    #[pymodule_export]
    use super::tokens::{Edit, Token, apply_edits, template, tokens};
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let kinds = PyTuple::new(module.py(), sluice_wire::scan::TOKEN_KINDS)?;
        module.add("TOKEN_KINDS", kinds)
    }
}
