"""Structured logs of every process: one JSON object a line on standard error; constant events, facts as keys."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Final, TextIO

import structlog

LEVELS: Final = ("debug", "info", "warning", "error")


def configure(level: str, chatty: Iterable[str], stream: TextIO | None = None) -> None:
    """Send the product's own and the standard library's records through one JSON formatter.

    Args:
        level: One of LEVELS.
        chatty: Loggers of others that speak from warnings on only.
        stream: Where to; None is standard error.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(sort_keys=True),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in chatty:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
