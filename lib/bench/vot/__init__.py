"""The VOT toolkit: its result files, its workspaces, and the tracker it starts (`python -m lib.bench.vot`)."""

from lib.bench.result_files import format_values, is_trajectory, read_marks, read_regions, read_values
from lib.bench.vot.adapter import AdapterOptions, main
from lib.bench.vot.workspace import (
    VotWorkspace,
    WorkspaceError,
    anchor_problems,
    find_sequences,
    link_results,
    link_sequences,
    open_workspace,
    toolkit_problem,
    write_tracker,
)
