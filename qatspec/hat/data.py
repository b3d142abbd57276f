"""Data loaders of a config as data roles of the spec."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qatspec.hat.draft import Draft
from qatspec.hat.values import Table, tables

#: Beginning of a data set's name in HAT -> the data set here.
_DATASETS = {
    "coco": "coco_detection",
    "cityscapes": "cityscapes_segmentation",
    "imagenet": "imagefolder_classification",
    "imagefolder": "imagefolder_classification",
}
_PACK = re.compile(r"^(.*?)_?(lmdb|mxrecord|pack)$")
_LOADER = ("type", "sampler", "shuffle", "pin_memory", "collate_fn", "drop_last", "prefetch_factor")
_SPLITS = {"train": ("train2017", "train"), "val": ("val2017", "val")}


@dataclass
class Role:
    """One data loader: the keys of its role, and what it says of the model's input."""

    section: dict[str, Any]
    size: list[int] | None = None
    image: dict[str, Any] = field(default_factory=dict)


def roles(draft: Draft, configs: Mapping[str, Table], stages: Sequence[str]) -> dict[str, Role]:
    """The data roles that a config says: of its stages' loaders, and of their validation, or of a
    `val_data_loader` that no trainer names."""
    first = configs[stages[0]].table(f"{stages[0]}_trainer")
    metrics = tables(first.get("val_metrics"))
    annotations = next((file for m in metrics if (file := m.text("ann_file"))), None)
    beside = configs[stages[0]].table("val_data_loader")
    loaders = {"train": first.table("data_loader"), "val": _validation(first) or beside}
    for stage in stages[1:]:
        loaders[stage] = configs[stage].table(f"{stage}_trainer").table("data_loader")
    return {
        name: _role(draft, name, loader, annotations) for name, loader in loaders.items() if loader
    }


def _validation(trainer: Table) -> Table:
    for callback in tables(trainer.take("callbacks")):
        if callback.type == "Validation":
            return callback.table("data_loader")
    return trainer.table("val_data_loader")


def missing_roles(draft: Draft, data: dict[str, Role]) -> None:
    """Fill in train and val where the config says neither loader."""
    for name in ("train", "val"):
        if name in data:
            continue
        like = data["train"].section if "train" in data else {}
        kind = like.get("type", "coco_detection")
        params = {"root": like.get("params", {}).get("root", "data")}
        params["split"] = _SPLITS[name][0 if kind == "coco_detection" else 1]
        section: dict[str, Any] = {}
        draft.fill(section, f"/data/{name}", type=kind, params=params)
        data[name] = Role(section)


def _role(draft: Draft, name: str, loader: Table, annotations: str | None) -> Role:
    """A data role from a loader.

    name         of the role: train, calibration, qat or val.
    annotations  the COCO annotation file that the trainer's metric names: it tells the root.
    """
    loader.ignore(*_LOADER)
    dataset = loader.table("dataset")
    kind = dataset.type
    known = next((d for key, d in _DATASETS.items() if kind.lower().startswith(key)), None)
    if known is None:
        draft.leave(
            f"the data set `{kind}` of the {name} data", dataset.spans.get("type", loader.span),
            "qatspec has no data set of this name",
            "write the type and params of the data set that you use (`qatspec plugins list`)",
        )  # fmt: skip
        known = "coco_detection"
    params = _folders(draft, name, known, dataset, annotations)
    result = Role({"type": known, "params": params})
    augment = _transforms(draft, name, dataset, result)
    if augment and name != "val":
        params["augment"] = augment
    if (batch := loader.number("batch_size")) is not None:
        result.section["batch_size"] = int(batch)
    if workers := loader.number("num_workers"):
        result.section["workers"] = int(workers)
    draft.leave_unused(
        loader, f"the {name} data", f"`qatspec plugins show {known}` lists the params of a data set"
    )
    loader.ignore(*loader)
    return result


def _folders(
    draft: Draft, name: str, known: str, dataset: Table, annotations: str | None
) -> dict[str, Any]:
    """root and split."""
    train = "val" if name == "val" else "train"
    coco = known == "coco_detection"
    split = _SPLITS[train][0 if coco else 1]
    keys = ("data_path", "root", "img_path")
    path = next((text for key in keys if (text := dataset.text(key))), None)
    file = dataset.text("annFile") or dataset.text("ann_file") or annotations
    if file and (match := re.search(r"instances_(\w+)\.json$", file)) and "val" in match[1]:
        split = match[1] if train == "val" else match[1].replace("val", "train")
    elif file and match:
        split = match[1]
    root = posixpath.dirname(posixpath.dirname(file)) if file and match else ""
    if path is not None and (pack := _PACK.match(posixpath.basename(path.rstrip("/")))):
        root = root or posixpath.dirname(path.rstrip("/"))
        draft.leave(
            f"the pack `{path}`", dataset.spans.get(keys[0], dataset.span),
            "packs of lmdb are not read",
            f"put the pictures and annotations themselves below `root`, in `{split}`",
        )  # fmt: skip
        split = split if coco else pack[1] or split
    elif path is not None:
        root = root or (posixpath.dirname(path.rstrip("/")) if coco else path)
    return {"root": root or "data", "split": split}


def _transforms(draft: Draft, name: str, dataset: Table, result: Role) -> dict[str, Any]:
    augment: dict[str, Any] = {}
    for transform in tables(dataset.take("transforms")):
        kind = transform.type
        read = _TRANSFORMS.get(kind)
        if read is None:
            draft.leave(
                f"the transform `{kind}` of the {name} data", transform.span,
                "the data set has no key for it",
                "`augment: {torchvision: [...]}` takes transforms of torchvision.transforms.v2",
            )  # fmt: skip
            transform.ignore(*transform)
            continue
        read(transform, result, augment)
    return augment


def _resize(transform: Table, result: Role, augment: dict[str, Any]) -> None:
    result.size = _pair(transform.take("img_scale")) or result.size
    ratio = transform.take("ratio_range")
    if isinstance(ratio, list | tuple) and len(ratio) == 2:
        augment["scale"] = list(ratio)
    if transform.take("keep_ratio") is False:
        result.image["resize"] = "stretch"


def _crop(transform: Table, result: Role, augment: dict[str, Any]) -> None:
    result.size = _pair(transform.take("size")) or result.size


def _pad(transform: Table, result: Role, augment: dict[str, Any]) -> None:
    result.size = _pair(transform.take("size")) or result.size
    transform.used |= {"divisor", "pad_val", "seg_pad_val"}


def _flip(transform: Table, result: Role, augment: dict[str, Any]) -> None:
    if chance := transform.number("px"):
        augment["flip"] = chance
    if transform.get("py") == 0:
        transform.used.add("py")


def _hsv(transform: Table, result: Role, augment: dict[str, Any]) -> None:
    gains = [transform.number(key) for key in ("hgain", "sgain", "vgain")]
    augment["hsv"] = [gain or 0 for gain in gains]


def _tensor(transform: Table, result: Role, augment: dict[str, Any]) -> None:
    if transform.take("to_yuv") is True:
        result.image["format"] = "yuv444"
    transform.used |= {"use_yuv_v2"}


def _normalize(transform: Table, result: Role, augment: dict[str, Any]) -> None:
    for key in ("mean", "std"):
        value = transform.take(key)
        if isinstance(value, int | float):
            result.image[key] = value
        elif isinstance(value, list | tuple):
            result.image[key] = list(value)


_TRANSFORMS: Mapping[str, Any] = {
    "Resize": _resize, "RandomCrop": _crop, "CenterCrop": _crop, "Pad": _pad, "RandomFlip": _flip,
    "AugmentHSV": _hsv, "ToTensor": _tensor, "Normalize": _normalize,
}  # fmt: skip


def _pair(value: Any) -> list[int] | None:
    if isinstance(value, list | tuple) and len(value) >= 2 and isinstance(value[-1], int):
        return [int(value[-2]), int(value[-1])]
    return None
