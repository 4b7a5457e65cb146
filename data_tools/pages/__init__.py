"""What every HTML page of the project is made of: one style sheet, templates, plots inside the page."""
