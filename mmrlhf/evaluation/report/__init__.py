"""The report of a run: one HTML file that holds everything, and the short table for the terminal."""

from mmrlhf.evaluation.report.page import write_report
from mmrlhf.evaluation.report.summary import summary_table

__all__ = ["summary_table", "write_report"]
