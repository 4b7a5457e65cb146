"""Templates of the pages that the data tools write, and what fills them in."""
