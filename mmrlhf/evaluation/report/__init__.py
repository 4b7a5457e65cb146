"""The report of a run: one HTML file that holds everything, and the short tables for the terminal."""

from mmrlhf.evaluation.report.page import write_report
from mmrlhf.evaluation.report.reward_tables import reward_tables
from mmrlhf.evaluation.report.summary import summary_table

__all__ = ["reward_tables", "summary_table", "write_report"]
