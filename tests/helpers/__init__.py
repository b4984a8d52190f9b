"""What tests of several folders share: data, servers, and the workflow on a tiny demo."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
