"""The first promise of every tracker: row i of a batch gives the boxes that it gives alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lib.data import Frame
from lib.models.heads import Candidates
from lib.track import OneStreamTracker

MakeClip = Callable[[int, int, int, int], list[Frame]]


def leave_nothing_neutral(network: nn.Module) -> None:
    """Biases, scales and statistics of norms away from 0 and 1, so that leaving one out changes the output."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        for name, buffer in network.named_buffers():
            if "running_mean" in name:
                buffer.normal_(std=0.2)
            elif "running_var" in name:
                buffer.uniform_(0.5, 2.0)


def check_that_rows_know_nothing_of_each_other(track: OneStreamTracker, clip: MakeClip) -> None:
    """Three sequences of different sizes; the third one enters when the others have begun, all leave when they end.

    clip: seed, number of frames, height, width -> frames.
    """
    clips = [clip(1, 5, 90, 120), clip(2, 5, 70, 160), clip(3, 5, 128, 96)]
    start = torch.tensor([[30.0, 20.0, 25.0, 30.0], [60.0, 15.0, 18.0, 22.0], [10.0, 40.0, 40.0, 20.0]])

    def alone(i: int) -> torch.Tensor:
        state = track.init(clips[i][:1], start[i : i + 1])
        found = []
        for frame in clips[i][1:]:
            state, prediction = track.step(state, [frame])
            found.append(prediction.boxes_xywh[0])
        return torch.stack(found)

    together: list[list[torch.Tensor]] = [[], [], []]
    state = track.init([clips[0][0], clips[1][0]], start[:2])
    rows, position = [0, 1], {0: 1, 1: 1, 2: 1}
    for step in range(5):
        if step == 1:
            state = type(state).cat([state, track.init(clips[2][:1], start[2:])])
            rows = [*rows, 2]
        state, prediction = track.step(state, [clips[r][position[r]] for r in rows])
        for i, r in enumerate(rows):
            together[r].append(prediction.boxes_xywh[i])
            position[r] += 1
        left = [i for i, r in enumerate(rows) if position[r] < 5]
        if not left:
            break
        state, rows = state.select(left), [rows[i] for i in left]
    for i in range(3):
        torch.testing.assert_close(torch.stack(together[i]), alone(i), rtol=1e-4, atol=1e-2)

    firsts, places = [c[0] for c in clips], start.double()
    moved = track.move_to(track.init(firsts, start + torch.tensor([9.0, 7.0, 5.0, 3.0])), places)
    there, here = (track.crop_search(state, firsts) for state in (moved, track.init(firsts, places)))
    assert torch.equal(there.crops, here.crops), "a target that was moved is searched where one that began there is"


def check_candidates(found: Candidates, expected: Candidates) -> None:
    """Scores, boxes and the head's own maps are equal up to rounding."""
    close = {"rtol": 2e-4, "atol": 2e-5}
    torch.testing.assert_close(found.scores, expected.scores, **close)
    torch.testing.assert_close(found.boxes, expected.boxes, **close)
    assert found.maps.keys() == expected.maps.keys()
    for name, value in expected.maps.items():
        torch.testing.assert_close(found.maps[name], value, **close)
