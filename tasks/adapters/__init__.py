"""The borders: each foreign library (DICOM, zarr, Dask, Great Expectations, jinja2) lives in one module here. No Prefect."""
