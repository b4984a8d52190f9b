"""Metrics of label images, class maps and boxes, as pure functions on arrays."""
