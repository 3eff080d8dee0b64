"""Turn a Keras network into the one ONNX file that a workstation needs. Needs the extra `train`."""
