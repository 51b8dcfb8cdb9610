"""Tasks, models under test, their scores, and how sure a difference is."""
