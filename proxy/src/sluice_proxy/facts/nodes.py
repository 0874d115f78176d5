"""What becomes of each node type of PostgreSQL's parser in a restricted session.

The statements' refusals are taken from here; ``docs/reference/statements.md`` is generated from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["rewritten", "allowed", "limited", "denied"]


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a node is treated, and why, as a sentence."""

    how: How
    why: str


def _each(how: How, notes: dict[str, str]) -> dict[str, Treatment]:
    return {name: Treatment(how, why) for name, why in notes.items()}


def _all(why: str, names: tuple[str, ...]) -> dict[str, Treatment]:
    return dict.fromkeys(names, Treatment("denied", why))


_OBJECTS = (
    "It makes or changes objects that other sessions use, in ways that Sluice does not judge."
)
_CODE = "It makes or runs code that Sluice cannot judge."
_ROLES = "It changes roles, rights or policies."
_SERVER = "It reaches servers, files or replication beyond this database."
_UPKEEP = "It is upkeep of the whole database, and tells of what is stored."
_NONE = "It is no statement of its own."

STATEMENTS: dict[str, Treatment] = {
    **_each(
        "rewritten",
        {
            "SelectStmt": (
                "SELECT, VALUES, TABLE and set operations: each governed relation becomes its masked, filtered "
                "projection. INTO makes tables as CREATE TABLE AS does."
            ),
            "InsertStmt": (
                "New rows are held against the row filter, RETURNING shows masks, ON CONFLICT is held as "
                "UPDATE."
            ),
            "UpdateStmt": (
                "Row filters are added, masks that come back are not written, new rows are held against the "
                "filter; a masked column of the target may decide nothing."
            ),
            "DeleteStmt": (
                "Row filters are added; a masked column of the target may decide nothing; RETURNING shows "
                "masks."
            ),
            "MergeStmt": "As INSERT, UPDATE and DELETE; rows that are hidden match nothing.",
            "CopyStmt": (
                "COPY … TO STDOUT becomes COPY of the projection; FROM STDIN is held against the row filter. "
                "Files, programs and other encodings are denied."
            ),
            "CreateTableAsStmt": "The query inside is rewritten; tables that are not temporary need ddl.create.",
            "DeclareCursorStmt": "The query inside is rewritten.",
            "PrepareStmt": "The query inside is rewritten.",
        },
    ),
    **_each(
        "allowed",
        {
            "TransactionStmt": "But for two-phase commit.",
            "VariableShowStmt": "Settings that hold no secret.",
            "ClosePortalStmt": "CLOSE.",
            "DeallocateStmt": "DEALLOCATE.",
            "DiscardStmt": "DISCARD.",
            "ExecuteStmt": "What was prepared under the policy and the state that hold now.",
            "FetchStmt": "FETCH and MOVE, while the cursor's policy holds.",
            "UnlistenStmt": "UNLISTEN.",
            "ConstraintsSetStmt": "SET CONSTRAINTS.",
        },
    ),
    **_each(
        "limited",
        {
            "VariableSetStmt": "Settings on a list; not what changes how text is read, who asks or what is logged.",
            "ExplainStmt": "Of statements that read no governed relation.",
            "CallStmt": "Trusted procedures.",
            "DoStmt": (
                "Blocks that hold definitions only, each judged as if sent by itself, behind IF EXISTS over catalogs "
                "too, and that catch nothing but that they are there already, or not there."
            ),
            "ListenStmt": "Trusted channels.",
            "NotifyStmt": "Trusted channels.",
            "LockStmt": (
                "ACCESS SHARE, ROW SHARE and ROW EXCLUSIVE of every table; stronger modes of tables that are not "
                "governed."
            ),
            "TruncateStmt": "Of tables without a row filter, where the policy allows it.",
            "VacuumStmt": (
                "VACUUM and ANALYZE of own temporary tables; of named others that are not governed where the policy "
                "has ddl.other."
            ),
            "CreateStmt": (
                "Temporary tables; others where the policy has ddl.create. No policy may mask or filter their parents, "
                "or what their foreign keys refer to."
            ),
            "CreateSeqStmt": "Temporary sequences; others where the policy has ddl.create.",
            "ViewStmt": (
                "Temporary views: the query inside is rewritten, the view is a security barrier, nothing is written "
                "through it, and a change of masks, filters or the catalog ends the session. Others over what is not "
                "governed where the policy has ddl.create."
            ),
            "RefreshMatViewStmt": "Of views that read nothing governed where the policy has ddl.other.",
            "CreateSchemaStmt": "For the own role, without what is to be in it, where the policy has ddl.create.",
            "CreateEnumStmt": "Where the policy has ddl.create.",
            "CompositeTypeStmt": "Where the policy has ddl.create.",
            "CreateDomainStmt": "Where the policy has ddl.create.",
            "AlterEnumStmt": (
                "ADD VALUE where the policy has ddl.alter; RENAME VALUE of types that no governed column has."
            ),
            "GrantStmt": (
                "Of named tables, views and sequences that are not governed, and of USAGE of schemas, where the policy "
                "has ddl.grant."
            ),
            "CreateExtensionStmt": "IF NOT EXISTS of one that is installed, which changes nothing.",
            "AlterTableStmt": "Own temporary tables; others that are not governed where the policy has ddl.alter.",
            "AlterObjectSchemaStmt": (
                "Of tables, views and sequences that are not governed, and of types that no governed column has, where "
                "the policy has ddl.alter."
            ),
            "AlterOwnerStmt": "Of types, to the own role, where the policy has ddl.alter.",
            "ClusterStmt": "Of named tables that are not governed where the policy has ddl.other.",
            "CreateStatsStmt": "Of tables that are not governed where the policy has ddl.create.",
            "ReindexStmt": "Of named tables and indexes that are not governed where the policy has ddl.other.",
            "AlterSeqStmt": "Own temporary sequences; others that are not governed where the policy has ddl.alter.",
            "CommentStmt": (
                "On own temporary tables, views and sequences; on others that are not governed, schemas, types and "
                "extensions where the policy has ddl.alter."
            ),
            "RenameStmt": (
                "Own temporary tables, views, indexes and sequences; others that are not governed and their columns, "
                "and types that no governed column has, where the policy has ddl.alter."
            ),
            "DropStmt": (
                "Own temporary tables and their indexes, views and sequences; others that are not governed, empty "
                "schemas and unused types where the policy has ddl.drop."
            ),
            "IndexStmt": "On own temporary tables; on others that are not governed where the policy has ddl.create.",
        },
    ),
    **_all(
        _OBJECTS,
        (
            "AlterCollationStmt",
            "AlterDomainStmt",
            "AlterObjectDependsStmt",
            "AlterStatsStmt",
            "AlterTSConfigurationStmt",
            "AlterTSDictionaryStmt",
            "AlterTypeStmt",
            "CreateRangeStmt",
            "DefineStmt",
            "ReplicaIdentityStmt",
            "RuleStmt",
            "SecLabelStmt",
        ),
    ),
    **_all(
        _CODE,
        (
            "AlterEventTrigStmt",
            "AlterExtensionContentsStmt",
            "AlterExtensionStmt",
            "AlterFunctionStmt",
            "AlterOpFamilyStmt",
            "AlterOperatorStmt",
            "CreateAmStmt",
            "CreateCastStmt",
            "CreateConversionStmt",
            "CreateEventTrigStmt",
            "CreateFunctionStmt",
            "CreateOpClassStmt",
            "CreateOpFamilyStmt",
            "CreatePLangStmt",
            "CreateTransformStmt",
            "CreateTrigStmt",
            "LoadStmt",
        ),
    ),
    **_all(
        _ROLES,
        (
            "AlterDefaultPrivilegesStmt",
            "AlterPolicyStmt",
            "AlterRoleSetStmt",
            "AlterRoleStmt",
            "CreatePolicyStmt",
            "CreateRoleStmt",
            "DropOwnedStmt",
            "DropRoleStmt",
            "GrantRoleStmt",
            "ReassignOwnedStmt",
        ),
    ),
    **_all(
        _SERVER,
        (
            "AlterDatabaseRefreshCollStmt",
            "AlterDatabaseSetStmt",
            "AlterDatabaseStmt",
            "AlterFdwStmt",
            "AlterForeignServerStmt",
            "AlterPublicationStmt",
            "AlterSubscriptionStmt",
            "AlterSystemStmt",
            "AlterTableMoveAllStmt",
            "AlterTableSpaceOptionsStmt",
            "AlterUserMappingStmt",
            "CreateFdwStmt",
            "CreateForeignServerStmt",
            "CreateForeignTableStmt",
            "CreatePublicationStmt",
            "CreateSubscriptionStmt",
            "CreateTableSpaceStmt",
            "CreateUserMappingStmt",
            "CreatedbStmt",
            "DropSubscriptionStmt",
            "DropTableSpaceStmt",
            "DropUserMappingStmt",
            "DropdbStmt",
            "ImportForeignSchemaStmt",
        ),
    ),
    **_all(
        _UPKEEP,
        ("CheckPointStmt",),
    ),
    **_all(
        _NONE,
        (
            "PLAssignStmt",
            "RawStmt",
            "ReturnStmt",
            "SetOperationStmt",
        ),
    ),
}
"""Every statement node."""

EXPRESSIONS: dict[str, Treatment] = {
    **_each(
        "allowed",
        {
            "A_ArrayExpr": "ARRAY[…].",
            "A_Const": "Literals; those that decide something are part of the plan's key.",
            "A_Expr": "PostgreSQL's own operators, and those of known extensions.",
            "A_Indirection": "Subscripts and fields; a name that could call a function is judged as one.",
            "BoolExpr": "AND, OR, NOT.",
            "BooleanTest": "IS TRUE and its kin.",
            "CaseExpr": "CASE.",
            "CoalesceExpr": "COALESCE.",
            "CollateClause": "PostgreSQL's own collations.",
            "GroupingFunc": "GROUPING().",
            "JsonArrayAgg": "JSON_ARRAYAGG.",
            "JsonArrayConstructor": "JSON_ARRAY.",
            "JsonArrayQueryConstructor": "JSON_ARRAY over a sub-select.",
            "JsonFuncExpr": "JSON_VALUE, JSON_QUERY, JSON_EXISTS.",
            "JsonIsPredicate": "IS JSON.",
            "JsonObjectAgg": "JSON_OBJECTAGG.",
            "JsonObjectConstructor": "JSON_OBJECT.",
            "JsonParseExpr": "JSON().",
            "JsonScalarExpr": "JSON_SCALAR.",
            "JsonSerializeExpr": "JSON_SERIALIZE.",
            "List": "A list, as behind IN.",
            "MergeSupportFunc": "merge_action().",
            "MinMaxExpr": "GREATEST and LEAST.",
            "NamedArgExpr": "name => value.",
            "NullTest": "IS NULL.",
            "ParamRef": "Parameters.",
            "RowExpr": "ROW(…).",
            "SQLValueFunction": "CURRENT_DATE and its kin.",
            "SetToDefault": "DEFAULT.",
            "SortBy": "ORDER BY, with PostgreSQL's own operators.",
            "SubLink": "Sub-selects, EXISTS, IN, ANY, ALL, ARRAY: rewritten inside.",
            "XmlExpr": "XMLELEMENT and its kin.",
            "XmlSerialize": "XMLSERIALIZE.",
        },
    ),
    **_each(
        "rewritten",
        {
            "ColumnRef": "Reads the projection; in RETURNING a masked column of the target becomes its mask.",
            "FuncCall": (
                "Functions on a list generated from the server's catalog, extensions' functions that are "
                "known, and trusted ones; what another schema on the path shadows is denied. Some are wrapped "
                "(sizes, definitions, settings)."
            ),
            "TypeCast": "To types that nothing shadows; names of other schemas' types are qualified.",
        },
    ),
}
"""Every expression node that a parser's tree can hold; others are denied."""

FROM_ITEMS: dict[str, Treatment] = {
    **_each(
        "rewritten",
        {
            "RangeVar": (
                "A governed relation gives way to its projection, every other is qualified; WITH queries and "
                "temporary tables are told apart."
            ),
            "RangeSubselect": "Rewritten inside; LATERAL too.",
        },
    ),
    **_each(
        "allowed",
        {
            "RangeFunction": "Functions as elsewhere; ROWS FROM and WITH ORDINALITY too.",
            "RangeTableFunc": "XMLTABLE.",
            "JsonTable": "JSON_TABLE, on servers that have it.",
        },
    ),
    **_each(
        "limited",
        {
            "JoinExpr": "All joins; but an equality of two columns whose masks show different values alike is denied.",
            "RangeTableSample": "TABLESAMPLE of relations that are not governed.",
        },
    ),
}
"""Every node that can stand in FROM."""
