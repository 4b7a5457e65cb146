"""Align vision-language models with human preferences, with the picture kept in the loop."""
