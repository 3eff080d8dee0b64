"""The DICOM node: receives images of a hospital's network, scores them, and sends results back."""
