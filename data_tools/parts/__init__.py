"""Records on their way through a build: as parts on disk, and what is known of each in columns."""
