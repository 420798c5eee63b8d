"""The charts of every report: each is described once and drawn by matplotlib, as SVG for the page, as PNG for a file.

`lines`, `dots` and `clouds` describe and draw one kind of chart each, on a `sheet` that is measured in CSS pixels.
"""
