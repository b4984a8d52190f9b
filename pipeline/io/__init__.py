"""Codecs: arrays, tables, whole files, images, downloads."""
