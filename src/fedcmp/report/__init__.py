"""What people look at: tables, figures, one HTML page. Reads a run's files only, imports none of the machinery."""

from fedcmp.report.summary import summary_table
from fedcmp.report.writing import render_markdown, write_report
from fedcmp.runs.reading import Run, load_runs

__all__ = ["Run", "load_runs", "render_markdown", "summary_table", "write_report"]
