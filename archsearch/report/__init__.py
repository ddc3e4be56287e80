"""What a run leaves for people: tables, pictures, the gallery of its frontier. Reads points, never the store itself."""

from archsearch.report.files import write_report
from archsearch.report.html import write_html
from archsearch.report.tables import COLUMNS, frontier_table
from archsearch.report.view import FrontierView, error_label, quantity, summary

__all__ = [
    "COLUMNS",
    "FrontierView",
    "error_label",
    "frontier_table",
    "quantity",
    "summary",
    "write_html",
    "write_report",
]
