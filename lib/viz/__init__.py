"""Images of tracking: boxes on frames, videos, plots, tables, self-contained pages."""

from lib.viz.draw import BoxMark, colour, draw_boxes, draw_caption, draw_frame, shrink
from lib.viz.page import Player, flat_texts, render_page
from lib.viz.plots import (
    PLOTS,
    Line,
    curve_plot,
    inline_svg,
    level_plot,
    radar_plot,
    save_figure,
    scatter_plot,
    training_plot,
)
from lib.viz.table import Cell, Column, Table
from lib.viz.video import VideoWriter, draw_box_with_mouse, require_display, show_frame, video_tracks, write_video
