"""Reading radiographs, the grayscale pipeline, geometry, regions, display. Loads neither torch nor MONAI."""
