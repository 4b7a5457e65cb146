"""The commands of `mmrlhf data`, one a file; `data_tools.cli` lists them."""
