"""DICOM files: the header that we use, pixels through their codecs, and the phantom's own files."""
