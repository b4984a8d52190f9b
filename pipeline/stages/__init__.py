"""The stages of the workflow: one file and one function per rule."""
