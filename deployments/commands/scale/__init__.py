"""Before anything is bought: what a number of images takes."""
