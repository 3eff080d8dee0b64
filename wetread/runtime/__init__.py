"""Score folders of images with one ONNX file: numpy, OpenCV, simplejpeg and onnxruntime, nothing else."""

from wetread.runtime.processor import check_processor

check_processor()
