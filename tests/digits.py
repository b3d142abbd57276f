"""The smallest FCOS on drawn digits, as the head of a spec; tests write its stages behind it."""

from __future__ import annotations

HEAD = """\
qatspec: 1
name: digits
march: bayes
model:
  type: fcos
  params:
    num_classes: 10
    backbone:
      type: efficientnet
      stem: 8
      blocks: [{kernel: 3, repeats: 1, channels: 16, expand: 2, stride: 2}]
      strides: [4]
    neck: {channels: 16, stacks: 1, levels: 3}
    head: {channels: 16, convs: 1}
  input: {size: [64, 64]}
data:
  train: {type: digits_detection, params: {split: train, images: 8, size: 64}}
  val: {type: digits_detection, params: {split: val, images: 4, size: 64}}
"""
