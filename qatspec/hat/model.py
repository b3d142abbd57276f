"""`model` of a config as a model that qatspec has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from qatspec.hat.draft import Draft
from qatspec.hat.values import Table

_VARIANT = re.compile(r"efficientnet[_-]?([bm]\d(?:tiny|small)?|lite\d)", re.IGNORECASE)
#: Keys of HAT's models that say what qatspec's model is anyway, with the values that say so.
_SAME: Mapping[str, Any] = {
    "include_top": False, "activation": "relu", "use_se_block": False, "int8_output": False,
    "dequant_output": True, "upscale_bbox_pred": False, "fpn_name": "bifpn_sum", "end_level": -1,
    "use_sigmoid": True, "nms_use_centerness": True, "nms_sqrt": True, "rescale": True,
    "flat_output": False, "argmax_output": False, "bbox_relu": True, "name": "nms",
}  # fmt: skip
#: Keys that follow from others.
_DERIVED = (
    "type", "num_classes", "in_strides", "out_strides", "strides", "stride2channels", "start_level",
    "cls_out_channels", "background_label", "loss_name", "reduction", "in_channels", "bn_kwargs",
    "model_type", "coefficient_params", "split_expand_conv",
)  # fmt: skip


def model(draft: Draft, table: Table, top: Table) -> dict[str, Any]:
    """`type` and `params` of the spec's model; {} where the config has no model of its own."""
    if not table:
        return {}
    kind = table.type
    convert = next((c for pattern, c in _MODELS.items() if re.match(pattern, kind)), None)
    if convert is None:
        draft.leave(
            f"the model `{kind}`", table.spans.get("type", table.span),
            "qatspec has no model of this name",
            f"register one with a plugin (`qatspec plugins new NAME --kind model`), or write the "
            f"model that you train in place of `{_snake(kind)}`",
        )  # fmt: skip
        table.ignore(*table)
        return {"type": _snake(kind), "params": {}}
    name, params = convert(draft, table, top)
    _settle(table)
    draft.leave_unused(
        table, "model", f"`qatspec plugins show {name}` lists the params of the model `{name}`"
    )
    return {"type": name, "params": {k: v for k, v in params.items() if v not in ({}, None)}}


def _fcos(draft: Draft, table: Table, top: Table) -> tuple[str, dict[str, Any]]:
    neck, head = table.table("neck"), table.table("head")
    decoder = table.table("post_process")
    limits, nms = decoder.table("test_cfg"), decoder.table("test_cfg").table("nms")
    target, classes = table.table("targets"), table.table("loss_cls")
    target.ignore("loss_cls")
    if head.take("deepcopy_share_conv") is True:
        draft.leave(
            "`deepcopy_share_conv`", head.spans["deepcopy_share_conv"],
            "the head shares its convolutions across strides, and each stride has its batch norms",
            "nothing, as qatspec prepares shared convolutions; `prepare: {preset: horizon, "
            "shared_conv: copy}` of the module `head` copies them when calibration starts",
        )  # fmt: skip
    channels = neck.take("out_channels")
    if isinstance(channels, Table):
        channels = next(iter(channels.values()), None)
    strides, first = neck.get("in_strides"), neck.get("start_level")
    used = list(strides[first:]) if isinstance(strides, list) and isinstance(first, int) else None
    return "fcos", {
        "num_classes": _classes(head, top),
        "backbone": {**_backbone(table, top), **_known(strides=used)},
        "neck": _known(
            channels=channels, stacks=neck.number("stack"), levels=neck.number("num_outs")
        ),
        "head": _known(channels=head.number("feat_channels"), convs=head.number("stacked_convs")),
        "loss": _known(
            alpha=classes.number("alpha"),
            gamma=classes.number("gamma"),
            cls_weight=classes.number("loss_weight"),
            reg_weight=table.table("loss_reg").number("loss_weight"),
            centerness_weight=table.table("loss_centerness").number("loss_weight"),
        ),
        "target": _known(
            topk=target.number("topK"),
            giou_weight=target.table("loss_reg").number("loss_weight"),
        ),
        "decoder": _known(
            score_threshold=limits.number("score_thr"),
            nms_pre=limits.number("nms_pre"),
            iou_threshold=nms.number("iou_threshold"),
            max_detections=nms.number("max_per_img"),
        ),
        "batch_norm": _batch_norm(table.table("backbone")),
    }


def _deeplab(draft: Draft, table: Table, top: Table) -> tuple[str, dict[str, Any]]:
    head = table.table("decode_head") or table.table("head")
    auxiliary = table.table("auxiliary_head")
    return "deeplabv3plus", {
        "num_classes": _classes(head, top),
        "backbone": _backbone(table, top),
        "head": _known(
            channels=head.number("feat_channels"),
            dilations=head.take("dilations"),
            repeats=head.take("num_repeats"),
            dropout=head.number("dropout_ratio"),
        ),
        "auxiliary": _known(weight=auxiliary.number("loss_weight")),
        "batch_norm": _batch_norm(table.table("backbone")),
    }


def _classifier(draft: Draft, table: Table, top: Table) -> tuple[str, dict[str, Any]]:
    backbone = table.table("backbone")
    backbone.ignore("include_top")
    return "efficientnet", {
        "num_classes": backbone.number("num_classes") or _classes(table, top),
        "backbone": _backbone(table, top),
        "batch_norm": _batch_norm(backbone),
    }


_MODELS: Mapping[str, Callable[[Draft, Table, Table], tuple[str, dict[str, Any]]]] = {
    r"FCOS$": _fcos,
    r"Segmentor|EncoderDecoder|Deeplab": _deeplab,
    r"Classifier": _classifier,
}


def _classes(table: Table, top: Table) -> int | None:
    return table.get("num_classes") or top.get("num_classes")


def _backbone(table: Table, top: Table) -> dict[str, Any]:
    """The variant, by `model_type` or the name of the task (`..._efficientnetm1_...`)."""
    backbone = table.table("backbone")
    task = _VARIANT.search(str(top.get("task_name", "")))
    variant = task[1].lower() if task else None
    if variant is None or not variant.startswith("m"):
        variant = backbone.text("model_type") or variant
    return _known(variant=variant)


def _batch_norm(backbone: Table) -> dict[str, Any]:
    settings = backbone.table("bn_kwargs")
    return _known(eps=settings.number("eps"), momentum=settings.number("momentum"))


def _settle(table: Table) -> None:
    """Mark keys that qatspec's model needs no word about."""
    for key, value in table.items():
        if key in _DERIVED or (key in _SAME and value == _SAME[key]):
            table.used.add(key)
        if isinstance(value, Table) and key in table.used:
            _settle(value)


def _known(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() or "unknown"
