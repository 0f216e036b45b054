"""One exam quickly: from a folder of DICOM files to scores in another, without a store and with a network that stays loaded."""
