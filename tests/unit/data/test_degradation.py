"""Frames as worse sensors would give them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.data import Corruption, Degradation, Frame
from tests.unit.data.tiny import TinyDataset

RGBX = TinyDataset(aux=True, frames=40)


def frames_of(how: Degradation, sequence: int = 0, starts=(0,)) -> list[Frame]:
    degraded = how.apply(RGBX[sequence], starts)
    return [degraded.read_frame(i) for i in range(len(degraded))]


def black(frames: list[Frame]) -> set[int]:
    return {i for i, f in enumerate(frames) if not f.aux.any()}


def test_dropped_frames_follow_from_seed_name_and_number_and_grow_with_the_rate():
    few, many = (black(frames_of(Degradation("aux", rate))) for rate in (0.3, 0.7))
    assert 4 <= len(few) < len(many) < 36
    assert few < many
    assert black(frames_of(Degradation("aux", 0.3))) == few
    assert black(frames_of(Degradation("aux", 0.3, seed=1))) != few
    assert black(frames_of(Degradation("aux", 0.3), sequence=1)) != few
    plain = RGBX[0].read_frame(7)
    assert all(np.array_equal(f.rgb, RGBX[0].read_frame(i).rgb) for i, f in enumerate(frames_of(Degradation("aux"))))
    assert np.array_equal(frames_of(Degradation("rgb"))[7].aux, plain.aux)
    assert not frames_of(Degradation("rgb"))[7].rgb.any()


def test_the_frame_that_tracking_starts_on_is_spared_unless_the_modality_does_not_exist():
    nearly = black(frames_of(Degradation("aux", 0.99), starts=(0, 20)))
    assert {0, 20}.isdisjoint(nearly)
    assert black(frames_of(Degradation("aux", 1.0))) == set(range(40))
    noisy = frames_of(Degradation(corruptions=(Corruption("noise", 0.2),)), starts=(3,))
    clean = [np.array_equal(f.rgb, RGBX[0].read_frame(i).rgb) for i, f in enumerate(noisy)]
    assert [i for i, same in enumerate(clean) if same] == [3]


def test_repeat_shows_the_last_picture_that_was_there():
    lost = black(frames_of(Degradation("aux", 0.5)))
    shown = frames_of(Degradation("aux", 0.5, fill="repeat"))
    last = 0
    for i, frame in enumerate(shown):
        last = last if i in lost else i
        assert np.array_equal(frame.aux, RGBX[0].read_frame(last).aux), i


def test_occlusion_covers_its_share_of_the_named_picture_and_wanders():
    shown = frames_of(Degradation(corruptions=(Corruption("occlusion", 0.25, "rgb"),)))
    masks = [(f.rgb == 127).all(axis=2) for f in shown]
    assert masks[9].mean() == pytest.approx(0.25, abs=0.02)
    assert not np.array_equal(masks[9], masks[39])
    assert np.array_equal(shown[9].aux, RGBX[0].read_frame(9).aux)


def test_noise_has_its_strength():
    flat = TinyDataset(aux=True)[0]
    grey = np.full((60, 80, 3), 127, np.uint8)
    how = Degradation(corruptions=(Corruption("noise", 0.1),))
    frame = how.apply(replace(flat, read_frame=lambda i: Frame(grey, grey))).read_frame(2)
    assert frame.rgb.astype(float).std() == pytest.approx(25.5, rel=0.05)
    assert not np.array_equal(frame.rgb, frame.aux)


def test_labels_are_folder_names_and_nothing_has_none():
    how = Degradation("aux", 0.5, "repeat", (Corruption.parse("noise:0.3:rgb"), Corruption.parse("occlusion:0.4")), 2)
    assert how.label == "drop-aux-0.5-repeat_noise-0.3-rgb_occlusion-0.4_seed2"
    nothing = Degradation("aux", 0.0, corruptions=(Corruption("noise", 0.0),), seed=5)
    assert (nothing.label, nothing.is_none) == ("", True)
    assert nothing.apply(sequence := RGBX[0]) is sequence


@pytest.mark.parametrize("text", ["noise", "noise:x", "noise:2", "noise:0.1:depth"])
def test_what_cannot_be_understood_is_refused(text):
    with pytest.raises(ValueError, match="noise"):
        Corruption.parse(text)


def test_unknown_names_are_answered():
    with pytest.raises(ValueError, match="did you mean 'occlusion'"):
        Corruption.parse("oclusion:0.4")
    with pytest.raises(ValueError, match="rgb or aux can be dropped"):
        Degradation("depth")


def test_a_sequence_without_a_second_picture_is_an_error():
    with pytest.raises(ValueError, match="no second picture"):
        Degradation("aux").apply(TinyDataset()[0]).read_frame(1)


@pytest.mark.parametrize(
    ("drop", "rate", "fill", "corrupt", "message"),
    [
        (None, 0.5, "black", [], "--drop_rate says how --drop rgb or --drop aux is done"),
        (None, 1.0, "repeat", [], "--drop_fill says how --drop rgb or --drop aux is done"),
        ("aux", 0.5, "black", ["noise:0.3:aux:rgb"], "'noise:0.3:aux:rgb': expected KIND:STRENGTH"),
    ],
)
def test_options_that_would_be_left_unread_are_refused(
    drop: str | None, rate: float, fill: str, corrupt: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Degradation.parse(drop, rate, fill, corrupt, 0)
