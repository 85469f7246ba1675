"""The training data path: crops, box geometry, processing, sampling."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from golden import Case, runner

from lib.config import Augment, Data, Region
from lib.data import (
    CROP_STYLES,
    FRAME_SAMPLERS,
    CropDraw,
    CropRegion,
    Draws,
    Frame,
    FrameSet,
    Modality,
    Normalise,
    Processing,
    TrackingSampler,
    Video,
    becomes_grey,
    clip_box,
    clip_boxes,
    clip_depth,
    grey_picture,
    jitter_box,
    mirror_box,
    mirror_box_in_crop,
    plan_crop,
)
from tests.support.pictures import x_frame

AREA = CROP_STYLES["area"]()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _float64(values: list[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _check_crop(case: Case, image: np.ndarray, item: dict, output_size: int, stored: dict) -> CropRegion:
    """One crop, its mask, and its resize factor; the region that it shows."""
    box, factor = item.get("box", item.get("box_xywh")), item["factor"]
    tolerance = {"rtol": case.data["tolerance"]["rtol"], "atol": case.data["tolerance"].get("crop_atol", 1.0)}
    frame = Frame(image[..., :3], image[..., 3:] if image.shape[2] == 6 else None)
    region = AREA.region(box, factor, output_size, frame.size_hw)
    mask = AREA.padding_mask(region, frame.size_hw, output_size)
    crops = AREA.crop_frames([frame], torch.tensor([box], dtype=torch.float64), factor, output_size)
    case.check(crops.pixels[0].permute(1, 2, 0), stored["crop"], f"crop {box}", tolerance)
    case.check(mask, stored["attention_mask"], f"mask {box}", {"rtol": 1e-6, "atol": 1e-6})
    assert region.sides_wh == (region.width, region.height)
    assert np.allclose(output_size / crops.sides, item["resize_factor"], rtol=1e-6, atol=0)
    if "crop_size" in item:
        assert region.width == region.height == item["crop_size"]
    if "attention_mask_true_count" in item:
        assert int(mask.sum()) == item["attention_mask_true_count"]
    return region


@runner("loretrack/crops")
def crops(case: Case) -> None:
    image = case.draw(case.data["inputs"]["image"])
    for item in case.data["crops"]:
        _check_crop(case, image, item, item["output_size"], item["outputs"])


@runner("sdstrack/crops")
def crops_rgbx(case: Case) -> None:
    for item in case.data["items"]:
        size = item["output_size"]
        region = _check_crop(case, case.draw(item["image"]), item, size, item)
        found = AREA.to_crop(item["second_box_xywh"], region, size) / size
        tolerance = {"rtol": 1e-5, "atol": case.data["tolerance"]["boxes"]}
        case.check(found, item["second_box_in_crop_normalised"], f"box {item['box_xywh']}", tolerance)


def _smooth(seed: int, height: int, width: int) -> np.ndarray:
    """Random numbers on a grid of 16 pixels, bilinear between, rounded half up."""
    grid = np.random.RandomState(seed).randint(0, 256, (height // 16 + 2, width // 16 + 2, 3)).astype(np.float64)
    rows, columns = np.arange(height) / 16, np.arange(width) / 16
    top, left = rows.astype(int), columns.astype(int)
    dy, dx = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = grid[top][:, left] * (1 - dx) + grid[top][:, left + 1] * dx
    lower = grid[top + 1][:, left] * (1 - dx) + grid[top + 1][:, left + 1] * dx
    return np.floor(0.5 + upper * (1 - dy) + lower * dy).astype(np.uint8)


def smooth_video(spec: dict, frame: int) -> np.ndarray:
    """A frame [H, W, 6] of the rule stated in CSTrack's cases."""
    seed, (th, tw) = spec["seed"], spec["target"]
    picture = np.concatenate([_smooth(seed + i, spec["height"], spec["width"]) for i in (0, 1)], axis=2)
    textures = [np.random.RandomState(seed + i).randint(0, 256, (th // 4, tw // 4, 3)) for i in (2, 3)]
    target = np.concatenate(textures, axis=2).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    x, y = spec["x0"] + spec["dx"] * frame, spec["y0"] + spec["dy"] * frame
    picture[y : y + th, x : x + tw] = target
    return picture


@runner("cstrack/crop")
def crops_smooth_video(case: Case) -> None:
    stored = case.data["inputs"]["image"]
    image = smooth_video(stored["video"], stored["frame"])
    case.check(image, case.data["outputs"]["image"], "image")
    for item in case.data["outputs"]["crops"]:
        size = item["output"]
        region = _check_crop(case, image, item, size, item)
        found = AREA.to_crop(item["gt_box_for_transform"], region, size) / (size - 1)
        case.check(found, item["gt_box_normalised_xywh"], f"box {item['box']}")


@runner("cstrack/augment")
def augment(case: Case) -> None:
    for item in case.data["outputs"]["cases"]:
        rolls, image = item["rolls"], case.draw(item["image"])
        frame = Frame(image[..., :3], image[..., :3].copy() if item["x_equals_rgb"] else image[..., 3:])
        rgb, aux = frame.rgb, frame.aux
        if rolls["grayscale"]:
            follows = becomes_grey(frame, "rgb_and_equal_aux")[1]
            rgb, aux = grey_picture(rgb), grey_picture(aux) if follows else aux
        pixels, box = np.concatenate([rgb, aux], axis=2), np.asarray(item["box_pixels"], dtype=np.float32)
        side = pixels.shape[1]
        if rolls["joint_flip"]:
            pixels, box = pixels[:, ::-1], mirror_box(box, side)
        case.check(box, item["box_after_joint"], "joint box")
        box = box / np.float32(side - 1)
        if rolls["frame_flip"]:
            pixels, box = pixels[:, ::-1], mirror_box_in_crop(box)
        case.check(box, item[f"box_after_frame(normalised by {side - 1})"], "frame box")
        crop = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        found = Normalise(MEAN, STD)(crop, torch.eye(3, 4) * rolls["brightness"])
        case.check(found, item["out_image"], "image")


@runner("loretrack/box_geometry")
def box_geometry(case: Case) -> None:
    for item in case.data["to_crop"]:
        size, (x, y, w, h) = item["output_size"], item["box_extract"]
        side = size / item["resize_factor"]
        region = CropRegion(0, 0, side, side, (x + w / 2, y + h / 2), (side, side))
        found = AREA.to_crop(item["box_in"], region, size) / size
        case.check(found, item["box_normalized_xywh"], "to_crop")
    for item in case.data["jitter"]:
        normal, uniform = (np.asarray(item[k], dtype=np.float32) for k in ("normal_2", "uniform_2"))
        box = np.asarray(item["box"], dtype=np.float32)
        found = jitter_box(box, normal, uniform, item["scale_jitter"], item["center_jitter"])
        case.check(found, item["jittered_box"], "jitter")
    for item in case.data["clip_box"]:
        clipped = clip_box(item["box"], item["height"], item["width"], item["margin"])
        case.check(clipped, item["out"], "clip_box")
        size = torch.tensor([[item["height"], item["width"]]], dtype=torch.float64)
        batched = clip_boxes(torch.tensor([item["box"]], dtype=torch.float64), size, item["margin"])
        assert batched[0].tolist() == list(clipped)


def _clip(template: Frame, search: Frame, template_box: list[float], search_box: list[float]) -> FrameSet:
    modality = Modality.RGB if template.aux is None else Modality.RGBT
    boxes = _float64([template_box]), _float64([search_box])
    return FrameSet((template,), (search,), *boxes, modality, "golden", "golden", (0, 1))


@runner("loretrack/processing")
def processing(case: Case) -> None:
    for item in case.data["samples"]:
        template, search = (Frame(case.draw(item["inputs"][k])) for k in ("template_image", "search_image"))
        jitter = {"center_jitter": item["search_center_jitter"], "scale_jitter": item["search_scale_jitter"]}
        process = Processing(
            Data(
                template=Region(item["template_size"], item["template_factor"]),
                search=Region(item["search_size"], item["search_factor"], **jitter),
            )
        )
        crop_draws = [
            CropDraw(
                np.asarray(item[f"{kind}_normal_2"], dtype=np.float32),
                np.asarray(item[f"{kind}_uniform_2"], dtype=np.float32),
                (item["brightness_factor_both"], item["per_crop_flip_both"]),
            )
            for kind in ("template", "search")
        ]
        draws = Draws((item["gray_both"], item["joint_flip_both"]), (crop_draws[0],), (crop_draws[1],))
        sample = process.apply(_clip(template, search, item["template_box"], item["search_box"]), draws)
        normalise, stored = Normalise(MEAN, STD), item["outputs"]
        for kind, rule, draw in (
            ("template", process.data.template, crop_draws[0]),
            ("search", process.data.search, crop_draws[1]),
        ):
            images, colour = getattr(sample, kind), getattr(sample, f"{kind}_colour")
            found = normalise(torch.from_numpy(images), torch.from_numpy(colour))
            case.check(found, stored[f"{kind}_images"], f"{kind} images")
            case.check(
                getattr(sample, f"{kind}_boxes"), stored[f"{kind}_anno"], f"{kind} box", {"rtol": 1e-5, "atol": 1e-5}
            )
            frame = template if kind == "template" else search
            plan = plan_crop(frame, kind, process.augmentations, draws.changes, draw.changes)
            place = process.place(frame.size_hw, _float64(item[f"{kind}_box"]), rule, draw, plan)
            assert place.padding is not None
            case.check(place.padding[None], stored[f"{kind}_att"], f"{kind} padding", {"rtol": 1e-6, "atol": 1e-6})


class Replay:
    """Stands for a numpy generator: gives listed numbers, and fails when they are asked for in another order."""

    def __init__(self, listed: list[list]) -> None:
        self.listed = list(listed)

    def standard_normal(self, size: int) -> np.ndarray:
        name, values = self.listed.pop(0)
        assert (name, len(values)) == ("torch.randn", size)
        return _float64(values)

    def random(self, size: int | None = None) -> np.ndarray | float:
        name, value = self.listed.pop(0)
        if size is not None:
            assert (name, len(value)) == ("torch.rand", size)
            return _float64(value)
        assert name in ("random.random", "np.uniform"), name
        return value if name == "random.random" else (value - 0.8) / 0.4


def textured_frame(spec: dict, frame: int) -> tuple[Frame, list[float]]:
    """A frame of the case's `video_rule`, and the target's box in it."""
    rng, (height, width) = np.random.RandomState(spec["seed"]), (spec["height"], spec["width"])
    x, y, w, h = spec["box"]
    coarse = rng.randint(0, 256, size=(-(-height // 8), -(-width // 8), 6)).astype(np.int32)
    ground = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    ground = (ground + sum(np.roll(ground, s, a) for a in (0, 1) for s in (4, -4))) // 5
    texture = rng.randint(0, 256, size=(-(-h // 4), -(-w // 4), 6)).repeat(4, 0).repeat(4, 1)[:h, :w]
    picture = ground.astype(np.uint8)
    x, y = x + spec["velocity"][0] * frame, y + spec["velocity"][1] * frame
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    picture[top:bottom, left:right] = texture[top - y : bottom - y, left - x : right - x]
    return Frame(picture[..., :3], picture[..., 3:]), [x, y, w, h]


@runner("sdstrack/xframe")
def x_frames_by_rule(case: Case) -> None:
    """`x_rule` says how the second picture follows from `x_u8`: `depth(uint16)=<arithmetic>`, or that it is it."""
    for item in case.data["items"]:
        rgb, x = case.draw(item["rgb"]), case.draw(item["x_u8"])
        _, is_depth, rule = item["x_rule"].partition("depth(uint16)=")
        if is_depth:
            values = eval(rule.removesuffix("everywhere"), {"__builtins__": {}}, {"u8": x.astype(np.int64)})
            x = np.broadcast_to(values, x.shape).astype(np.uint16)
        image = x_frame(rgb, x, item["type"], item["depth_clip"])
        case.check(image, item["image"], item["x_rule"])
        case.check(image[..., 3:], item["x_channels"], f"{item['x_rule']}, second picture")
        first = np.asarray(item["first_pixels_x"])
        np.testing.assert_array_equal(image[0, : len(first), 3:], first)
        if item["clip_value"] is not None and x.max() > item["clip_value"]:
            assert clip_depth(x).max() == int(item["clip_value"])


@runner("cstrack/xframe")
def x_frames_of_files(case: Case) -> None:
    """Outputs are named `<arrangement>[_clip|_noclip]`."""
    inputs = case.data["inputs"]
    rgb, picture, spec = case.draw(inputs["rgb"]), case.draw(inputs["x_image_rgb"]), inputs["depth_uint16"]
    depth = (np.random.RandomState(spec["seed"]).randint(0, 65536, rgb.shape[:2]) % spec["mod"]).astype(np.uint16)
    for output, wanted in case.data["outputs"].items():
        kind, _, clip = output.partition("_")
        image = x_frame(rgb, picture if kind == "rgbrgb" else depth, kind, depth_clip=clip == "clip")
        case.check(image, wanted, output)


@runner("sdstrack/processing")
def processing_rgbx(case: Case) -> None:
    for item in case.data["items"]:
        template_size, search_size = (item[f"{kind}_image"]["shape"][-1] for kind in ("template", "search"))
        data = Data(
            template=Region(template_size, 2.0),
            search=Region(search_size, 4.0, center_jitter=3.0, scale_jitter=0.25),
            augment=Augment(grey=0),
            reject_all_padding=False,
        )
        template, _ = textured_frame(item["video"], 0)
        search, _ = textured_frame(item["video"], item["search_frame"])
        clip = _clip(template, search, item["template_box_xywh"], item["search_box_xywh"])
        replay = Replay(item["draws_in_order"])
        sample = Processing(data, training=not item["validation_transforms"])(clip, replay)
        assert not replay.listed, "random numbers were left over"
        normalise, anno = Normalise(MEAN, STD), {"rtol": 1e-5, "atol": case.data["tolerance"]["anno"]}
        for kind in ("template", "search"):
            colour = torch.from_numpy(getattr(sample, f"{kind}_colour"))
            found = normalise(torch.from_numpy(getattr(sample, kind)), colour)
            case.check(found[0], item[f"{kind}_image"], f"{kind} image")
            case.check(getattr(sample, f"{kind}_boxes")[0], item[f"{kind}_anno"], f"{kind} box", anno)


@dataclass
class Visibility:
    """A data set that knows visibilities only."""

    name: str
    visible: list[np.ndarray]
    is_video: bool = True
    modality: Modality = Modality.RGB

    def __len__(self) -> int:
        return len(self.visible)

    def __getitem__(self, index: int) -> Video:
        visible = self.visible[index]
        boxes = np.ones((len(visible), 4))
        return Video(str(index), boxes, visible, visible, _no_frame, str, is_video=self.is_video)


def _no_frame(index: int) -> Frame:
    raise AssertionError("the cases of samplers have no pictures")


def _draw_only(datasets: list[Visibility], ratios: list[float], data: Data) -> TrackingSampler:
    """A sampler of causal frames whose pictures nobody reads."""
    return TrackingSampler(datasets, ratios, FRAME_SAMPLERS["causal"](data), _no_sample, seed=0)


def _no_sample(clip: FrameSet, rng: np.random.Generator) -> None:
    raise AssertionError("the cases of samplers have no pictures")


@runner("loretrack/sampler_causal")
def sampler_causal(case: Case) -> None:
    datasets = []
    for name, stored in case.data["datasets"].items():
        if isinstance(stored, str):
            count = int(stored.split()[0])
            datasets.append(Visibility(name, [np.ones(1, dtype=bool)] * count, is_video=False))
        else:
            visible = [np.random.RandomState(s["seed"]).random_sample(s["length"]) < s["p"] for s in stored]
            datasets.append(Visibility(name, visible))
    for run in case.data["runs"]:
        sampler = _draw_only(datasets, case.data["ratio"], Data(max_sample_interval=run["max_gap"]))
        rng = random.Random(run["random_seed"])
        for expected in run["picks"]:
            number = sampler.draw_dataset(rng)
            sequence, ids = sampler.draw_frames(number, rng)
            # the cases number the only frame of an image 1
            dummy = 0 if sequence.is_video else 1
            found = [datasets[number].name, int(sequence.name), ids.template[0] + dummy, ids.search[0] + dummy]
            assert found == expected, f"{case.path.name}: seed {run['random_seed']}: {found} != {expected}"


@runner("sdstrack/sampler")
def sampler_rgbx(case: Case) -> None:
    c = case.config
    numbers = {kind: Region(number=c[f"num_{kind}"]) for kind in ("template", "search")}
    data = Data(max_sample_interval=c["max_gap"], **numbers)
    for item in case.data["items"]:
        state = np.random.RandomState(item["seed"])
        pairs = zip(item["sequence_lengths"], item["visible_probability"], strict=True)
        visible = [state.random_sample(n) < p for n, p in pairs]
        assert [int(v.sum()) for v in visible] == item["n_visible"]
        sampler, rng = _draw_only([Visibility("all", visible)], [1.0], data), random.Random(item["seed"])
        for expected in item["seq_template_search"]:
            sequence, ids = sampler.draw_frames(sampler.draw_dataset(rng), rng)
            found = [int(sequence.name), *ids.template, *ids.search]
            assert found == expected, f"{case.path.name}: seed {item['seed']}: {found} != {expected}"
