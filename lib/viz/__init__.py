"""Pictures of tracking: boxes on frames, videos, plots, self-contained pages."""

from lib.viz.draw import BoxMark, draw_boxes, draw_caption, fit, side_by_side
from lib.viz.page import Page, Player, Track, flat_items, jpeg, table_html
from lib.viz.palette import TRUTH, colour
from lib.viz.plots import Line, curve_plot, inline_svg, level_plot, radar_plot, save, training_plot
from lib.viz.table import Cell, Column, Table
from lib.viz.video import VideoWriter
from lib.viz.window import draw_box_with_mouse, require_display, show
