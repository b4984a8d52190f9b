"""The HTML report: its figures, images and page."""
