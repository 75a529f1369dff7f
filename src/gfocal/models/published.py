"""Published weights by name: where they are, what they are, and the AP that their authors state.

``PUBLISHED`` is keyed by name. Nothing here downloads anything: ``gfocal.interop.published_weights`` does, when a
name is given where a model file goes. AP, AP50 and AP75 are COCO's on val2017, in percent, as published; None where
their authors state none. Sources: the metafiles and pages of MMDetection's model zoo, NanoDet's README and configs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

MMDETECTION = "https://github.com/open-mmlab/mmdetection/tree/main/configs"
OPENMMLAB = "https://download.openmmlab.com/mmdetection/v2.0"
NANODET = "https://github.com/RangiLyu/nanodet"
NANODET_RELEASE = f"{NANODET}/releases/download/v1.0.0-alpha-1"
OPENVINO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.2"


@dataclass(frozen=True)
class Download:
    """One address of a file, and what is known of the file there."""

    address: str
    digest: str | None = None
    """``sha256:`` or ``sha384:`` and the first hexadecimal digits, at least eight; None: not published."""
    num_bytes: int | None = None


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that somebody trained on COCO and published."""

    name: str
    preset: str
    downloads: tuple[Download, ...]
    """The same file at several addresses, in the order in which they are tried."""
    ap: float
    training: str
    source: str
    megabytes: float
    """Of the file: as published, else of its tensors."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the preset that differ from its defaults."""
    side: int | None = None
    """Both sides of the network input in pixels, where it is not the preset's."""
    ap50: float | None = None
    ap75: float | None = None
    license: str = "Apache-2.0"
    other_files: tuple[str, ...] = ()
    """Names of other published files with the same weights, which are taken from the cache but not downloaded."""

    @property
    def file_name(self) -> str:
        """The name of the published file."""
        return PurePosixPath(urlsplit(self.downloads[0].address).path).name


R18, R101, X101 = (
    {"body": body} for body in ("resnet18.tv_in1k", "resnet101.tv_in1k", "resnext101_32x4d.gluon_in1k")
)
CAFFE = {"caffe": True}

# Training configs in words. Input is 1333 pixels by the short side at most; 16 images a step, unless said otherwise.
ONE = "12 epochs, short side 800"
TWO = "24 epochs, short side 800"
TWO_480 = "24 epochs, short side 480 to 800"
TWO_640 = "24 epochs, short side 640 or 800"
THREE_640 = "36 epochs, short side 640 to 800"
NANO = "300 epochs, {0} x {0}, average of the weights"


def _mmdetection(
    name: str,
    preset: str,
    file: str,
    ap: float,
    megabytes: float,
    training: str,
    options: Mapping[str, Any] | None = None,
) -> PublishedWeights:
    """Weights of MMDetection: the last eight digits in the name of a file are the start of its sha256."""
    family = file.partition("/")[0]
    digest = f"sha256:{file.removesuffix('.pth')[-8:]}"
    return PublishedWeights(
        name=name,
        preset=preset,
        downloads=(Download(f"{OPENMMLAB}/{file}", digest),),
        ap=ap,
        training=training,
        source=f"{MMDETECTION}/{family}",
        megabytes=megabytes,
        options=options or {},
    )


def _nanodet(
    name: str, preset: str, version: str, side: int, aps: tuple[float, float, float], *downloads: Download
) -> PublishedWeights:
    """Weights of NanoDet-Plus: the checkpoint, which holds the auxiliary head too; ``aps`` are AP, AP50, AP75."""
    sizes = [download.num_bytes for download in downloads if download.num_bytes]
    return PublishedWeights(
        name=name,
        preset=preset,
        downloads=downloads,
        ap=aps[0],
        training=NANO.format(side),
        source=NANODET,
        megabytes=round(sizes[0] / 1e6, 1) if sizes else 64.6 if "1.5x" in version else 35.5,
        side=side,
        ap50=aps[1],
        ap75=aps[2],
        other_files=(f"nanodet-plus-{version}_{side}.pth",),
    )


def _drive(key: str) -> Download:
    """A file on Google Drive, to which NanoDet's README links."""
    return Download(f"https://drive.google.com/uc?export=download&id={key}")


GFL = (
    _mmdetection(
        "gfl_r50_1x_coco",
        "gfl_r50_fpn",
        "gfl/gfl_r50_fpn_1x_coco/gfl_r50_fpn_1x_coco_20200629_121244-25944287.pth",
        40.2,
        130,
        ONE,
    ),
    _mmdetection(
        "gfl_r50_2x_coco",
        "gfl_r50_fpn",
        "gfl/gfl_r50_fpn_mstrain_2x_coco/gfl_r50_fpn_mstrain_2x_coco_20200629_213802-37bb1edc.pth",
        42.9,
        130,
        TWO_480,
    ),
    _mmdetection(
        "gfl_r101_2x_coco",
        "gfl_r101_fpn",
        "gfl/gfl_r101_fpn_mstrain_2x_coco/gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth",
        44.7,
        206,
        TWO_480,
    ),
    _mmdetection(
        "gfl_r101_dcn_2x_coco",
        "gfl_r101_dcn_fpn",
        "gfl/gfl_r101_fpn_dconv_c3-c5_mstrain_2x_coco/"
        "gfl_r101_fpn_dconv_c3-c5_mstrain_2x_coco_20200630_102002-134b07df.pth",
        47.1,
        214,
        TWO_480,
    ),
    _mmdetection(
        "gfl_x101_32x4d_2x_coco",
        "gfl_x101_32x4d_fpn",
        "gfl/gfl_x101_32x4d_fpn_mstrain_2x_coco/gfl_x101_32x4d_fpn_mstrain_2x_coco_20200630_102002-50c1ffdb.pth",
        45.9,
        205,
        TWO_480,
    ),
    _mmdetection(
        "gfl_x101_32x4d_dcn_2x_coco",
        "gfl_x101_32x4d_dcn_fpn",
        "gfl/gfl_x101_32x4d_fpn_dconv_c4-c5_mstrain_2x_coco/"
        "gfl_x101_32x4d_fpn_dconv_c4-c5_mstrain_2x_coco_20200630_102002-14a2bf25.pth",
        48.1,
        219,
        TWO_480,
    ),
)

# Localization distillation (Zheng et al. 2022): a student learns from a larger GFL, and is a plain GFL afterwards.
LD = (
    _mmdetection(
        "ld_r18_1x_coco",
        "gfl_r18_fpn",
        "ld/ld_r18_gflv1_r101_fpn_coco_1x/ld_r18_gflv1_r101_fpn_coco_1x_20220702_062206-330e6332.pth",
        36.5,
        78,
        f"{ONE}, distilled from gfl_r101_2x_coco",
    ),
    _mmdetection(
        "ld_r34_1x_coco",
        "gfl_r34_fpn",
        "ld/ld_r34_gflv1_r101_fpn_coco_1x/ld_r34_gflv1_r101_fpn_coco_1x_20220630_134007-9bc69413.pth",
        39.9,
        118,
        f"{ONE}, distilled from gfl_r101_2x_coco",
    ),
    _mmdetection(
        "ld_r50_1x_coco",
        "gfl_r50_fpn",
        "ld/ld_r50_gflv1_r101_fpn_coco_1x/ld_r50_gflv1_r101_fpn_coco_1x_20220629_145355-8dc5bad8.pth",
        41.0,
        130,
        f"{ONE}, distilled from gfl_r101_2x_coco",
    ),
    _mmdetection(
        "ld_r101_2x_coco",
        "gfl_r101_fpn",
        "ld/ld_r101_gflv1_r101dcn_fpn_coco_2x/ld_r101_gflv1_r101dcn_fpn_coco_2x_20220629_185920-9e658426.pth",
        45.5,
        206,
        f"{TWO_480}, distilled from gfl_r101_dcn_2x_coco",
    ),
)

BASELINES = (
    _mmdetection(
        "atss_r50_1x_coco",
        "atss_r50_fpn",
        "atss/atss_r50_fpn_1x_coco/atss_r50_fpn_1x_coco_20200209-985f7bd0.pth",
        39.4,
        129,
        ONE,
    ),
    _mmdetection(
        "atss_r101_1x_coco",
        "atss_r50_fpn",
        "atss/atss_r101_fpn_1x_coco/atss_r101_fpn_1x_20200825-dfcadd6f.pth",
        41.5,
        206,
        ONE,
        R101,
    ),
    _mmdetection(
        "fcos_r50_1x_coco",
        "fcos_r50_fpn",
        "fcos/fcos_r50_caffe_fpn_gn-head_1x_coco/fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth",
        36.6,
        129,
        ONE,
        CAFFE,
    ),
    _mmdetection(
        "fcos_r50_2x_coco",
        "fcos_r50_fpn",
        "fcos/fcos_r50_caffe_fpn_gn-head_mstrain_640-800_2x_coco/"
        "fcos_r50_caffe_fpn_gn-head_mstrain_640-800_2x_coco-d92ceeea.pth",
        38.5,
        129,
        TWO_640,
        CAFFE,
    ),
    _mmdetection(
        "fcos_r101_1x_coco",
        "fcos_r50_fpn",
        "fcos/fcos_r101_caffe_fpn_gn-head_1x_coco/fcos_r101_caffe_fpn_gn-head_1x_coco-0e37b982.pth",
        39.1,
        206,
        ONE,
        R101 | CAFFE,
    ),
    _mmdetection(
        "fcos_r101_2x_coco",
        "fcos_r50_fpn",
        "fcos/fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco/"
        "fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco-511424d6.pth",
        40.8,
        206,
        TWO_640,
        R101 | CAFFE,
    ),
    _mmdetection(
        "foveabox_r50_1x_coco",
        "foveabox_r50_fpn",
        "foveabox/fovea_r50_fpn_4x4_1x_coco/fovea_r50_fpn_4x4_1x_coco_20200219-ee4d5303.pth",
        36.5,
        146,
        ONE,
    ),
    _mmdetection(
        "foveabox_r50_2x_coco",
        "foveabox_r50_fpn",
        "foveabox/fovea_r50_fpn_4x4_2x_coco/fovea_r50_fpn_4x4_2x_coco_20200203-2df792b1.pth",
        37.2,
        146,
        TWO,
    ),
    _mmdetection(
        "foveabox_r101_1x_coco",
        "foveabox_r50_fpn",
        "foveabox/fovea_r101_fpn_4x4_1x_coco/fovea_r101_fpn_4x4_1x_coco_20200219-05e38f1c.pth",
        38.6,
        222,
        ONE,
        R101,
    ),
    _mmdetection(
        "foveabox_r101_2x_coco",
        "foveabox_r50_fpn",
        "foveabox/fovea_r101_fpn_4x4_2x_coco/fovea_r101_fpn_4x4_2x_coco_20200208-02320ea4.pth",
        40.0,
        222,
        TWO,
        R101,
    ),
)


def _retinanet(
    name: str, file: str, ap: float, megabytes: float, training: str, options: Mapping[str, Any] | None = None
) -> PublishedWeights:
    """A RetinaNet of MMDetection, whose files lie in folders of their own names without the date."""
    folder = file.partition("_coco_")[0] + "_coco"
    return _mmdetection(
        f"retinanet_{name}_coco",
        "retinanet_r50_fpn",
        f"retinanet/{folder}/{file}.pth",
        ap,
        megabytes,
        training,
        options,
    )


RETINANET = (
    _retinanet("r18_1x", "retinanet_r18_fpn_1x_coco_20220407_171055-614fd399", 31.7, 86, ONE, R18),
    _retinanet("r50_1x", "retinanet_r50_fpn_1x_coco_20200130-c2398f9e", 36.5, 152, ONE),
    _retinanet("r50_2x", "retinanet_r50_fpn_2x_coco_20200131-fdb43119", 37.4, 152, TWO),
    _retinanet("r50_3x", "retinanet_r50_fpn_mstrain_3x_coco_20210718_220633-88476508", 39.5, 152, THREE_640),
    _retinanet("r101_1x", "retinanet_r101_fpn_1x_coco_20200130-7a93545f", 38.5, 228, ONE, R101),
    _retinanet("r101_2x", "retinanet_r101_fpn_2x_coco_20200131-5560aee8", 38.9, 228, TWO, R101),
    _retinanet("r101_3x", "retinanet_r101_fpn_mstrain_3x_coco_20210720_214650-7ee888e0", 41.0, 228, THREE_640, R101),
    _retinanet("x101_32x4d_1x", "retinanet_x101_32x4d_fpn_1x_coco_20200130-5c8b7ec4", 39.9, 227, ONE, X101),
    _retinanet("x101_32x4d_2x", "retinanet_x101_32x4d_fpn_2x_coco_20200131-237fc5e1", 40.1, 227, TWO, X101),
)

NANODET_PLUS = (
    _nanodet(
        "nanodet_plus_m_320_coco",
        "nanodet_plus_m",
        "m",
        320,
        (27.0, 41.8, 28.1),
        Download(
            f"{NANODET_RELEASE}/nanodet-plus-m_320_checkpoint.ckpt",
            "sha256:f4c6080f3ef35a64c3030d559438b436462f227ce29700bca71327203e42dea2",
            35_470_891,
        ),
        _drive("1YvuEhahlgqxIhJu7bsL-fhaqubKcCWQc"),
    ),
    _nanodet(
        "nanodet_plus_m_416_coco",
        "nanodet_plus_m",
        "m",
        416,
        (30.4, 45.9, 31.7),
        Download(f"{NANODET_RELEASE}/nanodet-plus-m_416_checkpoint.ckpt"),
        _drive("1gFjyrl7O8p5APr1ZOtWEm3tQNN35zi_W"),
    ),
    _nanodet(
        "nanodet_plus_m_1_5x_320_coco",
        "nanodet_plus_m_1_5x",
        "m-1.5x",
        320,
        (29.9, 45.4, 31.2),
        Download(f"{NANODET_RELEASE}/nanodet-plus-m-1.5x_320_checkpoint.ckpt"),
        _drive("1qXR6t3TBMXlz6GlTU3fxiLA-eueYoGrW"),
    ),
    _nanodet(
        "nanodet_plus_m_1_5x_416_coco",
        "nanodet_plus_m_1_5x",
        "m-1.5x",
        416,
        (34.1, 50.6, 35.7),
        # The copy of Open Model Zoo, whose model.yml states size and hash; its origin is the file on Google Drive.
        Download(
            f"{OPENVINO}/nanodet-plus-m-1.5x-416/nanodet-plus-m-1.5x_416_checkpoint.ckpt",
            "sha384:5dc47bb7e3bd2d990f60dee997ff4012234234610a7118bc92ed30cc99817cfd69ef1d394af66f8f21b50e2fd31c63e6",
            64_628_523,
        ),
        Download(f"{NANODET_RELEASE}/nanodet-plus-m-1.5x_416_checkpoint.ckpt"),
        _drive("17sdAUydlEXCrHMsxlDPLj5cGb-8-mmY6"),
    ),
)

PUBLISHED: dict[str, PublishedWeights] = {
    weights.name: weights for weights in (*NANODET_PLUS, *GFL, *LD, *BASELINES, *RETINANET)
}
