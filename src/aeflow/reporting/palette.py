"""Colours and the width of all figures."""

from __future__ import annotations

# The green is about twice as light as the red, so that they differ without colour vision and in print.
NORMAL, ABNORMAL = "#2a9d5c", "#a5193a"
INK, MUTED, FAINT, PAPER = "#1d2733", "#5c6773", "#d9dee4", "#ffffff"
NEUTRAL = "#35608f"  # curves that belong to neither class
WIDTH = 9.0  # inches of a full-width figure: at the page's 900 px a point is a pixel and a half
