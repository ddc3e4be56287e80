"""Run configurations: YAML with includes, environment variables and overrides, checked by sections that the rooms own."""

from archsearch.config.editor_schema import schema
from archsearch.config.loading import Config, from_snapshot, from_values, load, parse_override, without
from archsearch.config.portable import left_open, portable_text, without_secrets
from archsearch.config.secrets import masked
from archsearch.config.section import Duration, Section, Size, parse_duration
from archsearch.config.tree import plain

__all__ = [
    "Config",
    "Duration",
    "Section",
    "Size",
    "from_snapshot",
    "from_values",
    "left_open",
    "load",
    "masked",
    "parse_duration",
    "parse_override",
    "plain",
    "portable_text",
    "schema",
    "without",
    "without_secrets",
]
