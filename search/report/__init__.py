"""A study as one self-contained page, and its front as a picture."""

from search.report.page import render
from search.report.picture import picture

__all__ = ["picture", "render"]
