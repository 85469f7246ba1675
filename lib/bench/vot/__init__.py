"""The VOT toolkit: its result files, its workspaces, and the tracker it starts (`python -m lib.bench.vot`)."""

from lib.bench.trajectories import format_values, is_trajectory, read_regions, read_values, trajectory_file
from lib.bench.vot.adapter import Choice, main
from lib.bench.vot.workspace import (
    Workspace,
    WorkspaceError,
    link_results,
    link_sequences,
    open_workspace,
    write_tracker,
)
