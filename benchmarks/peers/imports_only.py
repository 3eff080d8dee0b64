"""A bound for one image: a Python that imports numpy, OpenCV and onnxruntime, and loads the model."""

from __future__ import annotations

import os
import sys

import cv2  # noqa: F401
import numpy  # noqa: F401

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, by the import below
import onnxruntime

onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
