"""A demonstration on drawn pictures, with a small untrained CLIP: no download."""
