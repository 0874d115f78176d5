"""GRANT and REVOKE, and owners: what a restricted session may give of what no policy speaks of."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.filtering import check_unfiltering
from sluice_proxy.facts.lasting import TABLES, changed, governed_refused
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.tree import Node, unwrap

GRANTED = {"OBJECT_TABLE": TABLES + "vmS", "OBJECT_SEQUENCE": "S"}


def grant(a: Analysis, body: Node) -> SessionEffects | None:
    """GRANT and REVOKE of named tables, views and sequences, and of USAGE of schemas."""
    a.kind = "grant" if body.get("is_grant") else "revoke"
    what = a.kind.upper()
    kind = body["objtype"]
    if body.get("targtype") != "ACL_TARGET_OBJECT":
        raise _refused(f"{what} of all in a schema")
    if kind == "OBJECT_SCHEMA":
        given = [unwrap(item)[1].get("priv_name") for item in body.get("privileges", ())]
        if given != ["usage"]:
            raise _refused(f"{what} of more than USAGE of a schema")
        a.actions.add("ddl.grant")
        names = {unwrap(item)[1].get("sval", "") for item in body["objects"]}
        # What search_path names is searched from the moment that it may be used.
        a.nameless = a.kind == "revoke" or names.isdisjoint(a.context.unsearched)
        return SessionEffects(refresh=True)
    if kind not in GRANTED:
        raise _refused(f"{what} of what is no table, view, sequence or schema")
    for item in body["objects"]:
        _, relation = unwrap(item)
        found = changed(a, relation, what, "ddl.grant", GRANTED[kind])
        check_unfiltering(a, found.schema, found.name, what)
        if found.temporary is not None and found.temporary.unread and found.schema != "pg_temp":
            raise governed_refused(f'{what} of "{found.name}"')
    return None


def _refused(what: str) -> Exception:
    return refused(
        f"permission denied for {what}",
        detail="GRANT and REVOKE work for named tables, views and sequences that no policy masks or filters, and for "
        "USAGE of schemas, where the policy has the action ddl.grant.",
        hint="Let the database's owner grant it; ALTER DEFAULT PRIVILEGES, set once, spares it.",
    )


def own(a: Analysis, role: Node) -> bool:
    """Say whether a new owner is the session's own role."""
    return role.get("rolename", a.context.role) == a.context.role and (
        role.get("roletype") != "ROLESPEC_PUBLIC"
    )


def only_owner(body: Node) -> bool:
    """Say whether ALTER changes nothing but owners."""
    return all(unwrap(item)[1].get("subtype") == "AT_ChangeOwner" for item in body["cmds"])
