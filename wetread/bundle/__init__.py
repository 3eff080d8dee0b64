"""One file that installs wetread, a model and all they need on a machine without a network.

Needs the runtime, pip and packaging; neither onnx nor TensorFlow.
"""
