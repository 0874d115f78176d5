"""The decision turned into edits of the text, limits and audit facts."""

from sluice_proxy.plan.making import deny_plan, make_plan, whole

__all__ = ["deny_plan", "make_plan", "whole"]
