"""The HTML report: its figures, its pictures and its page."""
