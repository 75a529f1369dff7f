"""The table of presets: complete detectors as functions, with the published numbers filled in.

A preset takes the number of classes and the few numbers that people change. ``PRESETS`` is keyed by name for the
command line and for saved files. A new detector is one file of this package and one line here.
"""

from __future__ import annotations

from collections.abc import Callable

from gfocal.errors import PresetError
from gfocal.models.baselines import atss_r50_fpn, fcos_r50_fpn, foveabox_r50_fpn, retinanet_r50_fpn
from gfocal.models.detector import Detector
from gfocal.models.gfl import (
    gfl_light_fpn,
    gfl_r18_fpn,
    gfl_r34_fpn,
    gfl_r50_fpn,
    gfl_r101_dcn_fpn,
    gfl_r101_fpn,
    gfl_x101_32x4d_dcn_fpn,
    gfl_x101_32x4d_fpn,
)
from gfocal.models.nanodet import nanodet_plus_m, nanodet_plus_m_1_5x
from gfocal.models.sapd import sapd_r50_fpn
from gfocal.models.ssd import ssd512_vgg16
from gfocal.text import no_such

Preset = Callable[..., Detector]
PRESETS: dict[str, Preset] = {
    preset.__name__: preset
    for preset in (
        gfl_light_fpn,
        gfl_r18_fpn,
        gfl_r34_fpn,
        gfl_r50_fpn,
        gfl_r101_fpn,
        gfl_x101_32x4d_fpn,
        gfl_r101_dcn_fpn,
        gfl_x101_32x4d_dcn_fpn,
        atss_r50_fpn,
        fcos_r50_fpn,
        foveabox_r50_fpn,
        retinanet_r50_fpn,
        sapd_r50_fpn,
        ssd512_vgg16,
        nanodet_plus_m,
        nanodet_plus_m_1_5x,
    )
}


def get_preset(name: str) -> Preset:
    """The preset of a name; PresetError lists all of them."""
    if name not in PRESETS:
        raise PresetError(no_such("preset", name, PRESETS))
    return PRESETS[name]


def create(preset: str = "gfl_light_fpn", num_classes: int = 80, **options: object) -> Detector:
    """A detector by the name of its preset; ``options`` are those of the preset's function.

    ``gfocal.create("gfl_r50_fpn", num_classes=3, names=("cat", "dog", "owl"), pretrained=False)``

    Raises:
        PresetError: there is no such preset.
        WeightsError: the ImageNet weights cannot be fetched; the message names what to do.
    """
    return get_preset(preset)(num_classes, **options)
