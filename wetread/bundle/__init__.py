"""Make one file that installs wetread, a model and their dependencies on a machine without a network.

Needs the runtime, pip and packaging; neither onnx nor TensorFlow.
"""
