"""The DICOM objects that carry a prediction; made in memory, under the identity of their source, and kept nowhere."""
