"""Lesion by lesion: marks made of saliency, and the free-response curve and figure of merit of them."""
