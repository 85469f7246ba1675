"""Settings of a synthetic world, and the attributes that its sequences can have."""

from __future__ import annotations

from dataclasses import dataclass

from lib.data import Modality

GENERATOR_VERSION = 1
"""Raised whenever the same seed gives other pictures or other truth."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One tag.

    Attributes:
        meaning: The test on the truth that gives it to a sequence.
        chance: Probability that it is requested at difficulty 0.5 (0: it only comes as a consequence).
    """

    meaning: str
    chance: float


ATTRIBUTES: dict[str, Attribute] = {
    "POC": Attribute("partial occlusion: 15 % to 95 % of the target is covered in at least 2 frames", 0.3),
    "FOC": Attribute("full occlusion: more than 95 % of the target is covered in at least one frame", 0.12),
    "OCC": Attribute("occlusion: POC or FOC", 0.0),
    "OV": Attribute("out of view: the target leaves the picture wholly in at least one frame", 0.12),
    "SV": Attribute("scale variation: the area leaves [0.5, 2] times that of the first frame", 0.45),
    "ARC": Attribute("aspect ratio change: width / height leaves [0.5, 2] times that of the first frame", 0.15),
    "ROT": Attribute("in-plane rotation: the target turns by more than 30 degrees", 0.35),
    "DEF": Attribute("deformation: outline points move by more than 6 % of the target's size, pose taken out", 0.5),
    "IV": Attribute("illumination variation: the brightest light is at least 1.5 times the darkest", 0.3),
    "LL": Attribute("low light: the mean light is below 0.4 of daylight", 0.1),
    "MB": Attribute("motion blur: the target is smeared over at least 4 pixels in at least 5 % of the frames", 0.2),
    "FM": Attribute("fast motion: the centre moves by more than half the target's size between two frames", 0.1),
    "BC": Attribute("background clutter: the target's colours lie within 12 (CIE Lab) of the background's", 0.15),
    "SIM": Attribute("similar objects: a look-alike is within 3 target sizes in at least 10 % of the frames", 0.35),
    "CM": Attribute("camera motion: the scene moves by more than 1 pixel per frame on average", 0.7),
    "LR": Attribute("low resolution: the box is smaller than 400 square pixels in at least one frame", 0.0),
    "TC": Attribute("thermal crossover: the target is as warm as the scene in at least one frame (RGB-T only)", 0.0),
}


LIFELIKE_CHANCES = {"MB": 0.45, "CM": 0.9, "IV": 0.45, "LL": 0.15, "BC": 0.25, "SIM": 0.5, "POC": 0.4, "FM": 0.15}
"""Probabilities in lifelike worlds, where they differ."""


def check_attributes(names: tuple[str, ...]) -> None:
    """ValueError for a name that is no attribute."""
    unknown = [n for n in names if n not in ATTRIBUTES]
    if unknown:
        raise ValueError(f"unknown attribute {unknown[0]!r}; known are {', '.join(ATTRIBUTES)}")


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """Settings of a synthetic world.

    Attributes:
        width: Frame width in pixels.
        height: Frame height in pixels.
        length: Number of frames.
        difficulty: 0 (slow, clear, alone) to 1; scales the rate of events, the speed and the faintness of the target.
        distractors: Number of other moving objects; None draws it.
        attributes: What must happen (names of `ATTRIBUTES`) and nothing else; None draws it by difficulty.
        modality: What the second picture of a frame is.
        pictures: Folder of photographs and cut-outs that scenes and objects are made of; "" for formulas alone.
        lifelike: Worlds as hand-held cameras see them: scenes that stream past, jerks with blur, changing exposure,
            coarse compression, tall targets, look-alikes that cross, more that is in front.
    """

    width: int = 320
    height: int = 240
    length: int = 60
    difficulty: float = 0.5
    distractors: int | None = None
    attributes: tuple[str, ...] | None = None
    modality: Modality = Modality.RGB
    pictures: str = ""
    lifelike: bool = False

    def __post_init__(self) -> None:
        if self.width < 64 or self.height < 64:
            raise ValueError(f"a synthetic frame must be at least 64 x 64 pixels, not {self.width} x {self.height}")
        if self.length < 1:
            raise ValueError(f"a synthetic sequence needs at least 1 frame, not {self.length}")
        if not 0 <= self.difficulty <= 1:
            raise ValueError(f"difficulty is between 0 and 1, not {self.difficulty}")
        check_attributes(self.attributes or ())
