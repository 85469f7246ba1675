"""The synthetic world: the same for everyone, its truth true, its second pictures worth something."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data import Modality
from synthetic import ATTRIBUTES, SyntheticDataset, SyntheticWorld, WorldCameras, WorldConfig, build_synthetic, fill
from tests.support.pictures import merged

SMALL = WorldConfig(width=160, height=120, length=40)


def test_same_seed_gives_same_pictures_in_any_order() -> None:
    forwards, backwards = SyntheticWorld(5, SMALL), SyntheticWorld(5, SMALL)
    one = [forwards.render(t) for t in range(0, 40, 13)]
    two = [backwards.render(t) for t in reversed(range(0, 40, 13))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert np.array_equal(forwards.truth.boxes_xywh, backwards.truth.boxes_xywh)
    assert not np.array_equal(one[0], SyntheticWorld(6, SMALL).render(0))


def test_boxes_fit_silhouettes() -> None:
    checked = 0
    for seed in range(12):
        world = SyntheticWorld(seed, SMALL)
        truth = world.truth
        for t in range(0, 40, 9):
            mask = world.silhouette(t) > 127
            if truth.absent[t] or mask.sum() < 20:
                continue
            ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            drawn = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
            x, y, w, h = truth.boxes_xywh[t]
            assert np.abs(drawn - (x, y, x + w, y + h)).max() <= 2.0, (seed, t)
            checked += 1
    assert checked > 30


def test_target_differs_from_the_scene_without_it_inside_its_box_only() -> None:
    """What is rendered as the target lies where the truth says (shadows and blur aside)."""
    config = WorldConfig(160, 120, 20, distractors=0, attributes=())
    for seed in range(6):
        world = SyntheticWorld(seed, config)
        if world.plan.target.shadow:
            continue
        empty = world.warp(world.scene.canvas, 7.0)
        change = np.abs(world.render_clean(7, sharp=True).astype(int) - empty).max(2) > 12
        x, y, w, h = world.truth.boxes_xywh[7]
        ys, xs = np.nonzero(change)
        near = (xs >= x - 4) & (xs <= x + w + 4) & (ys >= y - 4) & (ys <= y + h + 4)
        assert near.all()


@pytest.mark.slow
def test_visible_fraction_is_what_masks_say() -> None:
    found = 0
    for seed in range(30):
        world = SyntheticWorld(seed, WorldConfig(160, 120, 40, attributes=("POC", "FOC")))
        truth = world.truth
        for t in np.flatnonzero((truth.visible_fraction < 0.9) & (truth.inside > 0.999))[:3].tolist():
            target = world.silhouette(t) > 127
            if target.sum() < 300:  # half a pixel of soft edge counts for too much
                continue
            cover = np.zeros((120, 160), np.uint8)
            for figure in world.plan.front:
                for outline in figure.outlines(float(t)):
                    layer = np.zeros_like(cover)
                    fill(layer, outline, 0, 0)
                    cover = np.maximum(cover, layer)
            share = (target & (cover < 128)).sum() / target.sum()
            assert truth.visible_fraction[t] == pytest.approx(share, abs=0.1)
            found += 1
    assert found > 10


def test_absent_frames_are_flagged() -> None:
    reasons = {"OV": 0, "FOC": 0}
    for seed in range(8):
        for tag in reasons:
            truth = SyntheticWorld(seed, WorldConfig(160, 120, 60, attributes=(tag,))).truth
            assert not truth.absent[:2].any()
            assert (truth.boxes_xywh[truth.absent] == 0).all()
            assert (truth.boxes_xywh[~truth.absent, 2:] > 0).all()
            flags = truth.out_of_view if tag == "OV" else truth.covered
            reasons[tag] += bool(flags.any())
            assert (flags <= truth.absent).all()
    assert min(reasons.values()) >= 5, "what was asked for hardly ever happens"


@pytest.mark.parametrize("tag", ["SV", "ARC", "ROT", "DEF", "IV", "LL", "MB", "FM", "SIM", "CM", "BC"])
def test_what_is_asked_for_happens(tag: str) -> None:
    asked = [SyntheticWorld(s, WorldConfig(length=60, attributes=(tag,))).truth.attributes for s in range(6)]
    assert sum(tag in tags for tags in asked) >= 4


def test_hardly_anything_happens_unasked() -> None:
    plain = [
        SyntheticWorld(s, WorldConfig(length=60, distractors=0, attributes=())).truth.attributes for s in range(20)
    ]
    seen = [tag for tags in plain for tag in tags - {"DEF", "LR"}]  # some things walk, some are small
    assert not {"OCC", "OV", "SIM", "IV", "LL", "CM", "FM"} & set(seen)
    assert len(seen) <= 6


def test_attributes_follow_from_the_truth() -> None:
    for seed in range(10):
        truth = SyntheticWorld(seed, SMALL).truth
        assert truth.attributes <= set(ATTRIBUTES)
        side = truth.full_xyxy[:, 2:] - truth.full_xyxy[:, :2]
        area = side.prod(1)
        assert ("SV" in truth.attributes) == bool(((area > 2 * area[0]) | (area < area[0] / 2)).any())
        assert ("OCC" in truth.attributes) == bool(truth.attributes & {"POC", "FOC"})
        assert not ("OV" in truth.attributes and not truth.out_of_view.any())


@pytest.mark.slow
def test_targets_move_at_a_pace_that_a_tracker_can_follow() -> None:
    steps = []
    for seed in range(40):
        full = SyntheticWorld(seed, SMALL).truth.full_xyxy
        centre = (full[:, :2] + full[:, 2:]) / 2
        size = np.sqrt((full[:, 2:] - full[:, :2]).prod(1))
        steps.append(np.hypot(*np.diff(centre, axis=0).T) / size[1:])
    assert np.quantile(steps, 0.99) < 1.0
    assert np.median(steps) > 0.03


def test_thermal_sees_the_target_in_the_dark() -> None:
    distinct = 0
    for seed in range(8):
        cameras = WorldCameras(
            seed, WorldConfig(160, 120, 20, distractors=0, attributes=("LL",), modality=Modality.RGBT)
        )
        thermal, rgb = cameras.aux(5), cameras.world.render(5)
        assert thermal is not None
        assert thermal.shape == (120, 160)
        assert thermal.dtype == np.uint8
        inside = cameras.world.silhouette(5) > 200
        distinct += float(thermal[inside].mean()) - float(thermal[~inside].mean()) > 40 and rgb.mean() < 80
    assert distinct >= 6


def test_depth_has_layers_and_holes() -> None:
    for seed in range(4):
        cameras = WorldCameras(seed, WorldConfig(160, 120, 20, distractors=0, attributes=(), modality=Modality.RGBD))
        depth = cameras.aux(5)
        assert depth is not None
        assert depth.dtype == np.uint16
        assert (depth == 0).any()
        inside = cameras.world.silhouette(5) > 200
        target, scene = depth[inside & (depth > 0)], depth[~inside & (depth > 0)]
        assert np.median(target) < 0.8 * np.median(scene)
        assert np.array_equal(depth, cameras.aux(5))


def test_events_lie_on_moving_edges() -> None:
    config = WorldConfig(160, 120, 20, distractors=0, attributes=("FM",), modality=Modality.RGBE)
    for seed in range(4):
        cameras = WorldCameras(seed, config)
        events = cameras.aux(5)
        assert events is not None
        assert events.shape == (120, 160, 3)
        colours = {tuple(c) for c in np.unique(events.reshape(-1, 3), axis=0).tolist()}
        assert colours <= {(255, 255, 255), (220, 30, 30), (30, 30, 200)}
        x, y, w, h = np.round(cameras.world.truth.boxes_xywh[5]).astype(int)
        fired = (events != 255).any(2)
        box = fired[max(0, y - 5) : y + h + 5, max(0, x - 5) : x + w + 5]
        assert box.mean() > 2 * fired.mean()


def test_dataset_fulfils_the_contract_and_travels() -> None:
    dataset = build_synthetic("SYNTHETIC:seed=3,sequences=2,length=6,width=96,height=80,modality=rgbd")
    again = pickle.loads(pickle.dumps(dataset))
    assert len(again) == 2
    assert again.modality is Modality.RGBD
    for sequence, other in zip(dataset, again, strict=True):
        assert sequence.name == other.name
        assert len(sequence) == 6
        assert sequence.visible_ratio is not None
        assert ((sequence.visible_ratio >= 0) & (sequence.visible_ratio <= 1)).all()
        assert (sequence.valid == sequence.visible).all()
        a, b = sequence.read_frame(3), other.read_frame(3)
        assert a.rgb.shape == (80, 96, 3)
        assert a.aux is not None
        assert a.aux.shape == a.rgb.shape
        assert np.array_equal(merged(a), merged(b))
        with pytest.raises(IndexError):
            sequence.read_frame(6)
    with pytest.raises(IndexError):
        dataset[2]
    assert len({s.read_frame(0).rgb.tobytes() for s in dataset}) == 2


def test_cache_is_bounded() -> None:
    dataset = SyntheticDataset(config=WorldConfig(64, 64, 2), sequences=5, cache=2)
    studios = [dataset.cameras(k) for k in range(5)]
    assert dataset.cameras(4) is studios[4]
    assert dataset.cameras(0) is not studios[0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("SYNTHETIC:lenght=5", "did you mean 'length'"),
        ("SYNTHETIC:length=five", "length must be a number"),
        ("SYNTHETIC:rgbx", "rgb, rgbd, rgbt or rgbe"),
        ("SYNTHETIC:attributes=FOC+XX", "unknown attribute 'XX'"),
        ("SYNTHETIC:difficulty=3", "difficulty is between 0 and 1"),
        ("SYNTHETIC:width=20", "at least 64 x 64"),
    ],
)
def test_wrong_names_say_what_is_wrong(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build_synthetic(name)


def test_masks_are_the_targets_visible_pixels() -> None:
    config = WorldConfig(width=160, height=120, length=40, attributes=("POC",))
    video = SyntheticDataset(seed=3, sequences=1, config=config)[0]
    assert video.read_mask is not None
    assert video.visible_ratio is not None
    areas = np.array([video.read_mask(t).sum() for t in range(40)])  # type: ignore[union-attr]
    hidden, seen = video.visible_ratio.argmin(), video.visible_ratio.argmax()
    assert video.visible_ratio[hidden] < 0.9
    shares = areas / video.boxes_xywh[:, 2:].clip(1).prod(axis=1)
    assert shares[hidden] < shares[seen]
    x, y, w, h = video.boxes_xywh[seen]
    rows, columns = np.nonzero(video.read_mask(int(seen)))
    assert columns.min() >= x - 1.5
    assert columns.max() <= x + w + 1.5
    assert rows.min() >= y - 1.5
    assert rows.max() <= y + h + 1.5


@pytest.mark.parametrize(
    ("seed", "boxes", "grey", "tags"),
    [
        (0, 6802.850868168, 70.2, "CM DEF FM LR ROT SIM SV"),
        (2, 6741.105911204, 139.4, "CM OCC POC SIM"),
        (3, 4147.479912388, 135.7, "DEF FM FOC MB OCC OV POC"),
    ],
)
def test_default_worlds_stay_as_they_are(seed: int, boxes: float, grey: float, tags: str) -> None:
    """Options for other worlds leave those alone that the shipped network was trained and measured on."""
    world = SyntheticWorld(seed, SMALL)
    assert world.truth.boxes_xywh.sum() == pytest.approx(boxes, rel=1e-9)
    assert world.render(7).mean() == pytest.approx(grey, abs=0.2)
    assert " ".join(sorted(world.truth.attributes)) == tags


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two photographs and a cut-out: a red ellipse, higher than wide."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for kind in ("photos", "cutouts"):
        (folder / kind).mkdir()
    for k in range(2):
        soft = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (320, 240))
        cv2.imwrite(str(folder / "photos" / f"{k}.png"), soft)
    cut = np.zeros((80, 60, 4), np.uint8)
    cv2.ellipse(cut, (30, 40), (20, 36), 0, 0, 360, (20, 20, 220, 255), -1)
    cv2.imwrite(str(folder / "cutouts" / "ellipse.png"), cut)
    return folder


def test_cutouts_keep_their_silhouette_and_their_colours(pictures: Path) -> None:
    config = WorldConfig(160, 120, 4, distractors=0, attributes=(), pictures=str(pictures))
    worlds = [world for s in range(24) if (world := SyntheticWorld(s, config)).plan.target.kind == "cutout"]
    assert len(worlds) > 5
    red = 0
    for world in worlds:
        w, h = world.truth.boxes_xywh[0, 2:]
        mask = world.silhouette(0) > 127
        assert mask.sum() / (w * h) == pytest.approx(np.pi / 4, abs=0.12)
        mean = world.render_clean(0, sharp=True)[mask].mean(axis=0)
        red += mean[0] > mean[1:].max() + 60
    assert red / len(worlds) > 0.3, "cut-outs show their picture"


def test_scenes_are_cut_from_photographs(pictures: Path) -> None:
    config = WorldConfig(160, 120, 4, pictures=str(pictures))
    assert build_synthetic(f"SYNTHETIC:width=160,height=120,length=4,pictures={pictures}").config == config
    assert build_synthetic("SYNTHETIC:lifelike=1").config == WorldConfig(lifelike=True)
    photos = [SyntheticWorld(s, config).plan.backdrop.photo for s in range(20)]
    assert {Path(p).name for p in photos if p} == {"0.png", "1.png"}
    assert 10 <= sum(map(bool, photos)) < 20


def test_lifelike_cameras_move_and_blur_more_and_more_targets_are_tall() -> None:
    plain, lifelike = (
        [SyntheticWorld(s, WorldConfig(160, 120, 24, lifelike=on)) for s in range(12)] for on in (False, True)
    )

    def jolt(world: SyntheticWorld) -> float:
        """The largest step of the scene, pixels."""
        t = np.arange(24, dtype=np.float64)
        m = world.plan.camera.matrices(t)
        return float(np.hypot(*np.diff(m[:, :, :2] @ (120, 90) + m[:, :, 2], axis=0).T).max())

    assert np.median([jolt(w) for w in lifelike]) > 1.5 * np.median([jolt(w) for w in plain])
    assert np.mean([w.plan.shutter for w in lifelike]) > 1.3 * np.mean([w.plan.shutter for w in plain])
    tall = [np.mean([w.plan.target.log_aspect.base < -0.4 for w in worlds]) for worlds in (plain, lifelike)]
    assert tall[1] > tall[0] + 0.1
    assert all(not w.truth.absent[0] for w in lifelike[:4])


def test_a_folder_without_pictures_says_how_to_fill_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scripts/collect_pictures.py fills such a folder"):
        SyntheticWorld(0, WorldConfig(pictures=str(tmp_path)))
