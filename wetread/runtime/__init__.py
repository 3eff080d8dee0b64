"""Score folders of images with one ONNX file: numpy, OpenCV, simplejpeg and onnxruntime, nothing else."""
