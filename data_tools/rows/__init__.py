"""Rows out of files: JSON, JSON lines, and what else public data sets come in; see `data_tools.rows.open`."""
