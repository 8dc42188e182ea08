"""A demonstration on drawn pictures, with a small CLIP that comes along: no download."""
