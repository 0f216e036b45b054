"""Where the breast and the window lie in an image, and how a map gets back to it."""
