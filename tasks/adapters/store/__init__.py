"""The exam store on disk: pixels, manifest and what verifies them."""
