"""Scenes whose content is known exactly: drawing them, speaking of them, checking what is said."""
