"""CLIP, frozen: its towers, its weights and where they are found."""
