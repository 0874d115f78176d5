"""From policy files to signed OPA bundles. Pure but for reading the directory."""

from sluice_policy.bundles import bundle
from sluice_policy.compiler import (
    Compiled,
    Judged,
    Profile,
    compile_profile,
    content_revision,
    judge,
)
from sluice_policy.keys import SigningKey
from sluice_policy.loader import Loaded, load_directory
from sluice_policy.opening import opened, signing_key_id
from sluice_policy.problems import Problem
from sluice_policy.resources import Resource

__all__ = [
    "Compiled",
    "Judged",
    "Loaded",
    "Problem",
    "Profile",
    "Resource",
    "SigningKey",
    "bundle",
    "compile_profile",
    "content_revision",
    "judge",
    "load_directory",
    "opened",
    "signing_key_id",
]
