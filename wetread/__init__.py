"""wetread: train a small CNN, export it to ONNX, score folders of images with it."""
